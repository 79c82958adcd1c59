package dir

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"sort"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"lamina/snapshot"
)

// node is a file of a tree in memory.
type node struct {
	snapshot.Entry
	data   string
	xattrs map[string]string
}

// tree is a tree in memory, by name.
type tree map[string]node

var when = time.Date(2020, 2, 3, 4, 5, 6, 789, time.UTC)

// put adds a node; its owner is 0:0 unless changed later.
func (t tree) put(name string, kind snapshot.Kind, mode uint32, change func(*node)) {
	n := node{Entry: snapshot.Entry{Name: path.Base(name), Kind: kind, Mode: mode, ModTime: when}}
	if change != nil {
		change(&n)
	}
	t[name] = n
}

func (t tree) Lstat(name string) (snapshot.Entry, error) {
	n, ok := t[name]
	if !ok {
		return snapshot.Entry{}, fs.ErrNotExist
	}
	return n.Entry, nil
}

func (t tree) ReadDir(name string) ([]snapshot.Entry, error) {
	var all []snapshot.Entry
	for p, n := range t {
		if path.Dir(p) == name && p != "." {
			all = append(all, n.Entry)
		}
	}
	sort.Slice(all, func(i, j int) bool { return all[i].Name < all[j].Name })
	return all, nil
}

func (t tree) Open(name string) (io.ReadCloser, error) {
	return io.NopCloser(strings.NewReader(t[name].data)), nil
}

func (t tree) Xattrs(name string) (map[string]string, error) { return t[name].xattrs, nil }

func example() tree {
	t := tree{}
	t.put("bin", snapshot.Dir, 0o755, nil)
	t.put("bin/tool", snapshot.File, 0o4755, func(n *node) { n.data = "#!/bin/sh" })
	t.put("etc", snapshot.Dir, 0o500, nil) // not writable, not even by its owner
	t.put("etc/passwd", snapshot.File, 0o640, func(n *node) { n.data, n.UID, n.GID = "root", 7, 8 })
	t.put("etc/empty", snapshot.File, 0o400, nil)
	t.put("etc/alias", snapshot.Symlink, 0o777, func(n *node) { n.Link = "/etc/passwd" })
	t.put("data", snapshot.Dir, 0o1777, nil)
	t.put("data/one", snapshot.File, 0o644, func(n *node) { n.data, n.Dev, n.Ino, n.Nlink = "same", 1, 2, 2 })
	t.put("data/two", snapshot.File, 0o644, func(n *node) { n.data, n.Dev, n.Ino, n.Nlink = "same", 1, 2, 2 })
	t.put("data/pipe", snapshot.Fifo, 0o622, nil)
	t.put("data/socket", snapshot.Socket, 0o777, nil)
	return t
}

// list describes what is in dir, one line for each file.
func list(t *testing.T, dir string) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
		if err != nil || p == dir {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(p, &st); err != nil {
			return err
		}
		name, _ := filepath.Rel(dir, p)
		line := fmt.Sprintf("%#o %s", st.Mode, time.Unix(st.Mtim.Unix()).UTC().Format(time.RFC3339Nano))
		switch e.Type() {
		case 0:
			data, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			line += " " + string(data)
		case fs.ModeSymlink:
			target, err := os.Readlink(p)
			if err != nil {
				return err
			}
			line += " -> " + target
		}
		found[name] = line
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

const at = "2020-02-03T04:05:06.000000789Z"

var exampleFiles = map[string]string{
	"bin":        "040755 " + at,
	"bin/tool":   "0104755 " + at + " #!/bin/sh",
	"etc":        "040500 " + at,
	"etc/passwd": "0100640 " + at + " root",
	"etc/empty":  "0100400 " + at + " ",
	"etc/alias":  "0120777 " + at + " -> /etc/passwd",
	"data":       "041777 " + at,
	"data/one":   "0100644 " + at + " same",
	"data/two":   "0100644 " + at + " same",
	"data/pipe":  "010622 " + at,
}

func TestWrite(t *testing.T) {
	target := filepath.Join(t.TempDir(), "new", "target")
	for _, round := range []string{"new", "over itself"} {
		if err := Write(t.Context(), target, example(), Options{}); err != nil {
			t.Fatalf("%s: %v", round, err)
		}
		if diff := cmp.Diff(exampleFiles, list(t, target)); diff != "" {
			t.Errorf("%s: %s", round, diff)
		}
		var one, two unix.Stat_t
		if err := errors.Join(unix.Stat(target+"/data/one", &one), unix.Stat(target+"/data/two", &two)); err != nil {
			t.Fatal(err)
		}
		if one.Ino != two.Ino || one.Nlink != 2 {
			t.Errorf("%s: inodes %d and %d, %d links", round, one.Ino, two.Ino, one.Nlink)
		}
	}
	// The test's directory has to be removable by an ordinary user.
	if err := os.Chmod(filepath.Join(target, "etc"), 0o700); err != nil {
		t.Fatal(err)
	}
}

func TestWriteMerges(t *testing.T) {
	target := t.TempDir()
	for _, dir := range []string{"etc/sub", "bin/tool/full", "data"} {
		if err := os.MkdirAll(filepath.Join(target, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, data := range map[string]string{"etc/passwd": "old", "etc/sub/keep": "kept", "bin/tool/full/x": "gone", "top": "kept"} {
		if err := os.WriteFile(filepath.Join(target, name), []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Link(filepath.Join(target, "etc/passwd"), filepath.Join(target, "hard")); err != nil {
		t.Fatal(err)
	}
	if err := Write(t.Context(), target, example(), Options{}); err != nil {
		t.Fatal(err)
	}
	defer os.Chmod(filepath.Join(target, "etc"), 0o700)
	found := list(t, target)
	for name, want := range map[string]string{
		"etc/passwd":   " root", // replaced
		"hard":         " old",  // what shared its inode is not
		"etc/sub/keep": " kept",
		"top":          " kept",
		"bin/tool":     " #!/bin/sh", // a directory made way
	} {
		if !strings.HasSuffix(found[name], want) {
			t.Errorf("%s is %q, want it to end in %q", name, found[name], want)
		}
	}
}

func TestWriteStaysInside(t *testing.T) {
	outside := t.TempDir()
	victim := filepath.Join(outside, "passwd")
	if err := os.WriteFile(victim, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	target := t.TempDir()
	for name, to := range map[string]string{"etc": outside, "data": "bin", "bin": "../" + filepath.Base(outside)} {
		if err := os.Symlink(to, filepath.Join(target, name)); err != nil {
			t.Fatal(err)
		}
	}
	before := list(t, outside)
	if err := Write(t.Context(), target, example(), Options{}); err != nil {
		t.Fatal(err)
	}
	defer os.Chmod(filepath.Join(target, "etc"), 0o700)
	if diff := cmp.Diff(before, list(t, outside)); diff != "" {
		t.Errorf("outside changed: %s", diff)
	}
	if diff := cmp.Diff(exampleFiles, list(t, target)); diff != "" {
		t.Error(diff)
	}

	// Files that are links are replaced, not written through.
	target = t.TempDir()
	if err := os.Mkdir(filepath.Join(target, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"etc/passwd", "etc/empty"} {
		if err := os.Symlink(victim, filepath.Join(target, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := Write(t.Context(), target, example(), Options{}); err != nil {
		t.Fatal(err)
	}
	defer os.Chmod(filepath.Join(target, "etc"), 0o700)
	if diff := cmp.Diff(before, list(t, outside)); diff != "" {
		t.Errorf("outside changed: %s", diff)
	}
}

func TestWriteRefusesNames(t *testing.T) {
	for _, name := range []string{"..", "a/b", "", "."} {
		tr := tree{}
		tr.put("x", snapshot.File, 0o644, func(n *node) { n.Name = name })
		if err := Write(t.Context(), t.TempDir(), tr, Options{}); err == nil || !strings.Contains(err.Error(), "invalid file name") {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestWriteAttributes(t *testing.T) {
	target := t.TempDir()
	tr := tree{}
	tr.put("f", snapshot.File, 0o644, func(n *node) { n.xattrs = map[string]string{"user.color": "blue"} })
	tr.put("d", snapshot.Dir, 0o755, func(n *node) { n.xattrs = map[string]string{"user.color": "red"} })
	if err := unix.Setxattr(target, "user.probe", nil, 0); err != nil {
		t.Skipf("the filesystem has no extended attributes for users: %v", err)
	}
	if err := Write(t.Context(), target, tr, Options{}); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"f": "blue", "d": "red"} {
		value := make([]byte, 10)
		n, err := unix.Getxattr(filepath.Join(target, name), "user.color", value)
		if err != nil || string(value[:max(n, 0)]) != want {
			t.Errorf("%s: %q, %v; want %q", name, value[:max(n, 0)], err, want)
		}
	}
}

func TestWriteAsRoot(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("owners and devices need root")
	}
	target := t.TempDir()
	if err := unix.Mknod(filepath.Join(target, "probe"), unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))); err != nil {
		t.Skipf("no devices in this environment: %v", err)
	}
	tr := example()
	tr.put("null", snapshot.CharDevice, 0o666, func(n *node) { n.Major, n.Minor, n.GID = 1, 3, 5 })
	tr.put("link", snapshot.Symlink, 0o777, func(n *node) { n.Link, n.UID = "nowhere", 9 })
	tr.put("cap", snapshot.File, 0o4755, func(n *node) {
		n.UID = 11
		n.xattrs = map[string]string{"security.capability": "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"}
	})
	if err := Write(t.Context(), target, tr, Options{}); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"etc/passwd": "7:8 0100640 0",
		"etc":        "0:0 040500 0",
		"null":       "0:5 020666 259",
		"link":       "9:0 0120777 0",
		"cap":        "11:0 0104755 0",
	} {
		var st unix.Stat_t
		if err := unix.Lstat(filepath.Join(target, name), &st); err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprintf("%d:%d %#o %d", st.Uid, st.Gid, st.Mode, st.Rdev); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	if n, err := unix.Getxattr(filepath.Join(target, "cap"), "security.capability", make([]byte, 64)); n != 20 || err != nil {
		t.Errorf("capability: %d bytes, %v", n, err)
	}
}

func TestTolerate(t *testing.T) {
	var log bytes.Buffer
	w := &writer{log: slog.New(slog.NewTextHandler(&log, nil))}
	if err := w.tolerate(syscall.EPERM, "owner", "a/b"); err != nil {
		t.Errorf("EPERM: %v", err)
	}
	if !strings.Contains(log.String(), `msg="owner left out" path=a/b error="operation not permitted"`) {
		t.Errorf("log: %s", log.String())
	}
	if err := w.tolerate(syscall.EIO, "owner", "a/b"); !errors.Is(err, syscall.EIO) || err.Error() != "set owner a/b: input/output error" {
		t.Errorf("EIO: %v", err)
	}
}

func TestWriteEpoch(t *testing.T) {
	target := t.TempDir()
	epoch := time.Unix(1000, 0)
	tr := tree{}
	tr.put("late", snapshot.File, 0o644, nil)
	tr.put("early", snapshot.File, 0o644, func(n *node) { n.ModTime = time.Unix(500, 7) })
	tr.put("link", snapshot.Symlink, 0o777, func(n *node) { n.Link = "late" })
	if err := Write(t.Context(), target, tr, Options{Epoch: &epoch}); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"late":  "0100644 1970-01-01T00:16:40Z ",
		"early": "0100644 1970-01-01T00:16:40Z ",
		"link":  "0120777 1970-01-01T00:16:40Z -> late",
	}
	if diff := cmp.Diff(want, list(t, target)); diff != "" {
		t.Error(diff)
	}
}

func TestWriteCanceled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Write(ctx, t.TempDir(), example(), Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

func TestJoin(t *testing.T) {
	target := t.TempDir()
	one, two := tree{}, tree{}
	one.put("a", snapshot.File, 0o644, func(n *node) { n.data = "one" })
	two.put("d", snapshot.Dir, 0o700, nil)
	two.put("d/b", snapshot.File, 0o600, func(n *node) { n.data = "two" })
	both := Join(map[string]snapshot.Tree{"linux_amd64": one, "linux_arm64": two})
	if err := Write(t.Context(), target, both, Options{}); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"linux_amd64":     "040755 1970-01-01T00:00:00Z",
		"linux_amd64/a":   "0100644 " + at + " one",
		"linux_arm64":     "040755 1970-01-01T00:00:00Z",
		"linux_arm64/d":   "040700 " + at,
		"linux_arm64/d/b": "0100600 " + at + " two",
	}
	if diff := cmp.Diff(want, list(t, target)); diff != "" {
		t.Error(diff)
	}
	for _, name := range []string{"linux_s390x", "linux_amd64/none"} {
		if _, err := both.Lstat(name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Lstat(%s): %v", name, err)
		}
	}
	if e, err := both.Lstat("linux_arm64/d/b"); err != nil || e.Name != "b" || e.Mode != 0o600 {
		t.Errorf("Lstat = %+v, %v", e, err)
	}
}

// TestWriteDelete removes what the tree does not have, and nothing through a link.
func TestWriteDelete(t *testing.T) {
	outside, target := t.TempDir(), t.TempDir()
	for _, name := range []string{outside + "/kept", target + "/old", target + "/d/old/deep", target + "/was"} {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(outside, target+"/link"); err != nil {
		t.Fatal(err)
	}
	tr := tree{}
	tr.put("d", snapshot.Dir, 0o755, nil)
	tr.put("was", snapshot.File, 0o644, func(n *node) { n.data = "new" })
	if err := Write(t.Context(), target, tr, Options{Delete: true}); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"d": "040755 " + at, "was": "0100644 " + at + " new"}
	if diff := cmp.Diff(want, list(t, target)); diff != "" {
		t.Error(diff)
	}
	if _, err := os.Stat(outside + "/kept"); err != nil {
		t.Error(err)
	}
}

func TestMerge(t *testing.T) {
	target := t.TempDir()
	one, two := tree{}, tree{}
	for _, tr := range []tree{one, two} {
		tr.put("bin", snapshot.Dir, 0o755, nil)
	}
	one.put("bin/a", snapshot.File, 0o644, func(n *node) { n.data = "one" })
	two.put("bin/b", snapshot.File, 0o600, func(n *node) { n.data = "two" })
	parts := []Part{{"linux/amd64", one}, {"linux/arm64", two}}
	if err := Write(t.Context(), target, Merge(parts), Options{}); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"bin": "040755 " + at, "bin/a": "0100644 " + at + " one", "bin/b": "0100600 " + at + " two"}
	if diff := cmp.Diff(want, list(t, target)); diff != "" {
		t.Error(diff)
	}
	two.put("bin/a", snapshot.File, 0o644, nil)
	err := Write(t.Context(), t.TempDir(), Merge(parts), Options{})
	if err == nil || !strings.HasSuffix(err.Error(), "bin: both linux/amd64 and linux/arm64 have a file a") {
		t.Errorf("error %v", err)
	}
	for _, name := range []string{"none", "bin/none"} {
		if _, err := Merge(parts).Lstat(name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Lstat(%s): %v", name, err)
		}
	}
}

func TestTar(t *testing.T) {
	one := tree{}
	one.put(".", snapshot.Dir, 0o755, nil)
	one.put("a", snapshot.File, 0o644, func(n *node) { n.data, n.Size, n.UID = "one", 3, 7 })
	epoch := time.Unix(1000, 0)
	opt := Options{Epoch: &epoch}
	var first, second bytes.Buffer
	for _, w := range []io.Writer{&first, &second} {
		if err := Tar(t.Context(), w, Join(map[string]snapshot.Tree{"linux_amd64": one, "linux_arm64": tree{}}), opt); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Error("two archives of the same tree differ")
	}
	found := map[string]string{}
	for r := tar.NewReader(&first); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		found[strings.TrimSuffix(h.Name, "/")] = fmt.Sprintf("%d %s %d", h.Uid, data, h.ModTime.Unix())
	}
	delete(found, ".")
	want := map[string]string{"linux_amd64": "0  1000", "linux_amd64/a": "7 one 1000", "linux_arm64": "0  1000"}
	if diff := cmp.Diff(want, found); diff != "" {
		t.Error(diff)
	}
}
