// Package probe measures a network from inside one of its machines with packets of its own, past the machine's
// network stack: when a first answer comes, whether a ping at short intervals loses one, how fast ARP and DHCP answer.
// It says what was measured; what is good enough is the caller's to judge.
package probe

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// Place is where sockets can be made: a node of the emulated hosts.
type Place interface {
	Do(func() error) error
}

// Socket sends and receives whole Ethernet frames at a device. One measurement uses it at a time.
type Socket struct {
	MAC net.HardwareAddr // of the device

	file *os.File
	buf  [64 << 10]byte
}

// Open makes a socket at a device, such as eth0 of a VM.
func Open(at Place, device string) (*Socket, error) {
	s := &Socket{}
	err := at.Do(func() error {
		i, err := net.InterfaceByName(device)
		if err != nil {
			return err
		}
		s.MAC = i.HardwareAddr
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			return err
		}
		s.file = os.NewFile(uintptr(fd), device)
		return errors.Join(
			// Bursts of answers wait here rather than be lost.
			unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 4<<20),
			unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1),
			unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_ALL), Ifindex: i.Index}))
	})
	if err != nil {
		if s.file != nil {
			err = errors.Join(err, s.file.Close())
		}
		return nil, fmt.Errorf("open %s: %w", device, err)
	}
	return s, nil
}

func htons(v uint16) uint16 { return v<<8 | v>>8 }

// Close ends the socket; a Receive that waits returns.
func (s *Socket) Close() error { return s.file.Close() }

// Send sends a frame.
func (s *Socket) Send(frame []byte) error {
	for {
		_, err := s.file.Write(frame)
		if !errors.Is(err, unix.ENOBUFS) { // the device's queue is full for a moment
			return err
		}
	}
}

// Receive returns the next frame, which is valid until the next call, or os.ErrDeadlineExceeded.
func (s *Socket) Receive(until time.Time) ([]byte, error) {
	if err := s.file.SetReadDeadline(until); err != nil {
		return nil, err
	}
	n, err := s.file.Read(s.buf[:])
	if errors.Is(err, unix.ENETDOWN) { // the device was down for a moment, and is bound to again
		return nil, nil
	}
	return s.buf[:n], err
}

// Waiting returns a frame that has arrived already, or nil; it is valid until the next one is received.
func (s *Socket) Waiting() ([]byte, error) {
	raw, err := s.file.SyscallConn()
	if err != nil {
		return nil, err
	}
	n := 0
	if stop := raw.Control(func(fd uintptr) {
		n, _, err = unix.Recvfrom(int(fd), s.buf[:], unix.MSG_DONTWAIT) //nolint:gosec // a descriptor
	}); stop != nil {
		return nil, stop
	}
	if errors.Is(err, unix.EAGAIN) || unplugged(err) {
		return nil, nil
	}
	return s.buf[:max(n, 0)], err
}

// Await returns the first frame for which match is true.
func (s *Socket) Await(ctx context.Context, match func(frame []byte) bool) ([]byte, error) {
	for {
		frame, err := s.Receive(soon(ctx))
		switch {
		case err == nil && match(frame):
			return slices.Clone(frame), nil
		case err != nil && !errors.Is(err, os.ErrDeadlineExceeded):
			return nil, err
		case ctx.Err() != nil:
			return nil, ctx.Err()
		}
	}
}

// soon is a deadline after which to see whether a context still is.
func soon(ctx context.Context) time.Time {
	at := time.Now().Add(100 * time.Millisecond)
	if end, ok := ctx.Deadline(); ok && end.Before(at) {
		return end
	}
	return at
}

// Times are durations that were measured.
type Times []time.Duration

// Quantile is the duration that a share q of the times, in [0, 1], does not exceed; 0 when there are none.
func (t Times) Quantile(q float64) time.Duration {
	if len(t) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(t))
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

// unplugged tells whether a frame could not be sent because its device is down, as while a VM moves: that frame is lost,
// and the next may not be.
func unplugged(err error) bool { return errors.Is(err, unix.ENETDOWN) }
