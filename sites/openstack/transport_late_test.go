package openstack

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"time"
)

// pastDeadline is a context as a process sees it that has just been resumed: its time is over and its timer has not run yet.
type pastDeadline struct{ context.Context }

func (pastDeadline) Deadline() (time.Time, bool) { return time.Now().Add(-time.Second), true }

type countingTransport struct{ sent int }

func (c *countingTransport) RoundTrip(*http.Request) (*http.Response, error) {
	c.sent++
	return nil, errors.New("sent")
}

// A replica that was resumed long after its claim on a resource had run out still sent the create that it had been about
// to send, and the site made a second server.
func TestNothingIsSentAfterItsDeadline(t *testing.T) {
	t.Parallel()
	inner := &countingTransport{}
	transport := &meteredTransport{inner: inner, meter: &skewMeter{}, now: time.Now}
	r, err := http.NewRequestWithContext(pastDeadline{t.Context()}, http.MethodPost, "http://east.test/servers", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := transport.RoundTrip(r); !errors.Is(err, context.DeadlineExceeded) || inner.sent != 0 { //nolint:bodyclose // there is none
		t.Errorf("RoundTrip = %v after %d requests, want none", err, inner.sent)
	}
}
