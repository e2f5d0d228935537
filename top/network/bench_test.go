package network_test

import (
	"fmt"
	"testing"
)

// BenchmarkCreatePort is the whole request: an address, a MAC, quota, references, one transaction.
func BenchmarkCreatePort(b *testing.B) {
	s := newStack(b)
	s.call("p1-admin", "PUT", "quotas/p1", object{"quota": object{"port": -1}})
	net := s.do(201, "POST", "networks", object{"network": object{}})
	s.do(201, "POST", "subnets", object{"subnet": object{"network_id": net["id"], "ip_version": 4, "cidr": "10.0.0.0/12"}})
	b.ReportAllocs()
	for b.Loop() {
		s.do(201, "POST", "ports", object{"port": object{"network_id": net["id"]}})
	}
}

// BenchmarkLists reads a page of a thousand ports and one port.
func BenchmarkLists(b *testing.B) {
	s := newStack(b)
	s.call("p1-admin", "PUT", "quotas/p1", object{"quota": object{"port": -1}})
	net := s.do(201, "POST", "networks", object{"network": object{}})
	s.do(201, "POST", "subnets", object{"subnet": object{"network_id": net["id"], "ip_version": 4, "cidr": "10.0.0.0/12"}})
	bulk := make([]any, 500)
	for i := range bulk {
		bulk[i] = object{"network_id": net["id"], "name": fmt.Sprint("p", i)}
	}
	for range 2 {
		s.call("p1-member", "POST", "ports", object{"ports": bulk})
	}
	id := text(s.items("ports?name=p7")[0], "id")
	for name, path := range map[string]string{"list=1000": "ports", "list=name": "ports?name=p7", "show": "ports/" + id, "list=address": "ports?fixed_ips=ip_address=10.0.0.9"} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				s.call("p1-member", "GET", path, nil)
			}
		})
	}
}
