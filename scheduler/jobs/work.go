package jobs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/headwater-cloud/headwater/dbschema"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// work makes one attempt at a claimed job and records how it went.
func (e *Engine) work(ctx context.Context, c claimed) {
	r := record(c.row)
	began := e.now()
	e.metrics.running.WithLabelValues(r.Queue).Inc()
	e.metrics.wait.WithLabelValues(r.Queue).Observe(max(0, r.StartedAt.Sub(r.RunAt).Seconds()))
	defer func() {
		e.forget(c.claim)
		e.metrics.running.WithLabelValues(r.Queue).Dec()
		e.metrics.work.WithLabelValues(r.Kind).Observe(e.now().Sub(began).Seconds())
	}()
	// The site is told the trace also when no spans are made: its operator may make them.
	ctx = ident.WithTrace(ident.WithRequestID(ctx, r.RequestID), r.Trace)
	ctx, end := e.begin(ctx, r)
	cause, err := e.attempt(ctx, r, c.claim)
	out := judge(r.info(), err, cause)
	end(out.name, err)
	if out.name != outLost {
		if err := e.finish(ctx, c, out); errors.Is(err, ErrClaimLost) {
			out = outcome{name: outLost, err: err}
		} else if err != nil {
			// The lease runs out, and the job is worked again.
			e.log.ErrorContext(ctx, "job's end not recorded", "job_id", r.ID, "kind", r.Kind, "err", err)
			return
		}
	}
	e.metrics.attempts.WithLabelValues(r.Kind, out.name).Inc()
	e.logOutcome(ctx, r, out, err)
}

// begin begins the span of an attempt, if spans are made, and returns how to end it.
func (e *Engine) begin(ctx context.Context, r Record) (context.Context, func(outcome string, err error)) {
	if e.span == nil {
		return ctx, func(string, error) {}
	}
	ctx, end := e.span(ctx)
	return ctx, func(outcome string, err error) {
		failure := ""
		if err != nil && (outcome == outFailed || outcome == outRetried || outcome == outLost) {
			failure = err.Error()
		}
		end("job "+r.Kind, failure, slog.String("headwater.job_id", r.ID.String()), slog.String("headwater.outcome", outcome),
			slog.Int("headwater.attempt", r.Attempt), slog.String("headwater.site", string(r.Site)), slog.String("headwater.resource_id", r.ResourceID),
			slog.String("headwater.project_id", r.ProjectID), slog.String("headwater.request_id", r.RequestID))
	}
}

// attempt calls the worker and returns its error and why its context ended, nil if it did not.
func (e *Engine) attempt(ctx context.Context, r Record, c *claim) (cause, err error) {
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	e.mu.Lock()
	c.end = end
	e.mu.Unlock()
	// The lease ends by itself when heartbeats stop, also when this process was stopped meanwhile.
	stopWatch := watchLease(c, end)
	defer stopWatch()
	ctx = ident.WithJobID(ctx, r.ID.String())
	err = e.call(leaseContext{ctx, c}, r, c)
	return context.Cause(ctx), err
}

// watchLease ends the worker's context when the lease has run out, and returns how to stop watching.
func watchLease(c *claim, end context.CancelCauseFunc) (stop func()) {
	var timer *time.Timer
	armed := make(chan struct{})
	timer = time.AfterFunc(c.left(), func() {
		<-armed
		if left := c.left(); left > 0 {
			timer.Reset(left)
			return
		}
		end(ErrClaimLost)
	})
	close(armed)
	return func() { timer.Stop() }
}

// call runs the worker and turns a panic into an error.
func (e *Engine) call(ctx context.Context, r Record, c *claim) (err error) {
	defer func() {
		if p := recover(); p != nil {
			e.metrics.panics.Inc()
			e.log.ErrorContext(ctx, "job panicked", "job_id", r.ID, "kind", r.Kind, "err", p, "stack", string(debug.Stack()))
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return e.kinds[r.Kind](ctx, r, c)
}

// finish records the outcome, trying for as long as the lease lasts.
func (e *Engine) finish(ctx context.Context, c claimed, out outcome) error {
	// The engine may be stopping: what was done must still be recorded.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), max(c.claim.left(), time.Second))
	defer cancel()
	for pause := 100 * time.Millisecond; ; pause = min(2*pause, 5*time.Second) {
		err := e.db.WriteSoft(ctx, func(tx dbschema.Tx) error {
			if out.delay == 0 && out.state == Scheduled || out.state == Available {
				tx.Notify(topic)
			}
			return apply(tx, c.row, change{out, c.claim.token})
		})
		if err == nil || errors.Is(err, ErrClaimLost) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pause):
		}
	}
}

func (e *Engine) forget(c *claim) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.running[c.id] == c {
		delete(e.running, c.id)
	}
}

func (e *Engine) logOutcome(ctx context.Context, r Record, out outcome, err error) {
	attrs := []any{"job_id", r.ID, "kind", r.Kind, "site", r.Site, "top_id", r.ResourceID, "request_id", r.RequestID, "attempt", r.Attempt}
	switch out.name {
	case outFailed:
		e.log.ErrorContext(ctx, "job failed", append(attrs, "err", err)...)
	case outRetried:
		e.log.WarnContext(ctx, "job attempt failed", append(attrs, "err", err, "delay", out.delay)...)
	case outLost:
		e.log.WarnContext(ctx, "job lost to another replica", append(attrs, "err", err)...)
	case outCancelled:
		e.log.InfoContext(ctx, "job cancelled", attrs...)
	default:
		e.log.DebugContext(ctx, "job attempt ended", append(attrs, "outcome", out.name)...)
	}
}
