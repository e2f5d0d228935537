// Package auth says who asks: it reads the token of a request, has it
// validated, and answers whether a rule lets its owner act. It renders nothing:
// what it refuses is a fault, which the server spells in the dialect of the service asked.
package auth

import (
	"net"
	"net/http"
	"strings"

	"github.com/labstack/echo/v4"

	"github.com/headwater-cloud/headwater/cascade/identity"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// TokenHeader is the request header that carries the token.
const TokenHeader = "X-Auth-Token"

// Authenticator makes the middleware.
type Authenticator struct {
	provider identity.Provider
	policy   *Policy
}

// New returns an Authenticator that trusts the provider and judges by the policy.
func New(provider identity.Provider, policy *Policy) *Authenticator {
	return &Authenticator{provider: provider, policy: policy}
}

// Project is middleware that lets in tokens scoped to a project, as every
// service but identity wants: who acts without a project could make things that nobody owns.
// No token or an invalid one is fault.Unauthorized, another scope fault.Forbidden.
func (a *Authenticator) Project(next echo.HandlerFunc) echo.HandlerFunc {
	return a.Any(func(c echo.Context) error {
		if From(c).caller.ProjectID == "" {
			return fault.New(fault.Forbidden, "top/auth.Project", "The token is not scoped to a project.")
		}
		return next(c)
	})
}

// Any is middleware that lets in every valid token.
func (a *Authenticator) Any(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		if _, err := a.Authenticate(c); err != nil {
			return err
		}
		return next(c)
	}
}

// Optional is middleware that lets everybody in: with a valid token as its owner, else as no one.
func (a *Authenticator) Optional(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		if _, err := a.Authenticate(c); err != nil && !fault.Is(err, fault.Unauthorized) {
			return err
		}
		return next(c)
	}
}

// Authenticate validates the request's token and remembers whose it is.
func (a *Authenticator) Authenticate(c echo.Context) (*Who, error) {
	text := c.Request().Header.Get(TokenHeader)
	if text == "" {
		return nil, fault.New(fault.Unauthorized, "top/auth", "The request you have made requires authentication.")
	}
	token, err := a.provider.Validate(c.Request().Context(), text)
	if err != nil {
		return nil, err
	}
	return a.Enter(c, token, ident.Secret(text)), nil
}

// Caller is Authenticate for those who want to know who asks and nothing else: the operator API.
func (a *Authenticator) Caller(c echo.Context) (sites.Caller, error) {
	who, err := a.Authenticate(c)
	if err != nil {
		return sites.Caller{}, err
	}
	return who.Caller(), nil
}

// Enter remembers the owner of a token that was validated or issued already.
func (a *Authenticator) Enter(c echo.Context, token *identity.Token, text ident.Secret) *Who {
	who := &Who{token: token, text: text, policy: a.policy, caller: sites.Caller{
		UserID: token.User.ID, UserName: token.User.Name, DomainID: token.User.DomainID, ProjectID: token.ProjectID(),
		Roles: token.RoleNames(), RequestID: ident.RequestID(c.Request().Context()), RemoteAddr: RemoteAddr(c), Pin: Pin(c),
	}}
	c.Set(whoKey, who)
	return who
}

// The keys of the echo context that this package alone reads and writes.
const (
	whoKey = "headwater.auth.who"
	pinKey = "headwater.auth.pin"
)

// WithPin remembers the site that the request's path named.
func WithPin(c echo.Context, site ident.SiteID) { c.Set(pinKey, site) }

// Pin returns the site that the request's path named, or "".
func Pin(c echo.Context) ident.SiteID {
	site, _ := c.Get(pinKey).(ident.SiteID)
	return site
}

// Peek returns who asks, or nil when the request has no valid token or was not looked at yet.
func Peek(c echo.Context) *Who {
	who, _ := c.Get(whoKey).(*Who)
	return who
}

// From returns who asks. Without the middleware, which is our bug, it is somebody who may do nothing.
func From(c echo.Context) *Who {
	if who := Peek(c); who != nil {
		return who
	}
	return &Who{token: &identity.Token{}}
}

// Who is the owner of the request's token.
type Who struct {
	token  *identity.Token
	text   ident.Secret
	policy *Policy
	caller sites.Caller
}

// Caller returns what lower layers are told. Its slices are shared: nobody changes them.
func (w *Who) Caller() sites.Caller { return w.caller }

// Token returns what the token stands for; it is shared: nobody changes it.
func (w *Who) Token() *identity.Token { return w.token }

// Secret returns the token itself, for the identity service only.
func (w *Who) Secret() ident.Secret { return w.text }

// Require returns nil when the caller may do what the rule names to what
// belongs to the project; "" names no owner. Otherwise it is fault.Forbidden. A
// rule that no table has is our bug: fault.Internal.
func (w *Who) Require(rule, projectID string) error {
	if w.policy == nil {
		return fault.New(fault.Internal, "top/auth.Require", "no policy: the route lacks the middleware")
	}
	return w.policy.check(w.caller, rule, projectID)
}

// RemoteAddr returns the address of the client without its port: the
// connection's own, unless the server was told which proxies to believe (echo's IPExtractor).
func RemoteAddr(c echo.Context) string {
	if c.Echo() != nil && c.Echo().IPExtractor != nil {
		return c.RealIP()
	}
	host, _, err := net.SplitHostPort(c.Request().RemoteAddr)
	if err != nil {
		return c.Request().RemoteAddr
	}
	return host
}

// BaseURL returns the address at which the client reached Top, without a
// trailing slash: the configured one, else what a proxy said (X-Forwarded-*), else the request's own.
func BaseURL(c echo.Context, public string) string {
	if public != "" {
		return strings.TrimRight(public, "/")
	}
	r := c.Request()
	host := firstOf(r.Header.Get("X-Forwarded-Host"))
	if !hostForm(host) {
		host = r.Host
	}
	prefix := strings.TrimRight(firstOf(r.Header.Get("X-Forwarded-Prefix")), "/")
	if prefix != "" && (prefix[0] != '/' || !urlText(prefix)) {
		prefix = ""
	}
	return scheme(c) + "://" + host + prefix
}

func scheme(c echo.Context) string {
	switch p := firstOf(c.Request().Header.Get("X-Forwarded-Proto")); {
	case p == "http" || p == "https":
		return p
	case c.IsTLS():
		return "https"
	}
	return "http"
}

// firstOf returns the first of a comma-separated list: the outermost proxy's.
func firstOf(list string) string {
	first, _, _ := strings.Cut(list, ",")
	return strings.TrimSpace(first)
}

func hostForm(host string) bool { return host != "" && urlText(host) && !strings.Contains(host, "/") }

// urlText reports whether the text cannot break out of a URL or of a header in quotes.
func urlText(s string) bool {
	return len(s) <= 255 && strings.IndexFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-._~:/[]%", r))
	}) < 0
}

// Safe reports whether a request of the method changes nothing.
func Safe(method string) bool {
	return method == http.MethodGet || method == http.MethodHead || method == http.MethodOptions
}
