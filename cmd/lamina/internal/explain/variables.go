package explain

import (
	"encoding/json"
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
	v, ok := variable(s, d.subject, d.after)
	if !ok {
		if v, ok = variable(o, d.subject, d.before); !ok {
			return Cause{Kind: Env, Subject: d.subject, Before: d.before, After: d.after}
		}
		v.Line = 0 // it is not set any more
	}
	if v.Arg {
		return Cause{Kind: Arg, Subject: v.Name, Line: v.Line, Before: d.before, After: d.after}
	}
	for _, name := range v.From {
		arg, ok := argument(s, name)
		was, _ := valueIn(o, name, true)
		if ok && arg.Value != was {
			return Cause{Kind: Arg, Subject: name, Line: arg.Line, Before: was, After: arg.Value}
		}
	}
	return Cause{Kind: Env, Subject: v.Name, Line: v.Line, Before: d.before, After: d.after}
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
