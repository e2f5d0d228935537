package hosts

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
)

// Lease is what a DHCP client was told.
type Lease struct {
	Addr netip.Prefix // eth0 has it now
	Told map[string]string
}

// hook is what clients run in place of their own scripts, which would change the machine's files: it gives eth0 the
// address and the route, and writes down what there is to know.
const hook = `#!/bin/sh
case "$1$reason" in
bound | renew) address=$ip/$mask via=$router mtu=$mtu ;;
BOUND | RENEW | REBOOT) address=$new_ip_address/$new_subnet_mask via=$new_routers mtu=$new_interface_mtu ;;
BOUND6 | RENEW6) address=$new_ip6_address/64 ;;
*) exit 0 ;;
esac
ip addr replace "$address" dev "$interface"
for v in $via; do ip route replace default via "$v" dev "$interface"; done
[ -z "$mtu" ] || ip link set "$interface" mtu "$mtu"
{ echo "address=$address"; env; } >"$LEASE.new" && mv "$LEASE.new" "$LEASE"
`

// dhclientConf asks for what distributions' own configurations ask for.
const dhclientConf = `option rfc3442-classless-static-routes code 121 = array of unsigned integer 8;
timeout 20;
initial-interval 1;
also request interface-mtu, rfc3442-classless-static-routes;
`

// UDHCPC gets an address with BusyBox's DHCP client, which asks for the usual options, the MTU, static routes, and those that the arguments name,
// such as "-O", "ntpsrv". The lease's Told are the client's names: ip, mask, router, dns, lease, serverid.
func (vm *VM) UDHCPC(ctx context.Context, args ...string) (Lease, error) {
	return vm.dhcp(ctx, func(script string) []string {
		return append([]string{"udhcpc", "-i", "eth0", "-f", "-q", "-n", "-t", "10", "-T", "1", "-O", "mtu", "-O", "staticroutes", "-s", script}, args...)
	})
}

// DHClient gets an address with ISC's DHCP client; with "-6" among the arguments it is DHCPv6. It stays, to renew. The
// lease's Told are the client's names: new_ip_address, new_routers, new_dhcp_lease_time.
func (vm *VM) DHClient(ctx context.Context, args ...string) (Lease, error) {
	conf := filepath.Join(vm.bed.Dir, "dhclient.conf")
	if err := os.WriteFile(conf, []byte(dhclientConf), 0o644); err != nil {
		return Lease{}, err
	}
	return vm.dhcp(ctx, func(script string) []string {
		own := []string{"dhclient", "-1", "-sf", script, "-cf", conf, "-lf", filepath.Join(vm.bed.Dir, vm.Name+".leases"),
			"-pf", filepath.Join(vm.bed.Dir, vm.Name+".dhclient"), "-e", "LEASE=" + vm.leaseFile()}
		return append(append(own, args...), "eth0")
	})
}

func (vm *VM) dhcp(ctx context.Context, command func(script string) []string) (Lease, error) {
	script, file := filepath.Join(vm.bed.Dir, "dhcp-hook"), vm.leaseFile()
	if err := errors.Join(os.WriteFile(script, []byte(hook), 0o755), os.RemoveAll(file)); err != nil {
		return Lease{}, err
	}
	line := command(script)
	cmd := vm.Command(ctx, line[0], line[1:]...)
	cmd.Env = append(cmd.Env, "LEASE="+file)
	// A client that stays keeps its standard output: what it says goes to a file, whose end nobody waits for.
	said, err := os.Create(filepath.Join(vm.bed.Dir, vm.Name+".dhcp"))
	if err != nil {
		return Lease{}, err
	}
	defer said.Close() //nolint:errcheck // the client has its own
	cmd.Stdout, cmd.Stderr = said, said
	if err := cmd.Run(); err != nil {
		text, _ := os.ReadFile(said.Name())
		return Lease{}, fmt.Errorf("%s at %s: %w\n%s", line[0], vm.Name, err, text)
	}
	return readLease(file)
}

func (vm *VM) leaseFile() string { return filepath.Join(vm.bed.Dir, vm.Name+".lease") }

func readLease(file string) (Lease, error) {
	f, err := os.Open(file)
	if err != nil {
		return Lease{}, err
	}
	defer f.Close() //nolint:errcheck // only read
	l := Lease{Told: map[string]string{}}
	for in := bufio.NewScanner(f); in.Scan(); {
		if name, value, ok := strings.Cut(in.Text(), "="); ok {
			l.Told[name] = value
		}
	}
	l.Addr, err = parseMasked(l.Told["address"])
	return l, err
}

// parseMasked reads an address with the length of its prefix or, as ISC's client tells it, a mask.
func parseMasked(s string) (netip.Prefix, error) {
	addr, mask, _ := strings.Cut(s, "/")
	if m := net.ParseIP(mask).To4(); m != nil {
		ones, _ := net.IPMask(m).Size()
		s = fmt.Sprintf("%s/%d", addr, ones)
	}
	return netip.ParsePrefix(s)
}

// Addrs are the addresses that eth0 has and may use.
func (vm *VM) Addrs(ctx context.Context) ([]netip.Prefix, error) {
	out, err := vm.Exec(ctx, "ip", "-o", "addr", "show", "dev", "eth0", "-tentative", "-dadfailed")
	if err != nil {
		return nil, err
	}
	var addrs []netip.Prefix
	for line := range strings.Lines(out) {
		if f := strings.Fields(line); len(f) > 3 {
			p, err := netip.ParsePrefix(f[3])
			if err != nil {
				return nil, err
			}
			addrs = append(addrs, p)
		}
	}
	return addrs, nil
}

// AwaitAddr waits until eth0 has an address within a prefix, as SLAAC gives it.
func (vm *VM) AwaitAddr(ctx context.Context, within netip.Prefix) (netip.Addr, error) {
	var found netip.Addr
	err := await(ctx, pingLimit, fmt.Sprintf("an address of %s at %s", within, vm.Name), func() error {
		addrs, err := vm.Addrs(ctx)
		for _, a := range addrs {
			if within.Contains(a.Addr()) {
				found = a.Addr()
				return nil
			}
		}
		return errors.Join(err, fmt.Errorf("it has %v", addrs))
	})
	return found, err
}
