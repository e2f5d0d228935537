package jobs

import (
	"errors"
	"fmt"
	"time"

	"github.com/headwater-cloud/headwater/sites/ident"
)

// The engine's own intervals.
const (
	// pollEvery is how soon an engine sees what other replicas inserted and what
	// fell due; jobs of its own process wake it at once.
	pollEvery = time.Second
	// rescueEvery is how often each engine looks for leases that ran out, deletes
	// old jobs and counts the rest.
	rescueEvery = 10 * time.Second
	// rescueBatch and purgeBatch bound one transaction of that.
	rescueBatch = 100
	purgeBatch  = 1000
)

// QueueConfig is how one engine works one queue.
type QueueConfig struct {
	// Workers is the number of jobs that this engine runs at once.
	Workers int `yaml:"workers"`
	// PerSite is the number of jobs that may run at once for one site, over all
	// replicas, so that a slow site does not take every worker.
	PerSite int `yaml:"per_site"`
}

// Config is how an engine works. Begin with Default.
type Config struct {
	// Queues names the queues that this engine works.
	Queues map[string]QueueConfig `yaml:"queues"`
	// SiteLimits overrides QueueConfig.PerSite of the default queue for single sites.
	SiteLimits map[ident.SiteID]int `yaml:"site_limits"`
	// Lease is how long a claim lasts without a heartbeat: after a crash, jobs
	// stand still for so long. Heartbeats come every third of it, so a site call's
	// timeout must be below two thirds of it.
	Lease time.Duration `yaml:"lease"`
	// Grace is how long a stopping engine waits for its jobs before it cancels
	// them and gives them back.
	Grace time.Duration `yaml:"grace"`
	// KeepCompleted and KeepOthers are how long ended jobs stay to be looked at.
	KeepCompleted time.Duration `yaml:"keep_completed"`
	KeepOthers    time.Duration `yaml:"keep_others"`
	// Name is the engine's name in records: which replica. "" takes a random one.
	Name string `yaml:"-"`
}

// Default returns the settings for one Top of usual size.
func Default() Config {
	return Config{
		Queues: map[string]QueueConfig{
			DefaultQueue: {Workers: 32, PerSite: 8},
			BulkQueue:    {Workers: 4, PerSite: 2},
		},
		Lease:         90 * time.Second,
		Grace:         20 * time.Second,
		KeepCompleted: 24 * time.Hour,
		KeepOthers:    7 * 24 * time.Hour,
	}
}

// Validate returns everything that is wrong with c, joined, or nil.
func (c Config) Validate() error {
	var errs []error
	if len(c.Queues) == 0 {
		errs = append(errs, errors.New("queues: none is named, so no job would run"))
	}
	for name, q := range c.Queues {
		if !validName.MatchString(name) {
			errs = append(errs, fmt.Errorf("queue %q: want %v", name, validName))
		}
		if q.Workers < 1 || q.PerSite < 1 {
			errs = append(errs, fmt.Errorf("queue %s: workers %d, per_site %d: want at least 1", name, q.Workers, q.PerSite))
		}
	}
	for site, n := range c.SiteLimits {
		if n < 1 {
			errs = append(errs, fmt.Errorf("site_limits: %s: %d: want at least 1", site, n))
		}
	}
	for _, d := range []struct {
		name string
		got  time.Duration
		min  time.Duration
	}{{"lease", c.Lease, 3 * time.Second}, {"grace", c.Grace, 0}, {"keep_completed", c.KeepCompleted, 0}, {"keep_others", c.KeepOthers, 0}} {
		if d.got < d.min {
			errs = append(errs, fmt.Errorf("%s %v: want at least %v", d.name, d.got, d.min))
		}
	}
	return errors.Join(errs...)
}

// perSite returns the limit of a queue for a site.
func (c Config) perSite(queue string) func(ident.SiteID) int {
	return func(site ident.SiteID) int {
		if n, ok := c.SiteLimits[site]; ok && queue == DefaultQueue {
			return n
		}
		return c.Queues[queue].PerSite
	}
}
