package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/encoding"
	grpcproto "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/headwater-cloud/headwater/agents/api"
	"github.com/headwater-cloud/headwater/agents/mtls"
)

// relayChanges is how many single changes the part relay makes.
const relayChanges = 200

// measureRelay has 1,000 simulated agents subscribe to a site of 50,000 ports: from one server, and through two relays.
func measureRelay(ctx context.Context, b *bench) error {
	if b.world != nil { // two worlds at once would share two cores
		if err := b.world.pause(ctx); err != nil {
			return err
		}
	}
	c := &crew{b: b, certs: filepath.Join(b.dir, "certs")}
	if err := c.issue(); err != nil {
		return err
	}
	if err := c.direct(ctx); err != nil {
		return err
	}
	return c.throughRelays(ctx)
}

// crew are the simulated agents, and what they need.
type crew struct {
	b       *bench
	certs   string
	agents  []*simulated
	control string
	objects string
}

// issue makes everybody's certificates.
func (c *crew) issue() error {
	ca, err := mtls.NewAuthority(mtls.DefaultDomain, time.Now)
	if err != nil {
		return err
	}
	for _, x := range []struct {
		dir string
		id  mtls.Identity
	}{{"top", mtls.Identity{Role: mtls.Top, Name: "bench"}}, {"relay0", mtls.Identity{Role: mtls.Relay, Site: "east", Name: "relay0"}},
		{"relay1", mtls.Identity{Role: mtls.Relay, Site: "east", Name: "relay1"}}} {
		if _, err := ca.Issue(filepath.Join(c.certs, x.dir), x.id, time.Hour); err != nil {
			return err
		}
	}
	for h := range relayHosts {
		dir := filepath.Join(c.certs, hostName(h))
		cfg, err := ca.Issue(dir, mtls.Identity{Role: mtls.Host, Site: "east", Name: hostName(h)}, time.Hour)
		if err != nil {
			return err
		}
		cred, err := mtls.Load(cfg)
		if err != nil {
			return err
		}
		c.agents = append(c.agents, &simulated{host: hostName(h), cred: cred})
	}
	return nil
}

// site starts the server at the top.
func (c *crew) site(ctx context.Context) (*proc, string, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, "", fmt.Errorf("find this program: %w", err)
	}
	cmd := exec.CommandContext(ctx, self, "relaysite", "-certs", c.certs)
	cmd.Stderr = c.b.log
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, "", fmt.Errorf("start the site: %w", err)
	}
	p, err := start(cmd)
	if err != nil {
		return nil, "", err
	}
	text, err := bufio.NewReader(out).ReadBytes('\n')
	said := map[string]string{}
	if err = errors.Join(err, json.Unmarshal(text, &said)); err != nil {
		p.stop()
		return nil, "", fmt.Errorf("start the site: %w", err)
	}
	c.control, c.objects = said["control"], said["objects"]
	return p, said["streams"], nil
}

// start has every agent subscribe at once, agent i at servers[i%len], and waits until each has the present state.
func (c *crew) start(ctx context.Context, servers ...string) (took time.Duration, bytes, objects int64, stop func(), err error) {
	ctx, cancel := context.WithCancel(ctx)
	var wait sync.WaitGroup
	var ready sync.WaitGroup
	var failed atomic.Pointer[error]
	began := time.Now()
	for i, a := range c.agents {
		a.bytes.Store(0)
		a.objects.Store(0)
		ready.Add(1)
		once := sync.OnceFunc(ready.Done)
		wait.Go(func() {
			defer once()
			if err := a.run(ctx, servers[i%len(servers)], once); err != nil && ctx.Err() == nil {
				failed.Store(&err)
			}
		})
	}
	ready.Wait()
	took = time.Since(began)
	for _, a := range c.agents {
		bytes, objects = bytes+a.bytes.Load(), objects+a.objects.Load()
	}
	if e := failed.Load(); e != nil {
		err = *e
	}
	return took, bytes, objects, func() { cancel(); wait.Wait() }, err
}

// changes makes single changes and returns how long each took to be applied by all whom it concerns, in milliseconds.
func (c *crew) changes(ctx context.Context) ([]float64, error) {
	var out []float64
	for range relayChanges {
		ctx, cancel := context.WithTimeout(ctx, time.Minute)
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.control, nil)
		if err != nil {
			cancel()
			return nil, fmt.Errorf("change a port: %w", err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			cancel()
			return nil, fmt.Errorf("change a port: %w", err)
		}
		text, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		cancel()
		seconds, wrong := strconv.ParseFloat(string(text), 64)
		if err = errors.Join(err, wrong); err != nil {
			return nil, fmt.Errorf("change a port: %s: %w", text, err)
		}
		out = append(out, seconds*1000)
	}
	slices.Sort(out)
	return out, nil
}

func (c *crew) direct(ctx context.Context) error {
	site, address, err := c.site(ctx)
	if err != nil {
		return err
	}
	defer site.stop()
	before, _ := site.memory()
	cpu := site.cpu()
	took, bytes, objects, stop, err := c.start(ctx, address)
	defer func() { stop() }()
	if err != nil {
		return err
	}
	r, how := c.b.report, fmt.Sprintf("%d simulated agents, %d ports (%s objects), mTLS over loopback, all at once; they count what they get and keep nothing", relayHosts, relayHosts*portsPerHost, c.objects)
	r.aim(figure{Name: "agents cold, from one server: until the last has the present state", Ours: new(took.Seconds()), Unit: "s", How: how}, lower, 24)
	r.add(figure{Name: "- objects for each agent", Ours: new(float64(objects) / relayHosts), Unit: "", How: how})
	r.add(figure{Name: "- bytes to all agents", Ours: new(float64(bytes) / (1 << 20)), Unit: "MiB", How: how})
	r.add(figure{Name: "- CPU of the server", Ours: new((site.cpu() - cpu).Seconds()), Unit: "s", How: how})
	now, peak := site.memory()
	r.add(figure{Name: "- memory of the server with the site, no agent", Ours: new(before), Unit: "MiB", How: how})
	r.add(figure{Name: "- highest memory of the server", Ours: new(peak), Unit: "MiB", How: how})
	r.add(figure{Name: "- memory of the server for each agent", Ours: new((now - before) * 1024 / relayHosts), Unit: "KiB", How: how})
	if err := c.report(ctx, "one server"); err != nil {
		return err
	}
	stop()
	took, bytes, _, stop, err = c.start(ctx, address)
	if err != nil {
		return err
	}
	how = "the same agents subscribe again from the revision that they had"
	r.add(figure{Name: "all agents restart with what they kept: until the last has the present state", Ours: new(took.Seconds()), Unit: "s", How: how})
	r.add(figure{Name: "- bytes to all agents", Ours: new(float64(bytes) / (1 << 20)), Unit: "MiB", How: how})
	return nil
}

// report records how long single changes take.
func (c *crew) report(ctx context.Context, way string) error {
	list, err := c.changes(ctx)
	if err != nil {
		return err
	}
	how := fmt.Sprintf("%d times: one port changed, until every agent whom it concerns (about 100 of 1,000) has told the top that it has it", relayChanges)
	c.b.report.add(figure{Name: "one port changed, " + way + ": applied by all, p50", Ours: new(list[len(list)/2]), Unit: "ms", How: how})
	c.b.report.add(figure{Name: "one port changed, " + way + ": applied by all, p99", Ours: new(list[len(list)*99/100]), Unit: "ms", How: how})
	return nil
}

func (c *crew) throughRelays(ctx context.Context) error {
	site, address, err := c.site(ctx)
	if err != nil {
		return err
	}
	defer site.stop()
	var relays []*proc
	var servers []string
	for i := range 2 {
		port, err := freePort(ctx)
		if err != nil {
			return err
		}
		listen := fmt.Sprintf("127.0.0.1:%d", port)
		name := fmt.Sprintf("relay%d", i)
		files := certFiles(filepath.Join(c.certs, name))
		file := filepath.Join(c.b.dir, name+".yaml")
		text := fmt.Sprintf("listen: %s\nupstream: [%s]\ndir: %s\ntls: {cert_file: %s, key_file: %s, ca_file: %s}\n", listen, address, filepath.Join(c.b.dir, name),
			files.CertFile, files.KeyFile, files.CAFile)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			return fmt.Errorf("write a relay's configuration: %w", err)
		}
		cmd := exec.CommandContext(ctx, c.b.program, "relay", "--config", file)
		cmd.Stderr = c.b.log
		p, err := start(cmd)
		if err != nil {
			return err
		}
		defer p.stop()
		relays, servers = append(relays, p), append(servers, listen)
	}
	for _, a := range c.agents {
		a.incarnation, a.revision = "", 0
	}
	// One agent tells when the relays hold the site.
	for _, s := range servers {
		if err := c.agents[0].until(ctx, s); err != nil {
			return err
		}
	}
	took, bytes, _, stop, err := c.start(ctx, servers...)
	defer func() { stop() }()
	if err != nil {
		return err
	}
	how := "two `headwater relay` processes below the server, which hold the site already; half of the agents at each"
	r := c.b.report
	r.aim(figure{Name: "agents cold, through two relays: until the last has the present state", Ours: new(took.Seconds()), Unit: "s", How: how}, lower, 24)
	r.add(figure{Name: "- bytes to all agents", Ours: new(float64(bytes) / (1 << 20)), Unit: "MiB", How: how})
	_, peak := relays[0].memory()
	r.add(figure{Name: "- highest memory of a relay", Ours: new(peak), Unit: "MiB", How: how})
	now, _ := site.memory()
	r.add(figure{Name: "- memory of the server above", Ours: new(now), Unit: "MiB", How: how})
	return c.report(ctx, "two relays")
}

// simulated is an agent that counts what it gets and applies it at once.
type simulated struct {
	host           string
	cred           *mtls.Credentials
	revision       uint64
	incarnation    string
	bytes, objects atomic.Int64
}

// until subscribes afresh until a server has sent a state.
func (a *simulated) until(ctx context.Context, server string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		got := false
		one, stop := context.WithCancel(ctx)
		fresh := &simulated{host: a.host, cred: a.cred}
		err := fresh.run(one, server, func() { got = true; stop() })
		stop()
		if got {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w", server, err)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// run subscribes from the revision that is held and follows. present is called whenever a whole revision has come.
func (a *simulated) run(ctx context.Context, server string, present func()) error {
	conn, err := grpc.NewClient("passthrough:///"+server, grpc.WithTransportCredentials(credentials.NewTLS(a.cred.Client(mtls.Upstream("east")))), grpc.WithNoProxy(),
		grpc.WithReadBufferSize(16<<10))
	if err != nil {
		return fmt.Errorf("dial %s: %w", server, err)
	}
	defer conn.Close() //nolint:errcheck // it has ended
	s, err := conn.NewStream(ctx, &api.NetworkState_ServiceDesc.Streams[0], api.NetworkState_Watch_FullMethodName,
		grpc.ForceCodecV2(counting{encoding.GetCodecV2(grpcproto.Name)}), grpc.MaxCallRecvMsgSize(64<<20))
	if err != nil {
		return fmt.Errorf("subscribe at %s: %w", server, err)
	}
	err = s.SendMsg(&api.FromAgent{Message: &api.FromAgent_Subscribe{Subscribe: &api.Subscribe{
		Host: a.host, Site: "east", Incarnation: a.incarnation, Revision: a.revision, Boot: uint64(time.Now().UnixNano()),
	}}})
	if err != nil {
		return fmt.Errorf("subscribe at %s: %w", server, err)
	}
	for {
		var m counted
		if err := s.RecvMsg(&m); err != nil {
			return fmt.Errorf("follow %s: %w", server, err)
		}
		a.bytes.Add(int64(m.size))
		a.objects.Add(int64(m.objects))
		if m.more {
			continue
		}
		a.incarnation, a.revision = m.incarnation, m.revision
		if err := s.SendMsg(&api.FromAgent{Message: &api.FromAgent_Applied{Applied: &api.Applied{Incarnation: m.incarnation, Revision: m.revision}}}); err != nil {
			return fmt.Errorf("follow %s: %w", server, err)
		}
		present()
	}
}

// counted is a frame of which only the head is read: the simulated agents shall not cost what a thousand hosts have.
type counted struct {
	incarnation   string
	revision      uint64
	more          bool
	size, objects int
}

type counting struct{ encoding.CodecV2 }

// Unmarshal reads a frame's head.
func (c counting) Unmarshal(data mem.BufferSlice, v any) error {
	m, ok := v.(*counted)
	if !ok {
		return c.CodecV2.Unmarshal(data, v)
	}
	buf := data.MaterializeToBuffer(mem.DefaultBufferPool())
	defer buf.Free()
	m.size = buf.Len()
	_, _, n := protowire.ConsumeTag(buf.ReadOnlyData())
	raw, _ := protowire.ConsumeBytes(buf.ReadOnlyData()[n:])
	for len(raw) > 0 {
		field, kind, n := protowire.ConsumeTag(raw)
		raw = raw[n:]
		size := protowire.ConsumeFieldValue(field, kind, raw)
		if size < 0 {
			return protowire.ParseError(size)
		}
		switch field {
		case 1:
			s, _ := protowire.ConsumeString(raw)
			m.incarnation = s
		case 2:
			m.revision, _ = protowire.ConsumeVarint(raw)
		case 4:
			m.more = true
		case 5:
			m.objects++
		}
		raw = raw[size:]
	}
	return nil
}
