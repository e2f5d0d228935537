package emulator

import (
	"crypto/subtle"
	"encoding/json"
	"net/http"
	"strconv"
	"time"
)

// serveControl answers the API below /_emulator/; see the package comment for its routes.
func (c *Cloud) serveControl(w http.ResponseWriter, r *http.Request) {
	want := c.cfg.ControlToken.Reveal()
	if want == "" {
		http.NotFound(w, r)
		return
	}
	if subtle.ConstantTimeCompare([]byte(r.Header.Get("X-Emulator-Token")), []byte(want)) != 1 {
		http.Error(w, `{"error":"X-Emulator-Token is missing or wrong"}`, http.StatusUnauthorized)
		return
	}
	mux := http.NewServeMux()
	c.controlRoutes(mux)
	mux.ServeHTTP(w, r)
}

type controlFunc func(r *http.Request) (any, error)

func (c *Cloud) controlRoutes(mux *http.ServeMux) {
	h := func(pattern string, f controlFunc) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			v, err := f(r)
			w.Header().Set("Content-Type", "application/json")
			if err != nil {
				w.WriteHeader(http.StatusBadRequest)
				v = map[string]string{"error": err.Error()}
			}
			_ = json.NewEncoder(w).Encode(v) // the client has gone: nobody is left to tell
		})
	}
	done := map[string]bool{"done": true}
	h("GET /_emulator/faults", func(*http.Request) (any, error) { return map[string]any{"faults": c.faults.List()}, nil })
	h("POST /_emulator/faults", func(r *http.Request) (any, error) {
		var f Fault
		if err := json.NewDecoder(r.Body).Decode(&f); err != nil {
			return nil, err
		}
		id, err := c.faults.Add(f)
		return map[string]int64{"id": id}, err
	})
	h("DELETE /_emulator/faults", func(*http.Request) (any, error) { c.faults.Clear(); return done, nil })
	byID := func(f func(int64)) controlFunc {
		return func(r *http.Request) (any, error) {
			id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
			if err == nil {
				f(id)
			}
			return done, err
		}
	}
	h("DELETE /_emulator/faults/{id}", byID(c.faults.Remove))
	h("POST /_emulator/faults/{id}/release", byID(c.faults.Release))
	h("PUT /_emulator/outage", func(r *http.Request) (any, error) {
		var in struct{ Services []string }
		err := json.NewDecoder(r.Body).Decode(&in)
		if err == nil {
			c.faults.Outage(in.Services...)
		}
		return done, err
	})
	h("DELETE /_emulator/outage", func(*http.Request) (any, error) { c.faults.Recover(); return done, nil })
	c.roleRoutes(h)
	h("GET /_emulator/calls", func(*http.Request) (any, error) { return map[string]any{"calls": c.Calls()}, nil })
	h("DELETE /_emulator/calls", func(*http.Request) (any, error) { c.ForgetCalls(); return done, nil })
	h("GET /_emulator/census", func(*http.Request) (any, error) { return map[string]any{"census": c.Census()}, nil })
	h("GET /_emulator/everything", func(*http.Request) (any, error) { return map[string]any{"resources": c.Everything()}, nil })
	h("GET /_emulator/servers", func(*http.Request) (any, error) { return map[string]any{"servers": c.Servers()}, nil })
	h("POST /_emulator/seed", func(r *http.Request) (any, error) {
		var s Seeding
		if err := json.NewDecoder(r.Body).Decode(&s); err != nil {
			return nil, err
		}
		err := c.Seed(s)
		return map[string]int{"servers": s.Servers}, err
	})
}

func (c *Cloud) roleRoutes(h func(string, controlFunc)) {
	done := map[string]bool{"done": true}
	roles := func(f func(user string, roles []string)) controlFunc {
		return func(r *http.Request) (any, error) {
			var in struct {
				User  string
				Roles []string
			}
			err := json.NewDecoder(r.Body).Decode(&in)
			if err == nil {
				f(in.User, in.Roles)
			}
			return done, err
		}
	}
	h("PUT /_emulator/roles", roles(func(user string, list []string) { c.faults.LoseRoles(user, list...) }))
	h("DELETE /_emulator/roles", roles(func(user string, _ []string) { c.faults.RestoreRoles(user) }))
	h("PUT /_emulator/clock", func(r *http.Request) (any, error) {
		var in struct{ Skew string }
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
			return nil, err
		}
		by, err := time.ParseDuration(in.Skew)
		if err == nil {
			c.faults.Skew(by)
		}
		return done, err
	})
}
