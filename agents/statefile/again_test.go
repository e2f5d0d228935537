package statefile

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/headwater-cloud/headwater/agents/api"
)

func ports(n int, changed int) *api.State {
	st := &api.State{Networks: []*api.Network{{Id: "n", Key: 1}}}
	for i := range n {
		p := &api.Port{Id: fmt.Sprint("p", i), Key: uint32(i + 1), Network: "n", Mac: fmt.Sprintf("fa:16:3e:00:%02x:%02x", i>>8, i&255), //nolint:gosec // small
			Host: "h1", PortSecurity: true, SecurityGroups: []string{"g"}, FixedIps: []*api.FixedIP{{Subnet: "s", Address: fmt.Sprintf("10.0.%d.%d", i>>8, i&255)}}}
		if i == changed {
			p.Down = true
		}
		st.Ports = append(st.Ports, p)
	}
	return st
}

// A file that is read again says what it would say if it were read for the first time, whatever it had said before; and what has not changed is
// not made again.
func TestReadAgain(t *testing.T) {
	t.Parallel()
	var m memory
	good := func(st *api.State) string {
		raw, err := protojson.Marshal(st)
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}
	long := strings.ReplaceAll(good(ports(2, 0)), "fixedIps", "fixed_ips")
	for i, text := range []string{
		good(ports(3, -1)), good(ports(3, 1)), good(ports(2, 1)), long, "{}", `{"ports":null}`, good(ports(4, 0)), "networks:\n- {id: n, key: 2}\n",
		`{"ports":[{"id":"p","key":0}]}`, `{"ports":[null]}`, `{"ports":[],"ports":[]}`, `{"parts":[]}`, `{"networks":[{"id":"n","key":1},{"id":"n","key":2}]}`,
		`{"networks":[{"id":"n","key":1},{"id":"n","key":1}]}`, good(ports(1, -1)) + "}", "{", good(ports(2, -1)),
	} {
		got, err := m.parse("f", []byte(text))
		want, wantErr := Parse("f", []byte(text))
		if !reflect.DeepEqual(got, want) && len(got)+len(want) > 0 || fmt.Sprint(err) != fmt.Sprint(wantErr) {
			t.Errorf("%d: %s: %v %v, want %v %v", i, text, got, err, want, wantErr)
		}
	}
	before, _ := m.parse("f", []byte(good(ports(3, 0))))
	after, _ := m.parse("f", []byte(good(ports(3, 2))))
	if len(before) != 4 || len(after) != 4 || before[2] != after[2] || before[3] == after[3] {
		t.Errorf("read %v and then %v: want the second port to be the same object and the third another", before, after)
	}
}

// BenchmarkReadAgain is a file of 1,000 ports of which one has changed.
func BenchmarkReadAgain(b *testing.B) {
	var m memory
	var files [2][]byte
	for i := range files {
		raw, err := protojson.Marshal(ports(1000, i))
		if err != nil {
			b.Fatal(err)
		}
		files[i] = raw
	}
	for i := 0; b.Loop(); i++ {
		if _, err := m.parse("f", files[i%2]); err != nil {
			b.Fatal(err)
		}
	}
}
