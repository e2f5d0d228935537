package web

import (
	"cmp"
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// signInForm is the sign-in page.
type signInForm struct {
	User, Domain string // as they were typed
	Next         string
	Ended        bool // the session ended by itself
	Problem      string
}

// projectChoice is the page that asks for the project.
type projectChoice struct {
	Projects []project
	Next     string
	Problem  string
}

type project struct {
	ID          string `json:"id"`
	Name        string `json:"name"`
	DomainID    string `json:"domain_id"`
	Description string `json:"description"`
	Enabled     bool   `json:"enabled"`
}

// tokenBody is the part of a token's description that is used.
type tokenBody struct {
	Token struct {
		Expires time.Time `json:"expires_at"`
		User    struct {
			Name   string `json:"name"`
			Domain struct {
				Name string `json:"name"`
			} `json:"domain"`
		} `json:"user"`
		Project *struct {
			ID   string `json:"id"`
			Name string `json:"name"`
		} `json:"project"`
		Roles []struct {
			Name string `json:"name"`
		} `json:"roles"`
	} `json:"token"`
}

// object is a JSON object that is sent.
type object = map[string]any

// home sends everybody where his work is.
func (d *dashboard) home(w http.ResponseWriter, v *visit) error {
	if !v.session.SignedIn() {
		goTo(w, v, Base+"/signin")
		return nil
	}
	goTo(w, v, Base+"/instances")
	return nil
}

// nothing answers addresses without a page.
func (d *dashboard) nothing(http.ResponseWriter, *visit) error { return errNoPage }

func (d *dashboard) showSignIn(w http.ResponseWriter, v *visit) error {
	if v.session.SignedIn() {
		goTo(w, v, local(v.FormValue("next")))
		return nil
	}
	return d.signInPage(w, v, http.StatusOK, signInForm{Next: local(v.FormValue("next")), Ended: v.FormValue("ended") != ""})
}

// signInPage shows the form with the secret of a session of nobody, which the browser keeps until the form comes back.
func (d *dashboard) signInPage(w http.ResponseWriter, v *visit, status int, f signInForm) error {
	if err := d.keep(w, v.Request, v.session); err != nil {
		return err
	}
	return d.show(w, v, status, "signin", page{Title: "Sign in", Data: f})
}

// signIn logs in without a scope, then takes the person's only project, or asks which.
func (d *dashboard) signIn(w http.ResponseWriter, v *visit) error {
	f := signInForm{User: strings.TrimSpace(v.PostFormValue("user")), Domain: strings.TrimSpace(v.PostFormValue("domain")), Next: local(v.PostFormValue("next"))}
	body := object{"methods": []string{"password"}, "password": object{"user": object{
		"name": f.User, "password": v.PostFormValue("password"), "domain": object{"name": cmp.Or(f.Domain, "Default")},
	}}}
	s, err := d.login(v.Context(), body, "unscoped")
	if statusOf(err) != 0 {
		f.Problem = "The user, the password or the domain is wrong."
		if statusOf(err) != http.StatusUnauthorized {
			f.Problem = err.(*apiError).Message //nolint:errorlint // login wraps nothing
		}
		return d.signInPage(w, v, http.StatusUnprocessableEntity, f)
	}
	if err != nil {
		return err
	}
	v.session = s
	list, err := d.projects(v)
	if err != nil {
		return err
	}
	if len(list) == 1 {
		if v.session, err = d.scope(v.Context(), s, list[0].ID); err != nil {
			return err
		}
	}
	if err := d.keep(w, v.Request, v.session); err != nil {
		return err
	}
	if len(list) != 1 {
		f.Next = Base + "/projects?" + url.Values{"next": {f.Next}}.Encode()
	}
	http.Redirect(w, v.Request, f.Next, http.StatusSeeOther)
	return nil
}

// login asks the API for a token and makes a fresh session of it, with a fresh secret.
func (d *dashboard) login(ctx context.Context, identity object, scope any) (*session, error) {
	var got tokenBody
	header, err := d.api.call(ctx, "", http.MethodPost, "/identity/v3/auth/tokens", object{"auth": object{"identity": identity, "scope": scope}}, &got)
	if err != nil {
		return nil, err
	}
	s := newSession()
	t := got.Token
	s.Token, s.Expires, s.User, s.Domain = header.Get("X-Subject-Token"), t.Expires, t.User.Name, t.User.Domain.Name
	if t.Project != nil {
		s.ProjectID, s.Project = t.Project.ID, t.Project.Name
	}
	for _, r := range t.Roles {
		s.Operator = s.Operator || r.Name == "admin"
	}
	return s, nil
}

// scope exchanges a session's token for one of a project, and revokes the first.
func (d *dashboard) scope(ctx context.Context, old *session, projectID string) (*session, error) {
	s, err := d.login(ctx, object{"methods": []string{"token"}, "token": object{"id": old.Token}}, object{"project": object{"id": projectID}})
	if err != nil {
		return nil, err
	}
	d.revoke(ctx, old)
	return s, nil
}

// revoke ends a token. When that fails it ends by itself at its time, and nobody has it.
func (d *dashboard) revoke(ctx context.Context, s *session) {
	if err := d.api.revoke(ctx, s.Token); err != nil {
		d.cfg.Log.WarnContext(ctx, "token was not revoked", "err", err)
	}
}

// projects are those that the person may work in, by name.
func (d *dashboard) projects(v *visit) ([]project, error) {
	var got struct {
		Projects []project `json:"projects"`
	}
	if err := d.get(v.Context(), v, "/identity/v3/auth/projects", &got); err != nil {
		return nil, err
	}
	list := slices.DeleteFunc(got.Projects, func(p project) bool { return !p.Enabled })
	slices.SortFunc(list, func(a, b project) int { return cmp.Compare(a.Name, b.Name) })
	return list, nil
}

func (d *dashboard) showProjects(w http.ResponseWriter, v *visit) error {
	return d.projectPage(w, v, http.StatusOK, "")
}

func (d *dashboard) projectPage(w http.ResponseWriter, v *visit, status int, problem string) error {
	list, err := d.projects(v)
	if err != nil {
		return err
	}
	return d.show(w, v, status, "projects", page{Title: "Choose a project", Data: projectChoice{list, local(v.FormValue("next")), problem}})
}

// chooseProject moves the session to another project.
func (d *dashboard) chooseProject(w http.ResponseWriter, v *visit) error {
	s, err := d.scope(v.Context(), v.session, v.PostFormValue("project"))
	switch {
	case statusOf(err) == http.StatusUnauthorized && d.alive(v):
		return d.projectPage(w, v, http.StatusUnprocessableEntity, "You cannot work in that project.")
	case err != nil:
		return err
	}
	if err := d.keep(w, v.Request, s); err != nil {
		return err
	}
	http.Redirect(w, v.Request, local(v.PostFormValue("next")), http.StatusSeeOther)
	return nil
}

// alive reports whether the session's token is still good: Keystone answers 401 to a wrong scope as well.
func (d *dashboard) alive(v *visit) bool {
	_, err := d.projects(v)
	return err == nil
}

func (d *dashboard) signOut(w http.ResponseWriter, v *visit) error {
	if v.session.SignedIn() {
		d.revoke(v.Context(), v.session)
	}
	d.drop(w, v.Request)
	http.Redirect(w, v.Request, Base+"/signin", http.StatusSeeOther)
	return nil
}
