// Package relay hands out the desired state of a site: to the site's hosts, of each what it needs, and to relays, all of it. Top and relays run the
// same Server; they differ in its Source, which is a database for the one and a server further up for the other.
//
// What it promises to each stream: revisions come in order and whole; whatever is merged or skipped on the way, the client ends up
// with the present objects of its set and no others; a client that does not read costs a bounded number of bytes and nobody else's time; and a
// server whose source is away hands out what it holds. An object is encoded once, whatever the number of streams.
package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/headwater-cloud/headwater/agents/api"
	"github.com/headwater-cloud/headwater/agents/frame"
	"github.com/headwater-cloud/headwater/agents/mtls"
)

// Source is where a server gets the state of its site.
type Source interface {
	// Watch hands every revision to the sink, in order, the first one with all objects, until ctx ends. Another incarnation than before means that
	// revisions cannot be compared: it comes with all objects too.
	Watch(ctx context.Context, to Sink) error
	// Tell takes what a host has said; the message names the host. It neither blocks nor calls the server.
	Tell(*api.FromAgent)
}

// Sink takes what a Source has. Its methods do not block for long, and keep what they are given.
type Sink interface {
	// Apply takes a revision: what it changes or, with Snapshot set, all that there is.
	Apply(context.Context, *frame.Frame) error
	// Deliver takes a message for a host.
	Deliver(*api.ToAgent)
}

// Config is what a Server needs.
type Config struct {
	Source      Source
	Site        string // whose state it is
	Credentials *mtls.Credentials
	Listener    net.Listener // Run closes it

	// QueueBytes bounds what waits for one client that is slow. With more, it is dropped and the client is sent the present state. 0: 8 MiB.
	QueueBytes int
	// Ring is how many revisions are remembered, from which clients can go on. 0: 65,536.
	Ring int
	// SendLimit is how long a message may take to be sent; then the stream ends. 0: 1 minute.
	SendLimit time.Duration

	Log     *slog.Logger          // nil: nothing is logged
	Metrics prometheus.Registerer // nil: none
	Now     func() time.Time      // nil: time.Now
}

// Defaults and times of a server.
const (
	defaultQueue     = 8 << 20
	defaultRing      = 1 << 16
	defaultSendLimit = time.Minute
	subscribeLimit   = 20 * time.Second // for a client's first message
	tick             = 10 * time.Second // of house-keeping
	digestFrames     = 1024             // frames of a stream after which a digest goes with the next
	digestEvery      = time.Hour
	idleRevisions    = 1024            // a stream that is this far behind, because nothing concerned it, is told the present revision
	idleTime         = time.Minute     // and one that is behind at all, after this time
	duplicateQuiet   = 5 * time.Minute // without another attempt, two hosts of one name are one again
)

func (c *Config) defaults() error {
	if c.Source == nil || c.Credentials == nil || c.Listener == nil || c.Site == "" {
		return errors.New("a relay needs a source, a site, credentials and a listener")
	}
	if c.QueueBytes < 0 || c.Ring < 0 || c.SendLimit < 0 {
		return fmt.Errorf("a queue of %d bytes, a ring of %d revisions, %v to send: none may be negative", c.QueueBytes, c.Ring, c.SendLimit)
	}
	if c.QueueBytes == 0 {
		c.QueueBytes = defaultQueue
	}
	if c.Ring == 0 {
		c.Ring = defaultRing
	}
	if c.SendLimit == 0 {
		c.SendLimit = defaultSendLimit
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return nil
}
