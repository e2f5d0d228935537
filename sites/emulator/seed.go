package emulator

import (
	"fmt"
	"net/netip"
	"strconv"
	"time"
)

// Seeding says what Seed makes.
type Seeding struct {
	Project string `json:"project"` // name; made when it does not exist; "" is demo
	Servers int    `json:"servers"` // ACTIVE servers
	// Ports is how many ports each server has, 0 or 1; they lie in one network per 16,000 servers.
	Ports  int    `json:"ports"`
	Name   string `json:"name"`   // prefix of the servers' names; "" is "seed-"
	Marker string `json:"marker"` // if set, server N is tagged Marker+N
	Image  string `json:"image"`  // name of the image that they are said to be booted from; made, with 1 KiB, when there is none
}

// Seed fills the cloud at once, past quotas and transitions. The servers were
// created one millisecond apart, the last one now.
func (c *Cloud) Seed(s Seeding) error {
	if s.Servers < 0 || s.Ports < 0 || s.Ports > 1 {
		return fmt.Errorf("seed %d servers with %d ports each: want at least 0 servers, and 0 or 1 ports", s.Servers, s.Ports)
	}
	orDefault(&s.Project, "demo")
	orDefault(&s.Name, "seed-")
	orDefault(&s.Image, "seed")
	c.write(func() { c.seedServers(s) })
	return nil
}

func (c *Cloud) seedServers(s Seeding) {
	p := c.projectNamed(s.Project)
	if p == nil {
		p = c.addProject(s.Project, "")
	}
	owner := c.userNamed("demo")
	img := c.seedImageNamed(p.ID, s.Image)
	flavor := c.compute.flavors.all[0]
	group := []string{c.defaultGroup(p.ID).ID}
	hosts, now := c.hosts(), c.now()
	var net *network
	const perNetwork = 16_000
	for i := range s.Servers {
		at := now.Add(-time.Duration(s.Servers-1-i) * time.Millisecond)
		c.compute.number++
		srv := &server{row: row{ID: newID(), Project: p.ID}, name: s.Name + strconv.Itoa(i), user: owner.ID, imageID: img.ID, flavor: flavor, host: hosts[i%len(hosts)],
			created: at, updated: at, launched: at, vm: "active", power: 1, number: c.compute.number, reservation: "r-seed", rootDevice: "/dev/sda", noText: true}
		srv.hostname = srv.name
		if s.Marker != "" {
			srv.tags = []string{s.Marker + strconv.Itoa(i)}
		}
		c.compute.servers.add(srv)
		c.take(srv.host, flavor, 1)
		if s.Ports == 1 {
			if i%perNetwork == 0 {
				net = c.seedNet(p.ID, i/perNetwork)
			}
			c.seedPort(srv, net, group, at)
		}
	}
	u := c.usageOf(p.ID)
	u.servers, u.cores, u.ram = u.servers+s.Servers, u.cores+s.Servers*flavor.vcpus, u.ram+s.Servers*flavor.ram
}

func (c *Cloud) seedImageNamed(project, name string) *image {
	for _, i := range c.image.images.all {
		if i.name == name {
			return i
		}
	}
	i := &image{row: row{ID: newID(), Project: project}, name: name, visibility: "public", disk: "raw", container: "bare", created: c.now()}
	c.image.images.add(i)
	c.setImageData(i, make([]byte, 1024))
	return i
}

func (c *Cloud) seedNet(project string, index int) *network {
	c.network.nextVNI++
	n := &network{row: row{ID: newID(), Project: project}, std: c.newStd(doc{"name": "seed-" + strconv.Itoa(index)}), adminUp: true, portSecurity: true, mtu: 1450, kind: "vxlan", segment: c.network.nextVNI, ports: map[string]*port{}}
	c.network.networks.add(n)
	cidr := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(index % 256), 0, 0}), 16)
	sub := &subnet{row: row{ID: newID(), Project: project}, std: c.newStd(doc{"name": "seed-" + strconv.Itoa(index)}), network: n, cidr: cidr, gateway: cidr.Addr().Next(), used: map[netip.Addr]*port{}}
	sub.pools = defaultPools(cidr, sub.gateway)
	n.subnets = append(n.subnets, sub)
	c.network.subnets.add(sub)
	return n
}

func (c *Cloud) seedPort(srv *server, n *network, group []string, at time.Time) {
	p := &port{row: row{ID: newID(), Project: srv.Project}, std: std{created: at, updated: at, revision: 4}, network: n, mac: c.newMAC(n), adminUp: true, security: true, status: "ACTIVE",
		deviceID: srv.ID, owner: "compute:" + srv.host.zone, groups: group, host: srv.host.name, vnic: "normal"}
	s := n.subnets[0]
	p.ips = []fixedIP{{s, s.allocate()}}
	c.addPort(p)
}
