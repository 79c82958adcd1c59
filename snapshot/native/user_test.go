package native_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"lamina/snapshot"
	"lamina/snapshot/layer"
	"lamina/snapshot/native"
)

// asUser names the variable that tells a test process that it is an ordinary
// user's, and in which directory it may work.
const asUser = "LAMINA_TEST_AS_USER"

// An ordinary user can neither give files away nor make devices, and still makes
// the same layers.
func TestOrdinaryUser(t *testing.T) {
	if dir := os.Getenv(asUser); dir != "" {
		testOrdinaryUser(t, dir)
		return
	}
	if os.Geteuid() != 0 {
		testOrdinaryUser(t, t.TempDir())
		return
	}
	const nobody = 65534
	// Not t.TempDir, which nobody else may look into.
	dir, err := os.MkdirTemp("", "lamina-native-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := os.Chown(dir, nobody, nobody); err != nil {
		t.Skip("cannot make a directory for another user: ", err)
	}
	// The test's own program may lie where others do not see it.
	program := filepath.Join(dir, "test")
	copyFile(t, "/proc/self/exe", program)
	cmd := exec.Command(program, "-test.run=^TestOrdinaryUser$", "-test.v")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), asUser+"="+dir, "TMPDIR="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("as an ordinary user: %v\n%s", err, out)
	}
	if !strings.Contains(string(out), "--- PASS: TestOrdinaryUser") {
		t.Errorf("nothing was tested as an ordinary user:\n%s", out)
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	src, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	dst, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.Copy(dst, src)
	if err := errors.Join(err, dst.Close()); err != nil {
		t.Fatal(err)
	}
}

const capability = "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"

// writeForeign writes what an ordinary user's disk cannot hold.
func writeForeign(d *layer.Draft) error {
	then := time.Unix(1000, 5)
	e := func(mode uint32, uid, gid int) snapshot.Entry {
		return snapshot.Entry{Mode: mode, UID: uid, GID: gid, ModTime: then}
	}
	null := e(0o666, 0, 5)
	null.Kind, null.Major, null.Minor = snapshot.CharDevice, 1, 3
	file := func(name string, e snapshot.Entry) error { return d.File(name, e, strings.NewReader(name)) }
	return errors.Join(
		d.Mkdir("dev", e(0o755, 0, 0)), d.Device("dev/null", null), d.Device("dev/zero", null),
		d.Mkdir("home", e(0o500, 33, 34)), file("home/f", e(0o640, 33, 34)), file("home/secret", e(0, 33, 34)),
		file("ping", e(0o755, 0, 0)), d.SetAttrs("ping", e(0o755, 0, 0), map[string]string{"security.capability": capability}),
		file("su", e(0o4755, 0, 0)), d.Link("home/f", "link"),
		d.Mkdir("old", e(0o755, 1, 1)), file("old/f", e(0o644, 1, 1)),
	)
}

// change does to the root what a process in a user namespace would do, that
// has all rights on its user's files.
func change(root string) error {
	path := func(name string) string { return filepath.Join(root, name) }
	appendTo := func(name string) error {
		f, err := os.OpenFile(path(name), os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		_, err = f.WriteString(" and more")
		return errors.Join(err, f.Close())
	}
	return errors.Join(
		os.WriteFile(path("new"), nil, 0o600),
		appendTo("su"), syscall.Chmod(path("su"), 0o4750),
		os.Chmod(path("home"), 0o700), appendTo("home/f"),
		os.Chmod(path("home/secret"), 0o001),
		os.Rename(path("ping"), path("pong")),
		os.Remove(path("dev/zero")),
		os.RemoveAll(path("old")), os.Mkdir(path("old"), 0o755),
		os.WriteFile(path("old/closed"), []byte("x"), 0), os.Chmod(path("old"), 0),
	)
}

func testOrdinaryUser(t *testing.T, dir string) {
	tmp := filepath.Join(dir, "tmp")
	temp := func() (string, error) { return tmp, os.MkdirAll(tmp, 0o700) }
	pool, err := layer.OpenPool(filepath.Join(dir, "layers"), temp)
	if err != nil {
		t.Fatal(err)
	}
	draft, err := pool.Draft()
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(writeForeign(draft), draft.Commit("foreign")); err != nil {
		t.Fatal(err)
	}
	tx, err := native.New(pool, temp).Begin(t.Context(), []snapshot.ID{"foreign"}, []snapshot.Target{{Path: "/home/target", Dir: true}})
	if err != nil {
		t.Fatal(err)
	}
	if err := change(tx.Mounts()[0].Source); err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(t.Context(), "changed"); err != nil {
		t.Fatal(err)
	}
	if err := tx.Close(); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	want := []string{
		"dev 755 0:0", "dev/zero whiteout", "home 700 33:34", "home/f 640 33:34 is a link", "home/secret 1 33:34",
		"link 640 33:34 is a link", "new 600 0:0", "old 0 0:0 opaque", "old/closed 0 0:0",
		"ping whiteout", "pong 755 0:0 can", "su 4750 0:0",
	}
	if diff := cmp.Diff(want, listing(t, pool, "changed")); diff != "" {
		t.Errorf("the layer (-want +got):\n%s", diff)
	}
}

func listing(t *testing.T, pool *layer.Pool, id snapshot.ID) []string {
	t.Helper()
	d, err := pool.Open(id)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	err = d.Walk(func(name string, it layer.Item) error {
		if name == "." {
			return nil
		}
		if it.Whiteout {
			lines = append(lines, name+" whiteout")
			return nil
		}
		line := fmt.Sprintf("%s %o %d:%d", name, it.Mode, it.UID, it.GID)
		if it.Opaque {
			line += " opaque"
		}
		if it.Kind == snapshot.File && it.Nlink > 1 {
			line += " is a link"
		}
		xattrs, err := d.Xattrs(name)
		if xattrs["security.capability"] == capability {
			line += " can"
		}
		lines = append(lines, line)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(lines)
	return lines
}
