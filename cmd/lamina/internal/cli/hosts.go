package cli

import (
	"fmt"
	"net/netip"
	"strings"
)

// hostGateway stands for the address at which a container finds this machine.
const hostGateway = "host-gateway"

// Hosts turns docker's HOST:IP or HOST=IP into "name=address". An IPv6 address may
// be in brackets.
func Hosts(all []string) ([]string, error) {
	var out []string
	for _, s := range all {
		name, addr, ok := strings.Cut(s, "=")
		if !ok {
			name, addr, ok = strings.Cut(s, ":")
		}
		if inner, opened := strings.CutPrefix(addr, "["); opened {
			if inner, closed := strings.CutSuffix(inner, "]"); closed {
				addr = inner
			}
		}
		if addr == hostGateway {
			addr = "127.0.0.1" // the network is this machine's own
		}
		if !ok || name == "" || strings.ContainsAny(name, " \t\n") || !isAddress(addr) {
			return nil, fmt.Errorf("--add-host=%s: want HOST:IP", s)
		}
		out = append(out, name+"="+addr)
	}
	return out, nil
}

func isAddress(s string) bool {
	_, err := netip.ParseAddr(s)
	return err == nil
}
