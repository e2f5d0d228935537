package ipam

import (
	"net/netip"
	"testing"
)

func TestPools(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, cidr, gateway, want string }{
		{"gateway first", "10.0.0.0/24", "10.0.0.1", "10.0.0.2-10.0.0.254"},
		{"gateway last", "10.0.0.0/24", "10.0.0.254", "10.0.0.1-10.0.0.253"},
		{"gateway in the middle", "10.0.0.0/29", "10.0.0.3", "10.0.0.1-10.0.0.2,10.0.0.4-10.0.0.6"},
		{"no gateway", "10.0.0.0/30", "", "10.0.0.1-10.0.0.2"},
		{"gateway outside", "10.0.0.0/30", "192.0.2.1", "10.0.0.1-10.0.0.2"},
		{"two addresses", "10.0.0.0/31", "10.0.0.0", "10.0.0.1-10.0.0.1"},
		{"one address", "10.0.0.7/32", "", "10.0.0.7-10.0.0.7"},
		{"IPv6", "2001:db8::/64", "2001:db8::1", "2001:db8::2-2001:db8::ffff:ffff:ffff:ffff"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var gateway netip.Addr
			if tt.gateway != "" {
				gateway = netip.MustParseAddr(tt.gateway)
			}
			if got := encodeRanges(Pools(netip.MustParsePrefix(tt.cidr), gateway)); got != tt.want {
				t.Errorf("Pools(%s, %s) = %s, want %s", tt.cidr, tt.gateway, got, tt.want)
			}
		})
	}
}

// RFC 4291, appendix A, and what Neutron gives a port with this MAC.
func TestEUI64(t *testing.T) {
	t.Parallel()
	mac, err := ParseMAC("FA:16:3e:77:00:01")
	if err != nil {
		t.Fatal(err)
	}
	got, err := EUI64(netip.MustParsePrefix("2001:db8:0:1::/64"), mac)
	if want := netip.MustParseAddr("2001:db8:0:1:f816:3eff:fe77:1"); err != nil || got != want {
		t.Errorf("EUI64 = %s, %v, want %s", got, err, want)
	}
	for _, bad := range []string{"10.0.0.0/8", "2001:db8::/80"} {
		if _, err := EUI64(netip.MustParsePrefix(bad), mac); err == nil {
			t.Errorf("EUI64 in %s was computed", bad)
		}
	}
}

func TestParseMAC(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"", "fa:16:3e:00:00", "fa:16:3e:00:00:zz", "fa:16:3e:00:00:000", "fa163e000000"} {
		if m, err := ParseMAC(bad); err == nil {
			t.Errorf("ParseMAC(%q) = %s", bad, m)
		}
	}
}

func TestTail(t *testing.T) {
	t.Parallel()
	r := Range{netip.MustParseAddr("2001:db8::"), netip.MustParseAddr("2001:db8:0:1::2")}
	if got := r.tail(6).String(); got != "2001:db8::ffff:ffff:ffff:fffd-2001:db8:0:1::2" {
		t.Errorf("tail over the middle of the address: %s", got)
	}
}
