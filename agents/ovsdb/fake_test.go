package ovsdb_test

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/headwater-cloud/headwater/agents/ovsdb"
	"github.com/headwater-cloud/headwater/sites/fault"
)

// fakeServer is a server that answers as a script says, for what a real one does not do on demand.
type fakeServer struct {
	endpoint string
	sessions atomic.Int64
}

type request struct {
	Method string            `json:"method"`
	Params []json.RawMessage `json:"params"`
	ID     any               `json:"id"`
	Result any               `json:"result"`
}

const fakeSchema = `{"name":"Open_vSwitch","version":"8.3.1","tables":{"Bridge":{"columns":{"name":{"type":"string","mutable":false}}}}}`

// serve answers the first requests of a session itself; handle gets those that it does not know.
func serve(t *testing.T, handle func(session int64, r request, send func(any)) (hangUp bool)) *fakeServer {
	t.Helper()
	f := &fakeServer{}
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	f.endpoint = "unix:" + path
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			n := f.sessions.Add(1)
			wg.Go(func() { f.session(c, n, handle) })
		}
	})
	t.Cleanup(func() { _ = l.Close(); wg.Wait() })
	return f
}

func (f *fakeServer) session(c net.Conn, n int64, handle func(int64, request, func(any)) bool) {
	defer c.Close()
	in, out := json.NewDecoder(c), json.NewEncoder(c)
	send := func(v any) { _ = out.Encode(v) }
	for {
		var r request
		if in.Decode(&r) != nil {
			return
		}
		answer := func(result string) {
			send(map[string]any{"id": r.ID, "error": nil, "result": json.RawMessage(result)})
		}
		switch {
		case r.Method == "get_schema":
			answer(fakeSchema)
		case r.Method == "set_db_change_aware":
			send(map[string]any{"id": r.ID, "result": nil, "error": map[string]any{"error": "unknown method"}})
		case handle(n, r, send):
			return
		case r.Method == "monitor_cond_since":
			answer(`[false,"00000000-0000-0000-0000-000000000000",{}]`)
		}
	}
}

var bridgesOnly = []ovsdb.Model{bridgeName{}}

type bridgeName struct {
	Name     string  `ovsdb:"name"`
	FailMode *string `ovsdb:"fail_mode"` // which this server lacks
}

func (bridgeName) Table() string { return "Bridge" }

// A connection that ends after a transaction was sent leaves open whether it was made: the caller must look.
func TestLostReply(t *testing.T) {
	t.Parallel()
	f := serve(t, func(_ int64, r request, _ func(any)) bool { return r.Method == "transact" })
	c := synced(t, ovsdb.Config{Endpoint: f.endpoint, Models: bridgesOnly})
	if _, err := c.Transact(t.Context(), ovsdb.Comment("x")); !fault.Is(err, fault.Ambiguous) {
		t.Errorf("got %v, want Ambiguous", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	g := serve(t, func(_ int64, r request, _ func(any)) bool {
		if r.Method == "transact" {
			cancel()
		}
		return false
	})
	c = synced(t, ovsdb.Config{Endpoint: g.endpoint, Models: bridgesOnly})
	if _, err := c.Transact(ctx, ovsdb.Comment("x")); !fault.Is(err, fault.Ambiguous) || !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want Ambiguous by the caller's end", err)
	}
}

// A server whose schema was converted says so, and is read anew.
func TestMonitorCanceled(t *testing.T) {
	t.Parallel()
	f := serve(t, func(n int64, r request, send func(any)) bool {
		switch {
		case r.Method == "transact" && n == 1:
			send(map[string]any{"method": "monitor_canceled", "params": []any{"Open_vSwitch"}, "id": nil})
		case r.Method == "monitor_cond_since" && n == 2:
			send(map[string]any{"id": r.ID, "error": nil, "result": json.RawMessage(
				`[false,"00000000-0000-0000-0000-000000000000",{"Bridge":{"11111111-2222-3333-4444-555555555555":{"initial":{"name":"br0"}}}}]`)})
		}
		return false
	})
	c := synced(t, ovsdb.Config{Endpoint: f.endpoint, Models: bridgesOnly})
	_, _ = c.Transact(t.Context(), ovsdb.Comment("x"))
	await(t, c, func(v *ovsdb.View) bool { return v.Len(bridgeName{}) == 1 })
}

// A server that falls silent is given up and asked again; one that asks for an echo gets it.
func TestSilence(t *testing.T) {
	t.Parallel()
	echoed := make(chan struct{}, 100)
	f := serve(t, func(n int64, r request, send func(any)) bool {
		switch {
		case r.Method == "monitor_cond_since" && n > 1:
			send(map[string]any{"id": "e", "method": "echo", "params": []any{"are you there"}})
		case r.Method == "" && r.ID == "e":
			echoed <- struct{}{}
		case r.Method == "echo" && n > 1:
			send(map[string]any{"id": r.ID, "error": nil, "result": []any{}})
		}
		return false
	})
	client(t, ovsdb.Config{Endpoint: f.endpoint, Models: bridgesOnly, Probe: 50 * time.Millisecond, MaxBackoff: 10 * time.Millisecond})
	select {
	case <-echoed:
	case <-time.After(30 * time.Second):
		t.Fatal("a silent server was not given up, or the next one's echo was not answered")
	}
}

// A server that has nothing to say, but answers when it is asked, is not given up.
func TestQuietServerIsKept(t *testing.T) {
	t.Parallel()
	asked := make(chan struct{}, 100)
	f := serve(t, func(_ int64, r request, send func(any)) bool {
		if r.Method == "echo" {
			send(map[string]any{"id": r.ID, "error": nil, "result": []any{}})
			asked <- struct{}{}
		}
		return false
	})
	c := synced(t, ovsdb.Config{Endpoint: f.endpoint, Models: bridgesOnly, Probe: 2 * time.Second})
	for range 3 {
		<-asked
	}
	if n := f.sessions.Load(); n != 1 || !c.Connected() {
		t.Errorf("%d connections were made, want 1 that stands", n)
	}
}

// What a server must not send ends the connection; the next one is read anew. Nothing of it reaches the replica.
func TestNonsense(t *testing.T) {
	t.Parallel()
	id := "11111111-2222-3333-4444-555555555555"
	for _, bad := range []string{
		`{"Bridge":{"` + id + `":{"modify":{"name":"never seen"}}}}`,
		`{"Bridge":{"` + id + `":{"delete":null}}}`,
		`{"Bridge":{"` + id + `":{"insert":{"name":7}}}}`,
		`{"Bridge":{"` + id + `":{"insert":{"other":"x"}}}}`,
		`{"Bridge":{"x":{"insert":{"name":"x"}}}}`,
		`{"Port":{}}`, `[]`, `{"Bridge":{"` + id + `":{"insert":{"name":"a"},"modify":{"name":"b"}}}}`,
	} {
		f := serve(t, func(n int64, r request, send func(any)) bool {
			if r.Method == "transact" && n == 1 {
				send(map[string]any{"method": "update3", "id": nil, "params": []any{"Open_vSwitch", id, json.RawMessage(bad)}})
			}
			return false
		})
		c := synced(t, ovsdb.Config{Endpoint: f.endpoint, Models: bridgesOnly, MaxBackoff: 10 * time.Millisecond})
		if _, err := c.Transact(t.Context(), ovsdb.Comment("x")); !fault.Is(err, fault.Ambiguous) {
			t.Errorf("%s: %v, want the connection's end", bad, err)
		}
		eventually(t, func() bool { return c.Connected() && f.sessions.Load() == 2 })
		if c.View().Len(bridgeName{}) != 0 {
			t.Errorf("%s reached the replica", bad)
		}
	}
}
