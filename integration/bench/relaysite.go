package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/headwater-cloud/headwater/agents/api"
	"github.com/headwater-cloud/headwater/agents/frame"
	"github.com/headwater-cloud/headwater/agents/mtls"
	"github.com/headwater-cloud/headwater/agents/relay"
)

// The site of the part relay: what hands out the state of 1,000 hosts with 50 ports each.
const (
	relayHosts    = 1000
	portsPerHost  = 50
	portsPerNet   = 20
	netsPerRouter = 5
	portsPerGroup = 10
)

// siteState is a site: networks of 20 ports on as many hosts, five networks to a router with a gateway on one external network, a security group and
// the address set of its members for every ten ports.
func siteState() ([]*frame.Object, error) {
	const ports = relayHosts * portsPerHost
	var out []*frame.Object
	var failed error
	put := func(o *api.Object) {
		e, err := frame.Encode(o)
		if err != nil {
			failed = err
		}
		out = append(out, e)
	}
	put(&api.Object{Kind: &api.Object_Network{Network: &api.Network{Id: uuid(0, 0), Key: 1, External: true, Segment: &api.Segment{Kind: api.Segment_FLAT, PhysicalNetwork: "physnet1"}}}})
	for h := range relayHosts {
		put(&api.Object{Kind: &api.Object_Host{Host: &api.Host{Id: hostName(h), Key: uint32(h + 1), Site: "east",
			TunnelEnds: []*api.TunnelEnd{{Address: fmt.Sprintf("172.16.%d.%d", h>>8, h&255)}}}}})
	}
	for n := range ports / portsPerNet {
		put(&api.Object{Kind: &api.Object_Network{Network: &api.Network{Id: uuid(1, n), Key: uint32(n + 2), Project: uuid(9, n/netsPerRouter), Mtu: 1450}}})
		put(&api.Object{Kind: &api.Object_Subnet{Subnet: &api.Subnet{Id: uuid(2, n), Network: uuid(1, n), Cidr: netOf(n) + ".0/24", Gateway: netOf(n) + ".1", Dhcp: true,
			DnsServers: []string{"9.9.9.9"}}}})
	}
	for r := range ports / portsPerNet / netsPerRouter {
		o := &api.Router{Id: uuid(3, r), Key: uint32(r + 1), Project: uuid(9, r), Gateway: &api.Gateway{Network: uuid(0, 0), Mac: mac(3, r),
			Addresses: []string{fmt.Sprintf("192.0.%d.%d/16", r>>8, r&255)}, NextHops: []string{"192.0.255.254"}, Snat: api.SnatMode_SNAT_HOST}}
		for i := range netsPerRouter {
			n := r*netsPerRouter + i
			o.Interfaces = append(o.Interfaces, &api.RouterInterface{Network: uuid(1, n), Mac: mac(1, n), Addresses: []string{netOf(n) + ".1/24"}})
		}
		put(&api.Object{Kind: &api.Object_Router{Router: o}})
	}
	for g := range ports / portsPerGroup {
		set := &api.AddressSet{Id: uuid(5, g)}
		for i := range portsPerGroup {
			set.Addresses = append(set.Addresses, portAddress(g*portsPerGroup+i))
		}
		put(&api.Object{Kind: &api.Object_AddressSet{AddressSet: set}})
		put(&api.Object{Kind: &api.Object_SecurityGroup{SecurityGroup: &api.SecurityGroup{Id: uuid(4, g), Rules: []*api.SecurityRule{
			{Id: uuid(6, g), Direction: api.SecurityRule_EGRESS}, {Id: uuid(7, g), RemoteSet: uuid(5, g)}, {Id: uuid(8, g), ProtocolPlusOne: 7, PortMin: 22, PortMax: 22},
		}}}})
	}
	for p := range ports {
		put(sitePort(p, 0))
	}
	return out, failed
}

func sitePort(p, version int) *api.Object {
	return &api.Object{Kind: &api.Object_Port{Port: &api.Port{
		Id: uuid(10, p), Key: uint32(p + 1), Network: uuid(1, p/portsPerNet), Project: uuid(9, p/portsPerNet/netsPerRouter), Mac: mac(10, p),
		FixedIps: []*api.FixedIP{{Subnet: uuid(2, p/portsPerNet), Address: portAddress(p)}}, PortSecurity: true, SecurityGroups: []string{uuid(4, p/portsPerGroup)},
		Host: hostName(p * 7919 % relayHosts), BindingEpoch: 1, DnsName: fmt.Sprintf("server-%d", p), Device: uuid(11, p), DhcpOptions: []*api.DHCPOption{
			{Code: 42, Value: fmt.Sprintf("192.0.2.%d", version%250)}},
	}}}
}

func hostName(h int) string   { return fmt.Sprintf("host-%04d", h) }
func uuid(kind, n int) string { return fmt.Sprintf("%08x-0000-4000-8000-%012x", kind, n) }
func netOf(n int) string      { return fmt.Sprintf("10.%d.%d", n>>8, n&255) }
func mac(kind, n int) string {
	return fmt.Sprintf("fa:16:%02x:%02x:%02x:%02x", kind, n>>16&255, n>>8&255, n&255)
}
func portAddress(p int) string { return fmt.Sprintf("%s.%d", netOf(p/portsPerNet), 10+p%portsPerNet) }

// relaySite is the process at the top of the part relay: it prints one line of JSON, and serves until ctx ends.
func relaySite(ctx context.Context, args []string, stdout io.Writer) error {
	flags := flag.NewFlagSet("relaysite", flag.ContinueOnError)
	dir := flags.String("certs", "", "folder of certificates")
	if err := flags.Parse(args); err != nil {
		return err
	}
	cred, err := mtls.Load(certFiles(filepath.Join(*dir, "top")))
	if err != nil {
		return err
	}
	all, err := siteState()
	if err != nil {
		return err
	}
	feed := relay.NewFeed("bench", 1, nil)
	if err := feed.Apply(ctx, &frame.Frame{Incarnation: "bench", Revision: 1, Snapshot: true, Set: all}); err != nil {
		return err
	}
	streams, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	control, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	server, err := relay.New(relay.Config{Source: feed, Site: "east", Credentials: cred, Listener: streams})
	if err != nil {
		return err
	}
	web := &http.Server{Handler: changeOne(feed, server), ReadHeaderTimeout: look}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return server.Run(ctx) })
	g.Go(func() error { _ = web.Serve(control); return nil }) // it ends by Close
	g.Go(func() error { <-ctx.Done(); return web.Close() })
	if err := server.AppliedOn(ctx, 1); err != nil { // it holds the site
		return errors.Join(err, g.Wait())
	}
	if err := json.NewEncoder(stdout).Encode(map[string]string{"streams": streams.Addr().String(), "control": "http://" + control.Addr().String(), "objects": fmt.Sprint(len(all))}); err != nil {
		return fmt.Errorf("print the addresses: %w", err)
	}
	return g.Wait()
}

// changeOne changes a port at each request, and answers when all hosts that it concerns have it: with the time that took in seconds.
func changeOne(feed *relay.Feed, server *relay.Server) http.Handler {
	n := 0
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n++
		began := time.Now()
		revision, err := feed.Commit(r.Context(), []*api.Object{sitePort(n*337%(relayHosts*portsPerHost), n)}, nil)
		if err == nil {
			err = server.AppliedOn(r.Context(), revision)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		fmt.Fprint(w, time.Since(began).Seconds()) //nolint:errcheck // the client will miss it
	})
}

func certFiles(dir string) mtls.Config {
	return mtls.Config{CertFile: filepath.Join(dir, "cert.pem"), KeyFile: filepath.Join(dir, "key.pem"), CAFile: filepath.Join(dir, "ca.pem")}
}
