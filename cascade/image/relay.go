package image

import (
	"context"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"slices"

	"github.com/headwater-cloud/headwater/cascade/binding"
	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// relay gives the bytes of an image, from the next site that has them when one
// breaks off in the middle. It goes on only where it can prove that the bytes
// are the same: the image's hash and size are known, and the other site says the same of its copy. What was read
// from the start to the end is held against the hash before the last piece is given: a reader gets every byte, or an error,
// and never other bytes.
type relay struct {
	maker   maker
	ctx     context.Context //nolint:containedctx // the transfer's own: it opens sites in the middle of Read
	row     *index.Resource
	spec    Spec
	sources []*binding.Binding // in the order in which they are tried
	opened  map[ident.SiteID]int

	data   io.ReadCloser
	from   ident.SiteID
	next   int64     // offset of the next byte
	sum    hash.Hash // of all that was read; nil when it did not begin at the start, or nothing is known to hold it against
	broken error     // of the present source, told with its last bytes
}

// attempts is how often one site is opened for one transfer, the first time included.
const attempts = 2

// open returns the bytes of an image from offset on, from the home site if that
// answers, else from any other site that has them, and their number, -1 when unknown. The caller closes.
func (m maker) open(ctx context.Context, r *index.Resource, except ident.SiteID, offset int64) (*relay, int64, error) {
	bound, err := m.core.Bindings.OfTop(ctx, r.ID)
	if err != nil {
		return nil, 0, err
	}
	f := &relay{maker: m, ctx: ctx, row: r, next: offset, opened: map[ident.SiteID]int{}}
	if err := r.Decode(&f.spec); err != nil {
		return nil, 0, err
	}
	f.sources = slices.DeleteFunc(slices.Clone(bound), func(b *binding.Binding) bool { return !b.Known() || b.Generation == 0 || b.Site == except })
	slices.SortStableFunc(f.sources, func(a, b *binding.Binding) int {
		return map[bool]int{true: 0, false: 1}[a.Site == f.spec.Home] - map[bool]int{true: 0, false: 1}[b.Site == f.spec.Home]
	})
	if f.sure() && offset == 0 && f.spec.HashAlgo == "sha512" {
		f.sum = sha512.New()
	}
	var errs []error
	for _, b := range f.sources {
		size, err := f.begin(b)
		if err == nil && size < 0 && f.sure() {
			size = *f.spec.Size - offset
		}
		if err == nil {
			return f, size, nil
		}
		errs = append(errs, err)
	}
	if len(errs) == 0 {
		return nil, 0, errNoBytes(r)
	}
	return nil, 0, &fault.Error{Op: "cascade/image.open", Kind: fault.Unavailable, RetryAfter: 30, Err: errors.Join(errs...),
		Msg: fmt.Sprintf("No site that has the bytes of image %s answers.", r.ID)}
}

// sure reports whether it is known which bytes the image has.
func (f *relay) sure() bool {
	return f.spec.Size != nil && f.spec.HashAlgo != "" && f.spec.HashValue != ""
}

// begin opens a source at the next byte.
func (f *relay) begin(b *binding.Binding) (int64, error) {
	a, err := f.session(b.Site)
	if err != nil {
		return 0, err
	}
	f.opened[b.Site]++
	data, size, err := a.Download(f.ctx, b.BottomID, f.next)
	if err != nil {
		return 0, err
	}
	f.data, f.from, f.broken = data, b.Site, nil
	return size, nil
}

// session is the owner's, or the site's own where a deactivated image gives its bytes to nobody else.
func (f *relay) session(site ident.SiteID) (sites.Adaptor, error) {
	at, err := f.maker.core.At(f.ctx, f.row, site)
	if err != nil || f.row.Status != Deactivated {
		return at.Adaptor, err
	}
	return at.Admin(f.ctx)
}

// Read implements io.Reader.
func (f *relay) Read(p []byte) (int, error) {
	for {
		if f.broken != nil {
			if err := f.goOn(); err != nil {
				return 0, err
			}
		}
		n, err := f.data.Read(p)
		n, err = f.count(p[:n], err)
		if n > 0 || err == nil || errors.Is(err, io.EOF) {
			return n, err
		}
		if f.broken == nil {
			return 0, err
		}
	}
}

// count takes note of what a source gave. An error that another source may make good stays in broken.
func (f *relay) count(p []byte, err error) (int, error) {
	if f.sure() && f.next+int64(len(p)) > *f.spec.Size {
		return 0, f.wrong("more bytes than")
	}
	f.next += int64(len(p))
	if f.sum != nil {
		f.sum.Write(p)
		if f.next == *f.spec.Size && hex.EncodeToString(f.sum.Sum(nil)) != f.spec.HashValue {
			return 0, f.wrong("other bytes than those")
		}
	}
	switch {
	case err == nil:
		return len(p), nil
	case f.sure() && f.next == *f.spec.Size:
		return len(p), io.EOF // all are here: what the connection says afterwards is of no interest
	case errors.Is(err, io.EOF) && !f.sure():
		return len(p), io.EOF
	case errors.Is(err, io.EOF):
		err = io.ErrUnexpectedEOF
	}
	f.broken = err
	if len(p) > 0 {
		return len(p), nil
	}
	return 0, err
}

func (f *relay) wrong(what string) error {
	return &fault.Error{Op: "cascade/image.Read", Site: string(f.from), Kind: fault.Unavailable, Msg: fmt.Sprintf("Site %s gives %s that image %s has.", f.from, what, f.row.ID)}
}

// goOn finds a source for the rest: the others first, then the one that broke off.
func (f *relay) goOn() error {
	cause := f.broken
	if !f.sure() || f.ctx.Err() != nil {
		return cause
	}
	_ = f.data.Close()
	order := slices.Clone(f.sources)
	slices.SortStableFunc(order, func(a, b *binding.Binding) int { return f.opened[a.Site] - f.opened[b.Site] })
	errs := []error{cause}
	for _, b := range order {
		if f.opened[b.Site] >= attempts {
			continue
		}
		err := f.same(b)
		if err == nil {
			broke := f.from
			if _, err = f.begin(b); err == nil {
				f.maker.core.Log().WarnContext(f.ctx, "transfer of an image was continued", "site", b.Site, "top_id", f.row.ID, "from", broke, "bytes", f.next, "err", cause)
				return nil
			}
		}
		f.opened[b.Site] = attempts
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// same proves that a site's copy has the image's bytes, by the site's own word.
func (f *relay) same(b *binding.Binding) error {
	a, err := f.session(b.Site)
	if err != nil {
		return err
	}
	have, err := a.Show(f.ctx, sites.Image, b.BottomID)
	if err != nil {
		return err
	}
	size := int64Of(have.Body, "size")
	if s := have.Text("status"); s != Active && s != Deactivated || size == nil || *size != *f.spec.Size ||
		have.Text("os_hash_algo") != f.spec.HashAlgo || have.Text("os_hash_value") != f.spec.HashValue {
		return &fault.Error{Op: "cascade/image.same", Site: string(b.Site), Kind: fault.Conflict, Msg: fmt.Sprintf("Site %s has not the same bytes of image %s.", b.Site, f.row.ID)}
	}
	return nil
}

// Close ends the transfer.
func (f *relay) Close() error { return f.data.Close() }
