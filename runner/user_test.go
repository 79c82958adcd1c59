package runner

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/sys/user"
	"golang.org/x/sys/unix"
)

func passwdRoot(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	if err := os.Mkdir(filepath.Join(root, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(root, "etc/passwd"), "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1001::/home/user:/bin/sh\n", 0o644)
	write(t, filepath.Join(root, "etc/group"), "root:x:0:\nuser:x:1001:\nwheel:x:10:user\nstaff:x:50:root,user\n", 0o644)
	return root
}

func TestLookupUser(t *testing.T) {
	root := passwdRoot(t)
	for _, tc := range []struct {
		spec string
		want user.ExecUser
		err  string
	}{
		{"", user.ExecUser{Uid: 0, Gid: 0, Sgids: []int{0, 50}, Home: "/root"}, ""},
		{"user", user.ExecUser{Uid: 1000, Gid: 1001, Sgids: []int{1001, 10, 50}, Home: "/home/user"}, ""},
		{"1000", user.ExecUser{Uid: 1000, Gid: 1001, Sgids: []int{1001, 10, 50}, Home: "/home/user"}, ""},
		{"1234", user.ExecUser{Uid: 1234, Gid: 0, Sgids: []int{0}, Home: "/"}, ""},
		{"1234:1234", user.ExecUser{Uid: 1234, Gid: 1234, Sgids: []int{1234}, Home: "/"}, ""},
		{"user:wheel", user.ExecUser{Uid: 1000, Gid: 10, Sgids: []int{10}, Home: "/home/user"}, ""},
		{"user:77", user.ExecUser{Uid: 1000, Gid: 77, Sgids: []int{77}, Home: "/home/user"}, ""},
		{"nobody", user.ExecUser{}, "unable to find user nobody: no matching entries in passwd file"},
		{"user:none", user.ExecUser{}, "unable to find group none: no matching entries in group file"},
		{"-1", user.ExecUser{}, `user "-1": uids and gids must be in range 0-2147483647`},
	} {
		got, err := lookupUser(root, tc.spec)
		if err != nil || tc.err != "" {
			if err == nil || err.Error() != tc.err {
				t.Errorf("%q: error %v, want %q", tc.spec, err, tc.err)
			}
			continue
		}
		if diff := cmp.Diff(tc.want, *got); diff != "" {
			t.Errorf("%q (-want +got):\n%s", tc.spec, diff)
		}
	}
}

func TestLookupUserStaysInRoot(t *testing.T) {
	root := passwdRoot(t)
	passwd := filepath.Join(root, "etc/passwd")
	if err := os.Rename(passwd, filepath.Join(root, "real")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/real", passwd); err != nil {
		t.Fatal(err)
	}
	if u, err := lookupUser(root, "user"); err != nil || u.Uid != 1000 {
		t.Errorf("through an absolute link: %v, %v", u, err)
	}
	outside := filepath.Join(t.TempDir(), "passwd")
	write(t, outside, "evil:x:666:666::/:/bin/sh\n", 0o644)
	for name, make := range map[string]func() error{
		"link out": func() error { return os.Symlink(outside, passwd) },
		"fifo":     func() error { return unix.Mkfifo(passwd, 0o644) },
		"missing":  func() error { return nil },
	} {
		if err := os.Remove(passwd); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		if err := make(); err != nil {
			t.Fatal(err)
		}
		if u, err := lookupUser(root, "evil"); err == nil {
			t.Errorf("%s: found %v", name, u)
		}
		if u, err := lookupUser(root, "5:6"); err != nil || u.Uid != 5 || u.Gid != 6 {
			t.Errorf("%s: 5:6 is %v, %v", name, u, err)
		}
	}
}

func TestUserOfAProcess(t *testing.T) {
	root := busyboxRoot(t)
	got := output(t, root, "id -u; id -g; id -G; pwd; echo $HOME $PATH $A", func(s *Spec) {
		s.User, s.Dir, s.Env = "user", "/made/here", []string{"A=1", "A=2"}
	})
	want := "1000\n1001\n1001 10 50\n/made/here\n/home/user /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin 2"
	if got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if info, err := os.Stat(filepath.Join(root, "made/here")); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("working directory: %v, %v", info, err)
	}
	r, _ := newRunner(t)
	s := shell(root, "true")
	s.User = "nobody"
	_, err := run(t, r, s)
	if want := "unable to find user nobody: no matching entries in passwd file"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestEnvironment(t *testing.T) {
	for _, tc := range []struct{ env, want []string }{
		{[]string{"X=1"}, []string{"X=1", defaultPath}},
		{[]string{"PATH=", "X=1"}, []string{"PATH=", "X=1"}},
		{[]string{"XPATH=/x"}, []string{"XPATH=/x", defaultPath}},
	} {
		if diff := cmp.Diff(tc.want, environment(tc.env)); diff != "" {
			t.Errorf("%q (-want +got):\n%s", tc.env, diff)
		}
	}
}

// HOME is that of the first user of the number, whatever the user was called by.
func TestHome(t *testing.T) {
	root := busyboxRoot(t)
	write(t, filepath.Join(root, "etc/passwd"), "a:x:7:7::/one:/bin/sh\nb:x:7:8::/two:/bin/sh\nc:x:9:9:::/bin/sh\n", 0o644)
	for _, tc := range []struct{ user, env, want string }{
		{"b", "A=1", "/one 8"},
		{"7:5", "A=1", "/one 5"},
		{"c", "A=1", "9"},
		{"33", "A=1", "/ 0"},
		{"b", "HOME=", "/one 8"},
		{"b", "HOME=/own", "/own 8"},
	} {
		got := output(t, root, "echo $HOME $(id -g)", func(s *Spec) { s.User, s.Env = tc.user, []string{tc.env} })
		if got != tc.want {
			t.Errorf("%s, %s: got %q, want %q", tc.user, tc.env, got, tc.want)
		}
	}
}

// A missing working directory belongs to the user if OwnDir says so; what is
// there stays as it is.
func TestOwnDir(t *testing.T) {
	root := busyboxRoot(t)
	if err := os.Mkdir(filepath.Join(root, "there"), 0o711); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/there", filepath.Join(root, "link")); err != nil {
		t.Fatal(err)
	}
	const show = `pwd; for d in /there /there/new /there/new/er; do stat -c '%a %u:%g' $d; done`
	for _, own := range []bool{true, false} {
		got := output(t, root, show+"; cd /; rm -r /there/new", func(s *Spec) { s.Dir, s.OwnDir = "/link/new/er", own })
		want := "/there/new/er\n711 0:0\n755 0:0\n755 0:0"
		if got != want {
			t.Errorf("root, OwnDir=%v: got %q, want %q", own, got, want)
		}
	}
	got := output(t, root, show, func(s *Spec) { s.Dir, s.OwnDir, s.User = "/link/new/er", true, "5:6" })
	if want := "/there/new/er\n711 0:0\n755 5:6\n755 5:6"; got != want {
		t.Errorf("5:6: got %q, want %q", got, want)
	}
}
