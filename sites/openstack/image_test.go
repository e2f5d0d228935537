package openstack

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/headwater-cloud/headwater/sites/fault"
)

// endless gives n zero bytes and then an error, or blocks, or ends.
type endless struct {
	n   int
	err error
}

func (e endless) reader() io.Reader {
	end := e.err
	if end == nil {
		end = io.EOF
	}
	return io.MultiReader(bytes.NewReader(make([]byte, e.n)), failing{end})
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// imageSite answers a show, and gets and puts of the data by the test's functions.
func imageSite(t *testing.T, data http.HandlerFunc) *fakeSite {
	t.Helper()
	return newFakeSite(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/file") {
			data(w, r)
			return
		}
		fmt.Fprint(w, `{"id": "7", "status": "active"}`)
	})
}

func TestDownload(t *testing.T) {
	t.Parallel()
	const content = "0123456789"
	for _, tt := range []struct {
		name   string
		serve  http.HandlerFunc
		offset int64
		want   string
		length int64
		kind   fault.Kind // of the error, when there is one
		fails  bool
	}{
		{"whole", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, content) }, 0, content, 10, 0, false},
		{"range heeded", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Range", "bytes 4-9/10")
			w.Header().Set("Content-Length", "6")
			w.WriteHeader(http.StatusPartialContent)
			fmt.Fprint(w, content[4:])
		}, 4, "456789", 6, 0, false},
		{"range ignored", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, content) }, 4, "456789", 6, 0, false},
		{"another range", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Range", "bytes 2-9/10")
			w.WriteHeader(http.StatusPartialContent)
			fmt.Fprint(w, content[2:])
		}, 4, "", 0, fault.Unavailable, true},
		{"offset behind the end", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, content) }, 11, "", 0, fault.BadRequest, true},
		{"negative offset", nil, -1, "", 0, fault.BadRequest, true},
		{"no data yet", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }, 0, "", 0, fault.Conflict, true},
		{"gone", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) }, 0, "", 0, fault.NotFound, true},
		{"length unknown", func(w http.ResponseWriter, _ *http.Request) {
			w.(http.Flusher).Flush()
			fmt.Fprint(w, content)
		}, 0, content, -1, 0, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			body, n, err := imageSite(t, tt.serve).adaptor(t).Download(t.Context(), "7", tt.offset)
			if tt.fails {
				if !fault.Is(err, tt.kind) {
					t.Errorf("got %v, want %s", err, tt.kind)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(body)
			if err != nil || string(got) != tt.want || n != tt.length {
				t.Errorf("got %q of length %d, error %v; want %q of length %d", got, n, err, tt.want, tt.length)
			}
			if err := body.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// A transfer that ends early must never look like a short image.
func TestDownloadThatBreaksOff(t *testing.T) {
	t.Parallel()
	f := imageSite(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		fmt.Fprint(w, "0123")
	})
	body, _, err := f.adaptor(t).Download(t.Context(), "7", 0)
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	if got, err := io.ReadAll(body); !fault.Is(err, fault.Unavailable) || string(got) != "0123" {
		t.Errorf("got %q, %v; want what came and Unavailable", got, err)
	}
}

func TestStalledTransfers(t *testing.T) {
	t.Parallel()
	f := imageSite(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // a server sees the hang-up only then
		if r.Method == http.MethodGet {
			w.Header().Set("Content-Length", "100")
			fmt.Fprint(w, "0123")
			w.(http.Flusher).Flush()
		}
		<-r.Context().Done()
	})
	a := f.adaptor(t, func(c *Config) { c.Timeout = 200 * time.Millisecond })
	body, _, err := a.Download(t.Context(), "7", 0)
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	if _, err := io.ReadAll(body); !fault.Is(err, fault.Unavailable) || !strings.Contains(fault.Message(err), "in the middle") {
		t.Errorf("a stalled download: %v, want Unavailable", err)
	}
	err = a.Upload(t.Context(), "7", endless{n: 10}.reader(), 10)
	if !fault.Is(err, fault.Unavailable) || !strings.Contains(fault.Message(err), "in the middle") {
		t.Errorf("an upload that is not answered: %v, want Unavailable", err)
	}
}

// The failure of what is uploaded is not the site's.
func TestUploadOfBrokenData(t *testing.T) {
	t.Parallel()
	f := imageSite(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) })
	cause := &fault.Error{Op: "x", Kind: fault.BadRequest, Msg: "the client went away"}
	err := f.adaptor(t).Upload(t.Context(), "7", endless{n: 10, err: cause}.reader(), 100)
	if !errors.Is(err, cause) || !fault.Is(err, fault.BadRequest) {
		t.Errorf("got %v, want the data's own error and kind", err)
	}
}

func TestUploadTellsItsLength(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		size int64
		want int64
	}{{"known", 10, 10}, {"unknown", -1, -1}} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := make(chan int64, 1)
			f := imageSite(t, func(w http.ResponseWriter, r *http.Request) {
				n, _ := io.Copy(io.Discard, r.Body)
				if n != 10 || r.Header.Get("Content-Type") != "application/octet-stream" {
					t.Errorf("%d bytes of %s", n, r.Header.Get("Content-Type"))
				}
				got <- r.ContentLength
				w.WriteHeader(http.StatusNoContent)
			})
			if err := f.adaptor(t).Upload(t.Context(), "7", endless{n: 10}.reader(), tt.size); err != nil {
				t.Fatal(err)
			}
			if n := <-got; n != tt.want {
				t.Errorf("Content-Length %d, want %d", n, tt.want)
			}
		})
	}
}
