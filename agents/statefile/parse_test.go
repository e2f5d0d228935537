package statefile

import (
	"strings"
	"testing"

	"github.com/headwater-cloud/headwater/agents/state"
)

const good = `
networks:
- {id: n1, key: 1, segment: {kind: vlan, physical_network: physnet1, vlan: 7}}
subnets:
- id: s1
  network: n1
  cidr: 10.0.0.0/24
  raMode: slaac   # the names of JSON are taken too
ports:
- &port
  id: p1
  key: 0x10
  network: n1
  mac: "fa:16:3e:00:00:01"
  fixed_ips: [{address: 10.0.0.11, subnet: s1}]
  port_security: true
  host:
`

func TestParse(t *testing.T) {
	t.Parallel()
	objects, err := Parse("state.yaml", []byte(good))
	if err != nil {
		t.Fatal(err)
	}
	if len(objects) != 3 {
		t.Fatalf("%d objects, want 3", len(objects))
	}
	n, p := objects[0].(*state.Network), objects[2].(*state.Port)
	if n.Segment != state.VLAN || n.VLAN != 7 || n.Physical != "physnet1" {
		t.Errorf("network %+v", n)
	}
	if p.Key != 16 || !p.PortSecurity || p.FixedIPs[0].Address.String() != "10.0.0.11" || p.Host != "" {
		t.Errorf("port %+v", p)
	}
	for _, empty := range []string{"{}", "ports:\n"} {
		if objects, err := Parse("state.yaml", []byte(empty)); err != nil || len(objects) != 0 {
			t.Errorf("%q: %d objects, %v", empty, len(objects), err)
		}
	}
	for _, nothing := range []string{"", "\n", "# nothing\n", "---\n"} {
		if _, err := Parse("state.yaml", []byte(nothing)); err == nil || !strings.Contains(err.Error(), "says nothing") {
			t.Errorf("%q: %v", nothing, err)
		}
	}
	same, err := Parse("state.json", []byte(`{"networks": [{"id": "n1", "key": 1}]}`))
	if err != nil || len(same) != 1 {
		t.Errorf("JSON: %d objects, %v", len(same), err)
	}
}

// What is wrong is said with its line, all at once.
func TestWhatIsWrong(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, text string
		want       []string
	}{
		{"no field", "networks:\n- id: n1\n  key: 1\n  colour: red\n", []string{`f:4: Network has no field "colour"`}},
		{"several", "networks:\n- id: n1\n  key: big\n  mtu: -3\nporst: []\n", []string{`f:3: key: "big" is no number`, `f:4: mtu: "-3" is no number`, `f:5: State has no field "porst"`}},
		{"twice a field", "networks:\n- id: n1\n  key: 1\n  key: 2\n", []string{"f"}},
		{"twice an id", "networks:\n- {id: n1, key: 1}\n- {id: n1, key: 2}\n", []string{"f:3: network n1 stands twice; it is in line 2 too"}},
		{"enumeration", "networks:\n- {id: n1, key: 1, segment: {kind: vxlan}}\n", []string{`f:2: kind: "vxlan" is no word of OVERLAY, VLAN, FLAT`}},
		{"not a list", "networks: 7\n", []string{"f:1: networks: want a list"}},
		{"not a mapping", "networks:\n- n1\n", []string{"f:2: Network: want a mapping"}},
		{"a list for a word", "networks:\n- {id: [n1], key: 1}\n", []string{"f:2: id: want a text, not a list"}},
		{"values", "ports:\n- id: p1\n  key: 1\n  network: n1\n  mac: \"ff:16:3e:00:00:01\"\n", []string{"f:2: port p1: mac:"}},
		{"two documents", "networks: []\n---\nports: []\n", []string{"a second document"}},
		{"no anchor", "networks:\n- *n\n", []string{"f"}},
		{"no YAML", "networks:\n- {id: n1, key: 1\n", []string{"f:2: could not find"}},
		{"JSON", `{"networks": [{"id": "n1", "colour": 1}]}`, []string{`unknown field "colour"`}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			objects, err := Parse("f", []byte(tt.text))
			if err == nil {
				t.Fatalf("it was taken: %v", objects)
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("it says %q, want %q in it", err, want)
				}
			}
		})
	}
}

// A file with a thousand faults has twenty told.
func TestFaultsAreBounded(t *testing.T) {
	t.Parallel()
	_, err := Parse("f", []byte("networks:\n"+strings.Repeat("- {colour: red}\n", 1000)))
	if lines := strings.Count(err.Error(), "\n"); lines > maxErrors+1 || !strings.Contains(err.Error(), "more") {
		t.Errorf("%d lines: %v", lines, err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(good))
	f.Add([]byte(`{"networks": [{"id": "n1"}]}`))
	f.Add([]byte("networks: &a [*a]\n"))
	f.Add([]byte("ports:\n- <<: {id: x}\n  mac: |\n   x\n"))
	f.Fuzz(func(_ *testing.T, raw []byte) {
		_, _ = Parse("f", raw) // it must not panic, nor take for ever
	})
}
