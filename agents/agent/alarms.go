package agent

import (
	"fmt"

	"github.com/headwater-cloud/headwater/agents/api"
)

// Codes of alarms.
const (
	alarmRivals    = "port-claimed-twice"
	alarmInterface = "interface-error"
	alarmZones     = "no-zone"
	alarmForeign   = "foreign-flow"
	alarmRefused   = "flow-refused"
	alarmClash     = "flow-clash"
	alarmBridge    = "bridge-missing"
	alarmTunnel    = "tunnel-error"
	alarmHost      = "host-unknown"
	alarmSource    = "tunnel-source"
	alarmFloating  = "floating-ip-refused"
	alarmSwitch    = "switch-unreachable"
	alarmDatabase  = "database-not-written"
	alarmState     = "state-file"
	alarmMembers   = "not-a-member"
	alarmAnnounce  = "not-announced"
	alarmKeys      = "gossip-keys"
	alarmMet       = "members-not-kept"

	alarmConnections = "connections-full"
	alarmUnbounded   = "connections-unbounded"
)

type alarmKey struct{ code, object string }

// alarms are those that stand, and those that have changed since they were last told.
type alarms struct {
	standing map[alarmKey]string
	changed  map[alarmKey]struct{}
}

func newAlarms() *alarms {
	return &alarms{standing: map[alarmKey]string{}, changed: map[alarmKey]struct{}{}}
}

// set raises an alarm or ends it, and says whether that is news.
func (a *alarms) set(on bool, code, object, format string, args ...any) bool {
	k := alarmKey{code, object}
	was, stands := a.standing[k]
	if !on {
		if stands {
			delete(a.standing, k)
			a.changed[k] = struct{}{}
		}
		return stands
	}
	text := fmt.Sprintf(format, args...)
	if stands && text == was {
		return false
	}
	a.standing[k] = text
	a.changed[k] = struct{}{}
	return true
}

func (a *alarms) end(code, object string) { a.set(false, code, object, "") }

// told are the alarms that have changed, or all that stand.
func (a *alarms) told(all bool) []*api.Alarm {
	var out []*api.Alarm
	keys := a.changed
	if all {
		keys = map[alarmKey]struct{}{}
		for k := range a.standing {
			keys[k] = struct{}{}
		}
	}
	for k := range keys {
		text, stands := a.standing[k]
		out = append(out, &api.Alarm{Code: k.code, Object: k.object, Text: text, Over: !stands})
	}
	if !all {
		a.changed = map[alarmKey]struct{}{}
	}
	return out
}
