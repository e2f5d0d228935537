// Package stream is the client's side of the stream that brings the desired state: an agent's, or a relay's of the server above it.
//
// A Client keeps what it was last given, in memory and in a file, so that it starts without a server and asks only for what it has missed. It hands on whole
// revisions, in order, each once; while whoever takes them is busy, the server waits and merges. What a host has to say goes the
// other way, merged too: the last word on each thing counts, and all of it is said again to a server that is new.
package stream

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/headwater-cloud/headwater/agents/api"
	"github.com/headwater-cloud/headwater/agents/frame"
	"github.com/headwater-cloud/headwater/agents/mtls"
	"github.com/headwater-cloud/headwater/agents/state"
)

// Config says whose state is wanted, from where, and who takes it.
type Config struct {
	// Servers are the addresses, HOST:PORT, of relays or Top. Each host has an order of its own, which spreads hosts and lets them
	// come back to the same server; a client stays with one until it fails.
	Servers []string
	// Host is the name in the certificate; "" subscribes to all of Site, as relays do.
	Host        string
	Site        string
	Version     string            // the program's
	Credentials *mtls.Credentials // one's own certificate, and who is believed
	// File keeps what was last given; "": nothing is kept, and each start asks for a snapshot.
	File string

	// Commit takes each revision. It may block; an error of it ends Run. Of Commit and Frame exactly one is set.
	Commit func(context.Context, Commit) error
	// Frame takes each revision with its objects as they came, for relays. With Snapshot set it is all there is.
	Frame func(context.Context, *frame.Frame) error
	// Request takes what a server asks the host, or a relay's host, to do now. It must not block. Nil: it is answered that nothing is done here.
	Request func(*api.ToAgent)

	Log     *slog.Logger          // nil: nothing is logged
	Metrics prometheus.Registerer // nil: none
	Now     func() time.Time      // nil: time.Now
	// Dial opens a connection; nil: TCP.
	Dial func(ctx context.Context, address string) (net.Conn, error)
	// Retry bounds the time between attempts, which doubles from its twentieth part on, with jitter; 0: 30 seconds.
	Retry time.Duration
}

// Commit is what a revision changes for an agent.
type Commit struct {
	Incarnation string
	Revision    uint64
	// Snapshot says that Set is all there is. It is so of the first commit only: a later snapshot is handed on as the changes that it makes.
	Snapshot bool
	Set      []state.Object
	Gone     []state.Ref
}

func (c *Config) defaults() error {
	if len(c.Servers) == 0 || c.Credentials == nil || (c.Commit == nil) == (c.Frame == nil) || c.Site == "" {
		return errors.New("a stream needs servers, credentials, a site and one who takes its revisions")
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Retry == 0 {
		c.Retry = 30 * time.Second
	}
	return nil
}

// metrics are the client's. Names and meanings stand in the README of agents.
type metrics struct {
	connected, revision, objects, fileBytes        prometheus.Gauge
	connects, snapshots, commits, differed, unread prometheus.Counter
	fileErrors, fileRewrites                       prometheus.Counter
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{}
	gauge := func(to *prometheus.Gauge, name, help string) prometheus.Collector {
		*to = prometheus.NewGauge(prometheus.GaugeOpts{Name: "headwater_stream_" + name, Help: help})
		return *to
	}
	counter := func(to *prometheus.Counter, name, help string) prometheus.Collector {
		*to = prometheus.NewCounter(prometheus.CounterOpts{Name: "headwater_stream_" + name + "_total", Help: help})
		return *to
	}
	all := []prometheus.Collector{
		gauge(&m.connected, "connected", "1 while a server sends the state."),
		gauge(&m.revision, "revision", "The revision that is held."),
		gauge(&m.objects, "objects", "Objects that are held."),
		gauge(&m.fileBytes, "file_bytes", "Size of the file that keeps them."),
		counter(&m.connects, "connects", "Streams that were begun."),
		counter(&m.snapshots, "snapshots", "Snapshots that were received."),
		counter(&m.commits, "commits", "Revisions that were handed on."),
		counter(&m.differed, "digest_mismatches", "Digests that were not those of what is held; each asks for a snapshot."),
		counter(&m.unread, "objects_refused", "Objects that could not be read and were left out."),
		counter(&m.fileErrors, "file_errors", "Failures to write the file, or to read it at the start."),
		counter(&m.fileRewrites, "file_rewrites", "Times that the file was written anew."),
	}
	if r == nil {
		return m, nil
	}
	var errs []error
	for _, c := range all {
		errs = append(errs, r.Register(c))
	}
	return m, errors.Join(errs...)
}
