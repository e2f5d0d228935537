package jobs

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"gorm.io/gorm"

	"github.com/headwater-cloud/headwater/dbschema"
	"github.com/headwater-cloud/headwater/sites/ident"
)

const (
	// promoteBatch bounds how many due jobs one transaction makes available.
	promoteBatch = 1000
	// claimSites bounds how many sites one statement claims for; others have their turn in the next.
	claimSites = 64
)

// order is what one claim asks for.
type order struct {
	engine, token string
	queue         string
	kinds         []string
	most          int                    // jobs in all
	perSite       func(ident.SiteID) int // jobs that may run at a site, over all replicas
	lease         time.Duration
	first         string // the site after which the round begins, so that each comes first in its turn
}

// promote makes scheduled jobs available whose time has come.
func promote(tx dbschema.Tx) error {
	return tx.Gorm().Exec(`UPDATE jobs SET state = 'available' WHERE id IN (
		SELECT id FROM jobs WHERE state = 'scheduled' AND run_at <= `+tx.ClockSQL()+` ORDER BY run_at LIMIT ?)`, promoteBatch).Error
}

// nextDue returns how long it is until the next scheduled job falls due, within [1 ms, pollEvery].
func nextDue(tx dbschema.Tx) (time.Duration, error) {
	var micros []int64
	err := tx.Gorm().Raw(`SELECT run_at - ` + tx.ClockSQL() + ` FROM jobs WHERE state = 'scheduled' ORDER BY run_at LIMIT 1`).Scan(&micros).Error
	if err != nil || len(micros) == 0 {
		return pollEvery, err
	}
	return min(max(time.Duration(micros[0])*time.Microsecond, time.Millisecond), pollEvery), nil
}

// claimJobs takes up to o.most available jobs, spread over the sites, and returns them in the order they should start.
func claimJobs(tx dbschema.Tx, o order) ([]dbschema.Job, error) {
	if err := promote(tx); err != nil {
		return nil, err
	}
	sites, err := sitesWithWork(tx, o.queue)
	if err != nil || len(sites) == 0 {
		return nil, err
	}
	running, err := runningAt(tx, o.queue)
	if err != nil {
		return nil, err
	}
	shares := share(sites, running, o)
	if len(shares) == 0 {
		return nil, nil
	}
	var picks []string
	var args []any
	for _, s := range shares {
		picks = append(picks, `SELECT id FROM (SELECT id FROM jobs WHERE state = 'available' AND queue = ? AND site = ? AND kind IN ?
			ORDER BY priority, id LIMIT ?) AS picked`)
		args = append(args, o.queue, s.site, o.kinds, s.most)
	}
	now := tx.ClockSQL()
	query := fmt.Sprintf(`UPDATE jobs SET state = 'running', claim = ?, claimed_by = ?, attempt = attempt + 1, started_at = %s,
		lease_until = %s + %d WHERE state = 'available' AND id IN (%s) RETURNING *`,
		now, now, o.lease.Microseconds(), strings.Join(picks, " UNION ALL "))
	var got []dbschema.Job
	if err := tx.Gorm().Raw(query, append([]any{o.token, o.engine}, args...)...).Scan(&got).Error; err != nil {
		return nil, err
	}
	slices.SortFunc(got, func(a, b dbschema.Job) int {
		return cmp.Or(cmp.Compare(a.Priority, b.Priority), cmp.Compare(a.ID, b.ID))
	})
	return got, nil
}

// sitesWithWork returns the sites that have available jobs. It skips from site
// to site in the index, so its cost does not grow with the number of jobs. With
// min(site) PostgreSQL reads the whole index while its statistics are old.
func sitesWithWork(tx dbschema.Tx, queue string) ([]string, error) {
	var sites []string
	err := tx.Gorm().Raw(`WITH RECURSIVE found (site) AS (
		SELECT (SELECT site FROM jobs WHERE state = 'available' AND queue = ? ORDER BY site LIMIT 1)
		UNION ALL
		SELECT (SELECT j.site FROM jobs j WHERE j.state = 'available' AND j.queue = ? AND j.site > found.site ORDER BY j.site LIMIT 1)
		FROM found WHERE found.site IS NOT NULL)
		SELECT site FROM found WHERE site IS NOT NULL`, queue, queue).Scan(&sites).Error
	slices.Sort(sites) // by bytes, as share wants; a database may have another collation
	return sites, err
}

// runningAt returns how many jobs of the queue run at each site, in all replicas.
func runningAt(tx dbschema.Tx, queue string) (map[string]int, error) {
	var rows []struct {
		Site string
		N    int
	}
	err := tx.Gorm().Raw(`SELECT site, count(*) AS n FROM jobs WHERE state = 'running' AND queue = ? GROUP BY site`, queue).Scan(&rows).Error
	counts := map[string]int{}
	for _, r := range rows {
		counts[r.Site] = r.N
	}
	return counts, err
}

// siteShare is how many jobs may be claimed for a site.
type siteShare struct {
	site string
	most int
}

// share deals o.most among the sites that have room, one by one, beginning
// after the site o.first, so that a site with many jobs does not take all.
func share(sites []string, running map[string]int, o order) []siteShare {
	var shares []siteShare
	var room []int
	start, found := slices.BinarySearch(sites, o.first)
	if found {
		start++
	}
	for i := range sites {
		site := sites[(start+i)%len(sites)]
		free := o.most
		if site != "" { // no site, no limit
			free = min(free, o.perSite(ident.SiteID(site))-running[site])
		}
		if free > 0 && len(shares) < claimSites {
			shares, room = append(shares, siteShare{site: site}), append(room, free)
		}
	}
	for left, dealt := o.most, true; left > 0 && dealt; {
		dealt = false
		for i := range shares {
			if left > 0 && shares[i].most < room[i] {
				shares[i].most++
				left--
				dealt = true
			}
		}
	}
	return slices.DeleteFunc(shares, func(s siteShare) bool { return s.most == 0 })
}

// beat extends the leases of those of ids that the engine still has, and returns
// them. It names them, so that a claim whose reply was lost runs out.
func beat(tx dbschema.Tx, engine string, ids []ID, lease time.Duration) ([]dbschema.Job, error) {
	var held []dbschema.Job
	err := tx.Gorm().Raw(fmt.Sprintf(`UPDATE jobs SET lease_until = %s + %d WHERE id IN ? AND state = 'running' AND claimed_by = ?
		RETURNING id, claim, cancel_requested`, tx.ClockSQL(), lease.Microseconds()), ids, engine).Scan(&held).Error
	return held, err
}

// cancelling reports whether a job of the engine is to be cancelled.
func cancelling(db *gorm.DB, engine string) (bool, error) {
	var n int64
	err := db.Model(dbschema.Job{}).Where("state = 'running' AND claimed_by = ? AND cancel_requested", engine).Limit(1).Count(&n).Error
	return n > 0, err
}

// guard locks the job's row against being taken over, if the claim still holds.
func guard(tx dbschema.Tx, id ID, token string) error {
	query := `SELECT id FROM jobs WHERE id = ? AND claim = ? AND state = 'running'`
	if tx.Driver() == dbschema.Postgres {
		query += " FOR SHARE" // SQLite has one writer, and it is this transaction
	}
	var got []int64
	if err := tx.Gorm().Raw(query, id, token).Scan(&got).Error; err != nil {
		return fmt.Errorf("guard job %d: %w", id, err)
	}
	if len(got) == 0 {
		return fmt.Errorf("job %d: %w", id, ErrClaimLost)
	}
	return nil
}

// expired returns running jobs whose lease ran out, by the database's clock. On
// SQLite it does not wait for that when the process that claimed them is gone.
func expired(tx dbschema.Tx, most int) ([]dbschema.Job, error) {
	q := tx.Gorm().Where("state = 'running' AND lease_until < " + tx.ClockSQL())
	if tx.Driver() == dbschema.SQLite {
		q = q.Or("state = 'running' AND instr(claimed_by, ?) = 0", tx.Instance())
	}
	var rows []dbschema.Job
	err := q.Order("lease_until").Limit(most).Find(&rows).Error
	return rows, err
}

// purge deletes up to most jobs that ended long ago and returns how many.
func purge(tx dbschema.Tx, completed, others time.Duration, most int) (int64, error) {
	now := tx.ClockSQL()
	res := tx.Gorm().Exec(fmt.Sprintf(`DELETE FROM jobs WHERE id IN (SELECT id FROM jobs WHERE ended_at > 0 AND
		(state = 'completed' AND ended_at < %s - %d OR ended_at < %s - %d) ORDER BY ended_at LIMIT ?)`,
		now, completed.Microseconds(), now, others.Microseconds()), most)
	return res.RowsAffected, res.Error
}
