package ovsdb

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// maxMessage bounds one message of the server. The largest are a monitor's first replies: some 2 KB for a port of Open vSwitch with its
// interface, so that this is room for more ports than a bridge can have (65,279).
const maxMessage = 256 << 20

// message is a JSON-RPC 1.0 message: a request, a response, or a notification (a request with id null).
type message struct {
	Method string          `json:"method,omitempty"`
	Params json.RawMessage `json:"params,omitempty"`
	Result json.RawMessage `json:"result,omitempty"`
	Error  json.RawMessage `json:"error,omitempty"`
	ID     json.RawMessage `json:"id"`
}

// conn is one connection to a server.
type conn struct {
	net    net.Conn
	probe  time.Duration
	notify func(method string, params json.RawMessage) error // of the server's notifications, in their order; its error ends the connection
	out    chan []byte
	done   chan struct{} // closed by run when the connection has ended
	born   time.Time
	heard  atomic.Int64 // when bytes last came in, in nanoseconds since born: a clock that is set makes nobody silent

	mu      sync.Mutex // guards the fields below
	serial  uint64
	pending map[uint64]func(message) error // run by the reader; nil once the connection ended
}

func newConn(n net.Conn, probe time.Duration, notify func(string, json.RawMessage) error) *conn {
	return &conn{net: n, probe: probe, notify: notify, born: time.Now(), out: make(chan []byte, 16), done: make(chan struct{}), pending: map[uint64]func(message) error{}}
}

// run serves the connection until it ends, by the peer, by an error or by ctx, and says why. It closes it.
func (c *conn) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	c.hears()
	g.Go(func() error {
		<-ctx.Done()
		return errors.Join(context.Cause(ctx), c.net.Close()) // wakes the reader and the writer
	})
	g.Go(c.read)
	g.Go(func() error { return c.write(ctx) })
	g.Go(func() error { return c.keepAlive(ctx) })
	err := g.Wait()
	close(c.done)
	c.mu.Lock()
	c.pending = nil
	c.mu.Unlock()
	return err
}

// budget is a reader that ends with errTooLarge when one message takes more than maxMessage.
type budget struct {
	r    io.Reader
	left int
	seen func()
}

func (b *budget) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errTooLarge
	}
	n, err := b.r.Read(p[:min(len(p), b.left)])
	b.left -= n
	if n > 0 {
		b.seen()
	}
	return n, err
}

func (c *conn) read() error {
	in := &budget{r: c.net, seen: c.hears}
	decoder := json.NewDecoder(in)
	for {
		in.left = maxMessage
		var m message
		if err := decoder.Decode(&m); err != nil {
			if errors.Is(err, io.EOF) {
				err = errClosed
			}
			return fmt.Errorf("read: %w", err)
		}
		if err := c.dispatch(m); err != nil {
			return err
		}
	}
}

func (c *conn) dispatch(m message) error {
	notification := len(m.ID) == 0 || string(m.ID) == "null"
	switch {
	case m.Method == "echo" && !notification:
		return c.send(message{Result: m.Params, Error: json.RawMessage("null"), ID: m.ID})
	case m.Method != "" && notification:
		return c.notify(m.Method, m.Params)
	case m.Method != "":
		return c.send(message{Result: json.RawMessage("null"), Error: json.RawMessage(`{"error":"unknown method"}`), ID: m.ID})
	}
	var id uint64
	if err := json.Unmarshal(m.ID, &id); err != nil {
		return fmt.Errorf("a reply with the id %.40s: %w", m.ID, errValue)
	}
	c.mu.Lock()
	handle := c.pending[id]
	delete(c.pending, id)
	c.mu.Unlock()
	if handle == nil {
		return nil // nobody waits for it any more
	}
	return handle(m)
}

// send queues a message of the reader's own; the connection ends when the peer does not take what it is sent.
func (c *conn) send(m message) error {
	raw, err := json.Marshal(m)
	if err != nil {
		return err
	}
	select {
	case c.out <- raw:
		return nil
	case <-time.After(c.probe):
		return errLag
	}
}

func (c *conn) write(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case raw := <-c.out:
			if _, err := c.net.Write(raw); err != nil {
				return fmt.Errorf("write: %w", err)
			}
		}
	}
}

func (c *conn) hears() { c.heard.Store(int64(time.Since(c.born))) }

// keepAlive asks a silent server for an echo, and ends the connection when it stays silent.
func (c *conn) keepAlive(ctx context.Context) error {
	ticker := time.NewTicker(c.probe / 2)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			silent := time.Since(c.born) - time.Duration(c.heard.Load())
			if silent >= 2*c.probe {
				return errLag
			}
			if silent >= c.probe {
				if err := c.request(ctx, "echo", []any{}, func(message) error { return nil }); err != nil {
					return err
				}
			}
		}
	}
}

// request sends a request. handle is run by the reader, before anything that the server sends later is looked at.
func (c *conn) request(ctx context.Context, method string, params any, handle func(message) error) error {
	var body bytes.Buffer
	c.mu.Lock()
	c.serial++
	id := c.serial
	c.mu.Unlock()
	encoder := json.NewEncoder(&body)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(map[string]any{"method": method, "params": params, "id": id}); err != nil {
		return fmt.Errorf("encode %s: %w", method, err)
	}
	c.mu.Lock()
	ended := c.pending == nil
	if !ended {
		c.pending[id] = handle
	}
	c.mu.Unlock()
	if ended {
		return errClosed
	}
	select {
	case c.out <- body.Bytes():
		return nil
	case <-c.done:
		return errClosed
	case <-ctx.Done():
		c.mu.Lock()
		delete(c.pending, id)
		c.mu.Unlock()
		return ctx.Err()
	}
}

// errUnanswered wraps the reason why nobody knows whether a request was carried out.
var errUnanswered = errors.New("no answer came")

// call sends a request and returns its result. An error that matches errUnanswered leaves open whether it was carried out.
func (c *conn) call(ctx context.Context, method string, params any) (json.RawMessage, error) {
	got := make(chan message, 1)
	if err := c.request(ctx, method, params, func(m message) error { got <- m; return nil }); err != nil {
		return nil, err
	}
	select {
	case m := <-got:
		return m.Result, replyError(m)
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %w", errUnanswered, ctx.Err())
	case <-c.done:
		select {
		case m := <-got: // it came just before the end
			return m.Result, replyError(m)
		default:
			return nil, fmt.Errorf("%w: %w", errUnanswered, errClosed)
		}
	}
}

// replyError reads the error of a response: null, an <error> object, or (from old servers) a string.
func replyError(m message) error {
	if len(m.Error) == 0 || string(m.Error) == "null" {
		return nil
	}
	object := map[string]any{}
	if json.Unmarshal(m.Error, &object) != nil || object["error"] == nil {
		var text string
		if json.Unmarshal(m.Error, &text) != nil {
			text = string(m.Error)
		}
		object = map[string]any{"error": text}
	}
	return opError(-1, object)
}

// tree decodes JSON with its numbers as they are written.
func tree(raw json.RawMessage) (any, error) {
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	var v any
	err := decoder.Decode(&v)
	return v, err
}
