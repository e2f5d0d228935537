package openstack

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

var errStalled = errors.New("no byte moved in time")

// source is the body of an upload: it knows its length, remembers the error of
// what it reads from and pushes the stall watch on.
type source struct {
	from  io.Reader
	bytes int64
	watch *stallWatch
	err   atomic.Value // of type error
}

// Read implements io.Reader.
func (s *source) Read(p []byte) (int, error) {
	n, err := s.from.Read(p)
	s.watch.moved()
	if err != nil && !errors.Is(err, io.EOF) {
		s.err.Store(err)
	}
	return n, err
}

// Close implements io.Closer, so that net/http hands the transport this very type; the caller closes what it gave.
func (s *source) Close() error { return nil }

func (s *source) size() int64 { return s.bytes }

// stallWatch ends a context when nothing moved for a while.
type stallWatch struct {
	timer *time.Timer
	limit time.Duration
}

func watchStall(ctx context.Context, limit time.Duration) (context.Context, *stallWatch, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	w := &stallWatch{limit: limit, timer: time.AfterFunc(limit, func() { cancel(errStalled) })}
	return ctx, w, func() {
		w.timer.Stop()
		cancel(context.Canceled)
	}
}

func (w *stallWatch) moved() { w.timer.Reset(w.limit) }

// Upload sends the bytes of an image that is queued at the site, as they come.
// An error of data itself comes back wrapped, with its own Kind.
func (a *Adaptor) Upload(ctx context.Context, image ident.BottomID, data io.Reader, size int64) error {
	const op = "sites/openstack.Upload"
	path, err := a.itemPath(op, forms[sites.Image], image)
	if err != nil {
		return err
	}
	// The bytes cannot be sent twice: a token that the site no longer takes must be noticed before.
	if _, err := a.Show(ctx, sites.Image, image); err != nil {
		return err
	}
	ctx, watch, stop := watchStall(ctx, a.timeout)
	defer stop()
	body := &source{from: data, bytes: size, watch: watch}
	ans, err := a.exchange(ctx, &call{op: op, service: sites.ImageService, method: http.MethodPut, path: path + "/file", body: body,
		header: http.Header{"Content-Type": {"application/octet-stream"}}})
	if cause, ok := body.err.Load().(error); ok && err != nil {
		return &fault.Error{Op: op, Site: string(a.site), Kind: fault.KindOf(cause), Msg: "the image's data could not be read", Err: cause}
	}
	if err != nil {
		return a.stalled(ctx, err)
	}
	return ans.body.Close()
}

// stalled says so when the watch ended a transfer.
func (a *Adaptor) stalled(ctx context.Context, err error) error {
	var e *fault.Error
	if errors.Is(context.Cause(ctx), errStalled) && errors.As(err, &e) {
		e.Err, e.Msg = errStalled, "site "+string(a.site)+" stopped in the middle of a transfer"
	}
	return err
}

// Download returns the bytes of an image from offset on. The length is of what
// remains, -1 when the site does not tell. The caller closes.
func (a *Adaptor) Download(ctx context.Context, image ident.BottomID, offset int64) (io.ReadCloser, int64, error) {
	const op = "sites/openstack.Download"
	path, err := a.itemPath(op, forms[sites.Image], image)
	if err != nil {
		return nil, 0, err
	}
	if offset < 0 {
		return nil, 0, &fault.Error{Op: op, Site: string(a.site), Kind: fault.BadRequest, Msg: "the offset is negative"}
	}
	header := http.Header{"Accept": {"application/octet-stream"}, "Accept-Encoding": {"identity"}}
	if offset > 0 {
		header.Set("Range", "bytes="+strconv.FormatInt(offset, 10)+"-")
	}
	ctx, watch, stop := watchStall(ctx, a.timeout)
	ans, err := a.exchange(ctx, &call{op: op, service: sites.ImageService, method: http.MethodGet, path: path + "/file", header: header})
	if err != nil {
		stop()
		return nil, 0, a.stalled(ctx, err)
	}
	if ans.status == http.StatusNoContent { // queued: there are no bytes yet
		stop()
		_ = ans.body.Close()
		return nil, 0, &fault.Error{Op: op, Site: string(a.site), Kind: fault.Conflict, RequestID: requestID(ans.header), Msg: "the image has no data yet"}
	}
	d := &download{adaptor: a, ctx: ctx, body: ans.body, watch: watch, stop: stop, remaining: -1}
	if n, err := strconv.ParseInt(ans.header.Get("Content-Length"), 10, 64); err == nil && n >= 0 {
		d.remaining = n
	}
	if err := d.seek(ans, offset); err != nil {
		return nil, 0, errors.Join(err, d.Close())
	}
	return d, d.remaining, nil
}

// download is the body of an image on its way.
type download struct {
	adaptor   *Adaptor
	ctx       context.Context //nolint:containedctx // the transfer's own, ended by Close
	body      io.ReadCloser
	watch     *stallWatch
	stop      context.CancelFunc
	remaining int64 // -1 unknown
	got       int64
}

// seek skips to the offset when the site sent the whole image in spite of the Range.
func (d *download) seek(ans *answer, offset int64) error {
	if offset == 0 || ans.status == http.StatusPartialContent && startsAt(ans.header, offset) {
		return nil
	}
	if ans.status == http.StatusPartialContent {
		return d.broken(errors.New("the site sent another range than the one asked for"))
	}
	n, err := io.CopyN(io.Discard, d.body, offset)
	if errors.Is(err, io.EOF) {
		return &fault.Error{Op: "sites/openstack.Download", Site: string(d.adaptor.site), Kind: fault.BadRequest,
			Msg: "the offset is behind the end of the image, at " + strconv.FormatInt(n, 10)}
	}
	if err != nil {
		return d.broken(err)
	}
	if d.remaining >= 0 {
		d.remaining -= offset
	}
	return nil
}

// startsAt reports whether a Content-Range begins at offset; Glance of some releases sends none.
func startsAt(h http.Header, offset int64) bool {
	text := h.Get("Content-Range")
	return text == "" || strings.HasPrefix(strings.TrimPrefix(text, "bytes "), strconv.FormatInt(offset, 10)+"-")
}

// Read implements io.Reader. A transfer that ends early is an error, never a short image.
func (d *download) Read(p []byte) (int, error) {
	n, err := d.body.Read(p)
	d.got += int64(n)
	d.watch.moved()
	if err == nil {
		return n, nil
	}
	if errors.Is(err, io.EOF) {
		if d.remaining >= 0 && d.got < d.remaining {
			return n, d.broken(io.ErrUnexpectedEOF)
		}
		return n, io.EOF
	}
	return n, d.broken(err)
}

func (d *download) broken(err error) error {
	return d.adaptor.stalled(d.ctx, &fault.Error{Op: "sites/openstack.Download", Site: string(d.adaptor.site), Kind: fault.Unavailable,
		Msg: "the transfer from site " + string(d.adaptor.site) + " broke off", Err: err})
}

// Close ends the transfer.
func (d *download) Close() error {
	d.stop()
	return d.body.Close()
}
