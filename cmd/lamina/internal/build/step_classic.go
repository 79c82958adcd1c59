package build

import (
	"fmt"

	"github.com/spf13/pflag"
)

// classicOptions are flags of docker build that have nothing to do here. They are
// accepted so that scripts go on working, and say that they have no effect.
type classicOptions struct {
	rm, forceRm, compress bool
	builder, isolation    string
	securityOpts          []string
	flags                 *pflag.FlagSet
}

func (o *classicOptions) register(f *pflag.FlagSet) {
	o.flags = f
	f.BoolVar(&o.rm, "rm", true, "Accepted for docker's sake: nothing is left of a step")
	f.BoolVar(&o.forceRm, "force-rm", false, "Accepted for docker's sake: nothing is left of a step")
	f.BoolVar(&o.compress, "compress", false, "Accepted for docker's sake: the context is read where it is")
	f.StringVar(&o.builder, "builder", "", "Accepted for docker's sake: lamina builds in this process")
	f.StringVar(&o.isolation, "isolation", "", "Accepted for docker's sake: a RUN is a container, by default")
	f.StringArrayVar(&o.securityOpts, "security-opt", nil, "Accepted for docker's sake: RUN --security says how a step is confined")
}

// notes says which of the flags that were given have no effect.
func (o *classicOptions) notes() []string {
	var notes []string
	for _, n := range []struct{ flag, why string }{
		{"rm", "nothing is left of a step anyway"},
		{"force-rm", "nothing is left of a step anyway"},
		{"compress", "the context is read where it is"},
		{"builder", "lamina builds in this process"},
		{"isolation", "every RUN is a container"},
		{"security-opt", "RUN --security in the Dockerfile says how a step is confined"},
	} {
		if o.flags.Changed(n.flag) {
			notes = append(notes, fmt.Sprintf("--%s has no effect: %s", n.flag, n.why))
		}
	}
	return notes
}
