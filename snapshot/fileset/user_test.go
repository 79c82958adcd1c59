package fileset

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"lamina/snapshot"
)

func userTree() fakeTree {
	return fakeTree{
		"etc":     dir(0o755),
		"usr":     dir(0o755),
		"usr/lib": dir(0o755),
		// A link, as some distributions have it, and absolute: inside the image.
		"etc/passwd": link("/usr/lib/passwd"),
		"usr/lib/passwd": file(0o644, "root:x:0:0:root:/root:/bin/sh\n"+
			"www:x:33:34::/var/www:/bin/false\n"+
			"1000:x:77:78::/odd:\n"+
			"app:x:1000:1001::/home/app:/bin/sh\n"),
		"etc/group": file(0o644, "root:x:0:\nwheel:x:10:app,root\naudio:x:63:app\nwww:x:34:\n"),
	}
}

func TestLookupUser(t *testing.T) {
	for _, tc := range []struct {
		spec string
		want User
	}{
		{"", User{Name: "root", Home: "/root", Groups: []int{10}}},
		{"root", User{Name: "root", Home: "/root", Groups: []int{10}}},
		{"www", User{UID: 33, GID: 34, Name: "www", Home: "/var/www"}},
		{"app", User{UID: 1000, GID: 1001, Name: "app", Home: "/home/app", Groups: []int{10, 63}}},
		{"1000", User{UID: 1000, GID: 1001, Name: "app", Home: "/home/app", Groups: []int{10, 63}}},
		{"app:www", User{UID: 1000, GID: 34, Name: "app", Home: "/home/app"}},
		{"app:5", User{UID: 1000, GID: 5, Name: "app", Home: "/home/app"}},
		{"app:", User{UID: 1000, GID: 1001, Name: "app", Home: "/home/app", Groups: []int{10, 63}}},
		{"1234", User{UID: 1234}},
		{"1234:1234", User{UID: 1234, GID: 1234}},
		{"1234:audio", User{UID: 1234, GID: 63}},
	} {
		got, err := LookupUser(userTree(), tc.spec)
		if err != nil {
			t.Errorf("LookupUser(%q): %v", tc.spec, err)
			continue
		}
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("LookupUser(%q) (-want +got):\n%s", tc.spec, diff)
		}
	}
}

func TestLookupOwner(t *testing.T) {
	for spec, want := range map[string]Owner{
		"":          {0, 0},
		"root":      {0, 0},
		"www":       {33, 34},
		"1234":      {1234, 1234},
		"1000":      {1000, 1000}, // a number is not looked up
		"1234:5":    {1234, 5},
		"app:audio": {1000, 63},
		"7:wheel":   {7, 10},
		"www:":      {33, 0},
		// Unknown names.
		"nobody":       {0, 0},
		"nobody:audio": {0, 63},
		"app:nogroup":  {1000, 1001},
		"4294967296":   {0, 0},
		// Numbers as the kernel takes them: -1 is no change.
		"-1":    {0, 0},
		"7:-1":  {7, 0},
		"-2:+8": {4294967294, 8},
	} {
		got, err := LookupOwner(userTree(), spec)
		if err != nil || got != want {
			t.Errorf("LookupOwner(%q) = %v, %v, want %v", spec, got, err, want)
		}
	}
}

func TestLookupWithoutFiles(t *testing.T) {
	for _, spec := range []string{"", "root", "0"} {
		u, err := LookupUser(fakeTree{}, spec)
		if err != nil || u.UID != 0 || u.GID != 0 {
			t.Errorf("LookupUser(%q) = %v, %v, want 0:0", spec, u, err)
		}
	}
	o, err := LookupOwner(fakeTree{}, "root:root")
	if err != nil || o != (Owner{}) {
		t.Errorf(`LookupOwner("root:root") = %v, %v, want 0:0`, o, err)
	}
}

func TestLookupErrors(t *testing.T) {
	large := fakeTree{
		"etc":        dir(0o755),
		"etc/passwd": file(0o644, strings.Repeat("# nothing here\n", maxUserFile/15+1)),
	}
	for _, tc := range []struct {
		tree snapshot.Tree
		spec string
		want string
	}{
		{userTree(), "nobody", `no user "nobody" in /etc/passwd`},
		{userTree(), "app:nogroup", `no group "nogroup" in /etc/group`},
		{userTree(), "-1", `no user "-1" in /etc/passwd`},
		{userTree(), "4294967296", `no user "4294967296" in /etc/passwd`},
		{fakeTree{}, "app", `no user "app" in /etc/passwd`},
		{large, "app", `read /etc/passwd: it is larger than 10485760 bytes`},
	} {
		if _, err := LookupUser(tc.tree, tc.spec); err == nil || err.Error() != tc.want {
			t.Errorf("LookupUser(%q) = %v, want %s", tc.spec, err, tc.want)
		}
	}
	if _, err := LookupOwner(fakeTree{}, "app"); err == nil || err.Error() != `no user "app" in /etc/passwd` {
		t.Errorf("LookupOwner in an empty tree: %v", err)
	}
	if _, err := LookupOwner(fakeTree{}, "5:app"); err == nil || err.Error() != `no group "app" in /etc/group` {
		t.Errorf("LookupOwner of a group in an empty tree: %v", err)
	}
	if _, err := LookupOwner(large, "app"); err == nil || err.Error() != `read /etc/passwd: it is larger than 10485760 bytes` {
		t.Errorf("LookupOwner in a large file: %v", err)
	}
}
