package stream

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/headwater-cloud/headwater/agents/frame"
)

// The form of the file: its first line, then records. A record is three numbers of 4 bytes, little endian (the length of what follows them, the CRC-32C of
// that, the CRC-32C of the first two numbers), then a letter and what it announces: a part of a revision as an api.Frame, or a start of
// the program as a uvarint. The first revision is whole, the others are what they change. Revisions are appended, and the file is
// written anew when they outgrow the objects.
const (
	fileMagic   = "headwater state 1\n"
	recordHead  = 12
	recordFrame = 'f'
	recordBoot  = 'b'
)

// Limits of the file.
const (
	compactFrom = 1 << 20  // bytes of changes below which the file is never written anew for their sake
	maxPending  = 16 << 20 // bytes of changes that wait to be written; with more, the whole is written
	retryFirst  = time.Second
	retryLast   = time.Minute
)

// file keeps a holding on disk. What fails there is told and tried again; the client goes on without.
type file struct {
	path   string
	client *Client
	sync   func(*os.File) error // (*os.File).Sync
	wake   chan struct{}

	mu      sync.Mutex // guards the fields below
	pending []*frame.Frame
	bytes   int
	rewrite bool // pending is not enough: write the whole

	open    *os.File // of the goroutine of run: nil when the whole is to be written
	size    int64
	whole   int64 // bytes up to the end of the whole revision
	failing bool
}

func newFile(path string, c *Client) *file {
	return &file{path: path, client: c, sync: (*os.File).Sync, wake: make(chan struct{}, 1)}
}

// load reads the file and returns what it held, and a number for this start of the program that is higher than those before, whatever the clock says.
func (f *file) load(ctx context.Context) (holding, uint64) {
	now := uint64(max(f.client.cfg.Now().UnixNano(), 1)) //nolint:gosec // not negative
	if f.path == "" {
		return newHolding(), now
	}
	h, boot, err := f.read(ctx)
	boot = max(boot+1, now)
	if err == nil {
		err = f.begin(boot)
	}
	if err != nil {
		f.failed(ctx, err)
		f.rewrite = true
		f.poke()
	}
	return h, boot
}

// read returns what is in the file. A file that makes no sense is set aside; the error is one of reading.
func (f *file) read(ctx context.Context) (holding, uint64, error) {
	raw, err := os.ReadFile(f.path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(raw) < len(fileMagic) && bytes.HasPrefix([]byte(fileMagic), raw) {
		f.rewrite = true
		f.poke()
		return newHolding(), 0, nil
	}
	if err != nil {
		return newHolding(), 0, fmt.Errorf("read the kept state: %w", err)
	}
	h, end, err := parse(raw)
	if err != nil {
		aside := f.path + ".corrupt"
		f.report(ctx, fmt.Errorf("%s: %w; it is now %s, and the state is asked for anew", f.path, err, aside))
		if err := os.Rename(f.path, aside); err != nil {
			return newHolding(), 0, fmt.Errorf("set the file aside: %w", err)
		}
		f.rewrite = true
		f.poke()
		return newHolding(), end.boot, nil
	}
	f.size, f.whole = int64(end.offset), int64(end.whole)
	return h, end.boot, nil
}

// end is where a file's last whole revision ends, and what else was found.
type end struct {
	offset, whole int
	boot          uint64
}

// errCorrupt is damage that no interrupted write explains.
var errCorrupt = errors.New("the file is damaged")

// parse reads a file up to the last whole revision. What an interrupted write has left behind that is passed over.
func parse(raw []byte) (holding, end, error) {
	h := newHolding()
	if !bytes.HasPrefix(raw, []byte(fileMagic)) {
		return h, end{}, fmt.Errorf("%w: it does not begin as it should", errCorrupt)
	}
	e := end{offset: len(fileMagic)}
	var parts *frame.Frame
	for at := len(fileMagic); ; {
		payload, err := record(raw[at:])
		if err != nil {
			return newHolding(), e, fmt.Errorf("%w at byte %d", err, at)
		}
		if payload == nil {
			return h, e, nil
		}
		at += recordHead + len(payload)
		switch payload[0] {
		case recordBoot:
			if boot, n := binary.Uvarint(payload[1:]); n > 0 {
				e.boot = max(e.boot, boot)
			}
		case recordFrame:
			part, err := frame.Parse(payload[1:])
			if err != nil {
				return newHolding(), e, fmt.Errorf("%w at byte %d: %w", errCorrupt, at, err)
			}
			if parts == nil {
				parts = part
			} else {
				parts.Set, parts.Gone = append(parts.Set, part.Set...), append(parts.Gone, part.Gone...)
			}
			if part.More {
				continue
			}
			h.apply(parts)
			if parts.Snapshot {
				e.whole = at
			}
			parts = nil
		}
		if parts == nil {
			e.offset = at
		}
	}
}

// record returns the next record's payload; nil where the file ends, or ends in an interrupted write.
func record(raw []byte) ([]byte, error) {
	if len(raw) < recordHead {
		return nil, nil
	}
	if crc(raw[:8]) != binary.LittleEndian.Uint32(raw[8:]) {
		if len(bytes.Trim(raw, "\x00")) == 0 { // the file had grown, and its content was not on disk yet
			return nil, nil
		}
		return nil, errCorrupt
	}
	size := int64(binary.LittleEndian.Uint32(raw))
	body := raw[recordHead:]
	if size > int64(len(body)) {
		return nil, nil
	}
	last := size == int64(len(body))
	body = body[:size]
	switch {
	case size > 0 && crc(body) == binary.LittleEndian.Uint32(raw[4:]):
		return body, nil
	case last:
		return nil, nil
	}
	return nil, errCorrupt
}

func crc(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

func appendRecord(b []byte, kind byte, payload []byte) []byte {
	at := len(b)
	b = append(b, make([]byte, recordHead)...)
	b = append(append(b, kind), payload...)
	body := b[at+recordHead:]
	binary.LittleEndian.PutUint32(b[at:], uint32(len(body))) //nolint:gosec // a part, of a few MiB at most
	binary.LittleEndian.PutUint32(b[at+4:], crc(body))
	binary.LittleEndian.PutUint32(b[at+8:], crc(b[at:at+8]))
	return b
}

func appendFrame(b []byte, f *frame.Frame) []byte {
	for part := range f.Parts() {
		b = appendRecord(b, recordFrame, part.Append(nil))
	}
	return b
}

func bootRecord(boot uint64) []byte {
	return appendRecord(nil, recordBoot, binary.AppendUvarint(nil, boot))
}

// begin opens the file to append to it, without what an interrupted write has left, and notes the start.
func (f *file) begin(boot uint64) error {
	if f.rewrite {
		return nil
	}
	out, err := os.OpenFile(f.path, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("open the kept state: %w", err)
	}
	f.open = out
	if err := out.Truncate(f.size); err != nil {
		return fmt.Errorf("cut what an interrupted write has left: %w", err)
	}
	return f.append(bootRecord(boot))
}

// add takes a revision to be written. It never blocks.
func (f *file) add(changes *frame.Frame) {
	if f.path == "" {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.rewrite {
		f.pending = append(f.pending, changes)
		for _, o := range changes.Set {
			f.bytes += o.Size()
		}
		if f.bytes += 64 * (1 + len(changes.Gone)); f.bytes > maxPending {
			f.rewrite = true
		}
	}
	if f.rewrite {
		f.pending, f.bytes = nil, 0
	}
	f.poke()
}

func (f *file) poke() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// run writes until ctx ends, and then what is left.
func (f *file) run(ctx context.Context) error {
	defer func() {
		if f.open != nil {
			_ = f.open.Close() // what matters is synced
		}
	}()
	delay := retryFirst
	for {
		var retry <-chan time.Time
		if err := f.write(); err != nil {
			f.failed(ctx, err)
			retry = time.After(delay)
			delay = min(2*delay, retryLast)
		} else if delay = retryFirst; f.failing {
			f.failing = false
			f.client.alarm(AlarmStateFile, f.path, "", true)
		}
		select {
		case <-ctx.Done():
			return f.close(ctx)
		case <-retry:
			f.poke()
			continue
		case <-f.wake:
		}
		if retry != nil { // not before its time, whatever comes in between
			select {
			case <-ctx.Done():
				return f.close(ctx)
			case <-retry:
			}
		}
	}
}

// close writes what is left. A failure is no reason to fail: the state will be asked for.
func (f *file) close(ctx context.Context) error {
	if err := f.write(); err != nil {
		f.failed(ctx, err)
	}
	return nil
}

// write brings the file to the present.
func (f *file) write() error {
	if f.path == "" {
		return nil
	}
	f.mu.Lock()
	list, rewrite := f.pending, f.rewrite || f.size-f.whole > max(compactFrom, f.whole)
	f.pending, f.bytes, f.rewrite = nil, 0, false
	f.mu.Unlock()
	var err error
	switch {
	case rewrite:
		err = f.replace()
	case len(list) > 0:
		var b []byte
		for _, changes := range list {
			b = appendFrame(b, changes)
		}
		err = f.append(b)
	}
	if err != nil {
		f.mu.Lock()
		f.pending, f.bytes, f.rewrite = nil, 0, true
		f.mu.Unlock()
	}
	return err
}

func (f *file) append(b []byte) error {
	if f.open == nil {
		return f.replace()
	}
	if _, err := f.open.WriteAt(b, f.size); err != nil {
		return fmt.Errorf("append to the kept state: %w", err)
	}
	if err := f.sync(f.open); err != nil {
		return fmt.Errorf("append to the kept state: %w", err)
	}
	f.size += int64(len(b))
	f.client.metrics.fileBytes.Set(float64(f.size))
	return nil
}

// replace writes the whole into a new file, which takes the place of the old one when it is on disk.
func (f *file) replace() error {
	b := append([]byte(fileMagic), bootRecord(f.client.boot)...)
	if whole := f.client.held.whole(); whole.Incarnation != "" {
		b = appendFrame(b, whole)
	}
	name := f.path + ".new"
	out, err := f.make(name, b)
	if err == nil {
		err = os.Rename(name, f.path)
	}
	if err != nil {
		if out != nil {
			_ = out.Close()
		}
		_ = os.Remove(name) // it may have filled the disk
		return fmt.Errorf("write the state: %w", err)
	}
	if f.open != nil {
		_ = f.open.Close() // of a file that has no name any more
	}
	f.open, f.size, f.whole = out, int64(len(b)), int64(len(b))
	f.client.metrics.fileRewrites.Inc()
	f.client.metrics.fileBytes.Set(float64(f.size))
	return f.syncFolder()
}

// make makes a file that is on disk.
func (f *file) make(name string, b []byte) (*os.File, error) {
	out, err := os.OpenFile(name, os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if _, err := out.Write(b); err != nil {
		return out, err
	}
	return out, f.sync(out)
}

func (f *file) syncFolder() error {
	dir, err := os.Open(filepath.Dir(f.path))
	if err != nil {
		return err
	}
	return errors.Join(f.sync(dir), dir.Close())
}

// whole is the holding as one revision.
func (h *holding) whole() *frame.Frame {
	h.objects.mu.Lock()
	defer h.objects.mu.Unlock()
	out := &frame.Frame{Incarnation: h.incarnation, Revision: h.revision, Snapshot: true, Set: make([]*frame.Object, 0, len(h.objects.all))}
	for _, o := range h.objects.all {
		out.Set = append(out.Set, o)
	}
	slices.SortFunc(out.Set, frame.Compare)
	return out
}

// failed tells once that the state is not kept.
func (f *file) failed(ctx context.Context, err error) {
	f.client.metrics.fileErrors.Inc()
	if !f.failing {
		f.failing = true
		f.client.cfg.Log.ErrorContext(ctx, "state is not kept", "path", f.path, "err", err)
		f.client.alarm(AlarmStateFile, f.path, err.Error(), false)
	}
}

// report tells of a file that is of no use.
func (f *file) report(ctx context.Context, err error) {
	f.client.metrics.fileErrors.Inc()
	f.client.cfg.Log.ErrorContext(ctx, "kept state is damaged", "path", f.path, "err", err)
	f.client.alarm(AlarmStateFile, f.path+".corrupt", err.Error(), false)
}
