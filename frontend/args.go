package frontend

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lamina/solver"
)

const epochArg = "SOURCE_DATE_EPOCH"

// predefined are the arguments that need no ARG to have an effect.
func predefined(key string) bool {
	return key == epochArg || isProxy(key) || strings.HasPrefix(key, "BUILDKIT_") ||
		strings.HasPrefix(key, "BUILD") && isPlatformPart(key[len("BUILD"):]) ||
		strings.HasPrefix(key, "TARGET") && isPlatformPart(key[len("TARGET"):])
}

// effective are the arguments about the build itself that do something, here or in
// who calls this package. Of the others people are told that they do not.
func effective() []string {
	return []string{"BUILDKIT_SYNTAX", "BUILDKIT_SANDBOX_HOSTNAME", "BUILDKIT_CACHE_MOUNT_NS", "BUILDKIT_DOCKERFILE_CHECK",
		"BUILDKIT_INLINE_CACHE", "BUILDKIT_MULTI_PLATFORM", "BUILDKIT_CONTEXT_KEEP_GIT_DIR"}
}

func isPlatformPart(s string) bool {
	return slices.Contains([]string{"PLATFORM", "OS", "OSVERSION", "ARCH", "VARIANT", "STAGE"}, s)
}

// platformArgs are the global arguments that nobody has to declare before FROM.
func platformArgs(build, target ocispec.Platform, stage string, given map[string]string) environ {
	if stage == "" {
		stage = "default"
	}
	var e environ
	for _, kv := range [][2]string{
		{"BUILDPLATFORM", FormatPlatform(build)},
		{"BUILDOS", build.OS},
		{"BUILDOSVERSION", build.OSVersion},
		{"BUILDARCH", build.Architecture},
		{"BUILDVARIANT", build.Variant},
		{"TARGETPLATFORM", FormatPlatform(target)},
		{"TARGETOS", target.OS},
		{"TARGETOSVERSION", target.OSVersion},
		{"TARGETARCH", target.Architecture},
		{"TARGETVARIANT", target.Variant},
		{"TARGETSTAGE", stage},
	} {
		if v, ok := given[kv[0]]; ok {
			kv[1] = v
		}
		e = e.with(kv[0], kv[1])
	}
	return e
}

// globalArgs adds the ARGs before the first FROM, each of which sees those
// before it, to e. given wins over their defaults.
func (l *lowering) globalArgs(e environ, args []instructions.ArgCommand, given map[string]string) (environ, map[string]wantedArg, error) {
	wanted := map[string]wantedArg{}
	for _, c := range args {
		for _, arg := range c.Args {
			value := arg.Value
			var from map[string]struct{}
			if v, ok := given[arg.Key]; ok {
				value = &v
			} else if value != nil {
				word, err := l.lex.ProcessWordWithMatches(*value, e)
				if err != nil {
					return nil, nil, at(l.pos(c.Location()), err)
				}
				value, from = &word.Result, word.Matched
			}
			if value != nil {
				e = e.with(arg.Key, *value)
			}
			wishGlobal(wanted, arg, value, from, l.pos(c.Location()))
		}
	}
	return e, wanted, nil
}

// settleEpoch takes SOURCE_DATE_EPOCH from the build arguments or the global
// ones, where it says "" if it says nothing.
func (l *lowering) settleEpoch(args []instructions.ArgCommand) {
	value, given := l.opt.BuildArgs[epochArg]
	if !given {
		value, _ = l.globals.Get(epochArg)
	}
	if value == "context" {
		value = ""
		if t := l.opt.ContextTime; t != nil {
			value = strconv.FormatInt(*t, 10)
		}
	}
	if value == "" {
		l.setEpoch("")
		return
	}
	seconds, err := strconv.ParseInt(value, 10, 64)
	if err != nil {
		l.fail(l.declaration(args, epochArg), wrong("give it as seconds since 1970, like $(git log -1 --pretty=%ct)",
			"invalid %s: %s", epochArg, value))
		return
	}
	l.epoch = &seconds
	l.setEpoch(strconv.FormatInt(seconds, 10))
}

// setEpoch gives SOURCE_DATE_EPOCH its value wherever it was set; "" unsets it.
func (l *lowering) setEpoch(value string) {
	_, given := l.opt.BuildArgs[epochArg]
	_, global := l.globals.Get(epochArg)
	switch {
	case value == "":
		delete(l.opt.BuildArgs, epochArg)
		l.globals = l.globals.without(epochArg)
		return
	case given:
		l.opt.BuildArgs[epochArg] = value
	}
	if global {
		l.globals = l.globals.with(epochArg, value)
	}
}

// declaration is where key is declared before the first FROM, or just the file.
func (l *lowering) declaration(args []instructions.ArgCommand, key string) solver.Pos {
	for _, c := range args {
		for _, arg := range c.Args {
			if arg.Key == key {
				return l.pos(c.Location())
			}
		}
	}
	return solver.Pos{File: l.file.Name}
}

// lowerArg declares build arguments: from here on they are variables, with the
// value given for the build, their default or their global value.
func (s *stage) lowerArg(c *instructions.ArgCommand) error {
	var text []string
	for _, arg := range c.Args {
		s.checkSecret("ARG", arg.Key, c)
		s.l.declared[arg.Key] = true
		value, inherited := arg.Value, false
		if given, ok := s.l.opt.BuildArgs[arg.Key]; ok {
			value = &given
		} else if value != nil {
			v, err := s.word(c)(*value)
			if err != nil {
				return err
			}
			value = &v
		} else if global, ok := s.l.globals.Get(arg.Key); ok {
			value, inherited = &global, true
		}
		from := s.argVariable(arg, inherited, c)
		s.wishArg(arg, value, inherited, s.l.pos(c.Location()))
		if value == nil {
			s.args = inPlace(s.args, arg.Key, "")
			text = append(text, arg.Key)
			continue
		}
		s.args = inPlace(s.args, arg.Key, *value)
		if !hidden(arg.Key) {
			s.env = s.env.with(arg.Key, *value)
			from.Value = *value
			s.setArg(from)
		}
		text = append(text, arg.Key+"="+*value)
	}
	s.commit("ARG "+strings.Join(text, " "), EmptyLayer)
	return nil
}

// hidden are arguments that never become variables.
func hidden(key string) bool {
	return key == "BUILDKIT_SBOM_SCAN_CONTEXT" || key == "BUILDKIT_SBOM_SCAN_STAGE"
}

// proxies are the predefined proxy arguments, in upper case.
func proxies() []string {
	return []string{"HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY"}
}

func isProxy(key string) bool {
	return slices.Contains(proxies(), strings.ToUpper(key))
}

// proxyEnv returns the proxy arguments that were given, as processes expect
// them: in upper and in lower case.
func proxyEnv(args map[string]string) []string {
	values := map[string]string{}
	for _, k := range slices.Sorted(maps.Keys(args)) {
		values[strings.ToUpper(k)] = args[k]
	}
	var env []string
	for _, k := range proxies() {
		if v := values[k]; v != "" {
			env = append(env, k+"="+v, strings.ToLower(k)+"="+v)
		}
	}
	return env
}
