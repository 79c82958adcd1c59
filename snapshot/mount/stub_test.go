package mount_test

import (
	"fmt"
	"io"
	"io/fs"
	"testing"

	"github.com/google/go-cmp/cmp"

	"lamina/snapshot"
	"lamina/snapshot/mount"
)

// tree is a snapshot.Tree of names alone: a target for a link, "/" for a
// directory, "" for a file.
type tree map[string]string

func (t tree) Lstat(name string) (snapshot.Entry, error) {
	to, ok := t[name]
	switch {
	case !ok:
		return snapshot.Entry{}, fs.ErrNotExist
	case to == "/":
		return snapshot.Entry{Kind: snapshot.Dir}, nil
	case to == "":
		return snapshot.Entry{Kind: snapshot.File}, nil
	}
	return snapshot.Entry{Kind: snapshot.Symlink, Link: to}, nil
}

func (tree) ReadDir(string) ([]snapshot.Entry, error)      { return nil, fs.ErrNotExist }
func (tree) Open(string) (io.ReadCloser, error)            { return nil, fs.ErrNotExist }
func (tree) Xattrs(string) (map[string]string, error)      { return nil, fs.ErrNotExist }
func file(name string) snapshot.Target                     { return snapshot.Target{Path: name} }
func directory(name string) snapshot.Target                { return snapshot.Target{Path: name, Dir: true} }
func stubs(s ...mount.Stub) []mount.Stub                   { return s }
func targets(targets ...snapshot.Target) []snapshot.Target { return targets }
func stub(name string) mount.Stub                          { return mount.Stub{Name: name} }
func stubDir(name string) mount.Stub                       { return mount.Stub{Name: name, Dir: true} }

func TestStubs(t *testing.T) {
	root := tree{
		".": "/", "etc": "/", "etc/hosts": "", "etc/resolv.conf": "../run/resolve/stub.conf",
		"run": "/", "var": "/", "var/run": "/run", "cache": "/mnt/cache", "odd": "../../..",
	}
	for _, tc := range []struct {
		name    string
		targets []snapshot.Target
		want    []mount.Stub
		err     string
	}{
		{name: "nothing is missing", targets: targets(file("/etc/hosts"), directory("/run"), directory("/"))},
		{name: "a file", targets: targets(file("/etc/mtab")), want: stubs(stub("etc/mtab"))},
		{name: "parents come first", targets: targets(directory("/a/b/c")), want: stubs(stubDir("a"), stubDir("a/b"), stubDir("a/b/c"))},
		{name: "each once", targets: targets(directory("/a/b"), file("/a/c"), directory("/a/b/d"), directory("/a")), want: stubs(stubDir("a"), stubDir("a/b"), stub("a/c"), stubDir("a/b/d"))},
		{name: "kept, with its parents", targets: targets(directory("/a/b"), snapshot.Target{Path: "/c/d", Dir: true, Keep: true}), want: stubs(stubDir("a"), stubDir("a/b"), mount.Stub{Name: "c", Dir: true, Keep: true}, mount.Stub{Name: "c/d", Dir: true, Keep: true})},
		{name: "a dangling link", targets: targets(file("/etc/resolv.conf")), want: stubs(stubDir("run/resolve"), stub("run/resolve/stub.conf"))},
		{name: "an absolute link", targets: targets(directory("/var/run/x")), want: stubs(stubDir("run/x"))},
		{name: "an absolute dangling link", targets: targets(directory("/cache")), want: stubs(stubDir("mnt"), stubDir("mnt/cache"))},
		{name: "not above the root", targets: targets(directory("/odd/../../etc/x")), want: stubs(stubDir("etc/x"))},
		{name: "a relative path", targets: targets(directory("etc/x/")), want: stubs(stubDir("etc/x"))},
		{name: "a directory on a file", targets: targets(directory("/etc/hosts")), err: "mount target /etc/hosts: /etc/hosts is not a directory"},
		{name: "a file on a directory", targets: targets(file("/etc")), err: "mount target /etc: /etc is a directory, a file cannot be mounted on it"},
		{name: "a file on the root", targets: targets(file("/")), err: "mount target /: / is a directory, a file cannot be mounted on it"},
		{name: "below a file", targets: targets(file("/etc/hosts/x")), err: "mount target /etc/hosts/x: /etc/hosts is not a directory"},
		{name: "below a file to be made", targets: targets(file("/x"), file("/x/y")), err: "mount target /x/y: /x is not a directory"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := mount.Stubs(root, tc.targets)
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("stubs (-want +got):\n%s", diff)
			}
			if (err != nil || tc.err != "") && fmt.Sprint(err) != tc.err {
				t.Errorf("error %v, want %s", err, tc.err)
			}
		})
	}
}
