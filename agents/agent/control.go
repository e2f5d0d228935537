package agent

import "context"

func (a *Agent) control(ctx context.Context) error { return nil }
