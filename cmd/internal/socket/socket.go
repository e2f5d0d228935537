// Package socket asks a running program of ours through the socket in its own directory: JSON over HTTP, for whoever may open the socket.
package socket

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"

	"github.com/headwater-cloud/headwater/cmd/internal/run"
)

// Request is what is asked, and where.
type Request struct {
	Socket  string
	Program string // that answers there, as errors call it: "agent"
	Method  string
	Path    string
	Query   url.Values
	Body    []byte
}

// Do asks. What is answered is decoded into into, or copied if that is an io.Writer. A refusal is the error; one of what was asked is a usage error.
func Do(ctx context.Context, q Request, into any) error {
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", q.Socket)
	}}}
	defer client.CloseIdleConnections()
	u := url.URL{Scheme: "http", Host: q.Program, Path: q.Path, RawQuery: q.Query.Encode()}
	r, err := http.NewRequestWithContext(ctx, q.Method, u.String(), bytes.NewReader(q.Body))
	if err != nil {
		return err
	}
	answer, err := client.Do(r)
	if err != nil {
		var op *net.OpError
		if errors.As(err, &op) {
			return fmt.Errorf("no %s answers at %s: %w", q.Program, q.Socket, op.Err)
		}
		return fmt.Errorf("%s at %s: %w", q.Program, q.Socket, err)
	}
	defer answer.Body.Close() //nolint:errcheck // it was read
	if answer.StatusCode != http.StatusOK {
		return refusal(q.Program, answer)
	}
	if w, ok := into.(io.Writer); ok {
		_, err := io.Copy(w, answer.Body)
		return err
	}
	return json.NewDecoder(answer.Body).Decode(into)
}

// refusal is why something was not done.
func refusal(program string, answer *http.Response) error {
	var said struct {
		Error string `json:"error"`
	}
	if err := json.NewDecoder(answer.Body).Decode(&said); err != nil || said.Error == "" {
		return fmt.Errorf("the %s answered %s", program, answer.Status)
	}
	if answer.StatusCode == http.StatusBadRequest {
		return run.Usage(errors.New(said.Error))
	}
	return errors.New(said.Error)
}
