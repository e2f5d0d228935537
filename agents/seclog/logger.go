package seclog

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/headwater-cloud/headwater/agents/flows"
	"github.com/headwater-cloud/headwater/agents/openflow"
	"github.com/headwater-cloud/headwater/agents/state"
)

// Config says where records go.
type Config struct {
	// File is where they are added; "": to the agent's standard error.
	File string
	// MaxBytes is how large the file becomes before it is moved away, to File.1, and another one begins; 0: it is left alone.
	MaxBytes int64
	// Keep is how many files that were moved away stay.
	Keep int
}

// Default is standard error; a file would have 100 MiB, five times.
func Default() Config { return Config{MaxBytes: 100 << 20, Keep: 5} }

// Validate reports all that is wrong with the configuration.
func (c Config) Validate() error {
	var errs []error
	if c.MaxBytes < 0 {
		errs = append(errs, fmt.Errorf("security log of %d bytes", c.MaxBytes))
	}
	if c.Keep < 0 || c.Keep > 1000 {
		errs = append(errs, fmt.Errorf("%d old security logs: want 0 to 1000", c.Keep))
	}
	return errors.Join(errs...)
}

// Parts are what a Logger works with.
type Parts struct {
	Host  string
	Store *state.Store
	// RuleOf says what a conjunction of the host's program stands for.
	RuleOf     func(conjunction uint32) (flows.Rule, bool)
	Stderr     io.Writer // nil: records that are to go there are lost
	Log        *slog.Logger
	Registerer prometheus.Registerer // nil: no metrics
	Now        func() time.Time
}

// Logger makes records and writes them.
type Logger struct {
	with    Parts
	out     io.Writer
	close   func() error
	queue   chan copied
	failing bool

	records map[string]prometheus.Counter // by action
	lost    map[string]prometheus.Counter // by reason
}

// queueLength bounds what waits to be written: a second's worth of forty sets of groups at the default rate.
const queueLength = 4096

// The reasons why there is no record of a packet.
const (
	lostMeter = "meter" // there were more in a second than the switch sends
	lostQueue = "queue" // the agent had no time
	lostWrite = "write" // the file could not be written
)

// New returns a Logger that writes nothing until Run.
func New(cfg Config, with Parts) (*Logger, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	l := &Logger{with: with, queue: make(chan copied, queueLength), out: with.Stderr, close: func() error { return nil },
		records: map[string]prometheus.Counter{}, lost: map[string]prometheus.Counter{}}
	if cfg.File != "" {
		f := &file{path: cfg.File, most: cfg.MaxBytes, keep: cfg.Keep}
		l.out, l.close = f, f.Close
	}
	if l.out == nil {
		l.out = io.Discard
	}
	records := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "headwater_seclog_records_total", Help: "Records of security group logs that were written, by action."}, []string{"action"})
	lost := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "headwater_seclog_lost_total",
		Help: "Packets that security group logs were asked for and that have no record, by reason."}, []string{"reason"})
	for _, action := range []string{Accept, Drop} {
		l.records[action] = records.WithLabelValues(action)
	}
	for _, reason := range []string{lostMeter, lostQueue, lostWrite} {
		l.lost[reason] = lost.WithLabelValues(reason)
	}
	if with.Registerer != nil {
		with.Registerer.MustRegister(records, lost)
	}
	return l, nil
}

// Handle takes a copy that the switch has made for a log. It does not wait.
func (l *Logger) Handle(p *openflow.PacketIn2) {
	select {
	case l.queue <- copied{l.with.Now(), p}:
	default:
		l.lost[lostQueue].Inc()
	}
}

// Metered tells of packets of which the switch's meters let no copy through.
func (l *Logger) Metered(packets uint64) { l.lost[lostMeter].Add(float64(packets)) }

// most is how much is written at once.
const most = 64 << 10

// batch is what is written at once.
type batch struct {
	lines bytes.Buffer
	n     map[string]int // records by action
}

// Run writes what there is to write until ctx ends, and then what had come until then.
func (l *Logger) Run(ctx context.Context) error {
	b := &batch{n: map[string]int{}}
	for {
		select {
		case <-ctx.Done():
			l.drain(ctx, b)
			return l.close()
		case c := <-l.queue:
			l.add(ctx, b, c)
			l.drain(ctx, b)
		}
	}
}

// drain writes all that waits.
func (l *Logger) drain(ctx context.Context, b *batch) {
	for {
		select {
		case c := <-l.queue:
			l.add(ctx, b, c)
			if b.lines.Len() >= most {
				l.flush(ctx, b)
			}
		default:
			l.flush(ctx, b)
			return
		}
	}
}

func (l *Logger) add(ctx context.Context, b *batch, c copied) {
	r, ok := l.record(c)
	if !ok {
		return
	}
	raw, err := json.Marshal(r)
	if err != nil {
		l.with.Log.ErrorContext(ctx, "security log record could not be encoded", "err", err)
		return
	}
	b.lines.Write(append(raw, '\n'))
	b.n[r.Action]++
}

func (l *Logger) flush(ctx context.Context, b *batch) {
	if b.lines.Len() == 0 {
		return
	}
	_, err := l.out.Write(b.lines.Bytes())
	for action, n := range b.n {
		if counter := l.records[action]; err != nil {
			l.lost[lostWrite].Add(float64(n))
		} else {
			counter.Add(float64(n))
		}
	}
	b.lines.Reset()
	clear(b.n)
	if err != nil && !l.failing { // once, and not for each of many
		l.with.Log.ErrorContext(ctx, "security log was not written", "err", err)
	}
	l.failing = err != nil
}
