package build

import (
	"strings"

	"lamina/cmd/lamina/internal/cli"
)

// buildHosts is hosts with names in lower case, as a RUN has them from BuildKit.
func buildHosts(all []string) ([]string, error) {
	out, err := cli.Hosts(all)
	for i, h := range out {
		name, addr, _ := strings.Cut(h, "=")
		out[i] = strings.ToLower(name) + "=" + addr
	}
	return out, err
}
