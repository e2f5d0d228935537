package ipam

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/headwater-cloud/headwater/dbschema"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// What the methods of Store return besides the database's errors.
var (
	// ErrTaken says that the address, or the MAC on its network, belongs to another.
	ErrTaken = errors.New("the address is in use")
	// ErrExhausted says that every address of the pools is in use.
	ErrExhausted = errors.New("no more addresses are available")
	// ErrReserved says that the address lies in a slice that is a site's own.
	ErrReserved = errors.New("the address is reserved for the infrastructure of the sites")
	// ErrOutside says that the address is not one of the subnet's.
	ErrOutside = errors.New("the address is not valid in the subnet")
)

// Subnet is what AddSubnet needs to know.
type Subnet struct {
	ID      ident.TopID
	Network ident.TopID
	CIDR    netip.Prefix
	Pools   []Range // must lie in CIDR and not overlap
	// Slice is the number of addresses kept for the first site's own use. A small subnet gives less: at most half of its pools.
	Slice int
}

// AddSubnet opens a subnet.
func (s *Store) AddSubnet(tx dbschema.Tx, n Subnet) error {
	row := dbschema.IPAMSubnet{SubnetID: string(n.ID), NetworkID: string(n.Network), CIDR: n.CIDR.String(), Pools: encodeRanges(n.Pools)}
	if err := tx.Gorm().Create(&row).Error; err != nil {
		return fmt.Errorf("open subnet %s: %w", n.ID, err)
	}
	for _, r := range n.Pools {
		if err := s.give(tx, n.ID, r); err != nil {
			return err
		}
	}
	total := 0
	for _, r := range n.Pools {
		total = min(total+r.size(), 1<<30)
	}
	_, err := s.reserve(tx, n.ID, "", min(n.Slice, total/2))
	return err
}

// RemoveSubnet forgets a subnet with all that was given of it. It may be repeated.
func (s *Store) RemoveSubnet(tx dbschema.Tx, id ident.TopID) error {
	for _, model := range []any{&dbschema.IPAMSubnet{}, &dbschema.IPAMFree{}, &dbschema.IPAMSlice{}, &dbschema.IPAMAddress{}} {
		if err := tx.Gorm().Where("subnet_id = ?", string(id)).Delete(model).Error; err != nil {
			return fmt.Errorf("remove subnet %s: %w", id, err)
		}
	}
	return nil
}

// SetPools replaces the pools of a subnet. What was given stays given, also outside the new pools, and so do the slices.
func (s *Store) SetPools(tx dbschema.Tx, id ident.TopID, pools []Range) error {
	err := tx.Gorm().Model(&dbschema.IPAMSubnet{}).Where("subnet_id = ?", string(id)).Update("pools", encodeRanges(pools)).Error
	if err != nil {
		return fmt.Errorf("set pools of %s: %w", id, err)
	}
	if err := tx.Gorm().Where("subnet_id = ?", string(id)).Delete(&dbschema.IPAMFree{}).Error; err != nil {
		return fmt.Errorf("set pools of %s: %w", id, err)
	}
	var used []dbschema.IPAMAddress
	if err := tx.Gorm().Where("subnet_id = ?", string(id)).Order("address").Find(&used).Error; err != nil {
		return fmt.Errorf("read addresses of %s: %w", id, err)
	}
	taken, err := s.sliceRows(tx.Gorm(), id)
	if err != nil {
		return err
	}
	for _, u := range used {
		a, err := fromKey(u.Address)
		if err != nil {
			return err
		}
		taken = append(taken, siteRange{Range: Range{a, a}})
	}
	for _, r := range subtract(pools, taken) {
		if err := s.give(tx, id, r); err != nil {
			return err
		}
	}
	return nil
}

// subtract takes ranges out of pools, in one pass over both.
func subtract(pools []Range, taken []siteRange) []Range {
	slices.SortFunc(taken, func(a, b siteRange) int { return a.First.Compare(b.First) })
	var free []Range
	for _, p := range pools {
		rest := []Range{p}
		for _, t := range taken {
			if len(rest) == 0 {
				break
			}
			last := rest[len(rest)-1] // taken is in order: only the last piece can be hit
			rest = append(rest[:len(rest)-1], last.without(t.Range)...)
		}
		free = append(free, rest...)
	}
	return free
}

// give adds a free range.
func (s *Store) give(tx dbschema.Tx, id ident.TopID, r Range) error {
	row := dbschema.IPAMFree{SubnetID: string(id), First: key(r.First), Last: key(r.Last)}
	if err := tx.Gorm().Create(&row).Error; err != nil {
		return fmt.Errorf("free %s of %s: %w", r, id, err)
	}
	return nil
}

// drop removes the free range that starts at first.
func (s *Store) drop(tx dbschema.Tx, id ident.TopID, first netip.Addr) error {
	err := tx.Gorm().Where("subnet_id = ? AND first_address = ?", string(id), key(first)).Delete(&dbschema.IPAMFree{}).Error
	if err != nil {
		return fmt.Errorf("take of %s: %w", id, err)
	}
	return nil
}

// carve takes o, which lies in the free range r, out of it: the row of r becomes what is left of it.
func (s *Store) carve(tx dbschema.Tx, id ident.TopID, r, o Range) error {
	left := r.without(o)
	if len(left) == 0 {
		return s.drop(tx, id, r.First)
	}
	done := ofSubnet(tx, id).Model(&dbschema.IPAMFree{}).Where("first_address = ?", key(r.First)).
		Updates(map[string]any{"first_address": key(left[0].First), "last_address": key(left[0].Last)})
	if done.Error != nil {
		return fmt.Errorf("take %s of %s: %w", o, id, done.Error)
	}
	if len(left) == 1 {
		return nil
	}
	return s.give(tx, id, left[1])
}

// freeRange returns the first free range that q selects.
func freeRange(q *gorm.DB, order string) (Range, bool, error) {
	var rows []dbschema.IPAMFree
	if err := q.Order(order).Limit(1).Find(&rows).Error; err != nil {
		return Range{}, false, fmt.Errorf("read free addresses: %w", err)
	}
	if len(rows) == 0 {
		return Range{}, false, nil
	}
	first, err := fromKey(rows[0].First)
	if err != nil {
		return Range{}, false, err
	}
	last, err := fromKey(rows[0].Last)
	return Range{first, last}, err == nil, err
}

func ofSubnet(tx dbschema.Tx, id ident.TopID) *gorm.DB {
	return tx.Gorm().Where("subnet_id = ?", string(id))
}

// Any gives the owner the lowest free address of the subnet's pools; ErrExhausted when there is none.
func (s *Store) Any(tx dbschema.Tx, subnet, owner ident.TopID) (netip.Addr, error) {
	for {
		r, ok, err := freeRange(ofSubnet(tx, subnet), "first_address")
		if err != nil {
			return netip.Addr{}, err
		}
		if !ok {
			return netip.Addr{}, fmt.Errorf("allocate in subnet %s: %w", subnet, ErrExhausted)
		}
		if err := s.carve(tx, subnet, r, Range{r.First, r.First}); err != nil {
			return netip.Addr{}, err
		}
		switch err := s.own(tx, subnet, r.First, owner); {
		case errors.Is(err, ErrTaken): // taken while it was outside the pools; it is no longer free now
		default:
			return r.First, err
		}
	}
}

// Take gives the owner one address of the subnet's CIDR, inside or outside its
// pools. ErrTaken when another has it, ErrReserved when it is a site's, ErrOutside when it is not the subnet's.
func (s *Store) Take(tx dbschema.Tx, subnet ident.TopID, a netip.Addr, owner ident.TopID) error {
	row, err := s.subnet(tx.Gorm(), subnet)
	if err != nil {
		return err
	}
	if cidr, err := netip.ParsePrefix(row.CIDR); err != nil || !cidr.Contains(a) {
		return fmt.Errorf("allocate %s in subnet %s: %w", a, subnet, ErrOutside)
	}
	own, err := s.sliceRows(tx.Gorm(), subnet)
	if err != nil {
		return err
	}
	for _, r := range own {
		if r.Contains(a) {
			return fmt.Errorf("allocate %s in subnet %s: %w", a, subnet, ErrReserved)
		}
	}
	if err := s.own(tx, subnet, a, owner); err != nil {
		return err
	}
	r, ok, err := freeRange(ofSubnet(tx, subnet).Where("first_address <= ?", key(a)), "first_address DESC")
	if err != nil || !ok || !r.Contains(a) {
		return err
	}
	return s.carve(tx, subnet, r, Range{a, a})
}

// own records the owner; ErrTaken when there is one already.
func (s *Store) own(tx dbschema.Tx, subnet ident.TopID, a netip.Addr, owner ident.TopID) error {
	row := dbschema.IPAMAddress{SubnetID: string(subnet), Address: key(a), OwnerID: string(owner)}
	done := tx.Gorm().Clauses(clause.OnConflict{DoNothing: true}).Create(&row)
	if done.Error != nil {
		return fmt.Errorf("allocate %s in subnet %s: %w", a, subnet, done.Error)
	}
	if done.RowsAffected == 0 {
		return fmt.Errorf("allocate %s in subnet %s: %w", a, subnet, ErrTaken)
	}
	return nil
}

// Release gives back every address and MAC that the owner has. It may be repeated.
func (s *Store) Release(tx dbschema.Tx, owner ident.TopID) error {
	var rows []dbschema.IPAMAddress
	if err := tx.Gorm().Where("owner_id = ?", string(owner)).Find(&rows).Error; err != nil {
		return fmt.Errorf("read addresses of %s: %w", owner, err)
	}
	for _, row := range rows {
		if err := s.releaseRow(tx, row); err != nil {
			return err
		}
	}
	if err := tx.Gorm().Where("owner_id = ?", string(owner)).Delete(&dbschema.IPAMMAC{}).Error; err != nil {
		return fmt.Errorf("release MACs of %s: %w", owner, err)
	}
	return nil
}

// ReleaseAddress gives back one address that the owner has; another's stays.
func (s *Store) ReleaseAddress(tx dbschema.Tx, subnet ident.TopID, a netip.Addr, owner ident.TopID) error {
	var rows []dbschema.IPAMAddress
	err := ofSubnet(tx, subnet).Where("address = ? AND owner_id = ?", key(a), string(owner)).Find(&rows).Error
	if err != nil || len(rows) == 0 {
		return err
	}
	return s.releaseRow(tx, rows[0])
}

func (s *Store) releaseRow(tx dbschema.Tx, row dbschema.IPAMAddress) error {
	id := ident.TopID(row.SubnetID)
	if err := ofSubnet(tx, id).Where("address = ?", row.Address).Delete(&dbschema.IPAMAddress{}).Error; err != nil {
		return fmt.Errorf("release in subnet %s: %w", id, err)
	}
	a, err := fromKey(row.Address)
	if err != nil {
		return err
	}
	subnet, err := s.subnet(tx.Gorm(), id)
	if err != nil {
		return err
	}
	pools, err := decodeRanges(subnet.Pools)
	if err != nil {
		return err
	}
	for _, p := range pools {
		if p.Contains(a) {
			return s.merge(tx, id, p, a)
		}
	}
	return nil
}

// merge makes the address free again, in one range with its free neighbours of the same pool.
func (s *Store) merge(tx dbschema.Tx, id ident.TopID, pool Range, a netip.Addr) error {
	whole := Range{a, a}
	if a != pool.First {
		left, ok, err := freeRange(ofSubnet(tx, id).Where("first_address < ?", key(a)), "first_address DESC")
		if err != nil {
			return err
		}
		if ok && left.Last == a.Prev() {
			whole.First = left.First
			if err := s.drop(tx, id, left.First); err != nil {
				return err
			}
		}
	}
	if a != pool.Last {
		right, ok, err := freeRange(ofSubnet(tx, id).Where("first_address = ?", key(a.Next())), "first_address")
		if err != nil {
			return err
		}
		if ok {
			whole.Last = right.Last
			if err := s.drop(tx, id, right.First); err != nil {
				return err
			}
		}
	}
	return s.give(tx, id, whole)
}

func (s *Store) subnet(db *gorm.DB, id ident.TopID) (*dbschema.IPAMSubnet, error) {
	var rows []dbschema.IPAMSubnet
	if err := db.Where("subnet_id = ?", string(id)).Limit(1).Find(&rows).Error; err != nil {
		return nil, fmt.Errorf("read subnet %s: %w", id, err)
	}
	if len(rows) == 0 {
		return nil, fmt.Errorf("subnet %s is not known to the address store", id)
	}
	return &rows[0], nil
}

// OwnersOf returns who has addresses of the subnet, by address, inside a transaction.
func (s *Store) OwnersOf(tx dbschema.Tx, subnet ident.TopID) (map[netip.Addr]ident.TopID, error) {
	var rows []dbschema.IPAMAddress
	if err := ofSubnet(tx, subnet).Find(&rows).Error; err != nil {
		return nil, fmt.Errorf("read addresses of %s: %w", subnet, err)
	}
	out := make(map[netip.Addr]ident.TopID, len(rows))
	for _, r := range rows {
		a, err := fromKey(r.Address)
		if err != nil {
			return nil, err
		}
		out[a] = ident.TopID(r.OwnerID)
	}
	return out, nil
}

// Of returns the addresses that an owner has, inside a transaction.
func (s *Store) Of(tx dbschema.Tx, owner ident.TopID) ([]Allocation, error) {
	var rows []dbschema.IPAMAddress
	if err := tx.Gorm().Where("owner_id = ?", string(owner)).Order("subnet_id, address").Find(&rows).Error; err != nil {
		return nil, fmt.Errorf("read addresses of %s: %w", owner, err)
	}
	out := make([]Allocation, len(rows))
	for i, r := range rows {
		a, err := fromKey(r.Address)
		if err != nil {
			return nil, err
		}
		out[i] = Allocation{Subnet: ident.TopID(r.SubnetID), Address: a}
	}
	return out, nil
}

// TakeMAC gives the owner a MAC on a network; ErrTaken when another on that network has it.
func (s *Store) TakeMAC(tx dbschema.Tx, network ident.TopID, mac MAC, owner ident.TopID) error {
	row := dbschema.IPAMMAC{NetworkID: string(network), MAC: mac.String(), OwnerID: string(owner)}
	done := tx.Gorm().Clauses(clause.OnConflict{DoNothing: true}).Create(&row)
	if done.Error != nil {
		return fmt.Errorf("allocate %s on network %s: %w", mac, network, done.Error)
	}
	if done.RowsAffected == 0 {
		return fmt.Errorf("allocate %s on network %s: %w", mac, network, ErrTaken)
	}
	return nil
}

// macTries bounds the draws of AnyMAC. With half of all 2^24 MACs in use the chance to fail is 2^-32.
const macTries = 32

// AnyMAC gives the owner a MAC that nobody has on any network.
func (s *Store) AnyMAC(tx dbschema.Tx, network, owner ident.TopID) (MAC, error) {
	for range macTries {
		m, err := s.draw()
		if err != nil {
			return m, err
		}
		// One statement: a create is short of time.
		done := tx.Gorm().Exec("INSERT INTO ipam_macs (network_id, mac, owner_id) SELECT ?, ?, ? WHERE NOT EXISTS (SELECT 1 FROM ipam_macs WHERE mac = ?)",
			string(network), m.String(), string(owner), m.String())
		if done.Error != nil {
			return m, fmt.Errorf("allocate %s on network %s: %w", m, network, done.Error)
		}
		if done.RowsAffected > 0 {
			return m, nil
		}
	}
	return MAC{}, fmt.Errorf("draw a MAC under %s: %w", strings.ToLower(s.base.String()), ErrExhausted)
}

// ReleaseMAC gives back the owner's MACs.
func (s *Store) ReleaseMAC(tx dbschema.Tx, owner ident.TopID) error {
	if err := tx.Gorm().Where("owner_id = ?", string(owner)).Delete(&dbschema.IPAMMAC{}).Error; err != nil {
		return fmt.Errorf("release MACs of %s: %w", owner, err)
	}
	return nil
}
