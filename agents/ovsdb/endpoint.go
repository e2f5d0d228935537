package ovsdb

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"strings"
)

// endpoint is where a server listens, in the words of ovsdb(7): "unix:PATH", "tcp:HOST:PORT" or "ssl:HOST:PORT".
type endpoint struct {
	network, address string
	tls              bool
}

func parseEndpoint(text string) (endpoint, error) {
	kind, rest, _ := strings.Cut(text, ":")
	switch kind {
	case "unix":
		if rest == "" {
			break
		}
		return endpoint{network: "unix", address: rest}, nil
	case "tcp", "ssl":
		host, port, err := net.SplitHostPort(rest)
		if err != nil || host == "" || port == "" {
			break
		}
		return endpoint{network: "tcp", address: rest, tls: kind == "ssl"}, nil
	}
	return endpoint{}, fmt.Errorf("OVSDB endpoint %q: want unix:PATH, tcp:HOST:PORT or ssl:HOST:PORT, an IPv6 HOST in brackets", text)
}

func (e endpoint) dial(ctx context.Context, config *tls.Config) (net.Conn, error) {
	if e.tls {
		d := &tls.Dialer{Config: config}
		return d.DialContext(ctx, e.network, e.address)
	}
	var d net.Dialer
	return d.DialContext(ctx, e.network, e.address)
}
