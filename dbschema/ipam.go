package dbschema

// Addresses are stored as the 32 hexadecimal digits of their 16-byte form (IPv4
// mapped into IPv6), so that text order is numeric order. The tables of this file are written by crosssite/ipam only.

// IPAMSubnet is a subnet whose addresses Top hands out.
type IPAMSubnet struct {
	SubnetID  string `gorm:"column:subnet_id;primaryKey"`
	NetworkID string `gorm:"column:network_id"`
	CIDR      string `gorm:"column:cidr"`
	Pools     string `gorm:"column:pools"` // "first-last,first-last", in order
}

// TableName names the table.
func (IPAMSubnet) TableName() string { return "ipam_subnets" }

// IPAMFree is a range of addresses of a pool that nobody has.
type IPAMFree struct {
	SubnetID string `gorm:"column:subnet_id;primaryKey"`
	First    string `gorm:"column:first_address;primaryKey"`
	Last     string `gorm:"column:last_address"`
}

// TableName names the table.
func (IPAMFree) TableName() string { return "ipam_free" }

// IPAMSlice is a range that is a site's own, for its infrastructure (DHCP servers and the like).
type IPAMSlice struct {
	SubnetID string `gorm:"column:subnet_id;primaryKey"`
	First    string `gorm:"column:first_address;primaryKey"`
	Last     string `gorm:"column:last_address"`
	Site     string `gorm:"column:site"` // "" until the subnet is made at a site
}

// TableName names the table.
func (IPAMSlice) TableName() string { return "ipam_slices" }

// IPAMAddress is an address that somebody has.
type IPAMAddress struct {
	SubnetID string `gorm:"column:subnet_id;primaryKey"`
	Address  string `gorm:"column:address;primaryKey"`
	OwnerID  string `gorm:"column:owner_id"`
}

// TableName names the table.
func (IPAMAddress) TableName() string { return "ipam_addresses" }

// IPAMMAC is a MAC address that somebody has on a network.
type IPAMMAC struct {
	NetworkID string `gorm:"column:network_id;primaryKey"`
	MAC       string `gorm:"column:mac;primaryKey"`
	OwnerID   string `gorm:"column:owner_id"`
}

// TableName names the table.
func (IPAMMAC) TableName() string { return "ipam_macs" }

func ipamModels() []any {
	return []any{IPAMSubnet{}, IPAMFree{}, IPAMSlice{}, IPAMAddress{}, IPAMMAC{}}
}
