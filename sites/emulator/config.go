package emulator

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"time"

	"github.com/headwater-cloud/headwater/sites/ident"
)

// Config describes one emulated cloud. The zero value of every field but Name
// means the default that Default gives.
type Config struct {
	// Name is the region's name, [a-z][a-z0-9-]{0,30}. Required.
	Name string
	// Zones are Nova's availability zones; each has HostsPerZone hosts named NAME-computeN. Cinder's and Neutron's
	// only zone is "nova", as in a plain real region.
	Zones        []string
	HostsPerZone int
	// Latency is added to every API request before it is worked on.
	Latency time.Duration
	// Durations say how long asynchronous transitions take.
	Durations Durations
	// Now is the clock: it stamps resources and moves transitions. Latency and stalls run on real time.
	Now func() time.Time
	// Capacity is what each host and the volume pool hold.
	Capacity Capacity
	// AdminPassword and DemoPassword are of the users admin and demo.
	AdminPassword, DemoPassword ident.Secret
	// ControlToken guards the API below /_emulator/, which is absent when it is empty.
	ControlToken ident.Secret
	// Seed starts every random choice that a fault makes.
	Seed uint64
	// ComputeMax and VolumeMax are the newest microversions spoken, as the minor number: 93 for 2.93, 70 for 3.70.
	ComputeMax, VolumeMax int
	// ExternalCIDR is the IPv4 range of the external network "public".
	ExternalCIDR string
	// TokenTTL is how long a token lives.
	TokenTTL time.Duration
	// ImportMethods are what Glance's info/import lists.
	ImportMethods []string
	// ChangedSince makes Neutron accept the changed_since filter. The real Zed region refuses it with 400 (its filter
	// validation does not know its own filter), and so does the emulator by default.
	ChangedSince bool
	// Unlimited makes every quota -1 until somebody sets one.
	Unlimited bool
	// CallLog is how many of the last requests are remembered.
	CallLog int
}

// Durations of the asynchronous transitions; a negative one means at once.
type Durations struct {
	Build     time.Duration // scheduling, networking and spawning together, a third each
	Action    time.Duration // start, stop, reboot, pause, suspend, rescue, rebuild, shelve and their opposites
	Resize    time.Duration // until VERIFY_RESIZE, and for confirm and revert
	Delete    time.Duration // servers
	Snapshot  time.Duration // createImage, volume snapshots and backups
	Volume    time.Duration // creating, extending and deleting volumes; attach and detach
	Image     time.Duration // import tasks
	PortReady time.Duration // a bound port from DOWN to ACTIVE; floating IPs; DHCP ports appearing
}

// Capacity of the emulated hardware.
type Capacity struct {
	VCPUs, MemoryMB, DiskGB int   // per host
	VolumeGB                int   // of the volume pool
	ImageBytes              int64 // image data kept in memory, over all images; an upload beyond it is 413
}

// Default returns the configuration of a small, quick cloud of the given name.
func Default(name string) Config {
	return Config{
		Name: name, Zones: []string{"az1", "az2"}, HostsPerZone: 1, Now: time.Now,
		Durations: Durations{
			Build: 300 * time.Millisecond, Action: 100 * time.Millisecond, Resize: 200 * time.Millisecond,
			Delete: 100 * time.Millisecond, Snapshot: 150 * time.Millisecond, Volume: 100 * time.Millisecond,
			Image: 100 * time.Millisecond, PortReady: 50 * time.Millisecond,
		},
		Capacity:      Capacity{VCPUs: 1000, MemoryMB: 800_000, DiskGB: 600_000, VolumeGB: 100_000, ImageBytes: 1 << 30},
		AdminPassword: "secret", DemoPassword: "secret", ComputeMax: 93, VolumeMax: 70,
		ExternalCIDR: "172.24.0.0/16", TokenTTL: time.Hour, ImportMethods: []string{"glance-direct", "copy-image"},
		CallLog: 4096,
	}
}

func orDefault[T comparable](field *T, def T) {
	var zero T
	if *field == zero {
		*field = def
	}
}

func (cfg *Config) fill() {
	d := Default(cfg.Name)
	if len(cfg.Zones) == 0 {
		cfg.Zones = d.Zones
	}
	if cfg.ImportMethods == nil {
		cfg.ImportMethods = d.ImportMethods
	}
	if cfg.Now == nil {
		cfg.Now = d.Now
	}
	orDefault(&cfg.HostsPerZone, d.HostsPerZone)
	orDefault(&cfg.AdminPassword, d.AdminPassword)
	orDefault(&cfg.DemoPassword, d.DemoPassword)
	orDefault(&cfg.ComputeMax, d.ComputeMax)
	orDefault(&cfg.VolumeMax, d.VolumeMax)
	orDefault(&cfg.ExternalCIDR, d.ExternalCIDR)
	orDefault(&cfg.TokenTTL, d.TokenTTL)
	orDefault(&cfg.CallLog, d.CallLog)
	orDefault(&cfg.Durations.Build, d.Durations.Build)
	orDefault(&cfg.Durations.Action, d.Durations.Action)
	orDefault(&cfg.Durations.Resize, d.Durations.Resize)
	orDefault(&cfg.Durations.Delete, d.Durations.Delete)
	orDefault(&cfg.Durations.Snapshot, d.Durations.Snapshot)
	orDefault(&cfg.Durations.Volume, d.Durations.Volume)
	orDefault(&cfg.Durations.Image, d.Durations.Image)
	orDefault(&cfg.Durations.PortReady, d.Durations.PortReady)
	orDefault(&cfg.Capacity.VCPUs, d.Capacity.VCPUs)
	orDefault(&cfg.Capacity.MemoryMB, d.Capacity.MemoryMB)
	orDefault(&cfg.Capacity.DiskGB, d.Capacity.DiskGB)
	orDefault(&cfg.Capacity.VolumeGB, d.Capacity.VolumeGB)
	orDefault(&cfg.Capacity.ImageBytes, d.Capacity.ImageBytes)
}

var namePattern = regexp.MustCompile(`^[a-z][a-z0-9-]{0,30}$`)

// Validate reports every problem of the configuration at once.
func (cfg Config) Validate() error {
	cfg.fill()
	var problems []error
	if !namePattern.MatchString(cfg.Name) {
		problems = append(problems, fmt.Errorf("name %q is not of the form %s", cfg.Name, namePattern))
	}
	if p, err := netip.ParsePrefix(cfg.ExternalCIDR); err != nil || !p.Addr().Is4() || p.Bits() > 28 {
		problems = append(problems, fmt.Errorf("external range %q is not an IPv4 prefix of at most 28 bits", cfg.ExternalCIDR))
	}
	if cfg.HostsPerZone < 1 {
		problems = append(problems, fmt.Errorf("hosts per zone is %d, want at least 1", cfg.HostsPerZone))
	}
	if cfg.ComputeMax < 1 || cfg.ComputeMax > 93 {
		problems = append(problems, fmt.Errorf("compute microversion 2.%d is outside 2.1 to 2.93", cfg.ComputeMax))
	}
	if cfg.VolumeMax < 0 || cfg.VolumeMax > 70 {
		problems = append(problems, fmt.Errorf("volume microversion 3.%d is outside 3.0 to 3.70", cfg.VolumeMax))
	}
	return errors.Join(problems...)
}

// Instant makes every transition of the configuration happen at once, before the reply, and returns it.
func (cfg Config) Instant() Config {
	const d = -1
	cfg.Durations = Durations{d, d, d, d, d, d, d, d}
	return cfg
}
