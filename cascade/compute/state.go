package compute

import (
	"slices"
	"strings"

	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
)

// Nova's vm_states (nova/compute/vm_states.py).
const (
	active    = "active"
	building  = "building"
	paused    = "paused"
	suspended = "suspended"
	stopped   = "stopped"
	rescued   = "rescued"
	resized   = "resized"
	softGone  = "soft-delete"
	erred     = "error"
	shelved   = "shelved"
	offloaded = "shelved_offloaded"
)

// stateMember is where the site shows the vm_state.
const stateMember = "OS-EXT-STS:vm_state"

// VMState returns the vm_state of a server: what its site showed last, or what follows from its life at Top.
func VMState(r *index.Resource) string {
	if r.State == index.Failed {
		return erred
	}
	if s, ok := r.Observed[stateMember].(string); ok && s != "" {
		return s
	}
	if r.Status == "ERROR" {
		return erred
	}
	return building
}

// statuses is Nova's map of vm_state and task_state to status (nova/api/openstack/common.py, _STATE_MAP).
var statuses = map[string]map[string]string{
	active: {
		"": "ACTIVE", "rebooting": "REBOOT", "reboot_pending": "REBOOT", "reboot_started": "REBOOT",
		"rebooting_hard": "HARD_REBOOT", "reboot_pending_hard": "HARD_REBOOT", "reboot_started_hard": "HARD_REBOOT",
		"updating_password": "PASSWORD", "rebuilding": "REBUILD", "rebuild_block_device_mapping": "REBUILD", "rebuild_spawning": "REBUILD",
		"migrating": "MIGRATING", "resize_prep": "RESIZE", "resize_migrating": "RESIZE", "resize_migrated": "RESIZE", "resize_finish": "RESIZE",
	},
	building: {"": "BUILD"},
	stopped: {
		"": "SHUTOFF", "resize_prep": "RESIZE", "resize_migrating": "RESIZE", "resize_migrated": "RESIZE", "resize_finish": "RESIZE",
		"rebuilding": "REBUILD", "rebuild_block_device_mapping": "REBUILD", "rebuild_spawning": "REBUILD",
	},
	resized:   {"": "VERIFY_RESIZE", "resize_reverting": "REVERT_RESIZE"},
	paused:    {"": "PAUSED", "migrating": "MIGRATING"},
	suspended: {"": "SUSPENDED"},
	rescued:   {"": "RESCUE"},
	erred:     {"": "ERROR", "rebuilding": "REBUILD", "rebuild_block_device_mapping": "REBUILD", "rebuild_spawning": "REBUILD"},
	"deleted": {"": "DELETED"},
	softGone:  {"": "SOFT_DELETED"},
	shelved:   {"": "SHELVED"},
	offloaded: {"": "SHELVED_OFFLOADED"},
}

// StatusOf is Nova's status of a vm_state and task_state.
func StatusOf(vm, task string) string {
	tasks, ok := statuses[vm]
	if !ok {
		return "UNKNOWN"
	}
	if s, ok := tasks[task]; ok {
		return s
	}
	return tasks[""]
}

// ValidStatus reports whether some state has the status, in any case of letters.
func ValidStatus(status string) bool {
	for _, tasks := range statuses {
		for _, s := range tasks {
			if strings.EqualFold(s, status) {
				return true
			}
		}
	}
	return false
}

// rule says in which states Nova takes a verb (the decorators of nova/compute/api.py).
type rule struct {
	vm       []string // nil: any
	tasks    []string // "" is none; nil: only none
	anyTask  bool
	unlocked bool // a locked server refuses it to all but administrators
	any      bool // also before the first launch
	task     string
}

// rules by the action's name on the wire, with the task_state that accepting it begins.
var rules = map[string]rule{
	"os-start":            {vm: []string{stopped}, unlocked: true, task: "powering-on"},
	"os-stop":             {vm: []string{active, erred}, unlocked: true, task: "powering-off"},
	"reboot":              {vm: []string{active}, unlocked: true, task: "rebooting"},
	"reboot.hard":         {vm: []string{active, stopped, paused, suspended, erred}, tasks: []string{"", "rebooting", "reboot_pending", "reboot_started", "resuming", "rebooting_hard", "unpausing", "pausing", "suspending"}, unlocked: true, task: "rebooting_hard"},
	"pause":               {vm: []string{active}, unlocked: true, task: "pausing"},
	"unpause":             {vm: []string{paused}, unlocked: true, task: "unpausing"},
	"suspend":             {vm: []string{active}, unlocked: true, task: "suspending"},
	"resume":              {vm: []string{suspended}, unlocked: true, task: "resuming"},
	"shelve":              {vm: []string{active, stopped, paused, suspended}, unlocked: true, task: "shelving"},
	"shelveOffload":       {vm: []string{shelved}, unlocked: true, task: "shelving_offloading"},
	"unshelve":            {vm: []string{shelved, offloaded}, unlocked: true, task: "unshelving"},
	"resize":              {vm: []string{active, stopped}, unlocked: true, task: "resize_prep"},
	"confirmResize":       {vm: []string{resized}, unlocked: true},
	"revertResize":        {vm: []string{resized}, unlocked: true, task: "resize_reverting"},
	"rebuild":             {vm: []string{active, stopped, erred}, unlocked: true, task: "rebuilding"},
	"rescue":              {vm: []string{active, stopped, erred}, unlocked: true, task: "rescuing"},
	"unrescue":            {vm: []string{rescued}, unlocked: true, task: "unrescuing"},
	"createImage":         {vm: []string{active, stopped, paused, suspended}, task: "image_snapshot_pending"},
	"createBackup":        {vm: []string{active, stopped, paused, suspended}, task: "image_backup"},
	"changePassword":      {vm: []string{active}, unlocked: true, task: "updating_password"},
	"restore":             {vm: []string{softGone}, unlocked: true, task: "restoring"},
	"trigger_crash_dump":  {vm: []string{active, paused, rescued, resized, erred}, unlocked: true},
	"delete":              {anyTask: true, unlocked: true, any: true},
	"forceDelete":         {anyTask: true, unlocked: true, any: true},
	"attach_volume":       {vm: []string{active, paused, stopped, resized, softGone, shelved, offloaded}, unlocked: true},
	"detach_volume":       {vm: []string{active, paused, stopped, resized, softGone, shelved, offloaded}, unlocked: true},
	"swap_volume":         {vm: []string{active, paused, resized}, unlocked: true},
	"attach_interface":    {vm: []string{active, paused, stopped}, unlocked: true},
	"detach_interface":    {vm: []string{active, paused, stopped}, unlocked: true},
	"metadata":            {vm: []string{active, paused, suspended, stopped}, anyTask: true, unlocked: true},
	"addSecurityGroup":    {anyTask: true},
	"removeSecurityGroup": {anyTask: true},
	"console":             {vm: []string{active, paused, suspended, stopped, rescued, resized}, anyTask: true},
	"output":              {anyTask: true},
}

// check refuses what Nova would refuse of a server in its present state, in Nova's words.
func check(caller sites.Caller, s *Server, verb string) error {
	r, name := rules[verb], verb
	switch verb {
	case "reboot.hard":
		name = "reboot"
	case "os-start":
		name = "start"
	case "os-stop":
		name = "stop"
	case "metadata":
		name = "update_instance_metadata"
	case "console", "output":
		name = "get_console"
	}
	if r.unlocked && s.Spec.Locked && !caller.Admin() {
		return fault.New(fault.Conflict, "cascade/compute.check", "Instance %s is locked", s.ID)
	}
	vm := VMState(s.Resource)
	invalid := func(attr, state string) error {
		return fault.New(fault.Conflict, "cascade/compute.check", "Cannot '%s' instance %s while it is in %s %s", name, s.ID, attr, state)
	}
	if s.State == index.Deleting && verb != "delete" && verb != "forceDelete" {
		return invalid("task_state", "deleting")
	}
	if r.vm != nil && !slices.Contains(r.vm, vm) {
		return invalid("vm_state", vm)
	}
	allowed := r.tasks
	if allowed == nil {
		allowed = []string{""}
	}
	if !r.anyTask && !slices.Contains(allowed, s.TaskState) {
		return invalid("task_state", s.TaskState)
	}
	if !r.any && s.State == index.Creating {
		return invalid("vm_state", vm)
	}
	return nil
}

// begin writes the status that accepting a verb brings, as Nova's API does before it answers.
func begin(s *Server, task string) {
	s.TaskState = task
	s.Status = StatusOf(VMState(s.Resource), task)
}
