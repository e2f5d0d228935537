package ovsdb_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/headwater-cloud/headwater/agents/ovsdb"
	"github.com/headwater-cloud/headwater/agents/ovstest"
	"github.com/headwater-cloud/headwater/sites/fault"
)

// everything is each model of the package.
func everything() []ovsdb.Model {
	return []ovsdb.Model{
		ovsdb.OpenVSwitch{}, ovsdb.Bridge{}, ovsdb.Port{}, ovsdb.Interface{}, ovsdb.InterfaceStatistics{}, ovsdb.Mirror{}, ovsdb.IPFIX{},
		ovsdb.FlowSampleCollectorSet{}, ovsdb.Datapath{}, ovsdb.CTZone{}, ovsdb.CTTimeoutPolicy{}, ovsdb.Controller{}, ovsdb.Manager{}, ovsdb.SSL{},
	}
}

// history is what a client was told.
type history struct {
	mu      sync.Mutex // guards the field below
	changes [][]ovsdb.Change
}

func (h *history) add(c []ovsdb.Change) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.changes = append(h.changes, c)
}

// take returns what was told since the last take.
func (h *history) take() [][]ovsdb.Change {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := h.changes
	h.changes = nil
	return out
}

// client runs a client of the switch's database until the test ends.
func client(t *testing.T, cfg ovsdb.Config) *ovsdb.Client {
	t.Helper()
	cfg.Database = "Open_vSwitch"
	if cfg.Models == nil {
		cfg.Models = everything()
	}
	c, err := ovsdb.New(cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := c.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
	return c
}

func synced(t *testing.T, cfg ovsdb.Config) *ovsdb.Client {
	t.Helper()
	c := client(t, cfg)
	within(t, c.Synced)
	return c
}

// within runs what must succeed within 30 seconds.
func within(t *testing.T, do func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := do(ctx); err != nil {
		t.Fatal(err)
	}
}

func await(t *testing.T, c *ovsdb.Client, until func(*ovsdb.View) bool) {
	t.Helper()
	within(t, func(ctx context.Context) error {
		return c.Await(ctx, func(v *ovsdb.View) (bool, error) { return until(v), nil })
	})
}

func transact(t *testing.T, c *ovsdb.Client, ops ...ovsdb.Op) []ovsdb.Result {
	t.Helper()
	r, err := c.Transact(t.Context(), ops...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func bridge(t *testing.T, c *ovsdb.Client, name string) ovsdb.UUID {
	t.Helper()
	sw, ok := c.View().Switch()
	if !ok {
		t.Fatal("the database has no switch")
	}
	ops, err := ovsdb.BridgeOps(sw, name, "dummy", map[string]string{"hw-epoch": "7"})
	if err != nil {
		t.Fatal(err)
	}
	return transact(t, c, ops...)[2].ID
}

// What a client writes, ovs-vsctl reads, and the other way about, for each shape of column.
func TestSameAsVsctl(t *testing.T) {
	t.Parallel()
	s := ovstest.NewDB(t)
	c := synced(t, ovsdb.Config{Endpoint: s.Endpoint()})
	id := bridge(t, c, "br0")

	b, ok := ovsdb.Get[ovsdb.Bridge](c.View(), id)
	if !ok || b.Name != "br0" || b.FailMode == nil || *b.FailMode != "secure" || len(b.Ports) != 1 || b.ExternalIDs["hw-epoch"] != "7" || b.IPFIX != nil {
		t.Errorf("after its own transaction the replica shows %+v, %v", b, ok)
	}
	if got := s.Vsctl("get", "Bridge", "br0", "fail_mode", "external_ids", "datapath_type"); got != "secure\n{hw-epoch=\"7\"}\ndummy" {
		t.Errorf("ovs-vsctl reads %q", got)
	}

	transact(t, c, ovsdb.PortOps(id, "tap0", ovsdb.Values{"type": "dummy", "mtu_request": 1450, "external_ids": map[string]string{"iface-id": "a b\"c<\u00e9>"}})...)
	if got := s.Vsctl("get", "Interface", "tap0", "mtu_request", "external_ids:iface-id"); got != "1450\n\"a b\\\"c<\u00e9>\"" {
		t.Errorf("ovs-vsctl reads %q", got)
	}

	s.Vsctl("--no-wait", "set", "Interface", "tap0", "external_ids:attached-mac=\"02:00:00:00:00:01\"", "ofport_request=5", "--",
		"set", "Port", "tap0", "trunks=7,5,9", "tag=4", "--", "clear", "Interface", "tap0", "mtu_request", "--", "remove", "Interface", "tap0", "external_ids", "iface-id")
	await(t, c, func(v *ovsdb.View) bool {
		i, _ := ovsdb.Find(v, func(i ovsdb.Interface) bool { return i.Name == "tap0" })
		p, _ := ovsdb.Find(v, func(p ovsdb.Port) bool { return p.Name == "tap0" })
		return i.MTURequest == nil && i.OFPortRequest != nil && *i.OFPortRequest == 5 && len(i.ExternalIDs) == 1 &&
			i.ExternalIDs["attached-mac"] == "02:00:00:00:00:01" && slices.Equal(p.Trunks, []int64{5, 7, 9}) && p.Tag != nil && *p.Tag == 4
	})
	s.Vsctl("--no-wait", "remove", "Port", "tap0", "trunks", "7", "--", "add", "Port", "tap0", "trunks", "6")
	await(t, c, func(v *ovsdb.View) bool {
		p, _ := ovsdb.Find(v, func(p ovsdb.Port) bool { return p.Name == "tap0" })
		return slices.Equal(p.Trunks, []int64{5, 6, 9})
	})
	s.Vsctl("--no-wait", "del-br", "br0")
	await(t, c, func(v *ovsdb.View) bool { return v.Len(ovsdb.Bridge{}) == 0 && v.Len(ovsdb.Interface{}) == 0 })
}

// Every kind of operation, as RFC 7047 describes its result.
func TestOperations(t *testing.T) {
	t.Parallel()
	s := ovstest.NewDB(t)
	c := synced(t, ovsdb.Config{Endpoint: s.Endpoint()})
	id := bridge(t, c, "br0")

	r := transact(t, c,
		ovsdb.Comment("a test"),
		ovsdb.Mutate("Bridge", ovsdb.Is("name", "br0"), ovsdb.Mutation{Column: "external_ids", Mutator: "insert", Value: map[string]string{"a": "1", "b": "2"}},
			ovsdb.Mutation{Column: "external_ids", Mutator: "delete", Value: []string{"hw-epoch"}}),
		ovsdb.Select("Bridge", ovsdb.ByID(id), "_uuid", "name", "external_ids"),
		ovsdb.Update("Bridge", ovsdb.ByID(id), ovsdb.Values{"fail_mode": []string{}, "datapath_id": nil}),
		ovsdb.Wait("Bridge", 0, ovsdb.ByID(id), "==", []string{"name"}, ovsdb.Values{"name": "br0"}),
		ovsdb.Commit())
	if r[1].Count != 1 || r[3].Count != 1 {
		t.Errorf("mutate and update touched %d and %d rows, want 1", r[1].Count, r[3].Count)
	}
	got := ovsdb.As[ovsdb.Bridge](r[2].Rows[0])
	if got.ID != id || got.Name != "br0" || len(got.ExternalIDs) != 2 || r[2].Rows[0].ID() != id {
		t.Errorf("selected %+v", got)
	}
	if r := transact(t, c, ovsdb.Select("Bridge", ovsdb.Is("name", "nobody"))); len(r[0].Rows) != 0 {
		t.Errorf("selected %d rows of no bridge", len(r[0].Rows))
	}
	if r := transact(t, c, ovsdb.Delete("Manager", nil)); r[0].Count != 0 {
		t.Errorf("deleted %d of no rows", r[0].Count)
	}
}

// Errors are told apart by their kind, and leave the database as it was.
func TestRefusals(t *testing.T) {
	t.Parallel()
	s := ovstest.NewDB(t)
	c := synced(t, ovsdb.Config{Endpoint: s.Endpoint()})
	id := bridge(t, c, "br0")
	ghost := ovsdb.UUID("11111111-2222-3333-4444-555555555555")
	for _, tt := range []struct {
		name string
		ops  []ovsdb.Op
		want error
		op   int
	}{
		{"abort", []ovsdb.Op{ovsdb.Delete("Bridge", nil), ovsdb.Abort()}, ovsdb.ErrAborted, 1},
		{"wait", []ovsdb.Op{ovsdb.Wait("Bridge", 0, ovsdb.ByID(id), "!=", []string{"name"}, ovsdb.Values{"name": "br0"})}, ovsdb.ErrTimedOut, 0},
		{"constraint", []ovsdb.Op{ovsdb.Update("Bridge", ovsdb.ByID(id), ovsdb.Values{"fail_mode": "never"})}, ovsdb.ErrConstraint, 0},
		{"too many rows", []ovsdb.Op{ovsdb.Insert("Open_vSwitch", "", nil)}, ovsdb.ErrConstraint, -1},
		{"reference", []ovsdb.Op{ovsdb.Mutate("Bridge", ovsdb.ByID(id), ovsdb.Mutation{Column: "ports", Mutator: "insert", Value: []ovsdb.UUID{ghost}})}, ovsdb.ErrReferential, -1},
		{"twice", []ovsdb.Op{ovsdb.Insert("Manager", "m", ovsdb.Values{"target": "a"}), ovsdb.Insert("Manager", "m", ovsdb.Values{"target": "b"})}, ovsdb.ErrDuplicateName, 1},
		{"lock", []ovsdb.Op{ovsdb.Assert("nobodys")}, ovsdb.ErrNotOwner, 0},
		{"domain", []ovsdb.Op{ovsdb.Mutate("Open_vSwitch", nil, ovsdb.Mutation{Column: "next_cfg", Mutator: "/=", Value: 0})}, ovsdb.ErrDomain, 0},
		{"syntax", []ovsdb.Op{ovsdb.Delete("No_Such_Table", nil)}, ovsdb.ErrSyntax, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := c.Transact(t.Context(), tt.ops...)
			var refused *ovsdb.OpError
			if !errors.Is(err, tt.want) || !errors.As(err, &refused) || refused.Op != tt.op {
				t.Errorf("got %v, want %v at operation %d", err, tt.want, tt.op)
			}
			for _, other := range []error{ovsdb.ErrIO, ovsdb.ErrRange, ovsdb.ErrResources} {
				if errors.Is(err, other) {
					t.Errorf("%v also matches %v", err, other)
				}
			}
		})
	}
	if c.View().Len(ovsdb.Bridge{}) != 1 {
		t.Error("a refused transaction changed the database")
	}
	if _, err := c.Transact(t.Context(), ovsdb.Insert("Bridge", "", ovsdb.Values{"name": struct{}{}})); err == nil || !strings.Contains(err.Error(), "column name") {
		t.Errorf("a value that OVSDB has not: %v", err)
	}
}

// A transaction arrives as one change, and what one changes of another's rows arrives too.
func TestChangesAreWhole(t *testing.T) {
	t.Parallel()
	s := ovstest.NewDB(t)
	var told history
	c := synced(t, ovsdb.Config{Endpoint: s.Endpoint(), Changed: told.add})
	told.take()
	id := bridge(t, c, "br0")
	batches := told.take()
	if len(batches) != 1 || len(batches[0]) != 4 {
		t.Fatalf("making a bridge was told as %v, want one change of 4 rows", batches)
	}
	transact(t, c, ovsdb.Update("Bridge", ovsdb.ByID(id), ovsdb.Values{"datapath_type": "netdev"}))
	batches = told.take()
	if len(batches) != 1 || len(batches[0]) != 1 {
		t.Fatalf("an update was told as %v", batches)
	}
	change := batches[0][0]
	was, is := ovsdb.As[ovsdb.Bridge](change.Old), ovsdb.As[ovsdb.Bridge](change.New)
	if change.ID != id || was.DatapathType != "dummy" || is.DatapathType != "netdev" || is.Name != "br0" {
		t.Errorf("told of %+v to %+v", was, is)
	}
}

// A server that comes back is read again, and what differs is told as one change; what is the same is not told.
func TestReconnect(t *testing.T) {
	t.Parallel()
	s := ovstest.NewDB(t)
	var told history
	c := synced(t, ovsdb.Config{Endpoint: s.Endpoint(), Changed: told.add, MaxBackoff: 200 * time.Millisecond})
	bridge(t, c, "br0")
	told.take()

	restarted(t, s, c, func() {
		s.Run("ovsdb-tool", "transact", s.Dir+"/conf.db", `["Open_vSwitch",{"op":"update","table":"Bridge","where":[],"row":{"datapath_type":"netdev"}}]`)
	})
	b, _ := ovsdb.Find(c.View(), func(b ovsdb.Bridge) bool { return b.Name == "br0" })
	if b.DatapathType != "netdev" {
		t.Errorf("after a reconnect the replica shows %+v", b)
	}
	var batches [][]ovsdb.Change
	eventually(t, func() bool { // the replica shows it before it is told
		batches = append(batches, told.take()...)
		return len(batches) > 0
	})
	if len(batches) != 1 || len(batches[0]) != 1 || batches[0][0].Table != "Bridge" {
		t.Errorf("the difference was told as %v, want one change of one row", batches)
	}
	transact(t, c, ovsdb.Delete("Manager", nil))
}

// restarted kills the server, does something, starts it again and waits until the client follows it.
func restarted(t *testing.T, s *ovstest.Switch, c *ovsdb.Client, meanwhile func()) {
	t.Helper()
	s.KillDB()
	eventually(t, func() bool { return !c.Connected() })
	if c.View().Len(ovsdb.Bridge{}) != 1 {
		t.Error("without a connection the last state is forgotten")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := c.Transact(ctx, ovsdb.Delete("Manager", nil)); !fault.Is(err, fault.Unavailable) {
		t.Errorf("a transaction without a server: %v, want Unavailable", err)
	}
	meanwhile()
	s.StartDB()
	eventually(t, c.Connected)
}

func eventually(t *testing.T, cond func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	limit := time.After(30 * time.Second)
	for !cond() {
		select {
		case <-limit:
			t.Fatal("it did not come true within 30 s")
		case <-tick.C:
		}
	}
}

// Of two clients with one lock, only its holder writes; when it goes, the other takes over.
func TestLock(t *testing.T) {
	t.Parallel()
	s := ovstest.NewDB(t)
	cfg := ovsdb.Config{Endpoint: s.Endpoint(), Database: "Open_vSwitch", Models: everything(), Lock: "headwater_agent"}
	first, err := ovsdb.New(cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = first.Run(ctx) })
	defer wg.Wait()
	defer stop()
	eventually(t, first.Held)
	second := synced(t, cfg)

	if _, err := first.Transact(t.Context(), ovsdb.Delete("Manager", nil)); err != nil {
		t.Errorf("the holder: %v", err)
	}
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := second.Transact(short, ovsdb.Delete("Manager", nil)); !fault.Is(err, fault.Conflict) || second.Held() {
		t.Errorf("the other: %v, want Conflict", err)
	}
	_, err = first.Transact(t.Context(), ovsdb.Comment("x"), ovsdb.Abort())
	var refused *ovsdb.OpError
	if !errors.As(err, &refused) || refused.Op != 1 {
		t.Errorf("with a lock, the second operation's error: %v", err)
	}
	stop()
	eventually(t, second.Held)
	transact(t, second, ovsdb.Delete("Manager", nil))
}

// Apply returns when ovs-vswitchd has done it, OFPort with the port's number or with the switch's own words.
func TestApply(t *testing.T) {
	t.Parallel()
	s := ovstest.New(t)
	c := synced(t, ovsdb.Config{Endpoint: s.Endpoint()})
	id := bridge(t, c, "br0")
	within(t, func(ctx context.Context) error {
		_, err := c.Apply(ctx, ovsdb.PortOps(id, "tap0", ovsdb.Values{"type": "dummy", "ofport_request": 42})...)
		return err
	})
	if got := strings.TrimSpace(s.Vsctl("get", "Interface", "tap0", "ofport")); got != "42" {
		t.Errorf("after Apply the port's number is %s", got)
	}
	within(t, func(ctx context.Context) error {
		number, err := c.OFPort(ctx, "tap0")
		if err == nil && number != 42 {
			err = fmt.Errorf("OFPort returns %d", number)
		}
		return err
	})
	transact(t, c, ovsdb.PortOps(id, "tun0", ovsdb.Values{"type": "nosuch"})...)
	_, err := c.OFPort(t.Context(), "tun0")
	var bad *ovsdb.InterfaceError
	if !errors.As(err, &bad) || bad.Interface != "tun0" || bad.Message == "" {
		t.Errorf("an interface of no type: %v", err)
	}
	p, _ := ovsdb.Find(c.View(), func(p ovsdb.Port) bool { return p.Name == "tap0" })
	transact(t, c, ovsdb.PortDeleteOps(id, p.ID)...)
	if _, still := ovsdb.Find(c.View(), func(i ovsdb.Interface) bool { return i.Name == "tap0" }); still {
		t.Error("the deleted port's interface is still there")
	}
}

// A model whose field has not its column's type is found at once, not by a wrong value later.
func TestUnfitModel(t *testing.T) {
	t.Parallel()
	s := ovstest.NewDB(t)
	for _, tt := range []struct {
		model ovsdb.Model
		want  string
	}{
		{wrongType{}, "Port.Tag is a string"},
		{wrongTable{}, "no table Bridges"},
	} {
		c, err := ovsdb.New(ovsdb.Config{Endpoint: s.Endpoint(), Database: "Open_vSwitch", Models: []ovsdb.Model{tt.model}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Run(t.Context()); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("got %v, want %q", err, tt.want)
		}
	}
}

type wrongType struct {
	Tag string `ovsdb:"tag"`
}

func (wrongType) Table() string { return "Port" }

type wrongTable struct{}

func (wrongTable) Table() string { return "Bridges" }

func TestConfig(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"", "unix:", "tcp:1.2.3.4", "tcp::6640", "udp:1.2.3.4:5", "/run/db.sock"} {
		_, err := ovsdb.New(ovsdb.Config{Endpoint: bad}, nil)
		if err == nil || !strings.Contains(err.Error(), "want unix:PATH") || !strings.Contains(err.Error(), "no database") {
			t.Errorf("endpoint %q: %v", bad, err)
		}
	}
	for _, good := range []string{"unix:/a b", "tcp:127.0.0.1:6640", "ssl:[::1]:6640"} {
		if err := (ovsdb.Config{Endpoint: good, Database: "x"}).Validate(); err != nil {
			t.Errorf("endpoint %q: %v", good, err)
		}
	}
}
