package members

import (
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	dto "github.com/prometheus/client_model/go"
)

// wired is a transport at(1), and the sockets of a stranger at(2).
func wired(t *testing.T) (*transport, sockets) {
	t.Helper()
	f := newFabric()
	p, err := New(settings(1))
	if err != nil {
		t.Fatal(err)
	}
	mine, err := f.open(t.Context(), at(1))
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := f.open(t.Context(), at(2))
	if err != nil {
		t.Fatal(err)
	}
	return newTransport(t.Context(), mine, at(1), p.metrics), stranger
}

// call has the stranger connect, and returns both ends.
func call(t *testing.T, tr *transport, stranger sockets) (theirs, ours net.Conn) {
	t.Helper()
	theirs, err := stranger.dial(t.Context(), at(1).String())
	if err != nil {
		t.Fatal(err)
	}
	return theirs, <-tr.StreamCh()
}

func TestTransportEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr, stranger := wired(t)
		_, in := call(t, tr, stranger)
		var users sync.WaitGroup
		var out net.Conn
		users.Go(func() { _, _ = stranger.streams.Accept() })
		out, err := tr.DialTimeout(at(2).String(), time.Second)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range []net.Conn{in, out} { // each is used until Shutdown, and then closed late, and twice
			users.Go(func() {
				if _, err := c.Read(make([]byte, 1)); err == nil {
					t.Error("read from nobody")
				}
				time.Sleep(time.Second)
				_ = c.Close()
				_ = c.Close()
			})
		}
		synctest.Wait()
		began := time.Now()
		if err := tr.Shutdown(); err != nil {
			t.Error(err)
		}
		if time.Since(began) < time.Second {
			t.Error("Shutdown returned while connections were in use")
		}
		if err := tr.Shutdown(); err != nil {
			t.Errorf("a second Shutdown: %v", err)
		}
		if _, err := tr.DialTimeout(at(2).String(), time.Second); err == nil {
			t.Error("dialled after Shutdown")
		}
		users.Wait()
		_ = stranger.packets.Close()
	})
}

func TestDialledConnectionsEndEarly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr, stranger := wired(t)
		var users sync.WaitGroup
		users.Go(func() { _, _ = stranger.streams.Accept() })
		out, err := tr.DialTimeout(at(2).String(), time.Second)
		if err != nil {
			t.Fatal(err)
		}
		users.Go(func() {
			_, _ = out.Read(make([]byte, 1))
			_ = out.Close()
		})
		tr.hangUp()
		users.Wait()
		theirs, in := call(t, tr, stranger)
		users.Go(func() { _, _ = theirs.Write([]byte("x")) })
		if n, err := in.Read(make([]byte, 1)); n != 1 || err != nil {
			t.Errorf("a connection that came in later: %d, %v", n, err)
		}
		_ = in.Close()
		_ = tr.Shutdown()
		users.Wait()
		_ = stranger.packets.Close()
	})
}

// TestBrokenConnection: memberlist drops a connection that it cannot write its label to without closing it.
func TestBrokenConnection(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr, stranger := wired(t)
		theirs, ours := call(t, tr, stranger)
		_ = theirs.Close()
		if _, err := ours.Write([]byte("x")); err == nil {
			t.Error("wrote to nobody")
		}
		_ = tr.Shutdown() // would wait for ever
		_ = stranger.packets.Close()
	})
}

// TestStrangersConnect: whoever reaches the port may hold some connections and send some bytes, and no more.
func TestStrangersConnect(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr, stranger := wired(t)
		var open []net.Conn
		for range maxIncoming {
			theirs, ours := call(t, tr, stranger)
			open = append(open, theirs, ours)
		}
		more, err := stranger.dial(t.Context(), at(1).String())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := more.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("a connection too many: %v, want its end", err)
		}
		m := &dto.Metric{}
		if err := tr.metrics.refused.WithLabelValues(refusedBusy).Write(m); err != nil || m.GetCounter().GetValue() != 1 {
			t.Errorf("counted %v, %v", m, err)
		}
		for _, c := range open {
			_ = c.Close()
		}
		theirs, ours := call(t, tr, stranger)
		var flood sync.WaitGroup
		flood.Go(func() {
			for {
				if _, err := theirs.Write(make([]byte, 1<<16)); err != nil {
					return
				}
			}
		})
		n, err := io.Copy(io.Discard, ours)
		if !errors.Is(err, errStream) || n < maxStream || n > maxStream+1<<16 {
			t.Errorf("read %d bytes, %v", n, err)
		}
		_ = ours.Close()
		flood.Wait()
		_ = tr.Shutdown()
		_ = stranger.packets.Close()
	})
}
