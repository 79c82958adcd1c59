package main

import (
	"testing"

	"lamina/cache/registry"
)

func TestMatchesName(t *testing.T) {
	for _, tc := range []struct {
		pattern, name string
		want          bool
	}{
		{"debian", "debian:12", true},
		{"debian:12", "debian:12", true},
		{"debian:11", "debian:12", false},
		{"docker.io/library/debian", "debian:12", true},
		{"deb*", "debian:12", true},
		{"deb*:1?", "debian:12", true},
		{"*", "debian:12", true},
		{"*", "team/app:1", false},
		{"*/*", "team/app:1", true},
		{"*/app", "team/app:1", true},
		{"localhost:5000/*", "localhost:5000/app:1", true},
		{"localhost:5000/app", "localhost:5000/app:1", true},
		{"ebian", "debian:12", false},
		{"[", "debian:12", false},
	} {
		n, err := registry.ParseName(tc.name)
		if err != nil {
			t.Fatal(err)
		}
		if got := matchesName(tc.pattern, n); got != tc.want {
			t.Errorf("matchesName(%q, %s) = %v, want %v", tc.pattern, tc.name, got, tc.want)
		}
	}
}
