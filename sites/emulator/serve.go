package emulator

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"
)

// ServeOn answers for the cloud on a listener, which it closes, until ctx ends.
func ServeOn(ctx context.Context, ln net.Listener, cloud *Cloud) error {
	srv := &http.Server{Handler: cloud, ReadHeaderTimeout: 30 * time.Second}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var wg sync.WaitGroup
	wg.Go(func() {
		<-ctx.Done()
		_ = srv.Close() // at once: a site that ends does not say goodbye
	})
	err := srv.Serve(ln)
	stop()
	wg.Wait()
	if !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve %s: %w", cloud.Name(), err)
	}
	return nil
}
