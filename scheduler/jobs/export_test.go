package jobs

import "context"

// Heartbeat sends one heartbeat at once.
func Heartbeat(e *Engine, ctx context.Context) error { return e.heartbeat(ctx) }

// Claim claims jobs without working them, as a replica does that then dies, and returns their sites.
func Claim(e *Engine, ctx context.Context, queue string, most int) (sites []string, err error) {
	got, err := e.claim(ctx, queue, most)
	for _, c := range got {
		sites = append(sites, c.row.Site)
	}
	return sites, err
}
