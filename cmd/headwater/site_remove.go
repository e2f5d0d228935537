package main

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/headwater-cloud/headwater/cmd/internal/client"
	"github.com/headwater-cloud/headwater/cmd/internal/run"
)

// waitPause is the time between two looks at a site that is being removed.
const waitPause = time.Second

func (o *operator) siteRemove() *cobra.Command {
	var keep, purge, wait bool
	c := &cobra.Command{
		Use: "remove NAME", Short: "Take a site out", Args: argsOf(cobra.ExactArgs(1)),
		Long: "A site at which Top holds nothing goes at once. For one that holds something say what becomes of it:\n" +
			"--keep leaves it at the site, and Top forgets it; --purge deletes it there first, which takes its time.\n" +
			"headwater site show tells what remains. A purge that failed because the site did not delete something ends with the reasons:\n" +
			"--purge once more asks again, --keep leaves the rest where it is.",
		RunE: func(c *cobra.Command, args []string) error {
			if keep && purge {
				return run.Usage(errors.New("--keep and --purge contradict each other"))
			}
			query := url.Values{}
			switch {
			case keep:
				query.Set("resources", "keep")
			case purge:
				query.Set("resources", "purge")
			}
			return o.removeSite(c, args[0], query, wait)
		}}
	c.Flags().BoolVar(&keep, "keep", false, "leave what Top made at the site, and forget it")
	c.Flags().BoolVar(&purge, "purge", false, "delete what Top made at the site first")
	c.Flags().BoolVar(&wait, "wait", false, "with --purge: wait until the site is gone")
	return c
}

// removal is how far the purge of a site has come, as the API shows it.
type removal struct {
	JobID   int64          `json:"job_id"`
	State   string         `json:"state"`
	Remains map[string]int `json:"remains"`
	Reason  string         `json:"reason"`
}

// text says it in a line; nothing of a site that is not being purged.
func (r *removal) text() string {
	if r == nil {
		return ""
	}
	var held []string
	for _, kind := range slices.Sorted(maps.Keys(r.Remains)) {
		held = append(held, fmt.Sprintf("%s: %d", kind, r.Remains[kind]))
	}
	out := fmt.Sprintf("%s (job %d), remaining %s", r.State, r.JobID, cmp.Or(strings.Join(held, ", "), "nothing"))
	if r.Reason != "" {
		out += "; " + r.Reason
	}
	return out
}

func (o *operator) removeSite(c *cobra.Command, name string, query url.Values, wait bool) error {
	api, err := o.client()
	if err != nil {
		return err
	}
	status, err := api.Do(c.Context(), http.MethodDelete, sitePath(name), query, nil, nil)
	if err != nil || status != http.StatusAccepted {
		return err
	}
	if !wait {
		_, err = fmt.Fprintf(o.out, "site %s: the purge has begun; headwater site show %[1]s tells how far it is, until the site is gone\n", name)
		return err
	}
	ticker := time.NewTicker(waitPause)
	defer ticker.Stop()
	for {
		var got struct {
			Site site `json:"site"`
		}
		err := api.Get(c.Context(), sitePath(name), nil, &got)
		if client.IsStatus(err, http.StatusNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		if r := got.Site.Removal; r != nil && r.State == "failed" {
			return fmt.Errorf("site %s is not removed: %s", name, r.text())
		}
		select {
		case <-c.Context().Done():
			return c.Context().Err()
		case <-ticker.C:
		}
	}
}
