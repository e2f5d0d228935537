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

// Serve validates the configuration and answers on addr (host:port) until ctx
// ends; it then closes every connection and returns nil. It returns an error
// when the configuration is wrong or the address cannot be listened on.
func Serve(ctx context.Context, addr string, cfg Config) error {
	if err := cfg.Validate(); err != nil {
		return fmt.Errorf("emulate %s: %w", cfg.Name, err)
	}
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if err != nil {
		return fmt.Errorf("emulate %s: %w", cfg.Name, err)
	}
	return ServeOn(ctx, ln, New(cfg))
}

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
