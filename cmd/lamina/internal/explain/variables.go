package explain

import (
	"encoding/json"
	"slices"
	"strings"

	"lamina/cmd/lamina/internal/builds"
	"lamina/solver"
)

// attribute makes a cause of a difference of s to o: of the variable that it comes
// from, if it comes from one.
func (e *explainer) attribute(d difference, s, o *builds.Step) Cause {
	if d.kind == Env {
		return variableCause(d, s, o)
	}
	for _, v := range s.Uses {
		was, ok := valueIn(o, v.Name, v.Arg)
		if !ok || was == v.Value || was == "" || d.before == "" {
			continue
		}
		if strings.ReplaceAll(d.before, was, v.Value) == d.after {
			return variableCause(difference{Env, v.Name, was, v.Value}, s, o)
		}
	}
	return Cause{Kind: d.kind, Subject: d.subject, Before: d.before, After: d.after}
}

// variableCause blames a variable, or the build argument that its value is from.
func variableCause(d difference, s, o *builds.Step) Cause {
	v, isSet := variable(s, d.subject, d.after)
	was, wasSet := variable(o, d.subject, d.before)
	for _, name := range append(slices.Clone(v.From), was.From...) {
		if c, ok := argumentCause(name, s, o); ok {
			return c
		}
	}
	if !isSet && wasSet {
		v = was
		v.Line = 0 // where it was is not in this Dockerfile
	}
	kind := Env
	if v.Arg {
		kind = Arg
	}
	return Cause{Kind: kind, Subject: d.subject, Line: v.Line, Before: d.before, After: d.after}
}

// argumentCause blames the build argument called name, if it is not what it was. Of
// what nobody knows what it was only those are blamed that a RUN still sees.
func argumentCause(name string, s, o *builds.Step) (Cause, bool) {
	arg, isSet := argument(s, name)
	was, wasSet := valueIn(o, name, true)
	if arg.Value == was || !isSet && !wasSet || !wasSet && len(o.Uses) == 0 {
		return Cause{}, false
	}
	return Cause{Kind: Arg, Subject: name, Line: arg.Line, Before: was, After: arg.Value}, true
}

// variable is what s uses under this name with this value: the ENV rather than the
// ARG, which it hides.
func variable(s *builds.Step, name, value string) (found solver.Variable, ok bool) {
	for _, v := range s.Uses {
		if v.Name == name && v.Value == value && (!ok || !v.Arg) {
			found, ok = v, true
		}
	}
	return found, ok
}

func argument(s *builds.Step, name string) (solver.Variable, bool) {
	for _, v := range s.Uses {
		if v.Arg && v.Name == name {
			return v, true
		}
	}
	return solver.Variable{}, false
}

// valueIn is what a variable was in s: as s uses it or, if nobody knows what it uses,
// in its environment.
func valueIn(s *builds.Step, name string, arg bool) (string, bool) {
	for _, v := range s.Uses {
		if v.Name == name && v.Arg == arg {
			return v.Value, true
		}
	}
	if len(s.Uses) > 0 || s.Kind != "run" {
		return "", false
	}
	var op solver.Run
	if json.Unmarshal(s.Op, &op) != nil {
		return "", false
	}
	for _, kv := range op.Env {
		if value, ok := strings.CutPrefix(kv, name+"="); ok {
			return value, true
		}
	}
	return "", false
}
