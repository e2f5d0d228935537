package apps

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gopacket/gopacket/layers"
	"golang.org/x/sync/errgroup"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/channel"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"github.com/headwater-cloud/headwater/agents/state"
)

// Bounds of the metadata service of a host.
const (
	metadataGuests      = 1 << 16
	metadataAddresses   = 256 // of those, one port's
	metadataConnections = 512
	metadataEach        = 32   // of those, one port's: a guest that opens many and says nothing keeps nobody else out
	metadataQueue       = 2048 // packets to guests that wait to be sent
	metadataBuffer      = 64 << 10
	metadataMTU         = 1500 // what guests take may be less: their TCP says so
	metadataIdle        = 30 * time.Second
)

// metadata ends guests' connections to the metadata address in a TCP of the agent's own, gVisor's, without a device of the host: nothing
// of a tenant reaches the host's kernel, the host's own addresses cannot clash with tenants', and the packets' way is the one of all other
// services. Who asks is known from the port that each packet came from.
type metadata struct {
	store  *state.Store
	guests *guests
	log    *slog.Logger
	link   *channel.Endpoint
	server *http.Server
	ready  atomic.Bool // it listens
	open   connections
}

func newMetadata(cfg MetadataConfig, store *state.Store, counts *metrics, log *slog.Logger) (*metadata, error) {
	m := &metadata{store: store, guests: newGuests(metadataGuests, metadataAddresses), log: log, link: channel.New(metadataQueue, metadataMTU, "")}
	m.open.port = m.port
	handler, err := newMetadataProxy(cfg, m.who, func(outcome string) { counts.metadata.WithLabelValues(outcome).Inc() }, log)
	if err != nil {
		return nil, err
	}
	m.server = &http.Server{
		Handler: handler, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: metadataIdle, WriteTimeout: 2 * metadataTimeout, IdleTimeout: metadataIdle,
		MaxHeaderBytes: metadataHeader, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug),
	}
	return m, nil
}

const metadataNIC tcpip.NICID = 1

const portHTTP = 80

// newStack makes a TCP with one interface, the two addresses, and small buffers: it serves short answers to many.
func (m *metadata) newStack() (*stack.Stack, error) {
	s := stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, ipv6.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol},
	})
	send := tcpip.TCPSendBufferSizeRangeOption{Min: tcp.MinBufferSize, Default: metadataBuffer, Max: 4 * metadataBuffer}
	receive := tcpip.TCPReceiveBufferSizeRangeOption{Min: tcp.MinBufferSize, Default: metadataBuffer, Max: 4 * metadataBuffer}
	problems := []tcpip.Error{
		s.SetTransportProtocolOption(tcp.ProtocolNumber, &send),
		s.SetTransportProtocolOption(tcp.ProtocolNumber, &receive),
		s.CreateNIC(metadataNIC, m.link),
	}
	for _, a := range []netip.Addr{state.MetadataIPv4(), state.MetadataIPv6()} {
		problems = append(problems, s.AddProtocolAddress(metadataNIC, tcpip.ProtocolAddress{
			Protocol: protocolOf(a), AddressWithPrefix: tcpip.AddrFromSlice(a.AsSlice()).WithPrefix(),
		}, stack.AddressProperties{}))
	}
	s.SetRouteTable([]tcpip.Route{{Destination: header.IPv4EmptySubnet, NIC: metadataNIC}, {Destination: header.IPv6EmptySubnet, NIC: metadataNIC}})
	for _, p := range problems {
		if p != nil {
			s.Destroy()
			return nil, fmt.Errorf("metadata: %s", p)
		}
	}
	return s, nil
}

func protocolOf(a netip.Addr) tcpip.NetworkProtocolNumber {
	if a.Is4() {
		return ipv4.ProtocolNumber
	}
	return ipv6.ProtocolNumber
}

// direct hands a guest's packet to the stack.
func (m *metadata) direct(c *Case) Outcome {
	if c.Proto != layers.IPProtocolTCP || c.Dst != state.MetadataIPv4() && c.Dst != state.MetadataIPv6() {
		return Passed
	}
	if c.Port == nil || c.Port.DisableMetadata {
		return Foreign
	}
	if !m.ready.Load() {
		return Limited // it will be sent again
	}
	n := m.guests.enter(contact{guest{c.Port.Key, c.Src}, c.EthSrc, c.EthDst, c.Now})
	if n == 0 {
		return Limited
	}
	ip := slices.Clone(c.IP)
	if !readdress(ip, false, insideAddress(n, c.Is4)) {
		return Malformed
	}
	packet := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(ip)})
	defer packet.DecRef()
	m.link.InjectInbound(protocolOf(c.Src), packet)
	return Noted
}

// reply is a packet of the stack's on its way to a guest; ok is false when there is none such.
func (m *metadata) reply(w *writer, ip []byte) (Reply, bool) {
	var dst netip.Addr
	switch {
	case len(ip) >= 20 && ip[0]>>4 == 4:
		dst, _ = netip.AddrFromSlice(ip[16:20])
	case len(ip) >= 40:
		dst, _ = netip.AddrFromSlice(ip[24:40])
	}
	to, ok := m.guests.find(guestNumber(dst))
	if !ok || !readdress(ip, true, to.addr) {
		return Reply{}, false
	}
	kind := layers.EthernetTypeIPv4
	if dst.Is6() {
		kind = layers.EthernetTypeIPv6
	}
	return Reply{To: ToPort, Port: to.port, Frame: w.ethernet(to.asked, to.mac, kind, ip)}, true
}

// who is the server behind a connection.
func (m *metadata) who(from netip.AddrPort) (identity, bool) {
	c, ok := m.guests.find(guestNumber(from.Addr()))
	if !ok {
		return identity{}, false
	}
	return identify(m.store, c)
}

// port is the key of the port behind a connection; 0: it is none of a guest.
func (m *metadata) port(from net.Addr) uint32 {
	a, err := netip.ParseAddrPort(from.String())
	if err != nil {
		return 0
	}
	c, _ := m.guests.find(guestNumber(a.Addr()))
	return c.port
}

// run serves until ctx ends, and sends what the stack has for guests.
func (m *metadata) run(ctx context.Context, send func(context.Context, []Reply) error) error {
	s, err := m.newStack()
	if err != nil {
		return err
	}
	defer s.Destroy()
	var listeners []net.Listener
	for _, a := range []netip.Addr{state.MetadataIPv4(), state.MetadataIPv6()} {
		l, err := gonet.ListenTCP(s, tcpip.FullAddress{NIC: metadataNIC, Addr: tcpip.AddrFromSlice(a.AsSlice()), Port: portHTTP}, protocolOf(a))
		if err != nil {
			return fmt.Errorf("metadata: listen at %s: %w", a, err)
		}
		listeners = append(listeners, l)
	}
	m.ready.Store(true)
	defer m.ready.Store(false)
	g, ctx := errgroup.WithContext(ctx)
	for _, l := range listeners {
		g.Go(func() error {
			if err := m.server.Serve(&countedListener{l, &m.open}); !errors.Is(err, http.ErrServerClosed) && ctx.Err() == nil {
				return fmt.Errorf("metadata: serve: %w", err)
			}
			return nil
		})
	}
	g.Go(func() error {
		<-ctx.Done()
		return m.server.Close()
	})
	g.Go(func() error { return m.pump(ctx, send) })
	return g.Wait()
}

func (m *metadata) pump(ctx context.Context, send func(context.Context, []Reply) error) error {
	var w writer
	for {
		p := m.link.ReadContext(ctx)
		if p == nil {
			return nil
		}
		r, ok := m.reply(&w, slices.Concat(p.AsSlices()...))
		p.DecRef()
		if !ok {
			continue
		}
		if err := send(ctx, []Reply{r}); err != nil && ctx.Err() == nil && m.log != nil {
			m.log.DebugContext(ctx, "metadata answer was not sent", "err", err) // TCP sends it again
		}
	}
}

// connections are those that are open, by port.
type connections struct {
	port func(net.Addr) uint32

	mu   sync.Mutex // guards the fields below
	all  int
	each map[uint32]int
}

// enter takes a connection of a port in, where there is room for it.
func (c *connections) enter(port uint32) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.all >= metadataConnections || c.each[port] >= metadataEach {
		return false
	}
	if c.each == nil {
		c.each = map[uint32]int{}
	}
	c.all++
	c.each[port]++
	return true
}

func (c *connections) leave(port uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all--
	if c.each[port]--; c.each[port] == 0 {
		delete(c.each, port)
	}
}

// countedListener closes connections beyond what the host serves at once.
type countedListener struct {
	net.Listener
	open *connections
}

// Accept returns the next connection that there is room for.
func (l *countedListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		port := l.open.port(c.RemoteAddr())
		if l.open.enter(port) {
			return &countedConn{Conn: c, open: l.open, port: port}, nil
		}
		if err := c.Close(); err != nil {
			return nil, err
		}
	}
}

type countedConn struct {
	net.Conn
	open   *connections
	port   uint32
	closed atomic.Bool
}

// Close ends the connection and makes room for another.
func (c *countedConn) Close() error {
	if !c.closed.Swap(true) {
		c.open.leave(c.port)
	}
	return c.Conn.Close()
}
