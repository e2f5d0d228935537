package ovsdb

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// The tables of the database Open_vSwitch in use, by ovs-vswitchd.conf.db(5).
type (
	// OpenVSwitch is the one row of the switch itself.
	OpenVSwitch struct {
		ID           UUID              `ovsdb:"_uuid"`
		Bridges      []UUID            `ovsdb:"bridges"`
		CurCfg       int64             `ovsdb:"cur_cfg"`  // the last next_cfg that ovs-vswitchd has carried out
		NextCfg      int64             `ovsdb:"next_cfg"` // raised by each client that wants to know when its change is carried out
		OtherConfig  map[string]string `ovsdb:"other_config"`
		ExternalIDs  map[string]string `ovsdb:"external_ids"`
		Datapaths    map[string]UUID   `ovsdb:"datapaths"` // by type: system, netdev
		ManagerOpts  []UUID            `ovsdb:"manager_options"`
		SSL          *UUID             `ovsdb:"ssl"`
		OVSVersion   *string           `ovsdb:"ovs_version"`
		DBVersion    *string           `ovsdb:"db_version"`
		SystemType   *string           `ovsdb:"system_type"`
		IfaceTypes   []string          `ovsdb:"iface_types"`
		DPInit       bool              `ovsdb:"dpdk_initialized"`
		DatapathType []string          `ovsdb:"datapath_types"`
	}
	// Bridge is a switch.
	Bridge struct {
		ID           UUID              `ovsdb:"_uuid"`
		Name         string            `ovsdb:"name"`
		Ports        []UUID            `ovsdb:"ports"`
		Mirrors      []UUID            `ovsdb:"mirrors"`
		Controllers  []UUID            `ovsdb:"controller"`
		IPFIX        *UUID             `ovsdb:"ipfix"`
		DatapathID   *string           `ovsdb:"datapath_id"` // 16 hexadecimal digits
		DatapathType string            `ovsdb:"datapath_type"`
		FailMode     *string           `ovsdb:"fail_mode"` // standalone, secure
		Protocols    []string          `ovsdb:"protocols"`
		OtherConfig  map[string]string `ovsdb:"other_config"`
		ExternalIDs  map[string]string `ovsdb:"external_ids"`
	}
	// Port is a port of a bridge; it has an interface, or several in a bond.
	Port struct {
		ID          UUID              `ovsdb:"_uuid"`
		Name        string            `ovsdb:"name"`
		Interfaces  []UUID            `ovsdb:"interfaces"`
		Tag         *int64            `ovsdb:"tag"`
		Trunks      []int64           `ovsdb:"trunks"`
		VLANMode    *string           `ovsdb:"vlan_mode"`
		QoS         *UUID             `ovsdb:"qos"`
		OtherConfig map[string]string `ovsdb:"other_config"`
		ExternalIDs map[string]string `ovsdb:"external_ids"`
	}
	// Interface is a network device of a port.
	Interface struct {
		ID            UUID              `ovsdb:"_uuid"`
		Name          string            `ovsdb:"name"`
		Type          string            `ovsdb:"type"`   // "" (system), internal, vxlan, geneve, patch, dummy, ...
		OFPort        *int64            `ovsdb:"ofport"` // -1 when the device could not be made
		OFPortRequest *int64            `ovsdb:"ofport_request"`
		Error         *string           `ovsdb:"error"`
		AdminState    *string           `ovsdb:"admin_state"`
		LinkState     *string           `ovsdb:"link_state"`
		MACInUse      *string           `ovsdb:"mac_in_use"`
		MTU           *int64            `ovsdb:"mtu"`
		MTURequest    *int64            `ovsdb:"mtu_request"`
		Options       map[string]string `ovsdb:"options"`
		BFD           map[string]string `ovsdb:"bfd"`
		BFDStatus     map[string]string `ovsdb:"bfd_status"`
		ExternalIDs   map[string]string `ovsdb:"external_ids"` // iface-id, attached-mac, iface-status
	}
	// InterfaceStatistics are the counters of an interface, which change every few seconds: a replica that wants
	// to rest does not ask for them.
	InterfaceStatistics struct {
		ID         UUID             `ovsdb:"_uuid"`
		Name       string           `ovsdb:"name"`
		Statistics map[string]int64 `ovsdb:"statistics"`
	}
	// Mirror copies packets to a port.
	Mirror struct {
		ID            UUID              `ovsdb:"_uuid"`
		Name          string            `ovsdb:"name"`
		SelectAll     bool              `ovsdb:"select_all"`
		SelectSrcPort []UUID            `ovsdb:"select_src_port"`
		SelectDstPort []UUID            `ovsdb:"select_dst_port"`
		OutputPort    *UUID             `ovsdb:"output_port"`
		Snaplen       *int64            `ovsdb:"snaplen"`
		ExternalIDs   map[string]string `ovsdb:"external_ids"`
	}
	// IPFIX is where samples go.
	IPFIX struct {
		ID          UUID              `ovsdb:"_uuid"`
		Targets     []string          `ovsdb:"targets"`
		Sampling    *int64            `ovsdb:"sampling"`
		ObsDomainID *int64            `ovsdb:"obs_domain_id"`
		ObsPointID  *int64            `ovsdb:"obs_point_id"`
		ExternalIDs map[string]string `ovsdb:"external_ids"`
	}
	// FlowSampleCollectorSet is what the action sample names by its number.
	FlowSampleCollectorSet struct {
		UUID        UUID              `ovsdb:"_uuid"`
		Number      int64             `ovsdb:"id"`
		Bridge      UUID              `ovsdb:"bridge"`
		IPFIX       *UUID             `ovsdb:"ipfix"`
		ExternalIDs map[string]string `ovsdb:"external_ids"`
	}
	// Datapath is what forwards the packets of all bridges of one type.
	Datapath struct {
		ID              UUID              `ovsdb:"_uuid"`
		DatapathVersion string            `ovsdb:"datapath_version"`
		Capabilities    map[string]string `ovsdb:"capabilities"`
		CTZones         map[int64]UUID    `ovsdb:"ct_zones"`
		ExternalIDs     map[string]string `ovsdb:"external_ids"`
	}
	// CTZone is the configuration of a connection tracking zone.
	CTZone struct {
		ID            UUID              `ovsdb:"_uuid"`
		TimeoutPolicy *UUID             `ovsdb:"timeout_policy"`
		ExternalIDs   map[string]string `ovsdb:"external_ids"`
	}
	// CTTimeoutPolicy are timeouts in seconds, by protocol and state.
	CTTimeoutPolicy struct {
		ID          UUID              `ovsdb:"_uuid"`
		Timeouts    map[string]int64  `ovsdb:"timeouts"`
		ExternalIDs map[string]string `ovsdb:"external_ids"`
	}
	// Controller is an OpenFlow controller that a bridge connects to.
	Controller struct {
		ID          UUID    `ovsdb:"_uuid"`
		Target      string  `ovsdb:"target"`
		IsConnected bool    `ovsdb:"is_connected"`
		Role        *string `ovsdb:"role"`
	}
	// Manager is an OVSDB client or listener of the server.
	Manager struct {
		ID          UUID   `ovsdb:"_uuid"`
		Target      string `ovsdb:"target"`
		IsConnected bool   `ovsdb:"is_connected"`
	}
	// SSL are the files of the server's identity.
	SSL struct {
		ID          UUID   `ovsdb:"_uuid"`
		PrivateKey  string `ovsdb:"private_key"`
		Certificate string `ovsdb:"certificate"`
		CACert      string `ovsdb:"ca_cert"`
	}
)

// Table is "Open_vSwitch".
func (OpenVSwitch) Table() string { return "Open_vSwitch" }

// Table is "Bridge".
func (Bridge) Table() string { return "Bridge" }

// Table is "Port".
func (Port) Table() string { return "Port" }

// Table is "Interface".
func (Interface) Table() string { return "Interface" }

// Table is "Interface".
func (InterfaceStatistics) Table() string { return "Interface" }

// Table is "Mirror".
func (Mirror) Table() string { return "Mirror" }

// Table is "IPFIX".
func (IPFIX) Table() string { return "IPFIX" }

// Table is "Flow_Sample_Collector_Set".
func (FlowSampleCollectorSet) Table() string { return "Flow_Sample_Collector_Set" }

// Table is "Datapath".
func (Datapath) Table() string { return "Datapath" }

// Table is "CT_Zone".
func (CTZone) Table() string { return "CT_Zone" }

// Table is "CT_Timeout_Policy".
func (CTTimeoutPolicy) Table() string { return "CT_Timeout_Policy" }

// Table is "Controller".
func (Controller) Table() string { return "Controller" }

// Table is "Manager".
func (Manager) Table() string { return "Manager" }

// Table is "SSL".
func (SSL) Table() string { return "SSL" }

// Switch returns the row of the switch itself; false until the database was read or ovs-vsctl init was run.
func (v *View) Switch() (OpenVSwitch, bool) {
	return Find(v, func(OpenVSwitch) bool { return true })
}

// Apply makes a transaction and waits until ovs-vswitchd has carried it out (cur_cfg has reached the raised next_cfg). Its errors are
// Transact's; fault.Unavailable with ctx's error says that the change is made but not carried out yet.
func (c *Client) Apply(ctx context.Context, ops ...Op) ([]Result, error) {
	if err := c.Synced(ctx); err != nil {
		return nil, err
	}
	all := append(ops[:len(ops):len(ops)],
		Mutate("Open_vSwitch", nil, Mutation{"next_cfg", "+=", 1}), Select("Open_vSwitch", nil, "next_cfg"))
	results, err := c.Transact(ctx, all...)
	if err != nil {
		return nil, err
	}
	last := results[len(results)-1].Rows
	if len(last) != 1 {
		return nil, fmt.Errorf("table Open_vSwitch has %d rows, want 1: run ovs-vsctl init", len(last))
	}
	want := As[OpenVSwitch](last[0]).NextCfg
	return results[:len(ops)], c.Await(ctx, func(v *View) (bool, error) {
		s, ok := v.Switch()
		return ok && s.CurCfg >= want, nil
	})
}

// OFPort waits until Open vSwitch has made the interface of a name and returns its OpenFlow port number, in [1, 65279]. Its error is an
// *InterfaceError when Open vSwitch cannot make it; a wrong pair of tunnels announces itself so.
func (c *Client) OFPort(ctx context.Context, name string) (uint32, error) {
	var number uint32
	err := c.Await(ctx, func(v *View) (bool, error) {
		i, ok := Find(v, func(i Interface) bool { return i.Name == name })
		switch {
		case !ok:
			return false, nil
		case i.Error != nil && *i.Error != "":
			return false, &InterfaceError{Interface: name, Message: *i.Error}
		case i.OFPort != nil && *i.OFPort > 0:
			number = uint32(*i.OFPort) //nolint:gosec // the schema's range: 1 to 65,279
			return true, nil
		}
		return false, nil
	})
	return number, err
}

// BridgeOps are the operations that make a bridge with fail_mode secure (its flows outlive its agent) and its local port, in the
// datapath of a type: "system" or "netdev".
func BridgeOps(sw OpenVSwitch, name, datapath string, externalIDs map[string]string) ([]Op, error) {
	if name == "" || strings.ContainsAny(name, "/ ") {
		return nil, errors.New("a bridge's name must not be empty nor hold a slash or a space")
	}
	return []Op{
		Insert("Interface", "i", Values{"name": name, "type": "internal"}),
		Insert("Port", "p", Values{"name": name, "interfaces": []NamedUUID{"i"}}),
		Insert("Bridge", "b", Values{"name": name, "ports": []NamedUUID{"p"}, "datapath_type": datapath, "fail_mode": "secure", "external_ids": externalIDs}),
		Mutate("Open_vSwitch", ByID(sw.ID), Mutation{"bridges", "insert", []NamedUUID{"b"}}),
	}, nil
}

// PortOps are the operations that add a port with one interface to a bridge; the row gives the interface's columns, the name apart.
func PortOps(bridge UUID, name string, row Values) []Op {
	values := Values{"name": name}
	for column, value := range row {
		values[column] = value
	}
	return []Op{
		Insert("Interface", "i", values),
		Insert("Port", "p", Values{"name": name, "interfaces": []NamedUUID{"i"}}),
		Mutate("Bridge", ByID(bridge), Mutation{"ports", "insert", []NamedUUID{"p"}}),
	}
}

// PortDeleteOps are the operations that take a port from its bridge; without a bridge it is collected with its interfaces.
func PortDeleteOps(bridge, port UUID) []Op {
	return []Op{Mutate("Bridge", ByID(bridge), Mutation{"ports", "delete", []UUID{port}})}
}
