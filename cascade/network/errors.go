package network

import (
	"fmt"

	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
)

// typedError is a fault with the name of the exception that Neutron raises.
type typedError struct {
	name  string
	fault *fault.Error
}

// Error returns the fault's text.
func (e *typedError) Error() string { return e.fault.Error() }

// NeutronType names the exception.
func (e *typedError) NeutronType() string { return e.name }

// Unwrap returns the fault.
func (e *typedError) Unwrap() error { return e.fault }

// typed returns a fault for the tenant under the name of Neutron's exception (neutron_lib/exceptions).
func typed(kind fault.Kind, name, format string, args ...any) error {
	return &typedError{name, fault.New(kind, "cascade/network", format, args...)}
}

func invalid(format string, args ...any) error {
	return typed(fault.BadRequest, "InvalidInput", "Invalid input for operation: %s.", fmt.Sprintf(format, args...))
}

func badRequest(format string, args ...any) error {
	return typed(fault.BadRequest, "BadRequest", format, args...)
}

func conflict(name, format string, args ...any) error {
	return typed(fault.Conflict, name, format, args...)
}

// words are the kinds as Neutron's exceptions name them.
var words = map[sites.Kind]struct{ exception, title string }{
	sites.Network:           {"NetworkNotFound", "Network"},
	sites.Subnet:            {"SubnetNotFound", "Subnet"},
	sites.Port:              {"PortNotFound", "Port"},
	sites.Router:            {"RouterNotFound", "Router"},
	sites.FloatingIP:        {"FloatingIPNotFound", "Floating IP"},
	sites.SecurityGroup:     {"SecurityGroupNotFound", "Security group"},
	sites.SecurityGroupRule: {"SecurityGroupRuleNotFound", "Security group rule"},
}

func title(kind sites.Kind) string { return words[kind].title }

// notFound gives a NotFound the sentence and the name that Neutron has for the kind; other errors pass.
func notFound(kind sites.Kind, id string, err error) error {
	switch {
	case !fault.Is(err, fault.NotFound):
		return err
	case kind == sites.SecurityGroup || kind == sites.SecurityGroupRule:
		return typed(fault.NotFound, words[kind].exception, "%s %s does not exist", title(kind), id)
	default:
		return typed(fault.NotFound, words[kind].exception, "%s %s could not be found.", title(kind), id)
	}
}
