package web

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
)

// visit is one request of one browser.
type visit struct {
	*http.Request
	session *session
}

// handler answers a visit, or returns why not.
type handler func(w http.ResponseWriter, v *visit) error

// What a handler may return beside the API's errors.
var (
	errSignIn    = errors.New("nobody is signed in")
	errNoProject = errors.New("no project is chosen")
	errStaleForm = errors.New("the form is not of this session")
	errNoPage    = errors.New("there is no such page")
	errBadForm   = errors.New("the form cannot be read")
)

// public answers everybody.
func (d *dashboard) public(h handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s, _ := d.session(r)
		v := &visit{r.WithContext(withRemoteAddr(r.Context(), r.RemoteAddr)), s}
		err := d.checkForm(v)
		if err == nil {
			err = h(w, v)
		}
		if err != nil {
			d.fail(w, v, err)
		}
	})
}

// known answers who has signed in.
func (d *dashboard) known(h handler) http.Handler {
	return d.public(func(w http.ResponseWriter, v *visit) error {
		if !v.session.SignedIn() {
			return errSignIn
		}
		return h(w, v)
	})
}

// inProject answers who has signed in and chosen a project.
func (d *dashboard) inProject(h handler) http.Handler {
	return d.known(func(w http.ResponseWriter, v *visit) error {
		if v.session.ProjectID == "" {
			return errNoProject
		}
		return h(w, v)
	})
}

// checkForm refuses what changes something and does not come from a form of the session.
func (d *dashboard) checkForm(v *visit) error {
	if v.Method == http.MethodGet || v.Method == http.MethodHead {
		return nil
	}
	if err := v.ParseForm(); err != nil {
		return errBadForm
	}
	if !v.session.ours(v.Request) {
		if _, err := v.Cookie(cookieName); err != nil {
			return errSignIn // the cookie is gone: a form left open over night
		}
		return errStaleForm
	}
	return nil
}

// live reports whether htmx asks, for a part of a page.
func (v *visit) live() bool { return v.Header.Get("HX-Request") == "true" }

// get reads from the API as the visit's user.
func (d *dashboard) get(ctx context.Context, v *visit, path string, out any) error {
	return d.api.get(ctx, v.session.Token, path, out)
}

// goTo sends the browser to another page, whoever asks.
func goTo(w http.ResponseWriter, v *visit, path string) {
	if v.live() {
		w.Header().Set("HX-Redirect", path)
		w.WriteHeader(http.StatusOK)
		return
	}
	http.Redirect(w, v.Request, path, http.StatusSeeOther)
}

// fail answers an error: with the sign-in page where that helps, else with the API's own words.
func (d *dashboard) fail(w http.ResponseWriter, v *visit, err error) {
	switch {
	case errors.Is(err, context.Canceled):
		return // the browser went away
	case errors.Is(err, errSignIn), statusOf(err) == http.StatusUnauthorized:
		d.drop(w, v.Request)
		goTo(w, v, Base+"/signin?"+url.Values{"next": {v.comeBack()}, "ended": {"1"}}.Encode())
		return
	case errors.Is(err, errNoProject):
		goTo(w, v, Base+"/projects?"+url.Values{"next": {v.comeBack()}}.Encode())
		return
	}
	problem := d.problem(v, err)
	if v.live() {
		w.Header().Set("HX-Retarget", "#notices")
		w.Header().Set("HX-Reswap", "innerHTML")
		err = d.render(w, v, problem.Status, "problem", "notice", page{Data: problem})
	} else {
		err = d.show(w, v, problem.Status, "problem", page{Title: problem.Title, Data: problem})
	}
	if err != nil {
		d.cfg.Log.ErrorContext(v.Context(), "page was not rendered", "path", v.URL.Path, "err", err)
		http.Error(w, "The page could not be shown.", http.StatusInternalServerError)
	}
}

// problem is what the page of an error says.
type problem struct {
	Status    int
	Title     string
	Message   string
	RequestID string
}

func (d *dashboard) problem(v *visit, err error) problem {
	var answer *apiError
	switch {
	case errors.Is(err, errNoPage):
		return problem{Status: http.StatusNotFound, Title: "Page not found", Message: "There is nothing at this address."}
	case errors.Is(err, errStaleForm):
		return problem{Status: http.StatusForbidden, Title: "The form is out of date", Message: "It was made before you signed in, or by another page. Open it again and repeat what you did."}
	case errors.Is(err, errBadForm):
		return problem{Status: http.StatusBadRequest, Title: "The form could not be read", Message: "It is larger than a form may be, or broken. Nothing was changed."}
	case errors.As(err, &answer):
		title := map[int]string{http.StatusForbidden: "Not allowed", http.StatusNotFound: "Not found", http.StatusConflict: "Not possible now"}[answer.Status]
		if title == "" {
			title = http.StatusText(answer.Status)
		}
		return problem{answer.Status, title, answer.Message, answer.RequestID}
	}
	d.cfg.Log.ErrorContext(v.Context(), "the API was not reached", "path", v.URL.Path, "err", err)
	return problem{Status: http.StatusBadGateway, Title: "The API did not answer", Message: "Headwater's API gave no usable answer. Try again in a moment; the operator's log has the reason."}
}

// comeBack is the page to return to after signing in: the visit's own, or for a form the page that it stands on.
func (v *visit) comeBack() string {
	if v.Method == http.MethodGet && !v.live() {
		return local(v.URL.RequestURI())
	}
	from, err := url.Parse(v.Header.Get("HX-Current-URL"))
	if err != nil || from.Path == "" {
		if from, err = url.Parse(v.Referer()); err != nil {
			return Base
		}
	}
	return local(from.RequestURI())
}

// local returns path when it is a page of the dashboard that can be returned to, else its first page: what a
// stranger puts into a link must not lead elsewhere.
func local(path string) string {
	u, err := url.Parse(path)
	if err != nil || u.IsAbs() || u.Host != "" || !strings.HasPrefix(u.Path, Base+"/") || strings.Contains(path, "\\") ||
		strings.HasPrefix(u.Path, Base+"/sign") || strings.HasPrefix(u.Path, Base+"/projects") {
		return Base
	}
	return u.RequestURI()
}
