package placement

import (
	"fmt"

	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// Explanation is a decision, or why there is none, with a word on every site in either case.
type Explanation struct {
	Site       ident.SiteID `json:"site" doc:"Where the server would go; empty when no site can take it."`
	BottomZone string       `json:"bottom_zone,omitempty" doc:"The site's own zone; empty lets the site choose."`
	Rule       string       `json:"rule" doc:"What decided: zone, region, reference, home or score; empty when nothing did."`
	Verdicts   []Verdict    `json:"verdicts" doc:"What was decided of each site, the best first."`
	Refused    *Refusal     `json:"refused,omitempty" doc:"Why a create would be refused now; absent when a site can take the server."`
}

// Refusal is what a create would be told.
type Refusal struct {
	Kind    string `json:"kind" doc:"The fault's kind: unavailable (it may work later) or conflict (it will not)."`
	Message string `json:"message" doc:"The sentence that a create would be refused with."`
}

// Explained makes an answer of what Explain returned: that no site can take the request is an answer too. All other errors are returned.
func Explained(d Decision, err error) (Explanation, error) {
	e := Explanation{Site: d.Site, BottomZone: d.BottomZone, Rule: d.Rule, Verdicts: d.Verdicts}
	if e.Verdicts == nil {
		e.Verdicts = []Verdict{}
	}
	switch kind := fault.KindOf(err); {
	case err == nil:
	case kind == fault.Unavailable || kind == fault.Conflict:
		e.Refused = &Refusal{Kind: kind.String(), Message: fault.Message(err)}
	default:
		return Explanation{}, err
	}
	return e, nil
}

// torn are the verdicts on a request whose own demands name different sites: each site is told what asks for another one.
// It is nil for any other error.
func (ask Ask) torn(all []Site, err error) []Verdict {
	if !fault.Is(err, fault.Conflict) {
		return nil
	}
	out := make([]Verdict, 0, len(all))
	for _, s := range all {
		v := Verdict{Site: s.Name, Reasons: []string{}}
		for _, d := range ask.demands() {
			if d.site != "" && d.site != s.Name {
				v.Reasons = append(v.Reasons, fmt.Sprintf("%s asks for site %s", d.because, d.site))
			}
		}
		for _, t := range ask.Ties {
			if !t.at(s.Name) {
				v.Reasons = append(v.Reasons, fmt.Sprintf("%s %s is not at the site", t.Kind, t.ID))
			}
		}
		out = append(out, v)
	}
	return out
}

// elsewhere says what in the request asks for the one site that it may go to.
func (ask Ask) elsewhere(target ident.SiteID) string {
	for _, d := range ask.demands() {
		if d.site == target {
			return fmt.Sprintf("%s asks for site %s", d.because, target)
		}
	}
	return fmt.Sprintf("the request asks for site %s", target)
}

// demand is one thing in a request that names a site.
type demand struct {
	site          ident.SiteID
	rule, because string
}
