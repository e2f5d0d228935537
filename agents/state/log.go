package state

import (
	"slices"

	"github.com/headwater-cloud/headwater/agents/api"
)

// SecurityLog asks for records of what security groups let begin, or drop.
type SecurityLog struct {
	ID            string
	Project       string
	SecurityGroup string // "": whatever groups a port has
	Port          string // "": all ports that have the group, or without one, all of the project
	Accept, Drop  bool   // at least one of them
}

// Ref names the object.
func (o *SecurityLog) Ref() Ref { return Ref{KindSecurityLog, o.ID} }

// Covers says whether the log is about a port.
func (o *SecurityLog) Covers(port *Port) bool {
	if o.SecurityGroup != "" && !slices.Contains(port.SecurityGroups, o.SecurityGroup) {
		return false
	}
	return o.Port == port.ID || o.Port == "" && (o.SecurityGroup != "" || o.Project != "" && o.Project == port.Project)
}

// list is the one that the log is found by, which no other kind of object is in.
func (o *SecurityLog) list() (List, string) {
	switch {
	case o.Port != "":
		return ListLogsOfPort, o.Port
	case o.SecurityGroup != "":
		return ListLogsOfGroup, o.SecurityGroup
	}
	return ListLogsOfProject, o.Project
}

func (p *parser) securityLog(m *api.SecurityLog) *SecurityLog {
	out := &SecurityLog{ID: p.id("id", m.GetId()), Project: m.GetProject(), SecurityGroup: p.maybeID("security_group", m.GetSecurityGroup()), Port: p.maybeID("port", m.GetPort()),
		Accept: m.GetEvent() != api.SecurityLog_DROP, Drop: m.GetEvent() != api.SecurityLog_ACCEPT}
	p.want(m.GetEvent() <= api.SecurityLog_DROP, "event", "%d is not known here", m.GetEvent())
	p.want(out.Project != "" || out.SecurityGroup != "" || out.Port != "", "project", "a log without a security group and a port is about a project: it names none")
	return out
}
