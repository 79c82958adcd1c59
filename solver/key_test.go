package solver

import (
	"flag"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"lamina/snapshot"
)

var update = flag.Bool("update", false, "rewrite golden files")

func ptr[T any](v T) *T { return &v }

// keyCases has every kind of operation with every field set, so that the golden
// file notices any change of the encoding.
func keyCases() []Op {
	return []Op{
		Image{},
		Image{Digest: digest.FromString("image"), Layers: []snapshot.Layer{{DiffID: digest.FromString("layer")}}},
		Local{Name: "context"},
		HTTP{URL: "https://example.com/f", Name: "f", Checksum: digest.FromString("f")},
		Git{
			Remote: "https://example.com/r.git", Ref: "main", Checksum: "0123abcd", Subdir: "d", KeepGitDir: true,
			SkipSubmodules: true, CommitTime: true, ByCommit: true,
		},
		Inline{Files: []InlineFile{{Name: "EOF", Data: "hello\n"}}},
		Mkdir{Path: "/app", User: "app:app", Epoch: ptr(int64(1))},
		Copy{
			Sources: []CopySource{{Paths: []string{"a", "b*"}, Unpack: true, ResetOwner: true}},
			Dest:    "/x/", Owner: "1:2", Mode: "u+x",
		},
		Run{
			Args: []string{"/bin/sh", "-c", "make <&>"}, Env: []string{"A=b"}, Dir: "/", User: "app",
			Mounts: []RunMount{{
				Type: MountCache, Target: "/c", Input: 1, Source: "s", ReadOnly: true, CacheID: "id", Sharing: "locked",
				SecretID: "s", EnvName: "S", Required: true, Mode: ptr(uint32(0o700)), UID: ptr(1), GID: ptr(2), Size: 3,
			}},
			Network: "none", Hostname: "h", Hosts: []string{"a=1.2.3.4"}, ShmSize: 1, Ulimits: []string{"nofile=1:2"},
			Files: []InlineFile{{Name: "EOF", Data: "x"}}, ProxyEnv: []string{"HTTP_PROXY=secret"},
		},
		Run{
			Args: []string{"git"}, Security: "insecure",
			Mounts: []RunMount{
				{Type: MountSSH, Target: "/agent", SSHID: "default", Required: true, Mode: ptr(uint32(0o600))},
				{Type: MountVolume, Target: "/v", Source: "/home", Discard: true},
			},
		},
		Copy{Sources: []CopySource{{Paths: []string{"a/./b"}, Parents: true, Exclude: []string{"*.md"}}}, Dest: "/"},
		Merge{},
	}
}

func TestKeyOfGolden(t *testing.T) {
	var b strings.Builder
	for _, op := range keyCases() {
		fmt.Fprintf(&b, "%s %s\n", op.kind(), KeyOf(op, []digest.Digest{digest.FromString("in")}))
	}
	const file = "testdata/keys.golden"
	if *update {
		if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), b.String()); diff != "" {
		t.Errorf("keys changed: raise keyVersion, then run with -update\n%s", diff)
	}
}

// Each exported field of each operation changes the key, but for those that are
// kept out of it by name.
func TestKeyOfCountsEveryField(t *testing.T) {
	kept := map[string]bool{"Run.ProxyEnv": true}
	for _, op := range keyCases() {
		full := reflect.ValueOf(op)
		for i := range full.NumField() {
			name := full.Type().Name() + "." + full.Type().Field(i).Name
			less := reflect.New(full.Type()).Elem()
			less.Set(full)
			if less.Field(i).IsZero() {
				continue // the zero Image
			}
			less.Field(i).SetZero()
			same := KeyOf(op, nil) == KeyOf(less.Interface().(Op), nil)
			if same != kept[name] {
				t.Errorf("%s: key is the same without it: %v", name, same)
			}
		}
	}
}

func TestKeyOfCountsInputsInOrder(t *testing.T) {
	a, b := digest.FromString("a"), digest.FromString("b")
	seen := map[digest.Digest]string{}
	for _, in := range [][]digest.Digest{nil, {a}, {b}, {a, b}, {b, a}, {a, a}} {
		k := KeyOf(Run{}, in)
		if other, dup := seen[k]; dup {
			t.Errorf("inputs %v and %s have the same key", in, other)
		}
		seen[k] = fmt.Sprint(in)
	}
}

// Bytes that are no UTF-8 all look alike in JSON, and must not in a key.
func TestKeyOfCountsEveryByte(t *testing.T) {
	a := Inline{Files: []InlineFile{{Name: "f", Data: "\xfe"}}}
	b := Inline{Files: []InlineFile{{Name: "f", Data: "\xff"}}}
	if KeyOf(a, nil) == KeyOf(b, nil) {
		t.Error("files with different bytes have the same key")
	}
	var g Graph
	if g.Add(Node{Op: a}) == g.Add(Node{Op: b}) {
		t.Error("files with different bytes are the same node")
	}
}
