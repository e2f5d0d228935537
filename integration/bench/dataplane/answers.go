package dataplane

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"strconv"
	"time"

	"github.com/headwater-cloud/headwater/integration/hosts"
	"github.com/headwater-cloud/headwater/integration/hosts/probe"
)

// answers measures what a VM asks the dataplane itself, and what it carries.
func (m *measurement) answers(ctx context.Context) error {
	m.logf("%s: DHCP, ARP and TCP ...", m.Name())
	vm, port, err := m.vm(ctx, m.first, "asks", netip.AddrFrom4([4]byte{10, 128, 2, 1}), 0)
	if err != nil {
		return err
	}
	vm.Plug()
	if err := m.Sync(ctx); err != nil {
		return err
	}
	vm.MustReach(farIP())
	socket, err := probe.Open(vm, "eth0")
	if err != nil {
		return err
	}
	defer socket.Close() //nolint:errcheck // nothing was written
	if err := errors.Join(m.dhcp(ctx, socket, port), m.arp(ctx, socket, port), m.tcp(ctx, vm)); err != nil {
		return err
	}
	if err := m.DelPorts(ctx, port); err != nil {
		return err
	}
	vm.Delete()
	return m.Sync(ctx)
}

// outstanding is how many requests a VM has out at a time where rates are measured.
const outstanding = 32

func (m *measurement) dhcp(ctx context.Context, socket *probe.Socket, port Port) error {
	one, lease, err := socket.Offers(ctx, 2000, 1)
	if err != nil {
		return err
	}
	if lease.Addr != port.IP {
		return fmt.Errorf("%s was offered %s", port.IP, lease.Addr)
	}
	many, _, err := socket.Offers(ctx, 20_000, outstanding)
	if err != nil {
		return err
	}
	how := fmt.Sprintf("DHCPDISCOVERs of one VM: %d one at a time, %d lost; %d with %d outstanding, %d lost", one.Sent, one.Lost, many.Sent, outstanding, many.Lost)
	m.add("DHCP offer, p50", "ms", how, ms(one.Times.Quantile(.5)))
	m.add("DHCP offer, p95", "ms", how, ms(one.Times.Quantile(.95)))
	m.addHigher("DHCP offers", "1/s", how, many.PerSecond())
	return nil
}

func (m *measurement) arp(ctx context.Context, socket *probe.Socket, port Port) error {
	one, err := socket.Resolutions(ctx, 1000, 1, port.IP, gatewayIP())
	if err != nil {
		return err
	}
	many, err := socket.Resolutions(ctx, 20_000, outstanding, port.IP, gatewayIP())
	if err != nil {
		return err
	}
	how := fmt.Sprintf("ARP requests of one VM for the gateway, answered in flows: %d one at a time, %d lost; %d with %d outstanding, %d lost",
		one.Sent, one.Lost, many.Sent, outstanding, many.Lost)
	m.add("ARP answer, p50", "ms", how, ms(one.Times.Quantile(.5)))
	m.addHigher("ARP answers", "1/s", how, many.PerSecond())
	return nil
}

func (m *measurement) tcp(ctx context.Context, vm *hosts.VM) error {
	server, err := m.far.Start(filepath.Join(m.bed.Dir, "iperf3.log"), "iperf3", "-s")
	if err != nil {
		return err
	}
	defer server.Kill()
	var rate float64
	for deadline := time.Now().Add(30 * time.Second); rate == 0; { // the server may not listen yet
		if rate, err = m.iperf(ctx, vm); time.Now().After(deadline) {
			return fmt.Errorf("iperf3 across hosts: %w", err)
		}
	}
	m.addHigher("TCP across hosts", "Gbit/s", fmt.Sprintf("iperf3, one stream, %v, MTU of the VMs as the contender's encapsulation leaves it (geneve 1442, VXLAN 1450)", m.sizes.TCP), rate/1e9)
	return nil
}

// iperf is how many bits a second a VM gets to the far one.
func (m *measurement) iperf(ctx context.Context, vm *hosts.VM) (float64, error) {
	out, err := vm.Exec(ctx, "iperf3", "-J", "-t", strconv.Itoa(int(m.sizes.TCP.Seconds())), "-c", farIP().String())
	if err != nil {
		return 0, err
	}
	var said struct {
		Error string `json:"error"`
		End   struct {
			Received struct {
				Rate float64 `json:"bits_per_second"`
			} `json:"sum_received"`
		} `json:"end"`
	}
	if err := json.Unmarshal([]byte(out), &said); err != nil {
		return 0, fmt.Errorf("read what iperf3 says: %w", err)
	}
	if said.End.Received.Rate == 0 {
		return 0, errors.New(said.Error)
	}
	return said.End.Received.Rate, nil
}
