package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"
)

// load is requests made by many clients at once, each over its own kept
// connection, each sending its next request when the last was answered.
type load struct {
	clients int
	each    int           // requests of a client; 0: as many as fit into length
	length  time.Duration // with each 0
	host    string        // host:port
	// request returns the bytes of a client's nth request, wire form.
	request func(client, n int) []byte
	want    int // the status that counts as success
}

// outcome is what became of a load.
type outcome struct {
	times   []time.Duration // of the successful requests, sorted
	failed  int
	why     error // one of the failures
	elapsed time.Duration
}

// wire returns the bytes of a request. The clients send them as they are, which costs a tenth of what net/http's client costs
// and leaves the machine to what is measured.
func wire(c *cloud, method, address string, body []byte) (host string, text []byte, err error) {
	u, err := url.Parse(address)
	if err != nil {
		return "", nil, fmt.Errorf("parse %s: %w", address, err)
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\nX-Auth-Token: %s\r\nOpenStack-API-Version: %s\r\n", method, u.RequestURI(), u.Host, c.token, microversion)
	if body != nil {
		fmt.Fprintf(&b, "Content-Type: application/json\r\nContent-Length: %d\r\n", len(body))
	}
	b.WriteString("\r\n")
	b.Write(body)
	return u.Host, b.Bytes(), nil
}

// connection is one client's.
type connection struct {
	host string
	conn net.Conn
	in   *bufio.Reader
}

// connectPatience is how long a client waits for an answer.
const connectPatience = time.Minute

func (c *connection) do(ctx context.Context, request []byte, want int) error {
	if c.conn == nil {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", c.host)
		if err != nil {
			return fmt.Errorf("connect: %w", err)
		}
		c.conn, c.in = conn, bufio.NewReaderSize(conn, 64<<10)
	}
	err := c.conn.SetDeadline(time.Now().Add(connectPatience))
	if err == nil {
		_, err = c.conn.Write(request)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("send: %w", err), c.close())
	}
	resp, err := http.ReadResponse(c.in, nil)
	if err != nil {
		return errors.Join(fmt.Errorf("receive: %w", err), c.close())
	}
	var text []byte
	if resp.StatusCode != want {
		text, err = io.ReadAll(resp.Body)
	} else {
		_, err = io.Copy(io.Discard, resp.Body)
	}
	err = errors.Join(err, resp.Body.Close())
	if resp.Close || err != nil {
		err = errors.Join(err, c.close())
	}
	if err == nil && resp.StatusCode != want {
		err = fmt.Errorf("answered %s: %.300s", resp.Status, text)
	}
	return err
}

func (c *connection) close() error {
	if c.conn == nil {
		return nil
	}
	err := c.conn.Close()
	c.conn = nil
	return err
}

// run makes the requests. The clients connect first; the clock runs from when all begin to send.
func (l load) run(ctx context.Context) outcome {
	var out outcome
	var mu sync.Mutex
	var wg sync.WaitGroup
	ready := make(chan struct{})
	var connected sync.WaitGroup
	var end time.Time
	for client := range l.clients {
		connected.Add(1)
		wg.Go(func() {
			c := &connection{host: l.host}
			defer c.close() //nolint:errcheck // it has served
			if conn, err := new(net.Dialer).DialContext(ctx, "tcp", l.host); err == nil {
				c.conn, c.in = conn, bufio.NewReaderSize(conn, 64<<10)
			}
			connected.Done()
			<-ready
			var times []time.Duration
			failed, why := 0, error(nil)
			for n := 0; ctx.Err() == nil && (l.each > 0 && n < l.each || l.each == 0 && time.Now().Before(end)); n++ {
				request := l.request(client, n)
				began := time.Now()
				if err := c.do(ctx, request, l.want); err != nil {
					failed, why = failed+1, err
					continue
				}
				times = append(times, time.Since(began))
			}
			mu.Lock()
			defer mu.Unlock()
			out.times = append(out.times, times...)
			if out.failed += failed; why != nil {
				out.why = why
			}
		})
	}
	connected.Wait()
	began := time.Now()
	end = began.Add(l.length)
	close(ready)
	wg.Wait()
	out.elapsed = time.Since(began)
	slices.Sort(out.times)
	return out
}

// rate is successful requests a second.
func (o outcome) rate() float64 { return float64(len(o.times)) / o.elapsed.Seconds() }

// failedShare is the share of requests that failed, in percent.
func (o outcome) failedShare() float64 {
	all := len(o.times) + o.failed
	if all == 0 {
		return 100
	}
	return 100 * float64(o.failed) / float64(all)
}

// at returns the time in milliseconds that the share q of sorted times does not exceed.
func at(times []time.Duration, q float64) float64 {
	if len(times) == 0 {
		return math.NaN()
	}
	i := max(int(math.Ceil(q*float64(len(times))))-1, 0)
	return float64(times[i].Microseconds()) / 1000
}

// spread says at in words, for the column how.
func spread(times []time.Duration) string {
	return fmt.Sprintf("n=%d p50 %s p99 %s max %s ms", len(times), number(at(times, .5)), number(at(times, .99)), number(at(times, 1)))
}
