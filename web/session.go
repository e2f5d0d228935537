package web

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// session is all that the dashboard knows of a browser. It lies sealed in the
// browser's cookie; nothing is kept here.
type session struct {
	// CSRF is the secret that every form of the session carries.
	CSRF string `json:"csrf"`
	// Token is the API's; "" before signing in.
	Token   string    `json:"token,omitempty"`
	Expires time.Time `json:"expires,omitzero"`
	User    string    `json:"user,omitempty"`
	Domain  string    `json:"domain,omitempty"`
	// Project is where the token acts; "" until one is chosen.
	ProjectID string `json:"project_id,omitempty"`
	Project   string `json:"project,omitempty"`
	Operator  bool   `json:"operator,omitempty"`
}

// SignedIn reports whether somebody has proved who he is.
func (s *session) SignedIn() bool { return s.Token != "" }

// The cookie, and what its box is sealed for.
const (
	cookieName = "headwater_session"
	sealedUse  = "web session"
)

// newSession returns a session of nobody.
func newSession() *session { return &session{CSRF: rand.Text()} }

// session returns the request's session; nobody's when there is none that opens and lasts.
func (d *dashboard) session(r *http.Request) (s *session, kept bool) {
	cookie, err := r.Cookie(cookieName)
	if err != nil {
		return newSession(), false
	}
	s, err = d.open(cookie.Value)
	if err != nil {
		d.cfg.Log.DebugContext(r.Context(), "session cookie was not opened", "err", err)
		return newSession(), false
	}
	if s.SignedIn() && !d.cfg.Now().Before(s.Expires) {
		return newSession(), false
	}
	return s, true
}

func (d *dashboard) open(value string) (*session, error) {
	id, text, ok := strings.Cut(value, ".")
	if !ok {
		return nil, errors.New("the cookie has no key id")
	}
	box, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return nil, fmt.Errorf("decode cookie: %w", err)
	}
	plain, err := d.cfg.Seal.Open(id, box, sealedUse)
	if err != nil {
		return nil, err
	}
	var s session
	if err := json.Unmarshal(plain, &s); err != nil {
		return nil, fmt.Errorf("decode session: %w", err)
	}
	if s.CSRF == "" {
		return nil, errors.New("the session has no secret")
	}
	return &s, nil
}

// keep gives the browser the session. Before any of the body is written.
func (d *dashboard) keep(w http.ResponseWriter, r *http.Request, s *session) error {
	plain, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("encode session: %w", err)
	}
	id, box, err := d.cfg.Seal.Seal(plain, sealedUse)
	if err != nil {
		return fmt.Errorf("seal session: %w", err)
	}
	http.SetCookie(w, d.cookie(r, id+"."+base64.RawURLEncoding.EncodeToString(box), 0))
	return nil
}

// cookie lasts as long as the browser, and has no Domain, so that only this host sees it.
func (d *dashboard) cookie(r *http.Request, value string, maxAge int) *http.Cookie {
	return &http.Cookie{
		Name: cookieName, Value: value, Path: Base, MaxAge: maxAge, HttpOnly: true, SameSite: http.SameSiteStrictMode,
		Secure: d.cfg.Secure || r.TLS != nil,
	}
}

// drop ends the session in the browser.
func (d *dashboard) drop(w http.ResponseWriter, r *http.Request) {
	http.SetCookie(w, d.cookie(r, "", -1))
}

// csrfField is the form's member that carries the session's secret.
const csrfField = "csrf"

// ours reports whether the form was made by a page of this session.
func (s *session) ours(r *http.Request) bool {
	return subtle.ConstantTimeCompare([]byte(r.PostFormValue(csrfField)), []byte(s.CSRF)) == 1
}
