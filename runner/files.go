package runner

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path"
	"path/filepath"
	"strings"
)

const (
	hostsPath      = "/etc/hosts"
	resolvConfPath = "/etc/resolv.conf"
	hostnamePath   = "/etc/hostname"

	// resolvedPath is where systemd-resolved tells the servers that it asks itself.
	resolvedPath = "/run/systemd/resolve/resolv.conf"
)

// networkFiles are mounted into the container, so that none gets into a layer.
func networkFiles(s Spec) []string {
	if s.OwnHostname {
		return []string{resolvConfPath, hostsPath}
	}
	return []string{resolvConfPath, hostnamePath, hostsPath}
}

// writeNetworkFiles makes the network's files of s in dir, by their base names.
func writeNetworkFiles(dir string, s Spec) error {
	resolv, err := resolvConf(s.Network, os.ReadFile)
	if err != nil {
		return err
	}
	for name, content := range map[string][]byte{
		resolvConfPath: resolv,
		hostnamePath:   []byte(hostname(s) + "\n"),
		hostsPath:      hosts(s),
	} {
		file := filepath.Join(dir, path.Base(name))
		if err := os.WriteFile(file, content, 0o644); err != nil {
			return err
		}
		if err := os.Chmod(file, 0o644); err != nil { // whatever the umask is
			return err
		}
	}
	return nil
}

func hosts(s Spec) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "127.0.0.1\tlocalhost %s\n", hostname(s))
	fmt.Fprintf(&b, "::1\tlocalhost ip6-localhost ip6-loopback\n")
	for _, line := range s.Hosts {
		address, names, _ := strings.Cut(line, " ")
		fmt.Fprintf(&b, "%s\t%s\n", address, names)
	}
	return b.Bytes()
}

// resolvConf returns the container's resolv.conf. With the host's network it is
// the host's. Otherwise name servers on the host's loopback are left out: nobody
// answers there. If systemd-resolved is the only one, its own servers are used.
func resolvConf(network string, read func(string) ([]byte, error)) ([]byte, error) {
	text, err := readOptional(resolvConfPath, read)
	if err != nil || network == "host" {
		return text, err
	}
	servers := nameservers(text)
	if len(servers) == 1 && servers[0] == netip.AddrFrom4([4]byte{127, 0, 0, 53}) {
		if text, err = readOptional(resolvedPath, read); err != nil {
			return nil, err
		}
	}
	var out bytes.Buffer
	for line := range bytes.Lines(text) {
		if a, ok := nameserver(string(line)); ok && (a.IsLoopback() || a.Zone() != "") {
			continue
		}
		out.Write(line)
	}
	return out.Bytes(), nil
}

func readOptional(name string, read func(string) ([]byte, error)) ([]byte, error) {
	text, err := read(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return text, err
}

func nameservers(text []byte) []netip.Addr {
	var found []netip.Addr
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		if a, ok := nameserver(lines.Text()); ok {
			found = append(found, a)
		}
	}
	return found
}

func nameserver(line string) (netip.Addr, bool) {
	f := strings.Fields(line)
	if len(f) < 2 || f[0] != "nameserver" {
		return netip.Addr{}, false
	}
	a, err := netip.ParseAddr(f[1])
	return a, err == nil
}
