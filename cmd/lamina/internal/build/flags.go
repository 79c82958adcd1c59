package build

import (
	"fmt"

	"lamina/cmd/lamina/internal/engine"
)

// pullPolicy is docker's --pull, which is true or false, and podman's, which says
// when. The zero value is engine.PullMissing.
type pullPolicy engine.Policy

func (p *pullPolicy) String() string { return string(*p) }

func (p *pullPolicy) Set(s string) error {
	switch policy := engine.Policy(s); policy {
	case engine.PullAlways, engine.PullMissing, engine.PullNever, engine.PullNewer:
		*p = pullPolicy(policy)
		return nil
	}
	switch s {
	case "true", "1":
		*p = pullPolicy(engine.PullAlways)
	case "false", "0":
		*p = pullPolicy(engine.PullMissing)
	default:
		return fmt.Errorf("%q is not always, missing, never or newer", s)
	}
	return nil
}

// Type names the kind of value in help texts.
func (*pullPolicy) Type() string { return "when" }
