package openflow

import (
	"io"
	"net"
	"syscall"
	"unsafe"
)

// socket reads and writes a connection's descriptor, which never blocks, without telling Go's scheduler of the system calls. Where it is told, a call
// that follows a pause wakes the scheduler's monitor thread first, and that takes longer than to answer a packet.
type socket struct {
	raw       syscall.RawConn
	in, out   transfer // of the one who reads, and of the one who writes
	readSome  func(fd uintptr) bool
	writeSome func(fd uintptr) bool
}

// transfer is a system call's buffer, and what came of it.
type transfer struct {
	b   []byte
	n   int
	err syscall.Errno
}

func (t *transfer) call(trap, fd uintptr) {
	for {
		n, _, err := syscall.RawSyscall(trap, fd, uintptr(unsafe.Pointer(unsafe.SliceData(t.b))), uintptr(len(t.b))) //nolint:gosec // as unsafe.Pointer's rule 4 has it
		if t.n, t.err = int(n), err; err != syscall.EINTR {
			return
		}
	}
}

// newSocket returns nil for a connection that is not a socket.
func newSocket(n net.Conn) *socket {
	has, ok := n.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := has.SyscallConn()
	if err != nil {
		return nil
	}
	s := &socket{raw: raw} // the functions are made once: they are called for each packet
	s.readSome = func(fd uintptr) bool { s.in.call(syscall.SYS_READ, fd); return s.in.err != syscall.EAGAIN }
	s.writeSome = func(fd uintptr) bool { s.out.call(syscall.SYS_WRITE, fd); return true }
	return s
}

// Read is io.Reader's. It waits as net.Conn's does.
func (s *socket) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	s.in.b = b
	err := s.raw.Read(s.readSome)
	s.in.b = nil
	switch {
	case err != nil:
		return 0, err
	case s.in.err != 0:
		return 0, s.in.err
	case s.in.n == 0:
		return 0, io.EOF
	}
	return s.in.n, nil
}

// tryWrite writes as much as is taken without waiting, and says how much that was. Errors it leaves to who writes the rest.
func (s *socket) tryWrite(b []byte) int {
	s.out.b = b
	err := s.raw.Write(s.writeSome)
	s.out.b = nil
	if err != nil || s.out.err != 0 {
		return 0
	}
	return s.out.n
}
