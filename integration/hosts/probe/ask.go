package probe

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"time"
)

// Answers are what many requests got.
type Answers struct {
	Sent    int
	Lost    int
	Times   Times // from a request to its answer
	Elapsed time.Duration
}

// PerSecond is how many requests were answered each second.
func (a Answers) PerSecond() float64 { return float64(len(a.Times)) / a.Elapsed.Seconds() }

// patience is how long to wait for any answer before all that are outstanding count as lost.
const patience = 500 * time.Millisecond

// silence is how long to ask somebody who never answered.
const silence = 3 * time.Second

// oldest stands for the request that waits longest, where answers do not tell which they belong to.
const oldest = -1

// ask sends n requests, at most window of them outstanding.
func (s *Socket) ask(ctx context.Context, n, window int, request func(i int) []byte, answer func(frame []byte) (i int, ok bool)) (Answers, error) {
	a := Answers{}
	start := time.Now()
	waiting := map[int]time.Time{}
	first := 0 // the oldest that may wait
	for done := 0; done < n; {
		for ; a.Sent < n && len(waiting) < window; a.Sent++ {
			waiting[a.Sent] = time.Now()
			if err := s.Send(request(a.Sent)); err != nil {
				return a, err
			}
		}
		frame, err := s.Receive(time.Now().Add(patience))
		if errors.Is(err, os.ErrDeadlineExceeded) {
			a.Lost, done = a.Lost+len(waiting), done+len(waiting)
			clear(waiting)
			if len(a.Times) == 0 && time.Since(start) > silence {
				return a, fmt.Errorf("none of %d requests was answered", a.Sent)
			}
			if ctx.Err() != nil {
				return a, ctx.Err()
			}
			continue
		}
		if err != nil {
			return a, err
		}
		i, ok := answer(frame)
		if !ok {
			continue
		}
		if i == oldest {
			for waiting[first].IsZero() && first < a.Sent {
				first++
			}
			i = first
		}
		if at, ok := waiting[i]; ok {
			a.Times = append(a.Times, time.Since(at))
			delete(waiting, i)
			done++
		}
	}
	a.Elapsed = time.Since(start)
	return a, nil
}

// Resolutions asks n times for the hardware address of an address.
func (s *Socket) Resolutions(ctx context.Context, n, window int, src, target netip.Addr) (Answers, error) {
	return s.ask(ctx, n, window,
		func(int) []byte { return Solicit(s.MAC, src, target) },
		func(frame []byte) (int, bool) { return oldest, solicited(frame, target) != nil })
}

// ReturnedSize is the length of the frames of Returned: that of a common DHCP request.
const ReturnedSize = 342

// Returned sends n frames, each with a number, that come back as they are when somebody gives them back.
func (s *Socket) Returned(ctx context.Context, n, window int) (Answers, error) {
	payload := make([]byte, ReturnedSize-headers)
	return s.ask(ctx, n, window,
		func(i int) []byte {
			binary.BigEndian.PutUint32(payload, uint32(i)) //nolint:gosec // not so many
			return Ethernet(Broadcast(), s.MAC, typeExperimental, payload)
		},
		func(frame []byte) (int, bool) {
			if kind(frame) != typeExperimental || len(frame) != ReturnedSize {
				return 0, false
			}
			return int(binary.BigEndian.Uint32(frame[headers:])), true
		})
}

// Lease is what a DHCP server offers.
type Lease struct {
	Addr, Server netip.Addr
}

// Types of DHCP messages, RFC 2132 section 9.6.
const (
	discover = 1
	offer    = 2
	request  = 3
	ack      = 5
)

// Offers sends n DHCPDISCOVERs, each with a transaction id of its own, and returns the last offer too.
func (s *Socket) Offers(ctx context.Context, n, window int) (Answers, Lease, error) {
	var lease Lease
	a, err := s.ask(ctx, n, window,
		func(i int) []byte { return dhcp(s.MAC, uint32(i), discover, Lease{}) },
		func(frame []byte) (int, bool) {
			id, kind, got, ok := dhcpReply(frame)
			if ok = ok && kind == offer; ok {
				lease = got
			}
			return int(id), ok
		})
	return a, lease, err
}

// Acks sends n DHCPREQUESTs for a lease that was offered.
func (s *Socket) Acks(ctx context.Context, n, window int, lease Lease) (Answers, error) {
	return s.ask(ctx, n, window,
		func(i int) []byte { return dhcp(s.MAC, uint32(i), request, lease) },
		func(frame []byte) (int, bool) {
			id, kind, _, ok := dhcpReply(frame)
			return int(id), ok && kind == ack
		})
}

// dhcpIDs begins our transaction ids, beside those of a client that the machine runs.
const dhcpIDs = 0x68000000

// dhcpCookie begins the options, RFC 2131 section 3.
const dhcpCookie = 0x63825363

func dhcp(mac net.HardwareAddr, id uint32, kind byte, lease Lease) []byte {
	fixed := make([]byte, 240)
	fixed[0], fixed[1], fixed[2] = 1, 1, 6
	binary.BigEndian.PutUint32(fixed[4:], dhcpIDs|id)
	copy(fixed[28:], mac)
	binary.BigEndian.PutUint32(fixed[236:], dhcpCookie)
	options := []byte{53, 1, kind}
	if kind == request {
		options = append(append(options, 50, 4), lease.Addr.AsSlice()...)
		options = append(append(options, 54, 4), lease.Server.AsSlice()...)
	}
	b := slices.Concat(fixed, options, []byte{55, 6, 1, 3, 6, 26, 51, 121, 255})
	src, dst := netip.IPv4Unspecified(), netip.AddrFrom4([4]byte{255, 255, 255, 255})
	return UDP(mac, Broadcast(), netip.AddrPortFrom(src, 68), netip.AddrPortFrom(dst, 67), b)
}

func dhcpReply(frame []byte) (id uint32, kind byte, lease Lease, ok bool) {
	_, b, ok := unwrap(frame, protoUDP)
	if !ok || len(b) < 8+240 || binary.BigEndian.Uint16(b) != 67 || b[8] != 2 {
		return 0, 0, lease, false
	}
	b = b[8:]
	id = binary.BigEndian.Uint32(b[4:]) ^ dhcpIDs
	lease.Addr, _ = netip.AddrFromSlice(b[16:20])
	for o := b[240:]; len(o) > 2 && o[0] != 255; {
		if o[0] == 0 {
			o = o[1:]
			continue
		}
		n := 2 + int(o[1])
		if len(o) < n {
			break
		}
		switch value := o[2:n]; {
		case o[0] == 53 && len(value) == 1:
			kind = value[0]
		case o[0] == 54 && len(value) == 4:
			lease.Server, _ = netip.AddrFromSlice(bytes.Clone(value))
		}
		o = o[n:]
	}
	return id, kind, lease, true
}

// Announce tells the network that the machine is here now: with addresses by gratuitous ARP (RFC 5227 section 3) and
// unsolicited neighbour advertisements, without any by the RARP of hypervisors, which know no addresses.
func (s *Socket) Announce(addrs ...netip.Addr) error {
	none := netip.IPv4Unspecified()
	errs := []error{s.Send(ARP(typeRARP, 3, s.MAC, none, s.MAC, none, Broadcast()))}
	for _, a := range addrs {
		if a.Is4() {
			errs = append(errs, s.Send(ARP(typeARP, 1, s.MAC, a, make(net.HardwareAddr, 6), a, Broadcast())))
			continue
		}
		errs = append(errs, s.Send(Advertise(s.MAC, a)))
	}
	return errors.Join(errs...)
}

// Advertise is an unsolicited neighbour advertisement that overrides, RFC 4861 section 7.2.6.
func Advertise(mac net.HardwareAddr, addr netip.Addr) []byte {
	all := netip.MustParseAddr("ff02::1")
	b := append(append(make([]byte, 8, 32), addr.AsSlice()...), 2, 1)
	b[0], b[4] = 136, 0x20
	b = append(b, mac...)
	binary.BigEndian.PutUint16(b[2:], fold(sum(pseudo(addr, all, protoICMPv6, len(b)), b)))
	kind, packet := ip(addr, all, protoICMPv6, 255, b)
	return Ethernet(net.HardwareAddr{0x33, 0x33, 0, 0, 0, 1}, mac, kind, packet)
}
