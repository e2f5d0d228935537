package agent

import "github.com/headwater-cloud/headwater/agents/ovsdb"

// The columns of the switch's database that the agent reads: fewer than there are, so that what changes often wakes nobody.
type (
	switchRow struct {
		ID          ovsdb.UUID        `ovsdb:"_uuid"`
		Bridges     []ovsdb.UUID      `ovsdb:"bridges"`
		OtherConfig map[string]string `ovsdb:"other_config"`
	}
	bridgeRow struct {
		ID           ovsdb.UUID        `ovsdb:"_uuid"`
		Name         string            `ovsdb:"name"`
		Ports        []ovsdb.UUID      `ovsdb:"ports"`
		DatapathType string            `ovsdb:"datapath_type"`
		FailMode     *string           `ovsdb:"fail_mode"`
		Protocols    []string          `ovsdb:"protocols"`
		ExternalIDs  map[string]string `ovsdb:"external_ids"`
	}
	// Parts of a bridge, for who reads no more.
	bridgeName struct {
		ID           ovsdb.UUID `ovsdb:"_uuid"`
		Name         string     `ovsdb:"name"`
		DatapathType string     `ovsdb:"datapath_type"`
	}
	bridgePorts struct {
		Ports []ovsdb.UUID `ovsdb:"ports"`
	}
	bridgeIDs struct {
		ExternalIDs map[string]string `ovsdb:"external_ids"`
	}
	portRow struct {
		ID         ovsdb.UUID   `ovsdb:"_uuid"`
		Name       string       `ovsdb:"name"`
		Interfaces []ovsdb.UUID `ovsdb:"interfaces"`
	}
	interfaceRow struct {
		ID          ovsdb.UUID        `ovsdb:"_uuid"`
		Name        string            `ovsdb:"name"`
		Type        string            `ovsdb:"type"`
		OFPort      *int64            `ovsdb:"ofport"`
		Error       *string           `ovsdb:"error"`
		Options     map[string]string `ovsdb:"options"`
		ExternalIDs map[string]string `ovsdb:"external_ids"`
	}
)

// Table names the table.
func (switchRow) Table() string { return "Open_vSwitch" }

// Table names the table.
func (bridgeRow) Table() string { return "Bridge" }

// Table names the table.
func (bridgeName) Table() string { return "Bridge" }

// Table names the table.
func (bridgePorts) Table() string { return "Bridge" }

// Table names the table.
func (bridgeIDs) Table() string { return "Bridge" }

// Table names the table.
func (portRow) Table() string { return "Port" }

// Table names the table.
func (interfaceRow) Table() string { return "Interface" }

func models() []ovsdb.Model {
	return []ovsdb.Model{switchRow{}, bridgeRow{}, portRow{}, interfaceRow{}}
}

// Keys of external_ids. Those of others are left alone.
const (
	keyIfaceID     = "iface-id"     // whoever plugs a guest sets it to the port's id
	keyAttachedMAC = "attached-mac" // and this to its Ethernet address
	keyReady       = "hw-ready"     // of a guest's interface whose flows are in the switch: the revision
	keyZone        = "hw-zone"      // connection tracking zone of a guest's interface
	keyZoneOf      = "hw-zone:"     // and, with an id behind it: of a subport, or on the bridge of a router
	keyTunnel      = "hw-tunnel"    // of our own interface for tunnels: what kind
	keyUplink      = "hw-uplink"    // of our own patch ports: the physical network
	keyEpoch       = "hw-epoch"     // of the bridge: when its flows were last filled anew
)

// mostPorts is the largest number of a port that is not a word of OpenFlow's, such as the bridge's own.
const mostPorts = 65279

// number is what the database says of the switch's number of an interface, or 0 while it says none.
func (r interfaceRow) number() uint32 {
	if r.OFPort == nil || *r.OFPort <= 0 || *r.OFPort > mostPorts {
		return 0
	}
	return uint32(*r.OFPort) //nolint:gosec // in the range just checked
}

func (r interfaceRow) problem() string {
	if r.Error == nil {
		return ""
	}
	return *r.Error
}
