package frontend

import (
	"slices"
	"strings"
)

// environ is variables as "key=value", each key once. It is a value: with
// returns another one.
type environ []string

// Get returns the value of key. With Keys it makes an environ what the shell
// package expands from.
func (e environ) Get(key string) (string, bool) {
	if i := e.index(key); i >= 0 {
		return e[i][len(key)+1:], true
	}
	return "", false
}

// Keys returns all keys.
func (e environ) Keys() []string {
	keys := make([]string, len(e))
	for i, v := range e {
		keys[i], _, _ = strings.Cut(v, "=")
	}
	return keys
}

// with returns e with key set to value, as the last one: processes get their
// variables in the order in which they were set last.
func (e environ) with(key, value string) environ {
	if i := e.index(key); i >= 0 {
		e = slices.Delete(slices.Clone(e), i, i+1)
	}
	return append(slices.Clip(e), key+"="+value)
}

// merge returns e with vars, the environment of an image, where "key" alone is
// "key=" and the last value of a key counts.
func (e environ) merge(vars []string) environ {
	for _, v := range vars {
		key, value, _ := strings.Cut(v, "=")
		e = e.with(key, value)
	}
	return e
}

// without returns e without key.
func (e environ) without(key string) environ {
	return slices.DeleteFunc(slices.Clone(e), func(v string) bool { return strings.HasPrefix(v, key+"=") })
}

func (e environ) index(key string) int { return indexOf(e, key) }

// inPlace returns vars, the environment of an image, with key set to value in its
// old place if it had one. Such variables may lack the "=" or be there twice.
func inPlace(vars []string, key, value string) []string {
	i := indexOf(vars, key)
	if i < 0 {
		return append(slices.Clip(vars), key+"="+value)
	}
	vars = slices.Clone(vars)
	vars[i] = key + "=" + value
	return vars
}

// indexOf returns the position of the first of vars that sets key, or -1.
func indexOf(vars []string, key string) int {
	return slices.IndexFunc(vars, func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		return name == key
	})
}
