package jobs

import "context"

// Heartbeat sends one heartbeat at once.
func Heartbeat(e *Engine, ctx context.Context) error { return e.heartbeat(ctx) }
