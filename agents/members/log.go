package members

import (
	"context"
	"log"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// Complaints may come with each packet that a stranger sends: so many per burstTime enter the log, the others are counted.
const (
	burst     = 10
	burstTime = 10 * time.Second
)

// levels are how its lines begin.
var levels = map[string]slog.Level{
	"[DEBUG]": slog.LevelDebug,
	"[INFO]":  slog.LevelDebug,
	"[WARN]":  slog.LevelWarn,
	"[ERR]":   slog.LevelError,
	"[ERROR]": slog.LevelError,
	"Err:":    slog.LevelError,
}

// gossipLog takes memberlist's log, whose lines begin with their level, and gives it to ours. What memberlist informs of is what
// the views show, and debugging to us.
type gossipLog struct {
	ctx     context.Context // log.Logger has no place for one; it gives values only
	log     *slog.Logger
	metrics *metrics

	mu    sync.Mutex // guards the fields below
	began time.Time
	lines int
}

func newGossipLog(ctx context.Context, to *slog.Logger, m *metrics) *log.Logger {
	return log.New(&gossipLog{ctx: context.WithoutCancel(ctx), log: to, metrics: m}, "", 0)
}

// Write takes one line.
func (g *gossipLog) Write(line []byte) (int, error) {
	text := strings.TrimSpace(string(line))
	level := slog.LevelDebug
	if first, rest, ok := strings.Cut(text, " "); ok {
		if is, ok := levels[first]; ok {
			text, level = strings.TrimPrefix(rest, "memberlist: "), is
		}
	}
	if level >= slog.LevelWarn {
		g.metrics.complaints.WithLabelValues(strings.ToLower(level.String())).Inc()
		level = slog.LevelWarn // it concerns a packet or a peer; nothing of ours has failed
		if !g.admit() {
			return len(line), nil
		}
	}
	g.log.Log(g.ctx, level, "gossip protocol spoke", "text", text)
	return len(line), nil
}

// admit reports whether one more complaint may enter the log.
func (g *gossipLog) admit() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if now := time.Now(); now.Sub(g.began) >= burstTime {
		g.began, g.lines = now, 0
	}
	g.lines++
	return g.lines <= burst
}
