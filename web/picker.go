package web

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"golang.org/x/sync/errgroup"
)

// decision is what placement says of a server's body.
type decision struct {
	Site     string    `json:"site"`
	Rule     string    `json:"rule"`
	Verdicts []verdict `json:"verdicts"`
	Refused  *struct {
		Message string `json:"message"`
	} `json:"refused"` // nil when a site can take it
}

// refusal is why there is no site: what placement says, or the API itself when it could not ask placement.
func (d decision) refusal(err error) (string, bool) {
	var refused *apiError
	switch {
	case errors.As(err, &refused):
		return strings.TrimRight(refused.Message, ". "), true
	case d.Refused != nil:
		return strings.TrimRight(d.Refused.Message, ". "), true
	}
	return "", false
}

// verdict is what placement says of one site.
type verdict struct {
	Site    string   `json:"site"`
	Fit     bool     `json:"fit"`
	Reasons []string `json:"reasons"`
	Score   float64  `json:"score"`
}

// rules say in words what decided.
var rules = map[string]string{
	"zone":      "you chose it",
	"region":    "the region names it",
	"reference": "what the instance uses is there",
	"home":      "it is the project's home site",
	"score":     "it has the best score",
}

// picker is the form's part that chooses the site.
type picker struct {
	Sites   []candidate
	Choice  choice
	Free    string // what Headwater would choose, in a sentence
	FreeBad bool   // it would find none
	Zones   []string
	Said    string // placement's word on the very choice
	Bad     bool   // which is no
}

// candidate is a site beside what placement says of it.
type candidate struct {
	site
	Verdict *verdict // nil when placement could not be asked
	Best    bool
}

// Why is the verdict in words.
func (c candidate) Why() string {
	if c.Verdict == nil {
		return ""
	}
	return strings.Join(c.Verdict.Reasons, "; ")
}

// Word is the verdict in a word.
func (c candidate) Word() string {
	switch {
	case c.Verdict == nil:
		return ""
	case c.Verdict.Fit:
		return "fits"
	}
	return "no"
}

// Score is the verdict's, rounded for reading.
func (c candidate) Score() string {
	if c.Verdict == nil || !c.Verdict.Fit {
		return ""
	}
	return fmt.Sprintf("%.1f", c.Verdict.Score)
}

// explain asks placement about the very request that would be sent.
func (d *dashboard) explain(v *visit, c choice, zone string) (decision, error) {
	var got decision
	_, err := d.api.call(v.Context(), v.session.Token, http.MethodPost, "/v1/placement/explain", c.body(zone), &got)
	return got, err
}

// picker asks placement twice at once: with the choice left open, which gives a
// word on every site, and for the chosen zone. A refusal is shown, not returned.
func (d *dashboard) picker(v *visit, sites []site, c choice) (picker, error) {
	p := picker{Choice: c}
	for _, s := range sites {
		p.Sites = append(p.Sites, candidate{site: s})
		if s.Name == c.Site {
			p.Zones = s.Zones
		}
	}
	if c.Flavor == "" || c.Image == "" {
		return p, nil // there is nothing to place yet
	}
	var open, chosen decision
	var openErr, chosenErr error
	var g errgroup.Group
	g.Go(func() error { open, openErr = d.explain(v, c, ""); return nil })
	g.Go(func() error {
		if c.zone() != "" {
			chosen, chosenErr = d.explain(v, c, c.zone())
		}
		return nil
	})
	_ = g.Wait() // neither returns an error
	for _, err := range []error{openErr, chosenErr} {
		if code := statusOf(err); err != nil && (code == 0 || code == http.StatusUnauthorized) {
			return p, err
		}
	}
	p.judge(open, openErr)
	p.say(c, chosen, chosenErr)
	p.Free, p.Said = d.named(v, c, p.Free), d.named(v, c, p.Said)
	for i := range open.Verdicts {
		for j, why := range open.Verdicts[i].Reasons {
			open.Verdicts[i].Reasons[j] = d.named(v, c, why)
		}
	}
	return p, nil
}

// named puts the names of the chosen networks where a refusal has their ids, which no person knows.
func (d *dashboard) named(v *visit, c choice, text string) string {
	for _, id := range c.Networks {
		if id == "" || !strings.Contains(text, id) {
			continue
		}
		var got struct{ Network network }
		if err := d.get(v.Context(), v, "/network/v2.0/networks/"+url.PathEscape(id), &got); err == nil && got.Network.Name != "" {
			text = strings.ReplaceAll(text, id, got.Network.Name)
		}
	}
	return text
}

// judge puts the verdicts beside the sites.
func (p *picker) judge(open decision, err error) {
	for i := range p.Sites {
		for j := range open.Verdicts {
			if open.Verdicts[j].Site == p.Sites[i].Name {
				p.Sites[i].Verdict = &open.Verdicts[j]
			}
		}
		p.Sites[i].Best = open.Site == p.Sites[i].Name
	}
	if p.Free, p.FreeBad = open.refusal(err); !p.FreeBad {
		p.Free = fmt.Sprintf("would choose %s: %s", open.Site, rules[open.Rule])
	}
}

// say sums up what would become of the choice.
func (p *picker) say(c choice, chosen decision, err error) {
	if c.zone() == "" {
		p.Bad = p.FreeBad // the first choice says the rest
		return
	}
	if p.Said, p.Bad = chosen.refusal(err); !p.Bad {
		p.Said = "The instance goes to " + chosen.Site
		if c.Zone != "" && c.Zone != c.Site {
			p.Said += ", zone " + c.Zone
		}
	}
}

// showPlacement answers each change of the form with the picker as it is then.
func (d *dashboard) showPlacement(w http.ResponseWriter, v *visit) error {
	sites, err := d.sites(v.Context(), v)
	if err != nil {
		return err
	}
	pick, err := d.picker(v, sites, typed(v))
	if err != nil {
		return err
	}
	return d.render(w, v, http.StatusOK, "launch", "picker", page{Data: pick})
}
