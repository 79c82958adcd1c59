package build

import (
	"fmt"

	"lamina/frontend"
)

// parseAllow parses the values of --allow. The network that --network names for
// every RUN is allowed by that.
func parseAllow(all []string, network string) (frontend.Allow, error) {
	allow := frontend.Allow{NetworkHost: network == "host"}
	for _, s := range all {
		switch s {
		case "network.host":
			allow.NetworkHost = true
		case "security.insecure":
			allow.Insecure = true
		case localDelete: // parseOutputs looks for it
		default:
			return allow, fmt.Errorf("--allow=%s: unknown, want network.host, security.insecure or %s", s, localDelete)
		}
	}
	return allow, nil
}
