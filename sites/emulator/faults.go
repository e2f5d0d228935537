package emulator

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

// Fault says which requests meet what trouble. The conditions are joined by
// "and"; an empty one holds always. Several faults may meet one request: their
// delays add up, and the first that ends the request wins.
type Fault struct {
	ID int64 // given by Faults.Add

	Service string  // identity, compute, image, network, volume or placement
	Method  string  // GET, POST, ...
	Path    string  // regular expression found in the URL's path, prefix included: `^/compute/v2\.1/servers$`
	User    string  // name of the account whose token the request carries
	Skip    int     // let this many matching requests pass first
	Count   int     // then strike this many times and be gone; 0 is for ever
	Chance  float64 // probability that a matching request is struck, in (0,1); 0 is always

	Latency    time.Duration // wait this long first
	LatencyMax time.Duration // if more than Latency: wait a random time between the two
	Stall      bool          // wait until Release, Remove or the client's departure; after a release go on
	Status     int           // answer this code and do nothing; 0 for none
	Body       string        // of that answer; "" makes one in the service's dialect
	RetryAfter int           // Retry-After of that answer, in seconds; 0 sends none
	Reset      bool          // reset the connection and do nothing
	LostReply  bool          // carry the request out, then close the connection without an answer
	CutAfter   int64         // carry the request out and reset the connection after so many bytes of the answer's body; 0 for not
	LateBy     time.Duration // close the connection at once; carry the request out this much later by Config.Now; 0 for not
}

type faultJSON struct {
	ID         int64   `json:"id,omitempty"`
	Service    string  `json:"service,omitempty"`
	Method     string  `json:"method,omitempty"`
	Path       string  `json:"path,omitempty"`
	User       string  `json:"user,omitempty"`
	Skip       int     `json:"skip,omitempty"`
	Count      int     `json:"count,omitempty"`
	Chance     float64 `json:"chance,omitempty"`
	Latency    string  `json:"latency,omitempty"`
	LatencyMax string  `json:"latency_max,omitempty"`
	Stall      bool    `json:"stall,omitempty"`
	Status     int     `json:"status,omitempty"`
	Body       string  `json:"body,omitempty"`
	RetryAfter int     `json:"retry_after,omitempty"`
	Reset      bool    `json:"reset,omitempty"`
	LostReply  bool    `json:"lost_reply,omitempty"`
	LateBy     string  `json:"late_by,omitempty"`
	CutAfter   int64   `json:"cut_after,omitempty"`
}

// MarshalJSON spells the members in lower case with underscores and durations as "1.5s".
func (f Fault) MarshalJSON() ([]byte, error) {
	text := func(d time.Duration) string {
		if d == 0 {
			return ""
		}
		return d.String()
	}
	return json.Marshal(faultJSON{f.ID, f.Service, f.Method, f.Path, f.User, f.Skip, f.Count, f.Chance, text(f.Latency), text(f.LatencyMax),
		f.Stall, f.Status, f.Body, f.RetryAfter, f.Reset, f.LostReply, text(f.LateBy), f.CutAfter})
}

// UnmarshalJSON reads what MarshalJSON writes; unknown members are errors.
func (f *Fault) UnmarshalJSON(raw []byte) error {
	var j faultJSON
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&j); err != nil {
		return fmt.Errorf("read fault: %w", err)
	}
	*f = Fault{ID: j.ID, Service: j.Service, Method: j.Method, Path: j.Path, User: j.User, Skip: j.Skip, Count: j.Count, Chance: j.Chance,
		Stall: j.Stall, Status: j.Status, Body: j.Body, RetryAfter: j.RetryAfter, Reset: j.Reset, LostReply: j.LostReply, CutAfter: j.CutAfter}
	for _, d := range []struct {
		text string
		to   *time.Duration
	}{{j.Latency, &f.Latency}, {j.LatencyMax, &f.LatencyMax}, {j.LateBy, &f.LateBy}} {
		if d.text == "" {
			continue
		}
		v, err := time.ParseDuration(d.text)
		if err != nil {
			return fmt.Errorf("read fault: %w", err)
		}
		*d.to = v
	}
	return nil
}

type rule struct {
	Fault
	path     *regexp.Regexp
	seen     int
	struck   int
	released chan struct{} // closed by Release and Remove, which put a new one in its place
}

// Faults are the controls of what goes wrong at one cloud. All methods may be called at any time, also while requests run.
type Faults struct {
	cloud *Cloud

	mu      sync.Mutex // guards the fields below
	rules   []*rule
	last    int64
	rng     *rand.Rand
	down    map[service]bool
	allDown bool
	lost    map[string][]string // user name: roles taken away; an empty list is all of them
	struck  map[int64]int       // by fault, gone ones too
	changed chan struct{}       // closed and replaced at each strike
}

func newFaults(c *Cloud) *Faults {
	return &Faults{cloud: c, rng: rand.New(rand.NewPCG(c.cfg.Seed, 0x6661756c74)), down: map[service]bool{}, lost: map[string][]string{},
		struck: map[int64]int{}, changed: make(chan struct{})}
}

// Add puts a fault in force and returns its id. It returns an error when the
// path is not a regular expression or the numbers make no sense.
func (f *Faults) Add(fault Fault) (int64, error) {
	path, err := regexp.Compile(fault.Path)
	if err != nil {
		return 0, fmt.Errorf("add fault: %w", err)
	}
	if fault.Chance < 0 || fault.Chance > 1 || fault.Count < 0 || fault.Skip < 0 || fault.Latency < 0 || fault.LateBy < 0 {
		return 0, fmt.Errorf("add fault: a number is out of range: %+v", fault)
	}
	if fault.Status != 0 && (fault.Status < 100 || fault.Status > 599) {
		return 0, fmt.Errorf("add fault: %d is no HTTP status", fault.Status)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.last++
	fault.ID = f.last
	f.rules = append(f.rules, &rule{Fault: fault, path: path, released: make(chan struct{})})
	return fault.ID, nil
}

// List returns the faults in force, oldest first.
func (f *Faults) List() []Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := make([]Fault, len(f.rules))
	for i, r := range f.rules {
		out[i] = r.Fault
	}
	return out
}

// Struck returns how often the fault has struck so far, also when it is gone.
func (f *Faults) Struck(id int64) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.struck[id]
}

// Wait returns when the fault has struck n times in all, or with ctx's error.
func (f *Faults) Wait(ctx context.Context, id int64, n int) error {
	for {
		f.mu.Lock()
		have, changed := f.struck[id], f.changed
		f.mu.Unlock()
		if have >= n {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("wait for fault %d to strike %d times: %w", id, n, ctx.Err())
		}
	}
}

// Remove ends a fault and releases what it stalls. Unknown ids are ignored.
func (f *Faults) Remove(id int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rules = slices.DeleteFunc(f.rules, func(r *rule) bool {
		if r.ID == id {
			close(r.released)
		}
		return r.ID == id
	})
}

// Release lets every request go on that the fault has stalled so far.
func (f *Faults) Release(id int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range f.rules {
		if r.ID == id {
			close(r.released)
			r.released = make(chan struct{})
		}
	}
}

// Clear ends every fault and outage, gives back all roles and sets the clock right.
func (f *Faults) Clear() {
	f.mu.Lock()
	for _, r := range f.rules {
		close(r.released)
	}
	f.rules, f.allDown = nil, false
	clear(f.down)
	clear(f.lost)
	f.mu.Unlock()
	f.Skew(0)
}

// Outage makes the named services, or all when none is named, close every
// connection without an answer, until Recover.
func (f *Faults) Outage(services ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.allDown = f.allDown || len(services) == 0
	for _, s := range services {
		f.down[service(s)] = true
	}
}

// Recover ends the outage of the named services, or of all when none is named.
func (f *Faults) Recover(services ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(services) == 0 {
		f.allDown = false
		clear(f.down)
	}
	for _, s := range services {
		delete(f.down, service(s))
	}
}

// LoseRoles takes the named roles (all of them when none is named) from a user
// in every project, at once and also for tokens that are out. A token keeps
// working with the roles that are left: lists over all projects become 403 or
// shrink to the own project, as each service does. With no role left,
// Keystone refuses the scope and services refuse the token with 401.
func (f *Faults) LoseRoles(user string, roles ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lost[user] = roles
}

// RestoreRoles gives a user back what LoseRoles took.
func (f *Faults) RestoreRoles(user string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.lost, user)
}

// Skew sets how far the site's clock is ahead; negative is behind. What is stamped from now on shows it.
func (f *Faults) Skew(by time.Duration) {
	f.cloud.mu.Lock()
	defer f.cloud.mu.Unlock()
	f.cloud.skew = by
}

// keeps returns those of the user's roles that no fault has taken.
func (f *Faults) keeps(user string, roles []string) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	gone, hit := f.lost[user]
	if !hit {
		return roles
	}
	if len(gone) == 0 {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(roles), func(r string) bool { return slices.Contains(gone, r) })
}

// verdict is what the faults have decided for one request.
type verdict struct {
	down, reset, lost bool
	wait              time.Duration
	stalls            []<-chan struct{}
	late              time.Duration
	cut               int64
	answer            *Fault
}

func (f *Faults) judge(q *request, userName string) verdict {
	f.mu.Lock()
	defer f.mu.Unlock()
	v := verdict{down: f.allDown || f.down[q.svc]}
	if v.down {
		return v
	}
	var spent []int64
	for _, r := range f.rules {
		if !r.matches(q, userName, f.rng) {
			continue
		}
		r.struck++
		f.struck[r.ID]++
		close(f.changed)
		f.changed = make(chan struct{})
		if r.Count > 0 && r.struck >= r.Count && !r.Stall {
			spent = append(spent, r.ID)
		}
		v.add(r, f.rng)
		if v.answer != nil || v.reset || v.lost || v.late > 0 || v.cut > 0 {
			break
		}
	}
	f.rules = slices.DeleteFunc(f.rules, func(r *rule) bool { return slices.Contains(spent, r.ID) })
	return v
}

func (r *rule) matches(q *request, userName string, rng *rand.Rand) bool {
	if r.Service != "" && r.Service != string(q.svc) || r.Method != "" && !strings.EqualFold(r.Method, q.http.Method) ||
		r.User != "" && r.User != userName || !r.path.MatchString(q.http.URL.Path) {
		return false
	}
	if r.Count > 0 && r.struck >= r.Count {
		return false
	}
	if r.seen++; r.seen <= r.Skip {
		return false
	}
	return r.Chance == 0 || rng.Float64() < r.Chance
}

func (v *verdict) add(r *rule, rng *rand.Rand) {
	wait := r.Latency
	if r.LatencyMax > r.Latency {
		wait += time.Duration(rng.Int64N(int64(r.LatencyMax - r.Latency)))
	}
	v.wait += wait
	if r.Stall {
		v.stalls = append(v.stalls, r.released)
	}
	v.reset, v.lost, v.late, v.cut = r.Reset, r.LostReply, r.LateBy, r.CutAfter
	if r.Status != 0 {
		answer := r.Fault
		v.answer = &answer
	}
}

// serve lets a request meet its faults and, if they allow, its service.
func (f *Faults) serve(w http.ResponseWriter, r *http.Request, q *request) {
	c := f.cloud
	call := Call{At: c.cfg.Now(), Service: string(q.svc), Method: r.Method, Path: r.URL.RequestURI(), RequestID: q.id, User: c.tokenUser(r)}
	seen := &statusWriter{ResponseWriter: w}
	defer func() {
		call.Status = seen.status
		c.calls.add(call)
	}()
	v := f.judge(q, call.User)
	if v.down {
		call.Fault = "outage"
		drop(w, true)
	}
	if v.stalls != nil || v.late > 0 {
		buffer(r)
	}
	if !f.delay(r.Context(), v, c.cfg.Latency) {
		call.Fault = "stall"
		panic(http.ErrAbortHandler)
	}
	switch {
	case v.answer != nil:
		call.Fault = "status"
		v.answer.write(seen, q)
	case v.reset:
		call.Fault = "reset"
		drop(w, true)
	case v.late > 0:
		call.Fault = "late"
		c.later(r, q, v.late)
		drop(w, false)
	case v.lost:
		call.Fault = "lost reply"
		seen.ResponseWriter = &nowhere{header: http.Header{}}
		c.serveClean(seen, r, q)
		drop(w, false)
	case v.cut > 0:
		call.Fault = "cut"
		seen.ResponseWriter = &cutter{ResponseWriter: w, left: v.cut}
		c.serveClean(seen, r, q)
	default:
		c.serveClean(seen, r, q)
	}
}

func (f *Faults) delay(ctx context.Context, v verdict, base time.Duration) bool {
	if wait := v.wait + base; wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return false
		}
	}
	for _, released := range v.stalls {
		select {
		case <-released:
		case <-ctx.Done():
			return false
		}
	}
	return true
}

// later carries the request out after d, for nobody.
func (c *Cloud) later(r *http.Request, q *request, d time.Duration) {
	r2 := r.WithContext(context.WithoutCancel(r.Context()))
	c.mu.Lock()
	defer c.mu.Unlock()
	c.schedule(&event{at: c.clock().Add(d), late: func() {
		seen := &statusWriter{ResponseWriter: &nowhere{header: http.Header{}}}
		c.serveClean(seen, r2, q)
		c.calls.add(Call{At: c.cfg.Now(), Service: string(q.svc), Method: r.Method, Path: r.URL.RequestURI(), RequestID: q.id, Status: seen.status, Fault: "late, carried out"})
	}})
}

func (f *Fault) write(w http.ResponseWriter, q *request) {
	if f.RetryAfter > 0 {
		w.Header().Set("Retry-After", fmt.Sprint(f.RetryAfter))
	}
	if f.Body == "" {
		rep := errorReply(q, fail(f.Status, http.StatusText(f.Status)))
		if f.RetryAfter > 0 {
			rep.header = http.Header{"Retry-After": {fmt.Sprint(f.RetryAfter)}}
		}
		q.c.respond(w, q, rep, nil)
		return
	}
	if json.Valid([]byte(f.Body)) {
		w.Header().Set("Content-Type", "application/json")
	}
	w.Header().Set("X-Openstack-Request-Id", q.id)
	w.WriteHeader(f.Status)
	_, _ = io.WriteString(w, f.Body)
}

// buffer reads the whole body, so that the server sees the client leave and the request can outlive it.
func buffer(r *http.Request) {
	raw, err := io.ReadAll(r.Body)
	if err != nil {
		raw = nil
	}
	r.Body = io.NopCloser(bytes.NewReader(raw))
}

// drop ends the connection without an answer; hard sends a TCP reset. It does not return.
func drop(w http.ResponseWriter, hard bool) {
	if hijacker, can := w.(http.Hijacker); can && hard {
		if conn, _, err := hijacker.Hijack(); err == nil {
			if tcp, is := conn.(*net.TCPConn); is {
				_ = tcp.SetLinger(0)
			}
			_ = conn.Close()
			panic(http.ErrAbortHandler)
		}
	}
	panic(http.ErrAbortHandler)
}

type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(code int) {
	if w.status == 0 {
		w.status = code
	}
	w.ResponseWriter.WriteHeader(code)
}

func (w *statusWriter) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(b)
}

// nowhere swallows an answer.
type nowhere struct{ header http.Header }

func (n *nowhere) Header() http.Header         { return n.header }
func (n *nowhere) Write(b []byte) (int, error) { return len(b), nil }
func (n *nowhere) WriteHeader(int)             {}

// cutter resets the connection when enough of an answer's body is on its way.
type cutter struct {
	http.ResponseWriter
	left int64
}

func (w *cutter) Write(b []byte) (int, error) {
	if int64(len(b)) < w.left {
		w.left -= int64(len(b))
		return w.ResponseWriter.Write(b)
	}
	_, _ = w.ResponseWriter.Write(b[:w.left])
	_ = http.NewResponseController(w.ResponseWriter).Flush()
	panic(http.ErrAbortHandler)
}
