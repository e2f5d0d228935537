package sites

import (
	"context"

	"github.com/headwater-cloud/headwater/sites/ident"
)

// FlavorMaker is what an administrator's adaptor can do besides: make a flavor
// that a site lacks.
type FlavorMaker interface {
	// EnsureFlavor makes, or finds by its name, a flavor of the given size and extra specs, and, when it is not
	// public, gives the projects access to it. A flavor of that name with another size is fault.Conflict.
	EnsureFlavor(ctx context.Context, f FlavorInfo, projects ...string) (ident.BottomID, error)
}

// Prover is what an adaptor can do besides: tell as whom it acts now.
type Prover interface {
	// Prove logs in again and returns as whom the adaptor acts from here on: a token that was out may say nothing of
	// a role that was lost since.
	Prove(ctx context.Context) (Account, error)
}

// As finds an optional power (ProjectMaker, FlavorMaker, Prover) of an adaptor, also
// when decorators lie around it.
//
// A decorator that can keep its promise for a power as well has a method
// Powers() []any that returns the decorated powers; any other power is reached
// through its method Unwrap() Adaptor, past the decorator.
func As[T any](a Adaptor) (T, bool) {
	for a != nil {
		if t, ok := a.(T); ok {
			return t, true
		}
		if p, ok := a.(interface{ Powers() []any }); ok {
			for _, power := range p.Powers() {
				if t, ok := power.(T); ok {
					return t, true
				}
			}
		}
		inner, ok := a.(interface{ Unwrap() Adaptor })
		if !ok {
			break
		}
		a = inner.Unwrap()
	}
	var none T
	return none, false
}
