package emulator

import (
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/headwater-cloud/headwater/sites/ident"
)

const never = int64(1<<63 - 1)

// Cloud is one emulated region. It is an http.Handler for all services by path;
// the catalog's URLs are built from each request's Host. Its methods may be
// called by many goroutines at once.
type Cloud struct {
	cfg    Config
	mux    *http.ServeMux
	faults *Faults
	calls  callLog
	due    atomic.Int64 // when the next event is due, in ns; never when there is none

	mu        sync.RWMutex // guards the fields below
	agenda    agenda
	eventSeq  int64
	eventTime time.Time // of the event that is running, else zero
	skew      time.Duration

	identity identityState
	compute  computeState
	network  networkState
	image    imageState
	volume   volumeState
}

// New returns an emulated cloud with the domain, projects, users, roles,
// flavors, networks and the volume type that a fresh small region has. An
// invalid configuration is a programming error of the caller: check it with
// Validate before; New then works with what it is given.
func New(cfg Config) *Cloud {
	cfg.fill()
	c := &Cloud{cfg: cfg, mux: http.NewServeMux()}
	c.faults = newFaults(c)
	c.calls.size = cfg.CallLog
	c.due.Store(never)
	c.seedIdentity()
	c.seedCompute()
	c.seedNetwork()
	c.seedImage()
	c.seedVolume()
	c.routes()
	return c
}

// Name returns the region's name.
func (c *Cloud) Name() string { return c.cfg.Name }

// Faults returns the controls of what goes wrong at this cloud.
func (c *Cloud) Faults() *Faults { return c.faults }

func (c *Cloud) routes() {
	c.identityRoutes()
	c.computeRoutes()
	c.networkRoutes()
	c.imageRoutes()
	c.volumeRoutes()
	c.placementRoutes()
}

func newID() string  { return ident.NewUUID() }
func newHex() string { return ident.NewHexID() }

// read runs f with the state held still, after everything that is due has happened.
func (c *Cloud) read(f func()) {
	c.tick()
	c.mu.RLock()
	defer c.mu.RUnlock()
	f()
}

// write runs f with the state held for change, after everything that is due has happened.
func (c *Cloud) write(f func()) {
	c.tick()
	c.mu.Lock()
	defer c.mu.Unlock()
	f()
}
