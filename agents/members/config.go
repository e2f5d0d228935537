package members

import (
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/headwater-cloud/headwater/sites/ident"
)

// Scope is whom a pool joins.
type Scope uint8

// The scopes.
const (
	Site Scope = iota // the hosts of one site, on a local network
	WAN               // the gateways of all sites
)

// String is "site" or "wan".
func (s Scope) String() string {
	if s == WAN {
		return "wan"
	}
	return "site"
}

// Ports that members listen on unless they are told otherwise, UDP and TCP.
const (
	SitePort = 7946
	WANPort  = 7947
)

// Config says who this member is and whom it looks for. Default has the rest.
type Config struct {
	Scope Scope
	Site  ident.SiteID
	Host  string // the host's id, 1 to 64 bytes of letters, digits and -_.:/
	// Bound is since when this machine has the host id. Of two members that both claim one and have both been accepted, the older binding
	// holds. Zero stands for the start of Run.
	Bound time.Time
	// Boot is a number that differs at each start of the program; 0 stands for the milliseconds since 1970 at the start of Run.
	Boot uint64
	// Bind is what is listened on, UDP and TCP.
	Bind netip.AddrPort
	// Advertise is where the others reach Bind; zero stands for Bind. It must be set where Bind's address is unspecified.
	Advertise netip.AddrPort
	// Seeds are members to join by: "ADDRESS", "NAME" or either with ":PORT" (default: Bind's). One that lives suffices, itself counts for
	// nothing, and names are looked up again at each attempt.
	Seeds []string
	// Keys are base64 of 16, 24 or 32 bytes each. The first encrypts, all decrypt.
	Keys []ident.Secret
	// Meta is what is announced at first; Update changes it.
	Meta Meta
	// Changed is called with the newest view after it changed, never twice at once; changes that come while it runs make one more call
	// together. It may call the Pool's methods, except Run, which ends only after it.
	Changed func(*View)

	// Probe is how often a member asks another one whether it lives, and ProbeTimeout what an answer may take before others are asked.
	Probe, ProbeTimeout time.Duration
	// Suspicion times log10(members) (at least 1) times Probe is how long a suspected member has to show that it lives; up to six times as
	// long while others do not confirm the suspicion.
	Suspicion int
	// Gossip is how often news are passed on, to three or four members each time.
	Gossip time.Duration
	// Sync is how often all that is known is exchanged with one member; with more than 32 members, less often.
	Sync time.Duration
	// Rejoin is how often members that died and seeds that are missing are tried again, by some of the others; and the longest pause
	// between two attempts to join of a member that is alone.
	Rejoin time.Duration
	// Forget is how long members that died or left are remembered, and tried again.
	Forget time.Duration
	// Farewell bounds what leaving may take.
	Farewell time.Duration

	Log        *slog.Logger          // nil: no log
	Registerer prometheus.Registerer // nil: no metrics. Several pools may share one
	Now        func() time.Time      // nil means time.Now; it stamps, and measures nothing but Forget
}

// Default is a configuration with the times of a scope: memberlist's own for local networks, and for wide area networks with questions more
// often and less patience. Its own would take 40 s to notice that a gateway died, for pools that cross oceans and have thousands of
// members; ours has some dozens, between which a packet and its answer take less than a second.
func Default(scope Scope) Config {
	from := memberlist.DefaultLANConfig()
	rejoin := 15 * time.Second
	if scope == WAN {
		from = memberlist.DefaultWANConfig()
		from.ProbeInterval, from.ProbeTimeout, from.SuspicionMult = 2*time.Second, time.Second, 4
		rejoin = 30 * time.Second
	}
	return Config{
		Scope:        scope,
		Probe:        from.ProbeInterval,
		ProbeTimeout: from.ProbeTimeout,
		Suspicion:    from.SuspicionMult,
		Gossip:       from.GossipInterval,
		Sync:         from.PushPullInterval,
		Rejoin:       rejoin,
		Forget:       24 * time.Hour,
		Farewell:     5 * time.Second,
	}
}

// Validate reports all that is wrong with the configuration.
func (c Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf("members: "+format, args...)) }
	if c.Scope > WAN {
		bad("scope %d", c.Scope)
	}
	if !siteForm.MatchString(string(c.Site)) {
		bad("site %q: want a lower-case letter and up to 30 lower-case letters, digits and hyphens", c.Site)
	}
	if !hostForm.MatchString(c.Host) {
		bad("host id %q: want 1 to 64 letters, digits and -_.:/", c.Host)
	}
	errs = append(errs, c.validateAddresses(), c.validateKeys(), c.validateTimes())
	if _, err := (announcement{Meta: c.Meta, Boot: c.Boot, Bound: c.Bound}).encode(); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

var (
	siteForm = regexp.MustCompile(`^[a-z][a-z0-9-]{0,30}$`)
	hostForm = regexp.MustCompile(`^[A-Za-z0-9_.:/-]{1,64}$`)
)

func (c Config) validateAddresses() error {
	var errs []error
	if !c.Bind.IsValid() || c.Bind.Port() == 0 {
		errs = append(errs, fmt.Errorf("members: bind address %q: want ADDRESS:PORT", c.Bind))
	}
	if at := c.advertise(); at.IsValid() && (at.Addr().IsUnspecified() || at.Addr().IsMulticast() || at.Port() == 0) {
		errs = append(errs, fmt.Errorf("members: others cannot reach %s: set an address to advertise", at))
	}
	for _, s := range c.Seeds {
		if _, _, err := c.seed(s); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (c Config) validateKeys() error {
	if len(c.Keys) == 0 {
		return errors.New("members: no key: without one, whoever reaches the port could declare members dead")
	}
	var errs []error
	for i, k := range c.Keys {
		if _, err := decodeKey(k); err != nil {
			errs = append(errs, fmt.Errorf("members: key %d: %w", i+1, err))
		}
	}
	return errors.Join(errs...)
}

func (c Config) validateTimes() error {
	var errs []error
	for _, t := range []struct {
		name string
		is   time.Duration
	}{
		{"probe", c.Probe}, {"probe timeout", c.ProbeTimeout}, {"gossip", c.Gossip}, {"sync", c.Sync}, {"rejoin", c.Rejoin}, {"forget", c.Forget},
	} {
		if t.is <= 0 {
			errs = append(errs, fmt.Errorf("members: %s of %s", t.name, t.is))
		}
	}
	if c.ProbeTimeout >= c.Probe && c.Probe > 0 {
		errs = append(errs, fmt.Errorf("members: probe timeout %s is not shorter than probe %s, and leaves no time to ask others", c.ProbeTimeout, c.Probe))
	}
	if c.Suspicion < 1 {
		errs = append(errs, fmt.Errorf("members: suspicion %d: want 1 at least", c.Suspicion))
	}
	if c.Farewell < 0 {
		errs = append(errs, fmt.Errorf("members: farewell of %s", c.Farewell))
	}
	return errors.Join(errs...)
}

// advertise is where the others reach this member.
func (c Config) advertise() netip.AddrPort {
	at := c.Bind
	if c.Advertise.IsValid() {
		at = c.Advertise
	}
	return netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
}

// seed parses a seed into a name or an address, and a port.
func (c Config) seed(s string) (host string, port uint16, err error) {
	if a, err := netip.ParseAddr(strings.Trim(s, "[]")); err == nil {
		return a.String(), c.Bind.Port(), nil
	}
	host, number, err := net.SplitHostPort(s)
	if err != nil {
		host, number = s, strconv.Itoa(int(c.Bind.Port()))
	}
	n, err := strconv.ParseUint(number, 10, 16)
	if err != nil || n == 0 || host == "" || strings.ContainsAny(host, "/ []") {
		return "", 0, fmt.Errorf("members: seed %q: want an address or a name, with :PORT where it is not that of the bind address", s)
	}
	return host, uint16(n), nil
}

// label keeps pools apart: a member hears only what has its own pool's label, which is authenticated with the rest.
func (c Config) label() string {
	if c.Scope == WAN {
		return "headwater-wan"
	}
	return "headwater-site/" + string(c.Site)
}

func decodeKey(k ident.Secret) ([]byte, error) {
	raw, err := base64.StdEncoding.DecodeString(k.Reveal())
	if err != nil {
		return nil, errors.New("want base64") // the cause would quote a part of the key
	}
	if err := memberlist.ValidateKey(raw); err != nil {
		return nil, errors.New("want 16, 24 or 32 bytes, in base64")
	}
	return raw, nil
}
