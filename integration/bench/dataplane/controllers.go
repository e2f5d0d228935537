package dataplane

import (
	"context"
	_ "embed"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/headwater-cloud/headwater/agents/openflow"
	"github.com/headwater-cloud/headwater/integration/hosts"
	"github.com/headwater-cloud/headwater/integration/hosts/probe"
)

// Controller is a program that gives packets, which a switch sends up to it, back to the port that they came from, and does nothing else: what
// is measured is how fast its OpenFlow is.
type Controller struct {
	Name string
	// start starts the program at a host, and connects it to the integration bridge.
	start func(ctx context.Context, h *hosts.Host) (*hosts.Process, error)
}

// NewOpenFlow is agents/openflow: a command that calls GiveBack with the path that is put behind it.
func NewOpenFlow(command ...string) Controller {
	return Controller{"Headwater", func(_ context.Context, h *hosts.Host) (*hosts.Process, error) {
		return h.Start(filepath.Join(h.Dir, "openflow.out"), command[0], append(command[1:], h.Mgmt(hosts.Integration))...)
	}}
}

// GiveBack is the controller of NewOpenFlow. It runs until ctx ends.
func GiveBack(ctx context.Context, socket string) error {
	var conn *openflow.Conn
	conn, err := openflow.Dial(ctx, openflow.Config{Network: "unix", Address: socket, Handle: func(_ uint32, m openflow.Message) {
		in, ok := m.(*openflow.PacketIn2)
		if !ok {
			return
		}
		out := &openflow.PacketOut{BufferID: openflow.NoBuffer, Data: in.Packet, Actions: []openflow.Action{&openflow.Output{Port: openflow.PortIn}}}
		for _, f := range in.Metadata {
			if f.Field == openflow.InPort {
				out.InPort = uint32(f.Value.Lo) //nolint:gosec // a field of 32 bits
			}
		}
		_ = conn.Offer(0, out) // a frame that is lost is counted at the port
	}})
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return conn.Run(ctx) })
	g.Go(func() error {
		return conn.SendAll(ctx, []openflow.Message{&openflow.SetConfig{SwitchConfig: openflow.SwitchConfig{MissSendLen: openflow.NoLimit}},
			&openflow.SetPacketInFormat{Format: openflow.FormatPacketIn2}, &openflow.SetAsync{Async: openflow.Async{PacketIn: [2]uint32{63, 0}}}})
	})
	return g.Wait()
}

//go:embed giveback.py
var osKenApplication []byte

// osKenPort is where os-ken listens at the host.
const osKenPort = "6653"

// NewOSKen finds the machine's os-ken, the OpenFlow controller that Neutron's agent is built on.
func NewOSKen(ctx context.Context) (Controller, error) {
	manager, err := exec.LookPath("osken-manager")
	if err != nil {
		return Controller{}, fmt.Errorf("%w: install python3-os-ken", err)
	}
	version, err := exec.CommandContext(ctx, manager, "--version").Output() // "osken-manager 2.5.0"
	if err != nil {
		return Controller{}, fmt.Errorf("ask os-ken's version: %w", err)
	}
	return Controller{strings.Replace(strings.TrimSpace(string(version)), "osken-manager", "os-ken", 1), func(_ context.Context, h *hosts.Host) (*hosts.Process, error) {
		application := filepath.Join(h.Dir, "giveback.py")
		if err := os.WriteFile(application, osKenApplication, 0o600); err != nil {
			return nil, err
		}
		p, err := h.Start(filepath.Join(h.Dir, "os-ken.out"), manager, "--ofp-listen-host", "127.0.0.1", "--ofp-tcp-listen-port", osKenPort, application)
		if err == nil {
			h.Vsctl("set-controller", hosts.Integration, "tcp:127.0.0.1:"+osKenPort, "--", "set", "Controller", hosts.Integration, "max_backoff=1000")
		}
		return p, err
	}}, nil
}

// ControllerSizes are how many frames go up to a controller: one at a time, and with some outstanding.
type ControllerSizes struct{ One, Many int }

// FullControllers is the sizes of figures that are compared with earlier ones.
func FullControllers() ControllerSizes { return ControllerSizes{One: 5000, Many: 40_000} }

// MeasureControllers has each controller give a VM's frames back, one controller after the other on one switch, and returns the
// figures of each in their order.
func MeasureControllers(ctx context.Context, sizes ControllerSizes, logf func(format string, args ...any), all ...Controller) ([][]Figure, error) {
	var out [][]Figure
	err := hosts.Program(logf, func(t hosts.T) error {
		h := hosts.Up(t, hosts.Config{Prefix: "hwbench"}).Host("s1h1")
		vm := h.Bed().VM("asks", h, hosts.VMConfig{IPs: []netip.Prefix{netip.PrefixFrom(numbered(0), 16)}, OFPort: firstOFPort})
		socket, err := probe.Open(vm, "eth0")
		if err != nil {
			return err
		}
		defer socket.Close() //nolint:errcheck // nothing was written
		h.AddFlows(hosts.Integration, givenBack("in_port"))
		alone, err := socket.Returned(ctx, sizes.Many, outstanding)
		if err != nil {
			return err
		}
		for _, c := range all {
			logf("%s: packet-ins ...", c.Name)
			figures, err := c.measure(ctx, h, socket, sizes, alone)
			if err != nil {
				return fmt.Errorf("%s: %w", c.Name, err)
			}
			out = append(out, figures)
		}
		return nil
	})
	return out, err
}

// givenBack is the one flow: what comes from the VM's port.
func givenBack(action string) string {
	return fmt.Sprintf("in_port=%d,actions=%s", firstOFPort, action)
}

// measure is one controller's turn.
func (c Controller) measure(ctx context.Context, h *hosts.Host, socket *probe.Socket, sizes ControllerSizes, alone probe.Answers) ([]Figure, error) {
	p, err := c.start(ctx, h)
	if err != nil {
		return nil, err
	}
	defer func() {
		h.Vsctl("del-controller", hosts.Integration)
		p.Kill()
	}()
	h.AddFlows(hosts.Integration, givenBack("controller:65535")) // a controller that is set takes all flows with it
	if err := warm(ctx, p, socket, sizes.One); err != nil {
		return nil, err
	}
	one, err := socket.Returned(ctx, sizes.One, 1)
	if err != nil {
		return nil, err
	}
	before, err := hosts.UsageOf(p.PID)
	if err != nil {
		return nil, err
	}
	many, err := socket.Returned(ctx, sizes.Many, outstanding)
	if err != nil {
		return nil, err
	}
	after, err := hosts.UsageOf(p.PID)
	if err != nil {
		return nil, err
	}
	how := fmt.Sprintf("frames of %d bytes that a VM sends, one flow sends up, and a program of its own gives back by a packet-out, counted at the VM: %d one at a time, %d lost; %d with %d outstanding, %d lost. "+
		"Given back by the switch itself they were %.0f a second", probe.ReturnedSize, one.Sent, one.Lost, many.Sent, outstanding, many.Lost, alone.PerSecond())
	return []Figure{
		{Name: "packet-in answered, one at a time, p50", Unit: "ms", How: how, Value: ms(one.Times.Quantile(.5))},
		{Name: "packet-ins answered, one at a time", Unit: "1/s", How: how, Value: one.PerSecond(), Higher: true},
		{Name: PacketInsAnswered, Unit: "1/s", How: how, Value: many.PerSecond(), Higher: true},
		{Name: "CPU of the controller for an answer", Unit: "us", How: how, Value: float64((after.CPU - before.CPU).Microseconds()) / float64(many.Sent)},
	}, nil
}

// PacketInsAnswered is the figure that has an aim.
const PacketInsAnswered = "packet-ins answered, 32 outstanding"

// warmLimit bounds how long a controller may take until it answers: Python starts slowly on a busy machine.
const warmLimit = time.Minute

// warm waits until a controller answers, and has it answer some more.
func warm(ctx context.Context, p *hosts.Process, socket *probe.Socket, n int) error {
	ctx, cancel := context.WithTimeout(ctx, warmLimit)
	defer cancel()
	for {
		first, err := socket.Returned(ctx, 1, 1)
		if err == nil && first.Lost == 0 {
			_, err = socket.Returned(ctx, n, outstanding)
			return err
		}
		select {
		case <-p.Done:
			return fmt.Errorf("it has ended: %s", p.Said())
		default:
		}
		if ctx.Err() != nil {
			return fmt.Errorf("it answers no packet-in: %w\n%s", ctx.Err(), p.Said())
		}
	}
}
