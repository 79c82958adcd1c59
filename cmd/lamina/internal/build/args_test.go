package build

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// variables are an environment.
type variables map[string]string

func (v variables) lookup(name string) (string, bool) {
	value, ok := v[name]
	return value, ok
}

// TestEmptyVariable holds that a variable that is set to nothing is set: a name
// alone takes nothing from it, and from one that is not set it is as if not given.
func TestEmptyVariable(t *testing.T) {
	lookup := variables{"FULL": "x", "EMPTY": ""}.lookup
	args, err := keyValues("build-arg", []string{"FULL", "EMPTY", "UNSET", "GIVEN="}, lookup)
	want := map[string]string{"FULL": "x", "EMPTY": "", "GIVEN": ""}
	if diff := cmp.Diff(want, args); diff != "" || err != nil {
		t.Errorf("build arguments: %v (-want +got):\n%s", err, diff)
	}
	t.Chdir(t.TempDir())
	for _, name := range []string{"EMPTY", "UNSET"} {
		if err := os.WriteFile(filepath.Clean(name), []byte("the file"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	secret, err := parseSecrets([]string{"id=EMPTY", "id=UNSET"}, lookup)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"EMPTY": "", "UNSET": "the file"} {
		if got, err := secret(name); string(got) != want || err != nil {
			t.Errorf("secret %s is %q, %v; want %q", name, got, err, want)
		}
	}
}
