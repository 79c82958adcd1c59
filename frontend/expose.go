package frontend

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
)

func (s *stage) lowerExpose(c *instructions.ExposeCommand) error {
	var ports []string
	for _, word := range c.Ports {
		specs, err := s.l.lex.ProcessWords(word, s.env)
		if err != nil {
			return err
		}
		for _, spec := range specs {
			p, err := s.ports(spec, c)
			if err != nil {
				return wrong("write it as 80, 80/udp or 8000-8010/tcp", "invalid port %q: %v", spec, err)
			}
			ports = append(ports, p...)
		}
	}
	if s.image.Config.ExposedPorts == nil {
		s.image.Config.ExposedPorts = map[string]struct{}{}
	}
	for _, p := range ports {
		s.image.Config.ExposedPorts[p] = struct{}{}
	}
	s.commit(fmt.Sprintf("EXPOSE %v", ports), EmptyLayer)
	return nil
}

// ports returns the ports that spec means, "80/tcp" each. An address and a port
// of the host before it are checked, and mean nothing.
func (s *stage) ports(spec string, c *instructions.ExposeCommand) ([]string, error) {
	ip, host, port := splitPort(spec)
	port, proto, _ := strings.Cut(port, "/")
	if port == "" {
		return nil, fmt.Errorf("there is no port in it")
	}
	switch strings.ToLower(proto) {
	case "":
		proto = "tcp"
	case "tcp", "udp", "sctp":
	default:
		return nil, fmt.Errorf("%s is not tcp, udp or sctp", proto)
	}
	if proto != strings.ToLower(proto) {
		s.lint.Run(&linter.RuleExposeProtoCasing, c.Location(), linter.RuleExposeProtoCasing.Format(spec))
	}
	if ip != "" || host != "" {
		s.lint.Run(&linter.RuleExposeInvalidFormat, c.Location(), linter.RuleExposeInvalidFormat.Format(spec))
	}
	if ip != "" {
		if _, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(ip, "["), "]")); err != nil {
			return nil, fmt.Errorf("%s is not an address", ip)
		}
	}
	first, last, err := portRange(port)
	if err != nil {
		return nil, err
	}
	if host != "" {
		from, to, err := portRange(host)
		if err != nil {
			return nil, err
		}
		if to-from != last-first && first != last {
			return nil, fmt.Errorf("%s and %s are not equally many ports", host, port)
		}
	}
	var all []string
	for n := first; n <= last; n++ {
		all = append(all, strconv.Itoa(n)+"/"+strings.ToLower(proto))
	}
	return all, nil
}

// splitPort splits "[ip:][host:]port".
func splitPort(spec string) (ip, host, port string) {
	parts := strings.Split(spec, ":")
	n := len(parts)
	port = parts[n-1]
	if n > 1 {
		host = parts[n-2]
		ip = strings.Join(parts[:n-2], ":")
	}
	return ip, host, port
}

func portRange(s string) (first, last int, err error) {
	from, to, found := strings.Cut(s, "-")
	if !found {
		to = from
	}
	if first, err = portNumber(from); err != nil {
		return 0, 0, err
	}
	if last, err = portNumber(to); err != nil {
		return 0, 0, err
	}
	if last < first {
		return 0, 0, fmt.Errorf("%d is below %d", last, first)
	}
	return first, last, nil
}

func portNumber(s string) (int, error) {
	n, err := strconv.Atoi(s) // which takes a sign, as the reference does
	if err != nil || n < 0 || n > 65535 {
		return 0, fmt.Errorf("%q is not a number from 0 to 65535", s)
	}
	return n, nil
}
