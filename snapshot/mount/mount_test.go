package mount_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"lamina/snapshot"
	"lamina/snapshot/mount"
)

// private runs fn as mount.Private does, or skips the test.
func private(t *testing.T, fn func() error) {
	t.Helper()
	if err := mount.Private(func() error { return nil }); errors.Is(err, unix.EPERM) {
		t.Skip("mounting needs privileges: ", err)
	}
	if err := mount.Private(fn); err != nil {
		t.Fatal(err)
	}
}

// write makes files: a name that ends in a slash is a directory.
func write(t *testing.T, root string, files map[string]string) {
	t.Helper()
	for name, data := range files {
		full := filepath.Join(root, name)
		dir := full
		if !strings.HasSuffix(name, "/") {
			dir = filepath.Dir(full)
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if dir == full {
			continue
		}
		if err := os.WriteFile(full, []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func want(name, data string) error {
	got, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	if string(got) != data {
		return errors.New(name + " is " + string(got) + ", want " + data)
	}
	return nil
}

func overlayOn(dir string) snapshot.Mount {
	return snapshot.Mount{Type: "overlay", Target: "/", Options: []string{
		"lowerdir+=" + dir + "/top", "lowerdir+=" + dir + "/bottom",
		"upperdir=" + dir + "/upper", "workdir=" + dir + "/work",
		"redirect_dir=off", "metacopy=off", "index=off", "volatile",
	}}
}

var layers = map[string]string{
	"top/a": "top", "bottom/a": "bottom", "bottom/b": "bottom", "bottom/tmp/": "",
	"bottom/data/": "", "bottom/file": "", "upper/": "", "work/": "", "root/": "",
}

func TestDo(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, layers)
	write(t, dir, map[string]string{"host/f": "host", "host/sub/g": "sub", "secret": "s3cret"})
	root := filepath.Join(dir, "root")
	private(t, func() error {
		err := mount.Do(root, []snapshot.Mount{
			overlayOn(dir),
			{Type: "tmpfs", Target: "/tmp", Options: []string{"size=1048576", "mode=1777", "uid=7", "gid=8"}},
			{Type: "bind", Source: dir + "/host", Target: "/data", Options: []string{"ro"}},
			{Type: "bind", Source: dir + "/secret", Target: "file"},
		})
		if err != nil {
			return err
		}
		var tmp unix.Stat_t
		if err := unix.Stat(root+"/tmp", &tmp); err != nil {
			return err
		}
		if tmp.Uid != 7 || tmp.Gid != 8 || tmp.Mode&0o7777 != 0o1777 {
			t.Errorf("tmpfs is %o %d:%d, want 1777 7:8", tmp.Mode&0o7777, tmp.Uid, tmp.Gid)
		}
		if err := os.WriteFile(root+"/data/f", nil, 0o644); !errors.Is(err, unix.EROFS) {
			t.Errorf("write to a read-only bind: %v, want %v", err, unix.EROFS)
		}
		err = errors.Join(
			want(root+"/a", "top"), want(root+"/b", "bottom"),
			want(root+"/data/f", "host"), want(root+"/file", "s3cret"),
			os.WriteFile(root+"/b", []byte("changed"), 0o644),
			mount.Undo(root),
			want(dir+"/upper/b", "changed"), want(dir+"/bottom/b", "bottom"),
		)
		if left, rerr := os.ReadDir(root); rerr != nil || len(left) > 0 {
			t.Errorf("after Undo the root holds %v, %v", left, rerr)
		}
		return err
	})
	if left, err := os.ReadDir(root); err != nil || len(left) > 0 {
		t.Errorf("the mount reached the test's own namespace: %v, %v", left, err)
	}
}

// A target may pass through links. They lead where they would lead a process
// inside the root, and nowhere else.
func TestDoFollowsLinksInsideTheRoot(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{"root/": "", "lower/run/": "", "lower/etc/": "", "outside/": "", "host/f": "bound"})
	for name, to := range map[string]string{
		"lower/etc/abs":    "/run",
		"lower/etc/climbs": "../../../../../run",
		"lower/etc/host":   dir + "/outside",
		"lower/etc/loop":   "loop",
	} {
		if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	root := filepath.Join(dir, "root")
	for _, tc := range []struct {
		target string
		err    error
	}{
		{"/etc/abs", nil},
		{"/etc/climbs", nil},
		{"/etc/host", fs.ErrNotExist},
		{"/etc/loop", unix.ELOOP},
		{"/nowhere", fs.ErrNotExist},
		{"/nowhere/at/all", fs.ErrNotExist},
	} {
		t.Run(tc.target, func(t *testing.T) {
			private(t, func() error {
				err := mount.Do(root, []snapshot.Mount{
					{Type: "bind", Source: dir + "/lower", Target: "/"},
					{Type: "bind", Source: dir + "/host", Target: tc.target},
				})
				if !errors.Is(err, tc.err) {
					t.Errorf("Do: %v, want %v", err, tc.err)
				}
				if err != nil {
					return nil
				}
				return want(root+"/run/f", "bound")
			})
		})
	}
	if left, err := os.ReadDir(dir + "/outside"); err != nil || len(left) > 0 {
		t.Errorf("outside the root: %v, %v", left, err)
	}
}

func TestDoMakesTargetsThatAMountHides(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{"root/": "", "lower/cache/": "", "kept/": "", "host/f": "bound"})
	root := filepath.Join(dir, "root")
	private(t, func() error {
		err := mount.Do(root, []snapshot.Mount{
			{Type: "bind", Source: dir + "/lower", Target: "/"},
			{Type: "bind", Source: dir + "/kept", Target: "/cache"},
			{Type: "bind", Source: dir + "/host", Target: "/cache/a/b"},
			{Type: "bind", Source: dir + "/host/f", Target: "/cache/a/c"},
		})
		return errors.Join(err, want(root+"/cache/a/b/f", "bound"), want(root+"/cache/a/c", "bound"))
	})
	if _, err := os.Stat(dir + "/lower/cache/a"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the hidden directory was changed: %v", err)
	}
}

func TestDoRecursiveBind(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{"src/sub/": "", "other/f": "inner", "plain/": "", "rec/": ""})
	private(t, func() error {
		return errors.Join(
			mount.Do(dir+"/src/sub", []snapshot.Mount{{Type: "bind", Source: dir + "/other", Target: "/"}}),
			mount.Do(dir+"/rec", []snapshot.Mount{{Type: "bind", Source: dir + "/src", Target: "/", Options: []string{"rbind", "ro"}}}),
			mount.Do(dir+"/plain", []snapshot.Mount{{Type: "bind", Source: dir + "/src", Target: "/"}}),
			want(dir+"/rec/sub/f", "inner"),
			func() error {
				if _, err := os.Stat(dir + "/plain/sub/f"); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("a plain bind shows what is mounted beneath its source: %v", err)
				}
				if err := os.WriteFile(dir+"/rec/sub/f", nil, 0o644); !errors.Is(err, unix.EROFS) {
					t.Errorf("write beneath a recursive read-only bind: %v, want %v", err, unix.EROFS)
				}
				return nil
			}(),
		)
	})
}

func TestDoUndoesAllOnError(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, layers)
	write(t, dir, map[string]string{"before/f": "before"})
	root := filepath.Join(dir, "root")
	private(t, func() error {
		if err := mount.Do(root, []snapshot.Mount{{Type: "bind", Source: dir + "/before", Target: "/"}}); err != nil {
			return err
		}
		err := mount.Do(root, []snapshot.Mount{
			overlayOn(dir),
			{Type: "tmpfs", Target: "/tmp"},
			{Type: "bind", Source: dir + "/absent", Target: "/data"},
		})
		if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Do: %v, want %v", err, fs.ErrNotExist)
		}
		return want(root+"/f", "before")
	})
}

func TestDoRefuses(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, layers)
	root := filepath.Join(dir, "root")
	for _, tc := range []struct {
		name  string
		mount snapshot.Mount
		want  string
	}{
		{"unknown type", snapshot.Mount{Type: "ext4", Target: "/"}, `mount ext4 on /: unknown type of mount "ext4"`},
		{"unknown option", snapshot.Mount{Type: "bind", Source: dir, Target: "/", Options: []string{"exec"}}, `mount bind on /: unknown option "exec"`},
		{"directory on file", snapshot.Mount{Type: "bind", Source: dir + "/top/a", Target: "/"}, "mount bind on /: move_mount: "},
		{"option of tmpfs", snapshot.Mount{Type: "tmpfs", Target: "/", Options: []string{"colour=red"}}, "mount tmpfs on /: option colour=red: invalid argument (tmpfs: Unknown parameter 'colour')"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			private(t, func() error {
				err := mount.Do(root, []snapshot.Mount{tc.mount})
				if err == nil || !strings.HasPrefix(err.Error(), tc.want) {
					t.Errorf("Do: %v, want %s", err, tc.want)
				}
				return nil
			})
		})
	}
}

// Paths go to overlayfs as they are, however odd.
func TestDoOddPaths(t *testing.T) {
	for _, name := range []string{
		"a:b,c=d e", `back\slash\\`, "new\nline", strings.Repeat("long/", 100),
	} {
		t.Run(name[:5], func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), name)
			write(t, dir, layers)
			root := filepath.Join(dir, "root")
			private(t, func() error {
				return errors.Join(
					mount.Do(root, []snapshot.Mount{overlayOn(dir)}),
					want(root+"/a", "top"),
					os.WriteFile(root+"/new", []byte("new"), 0o644),
					want(dir+"/upper/new", "new"),
					mount.Undo(root),
				)
			})
		})
	}
}

func TestDoRefusesAReadOnlyOverlay(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, layers)
	work, err := os.Open(dir + "/work")
	if err != nil {
		t.Fatal(err)
	}
	defer work.Close()
	const immutable = 0x10 // FS_IMMUTABLE_FL
	if err := unix.IoctlSetPointerInt(int(work.Fd()), unix.FS_IOC_SETFLAGS, immutable); err != nil {
		t.Skip("cannot make the work directory immutable: ", err)
	}
	defer unix.IoctlSetPointerInt(int(work.Fd()), unix.FS_IOC_SETFLAGS, 0)
	private(t, func() error {
		if err := mount.Do(dir+"/root", []snapshot.Mount{overlayOn(dir)}); !errors.Is(err, mount.ErrReadOnly) {
			t.Errorf("Do: %v, want %v", err, mount.ErrReadOnly)
		}
		return nil
	})
}

func TestUndoReportsWhatIsInUse(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, layers)
	root := filepath.Join(dir, "root")
	private(t, func() error {
		if err := mount.Do(root, []snapshot.Mount{overlayOn(dir)}); err != nil {
			return err
		}
		f, err := os.Open(root + "/a")
		if err != nil {
			return err
		}
		defer f.Close()
		if err := mount.Undo(root); !errors.Is(err, unix.EBUSY) {
			t.Errorf("Undo: %v, want %v", err, unix.EBUSY)
		}
		if left, err := os.ReadDir(root); err != nil || len(left) > 0 {
			t.Errorf("after Undo the root holds %v, %v", left, err)
		}
		return nil
	})
}

func TestPrivate(t *testing.T) {
	failure := errors.New("failure")
	private(t, func() error { return nil })
	if err := mount.Private(func() error { return failure }); err != failure {
		t.Errorf("Private: %v, want the function's own error", err)
	}
	if err := mount.Private(func() error { runtime.Goexit(); return nil }); err == nil {
		t.Error("Private: no error from a function that did not return")
	}
}
