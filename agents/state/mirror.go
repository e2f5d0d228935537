package state

import "github.com/headwater-cloud/headwater/agents/api"

// Mirror has packets of a port copied to another.
type Mirror struct {
	ID      string
	Key     uint32 // of the ports' keys
	Project string
	Port    string
	Target  string // never Port
	In, Out bool   // what Port gets, what it sends; at least one of them
}

// Ref names the object.
func (o *Mirror) Ref() Ref { return Ref{KindMirror, o.ID} }

func (p *parser) mirror(m *api.Mirror) *Mirror {
	out := &Mirror{ID: p.id("id", m.GetId()), Key: p.key(m.GetKey()), Project: m.GetProject(), Port: p.id("port", m.GetPort()), Target: p.id("target", m.GetTarget()),
		In: m.GetDirection() != api.Mirror_OUT, Out: m.GetDirection() != api.Mirror_IN}
	p.want(out.Port != out.Target, "target", "port %s would get its own packets", out.Target)
	p.want(m.GetDirection() <= api.Mirror_OUT, "direction", "%d is not known here", m.GetDirection())
	return out
}
