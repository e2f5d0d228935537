package network_test

import (
	"net/http"
	"strings"
	"testing"
)

// differs are the verdicts in which Top is not as Neutron on purpose, by the beginning of what was asked, with the status that it gives instead.
var differs = map[string]int{
	// External and provider networks are the sites' own: Top's are the tenants', and are tunnels.
	"POST networks router:external=true as admin":            409,
	"PUT networks router:external=true as admin":             409,
	"POST networks is_default=true as admin":                 409,
	"PUT networks is_default=true as admin":                  409,
	"POST networks provider:network_type=\"vxlan\" as admin": 409,
	"PUT networks provider:network_type=\"vxlan\" as admin":  409,
	"POST networks provider:segmentation_id=777 as admin":    409,
	"PUT networks provider:segmentation_id=777 as admin":     409,
}

// Top says to members and administrators what Neutron says, of every attribute that Neutron's default policy
// knows; what administrators may is then so at the site.
func TestVerdicts(t *testing.T) {
	t.Parallel()
	s, list := emulated(t, "east")
	provider(t, list[0], "provider", "10.80.0.0/24")
	s.adopt(list[0])
	shared, external := s.items("networks?name=provider")[0], s.items("networks?router:external=true")[0]
	// A port that was deleted keeps its addresses until its site has deleted it too, which takes a while on a busy machine: who wants the same ones
	// is told 409 until then. What is compared is what is said afterwards.
	ask := func(role, method, path string, in any) (status int, out object) {
		body, _ := in.(object)
		port, _ := body["port"].(object)
		s.until(method+" "+path, func() bool {
			status, out = s.call(map[string]string{"member": "demo-member", "admin": "root-admin"}[role], method, path, in)
			return status != http.StatusConflict || port["mac_address"] == nil && port["fixed_ips"] == nil
		})
		return status, out
	}
	got := walk(t, ask, text(shared, "id"), shared["subnets"].([]any)[0].(string), text(external, "id"), external["subnets"].([]any)[0].(string))
	want := recorded(t)
	if len(got) != len(want) {
		t.Errorf("%d verdicts, the file has %d", len(got), len(want))
	}
	for what, v := range got {
		wanted := want[what]
		for begin, status := range differs {
			if strings.HasPrefix(what, begin) {
				wanted = verdict{Status: status}
			}
		}
		if v != wanted {
			t.Errorf("%s: %v, real Neutron says %v", what, v, wanted)
		}
	}
}
