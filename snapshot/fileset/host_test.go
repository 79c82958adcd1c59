package fileset

import (
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"lamina/snapshot"
)

// eachOpener runs a test with openat2 and without.
func eachOpener(t *testing.T, root string, test func(t *testing.T, h *HostTree)) {
	for name, slow := range map[string]bool{"openat2": false, "by step": true} {
		t.Run(name, func(t *testing.T) {
			h := host(t, root)
			if !slow && h.noOpenat2 {
				t.Skip("the kernel has no openat2")
			}
			h.noOpenat2 = slow
			test(t, h)
		})
	}
}

func TestHostTree(t *testing.T) {
	root := hostDir(t, map[string]string{"b/c/file": "hello", "a": "x", "empty/": "", "link": "-> b/c"})
	long := "-> " + string(make([]byte, 0, 1)) + filepath.Join("..", string(bytesOf('x', 200)), string(bytesOf('y', 200)))
	must(t, os.Symlink(long[3:], filepath.Join(root, "long")))
	must(t, unix.Mkfifo(filepath.Join(root, "fifo"), 0o600))
	must(t, os.Chmod(filepath.Join(root, "a"), 0o4751|os.ModeSetuid))
	at := time.Date(2001, 2, 3, 4, 5, 6, 789, time.UTC)
	must(t, os.Chtimes(filepath.Join(root, "a"), at, at))
	eachOpener(t, root, func(t *testing.T, h *HostTree) {
		want := []string{"a", "b", "b/c", "b/c/file", "empty", "fifo", "link", "long"}
		if diff := cmp.Diff(want, names(t, h)); diff != "" {
			t.Error(diff)
		}
		e, err := h.Lstat("a")
		must(t, err)
		if e.Name != "a" || e.Kind != snapshot.File || e.Mode != 0o4751 || e.Size != 1 || !e.ModTime.Equal(at) ||
			e.UID != os.Getuid() || e.GID != os.Getgid() || e.Nlink != 1 || e.Ino == 0 || e.ChangeTime.IsZero() {
			t.Errorf("a is %+v", e)
		}
		if e, err := h.Lstat("long"); err != nil || e.Link != long[3:] {
			t.Errorf("long is %+v, %v", e, err)
		}
		if e, err := h.Lstat("."); err != nil || e.Kind != snapshot.Dir || e.Name != "." {
			t.Errorf(". is %+v, %v", e, err)
		}
		if got := read(t, h, "b/c/file"); got != "hello" {
			t.Errorf("file is %q", got)
		}
	})
}

func bytesOf(b byte, n int) []byte {
	out := make([]byte, n)
	for i := range out {
		out[i] = b
	}
	return out
}

func TestHostFollowsNothing(t *testing.T) {
	root := hostDir(t, map[string]string{
		"in/file": "x", "dir": "-> in", "abs": "-> /etc", "up": "-> ..", "loop": "-> loop", "file": "-> in/file",
	})
	eachOpener(t, root, func(t *testing.T, h *HostTree) {
		for _, name := range []string{"dir/file", "abs/passwd", "up/x", "loop/x", "in/file/x", "nothing", "../x", "in/../../x", ".."} {
			if _, err := h.Lstat(name); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("Lstat(%q) = %v, want %v", name, err, fs.ErrNotExist)
			}
			if _, err := h.Open(name); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("Open(%q) = %v, want %v", name, err, fs.ErrNotExist)
			}
			if _, err := h.ReadDir(name); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("ReadDir(%q) = %v, want %v", name, err, fs.ErrNotExist)
			}
		}
		if _, err := h.Open("file"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Open of a link: %v", err)
		}
		if _, err := h.ReadDir("dir"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("ReadDir of a link: %v", err)
		}
	})
}

func TestHostOpensOnlyFiles(t *testing.T) {
	root := hostDir(t, map[string]string{"dir/": ""})
	must(t, unix.Mkfifo(filepath.Join(root, "fifo"), 0o600))
	short, err := os.MkdirTemp("", "s") // the name of a socket may have 108 bytes
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(short) })
	l, err := net.Listen("unix", filepath.Join(short, "socket"))
	must(t, err)
	defer l.Close()
	must(t, os.Link(filepath.Join(short, "socket"), filepath.Join(root, "socket")))
	eachOpener(t, root, func(t *testing.T, h *HostTree) {
		for _, name := range []string{"fifo", "dir", "socket"} {
			if f, err := h.Open(name); err == nil {
				f.Close()
				t.Errorf("%s was opened", name)
			}
		}
		if e, err := h.Lstat("socket"); err != nil || e.Kind != snapshot.Socket {
			t.Errorf("the socket is %+v, %v", e, err)
		}
	})
}

// TestHostReadsToTheEnd reads files that are not as long as they said.
func TestHostReadsToTheEnd(t *testing.T) {
	root := hostDir(t, map[string]string{"f": "0123456789"})
	h := host(t, root)
	for name, change := range map[string]func() error{
		"as it was": func() error { return nil },
		"shorter":   func() error { return os.Truncate(filepath.Join(root, "f"), 5) },
		"empty":     func() error { return os.Truncate(filepath.Join(root, "f"), 0) },
		"longer":    func() error { return os.WriteFile(filepath.Join(root, "f"), bytesOf('x', 100_000), 0o644) },
	} {
		must(t, os.WriteFile(filepath.Join(root, "f"), []byte("0123456789"), 0o644))
		r, err := h.Open("f")
		must(t, err)
		must(t, change())
		got, err := io.ReadAll(r)
		must(t, err)
		must(t, r.Close())
		want, err := os.ReadFile(filepath.Join(root, "f"))
		must(t, err)
		// What is beyond the size that it had may be left out.
		if string(got) != string(want) && string(got) != string(want[:min(10, len(want))]) {
			t.Errorf("%s: %d bytes, want %d", name, len(got), len(want))
		}
	}
	if read(t, host(t, "/proc/self"), "status") == "" {
		t.Error("a file that says it is empty was not read")
	}
}

func TestHostXattrs(t *testing.T) {
	root := hostDir(t, map[string]string{"plain": "x", "cap": "x"})
	if err := unix.Setxattr(filepath.Join(root, "plain"), "user.note", []byte("mine"), 0); err != nil {
		t.Skipf("no extended attributes here: %v", err)
	}
	h := host(t, root)
	if got, err := h.Xattrs("plain"); err != nil || got != nil {
		t.Errorf("user attributes are not a context's business, but there are %v, %v", got, err)
	}
	if got, err := h.Xattrs("."); err != nil || got != nil {
		t.Errorf("the root has %v, %v", got, err)
	}
	// vfs_cap_data of revision 2: cap_net_bind_service, effective and permitted.
	value := "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	if err := unix.Setxattr(filepath.Join(root, "cap"), capability, []byte(value), 0); err != nil {
		t.Skipf("file capabilities cannot be set: %v", err)
	}
	got, err := h.Xattrs("cap")
	if diff := cmp.Diff(map[string]string{capability: value}, got); diff != "" || err != nil {
		t.Errorf("%v %s", err, diff)
	}
}

func TestHostMissing(t *testing.T) {
	root := hostDir(t, map[string]string{"file": "x"})
	for _, p := range []string{filepath.Join(root, "nothing"), filepath.Join(root, "file")} {
		if h, err := Host(p); err == nil {
			h.Close()
			t.Errorf("Host(%q) succeeded", p)
		}
	}
}

func TestHostUnreadable(t *testing.T) {
	if os.Getuid() == 0 {
		t.Skip("root can read everything")
	}
	root := hostDir(t, map[string]string{"secret": "x"})
	must(t, os.Chmod(filepath.Join(root, "secret"), 0))
	_, err := host(t, root).Open("secret")
	if !errors.Is(err, fs.ErrPermission) || err.Error() != "open secret: permission denied" {
		t.Errorf("Open = %v", err)
	}
}
