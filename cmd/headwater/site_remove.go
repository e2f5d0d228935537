package main

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
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
			"--keep leaves it at the site, and Top forgets it; --purge deletes it there first, which takes its time.",
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
		_, err = fmt.Fprintf(o.out, "site %s: the purge has begun; the site is gone when it is not listed any more\n", name)
		return err
	}
	ticker := time.NewTicker(waitPause)
	defer ticker.Stop()
	for {
		err := api.Get(c.Context(), sitePath(name), nil, nil)
		if client.IsStatus(err, http.StatusNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		select {
		case <-c.Context().Done():
			return c.Context().Err()
		case <-ticker.C:
		}
	}
}
