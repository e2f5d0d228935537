package agent

import (
	"time"
)

// quarantine is how long a zone rests before another port gets it: packets of the one before may still be under way.
const quarantine = 30 * time.Second

// zones hands out connection tracking zones: 1 to 65535, each to one owner.
type zones struct {
	now  func() time.Time
	of   map[string]uint16
	used map[uint16]string
	rest map[uint16]time.Time // given back then
	next uint16
}

func newZones(now func() time.Time) *zones {
	return &zones{now: now, of: map[string]uint16{}, used: map[uint16]string{}, rest: map[uint16]time.Time{}, next: 1}
}

// keep records a zone that an owner has from before. It does nothing where the owner has one, or the zone another owner.
func (z *zones) keep(owner string, zone uint16) {
	if zone == 0 || z.of[owner] != 0 || z.used[zone] != "" {
		return
	}
	z.of[owner], z.used[zone] = zone, owner
	delete(z.rest, zone)
}

// take returns the zone of an owner, and whether it is new to it: then it may hold connections of somebody before. 0: there is none left.
func (z *zones) take(owner string) (zone uint16, fresh bool) {
	if zone = z.of[owner]; zone != 0 {
		return zone, false
	}
	for range 1 << 16 {
		zone = z.next
		if z.next++; z.next == 0 {
			z.next = 1
		}
		if zone == 0 || z.used[zone] != "" {
			continue
		}
		if since, resting := z.rest[zone]; resting && z.now().Sub(since) < quarantine {
			continue
		}
		delete(z.rest, zone)
		z.of[owner], z.used[zone] = zone, owner
		return zone, true
	}
	return 0, false
}

// free takes an owner's zone back, and returns it; 0: it had none.
func (z *zones) free(owner string) uint16 {
	zone := z.of[owner]
	if zone != 0 {
		delete(z.of, owner)
		delete(z.used, zone)
		z.rest[zone] = z.now()
	}
	return zone
}
