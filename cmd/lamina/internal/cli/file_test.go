package cli

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func text(s string) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := io.WriteString(w, s)
		return err
	}
}

func TestWriteFile(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "file")
	link := filepath.Join(dir, "link")
	if err := os.Symlink("file", link); err != nil {
		t.Fatal(err)
	}
	want := ""
	check := func(what string, err error) {
		t.Helper()
		if data, rerr := os.ReadFile(name); err != nil || rerr != nil || string(data) != want {
			t.Errorf("%s: %v; the file holds %q, %v, want %q", what, err, data, rerr, want)
		}
		if st, err := os.Lstat(link); err != nil || st.Mode().Type() != fs.ModeSymlink {
			t.Errorf("%s: the link is %v, %v", what, st, err)
		}
		if all, err := filepath.Glob(filepath.Join(dir, ".*")); err != nil || len(all) > 0 {
			t.Errorf("%s: %v, %v is left", what, all, err)
		}
	}
	want = "one"
	check("a new file", WriteFile(name, text("one")))
	want = "two"
	check("a link", WriteFile(link, text("two")))

	during := errors.New("during")
	err := WriteFile(name, func(w io.Writer) error {
		return errors.Join(text("half")(w), during)
	})
	if !errors.Is(err, during) {
		t.Errorf("a failing writer: %v", err)
	}
	check("a failing writer", nil)

	if err := WriteFile(dir, text("")); err == nil || !strings.Contains(err.Error(), dir+" is a directory") {
		t.Errorf("a directory: %v", err)
	}
	missing := filepath.Join(dir, "no", "file")
	if err := WriteFile(missing, text("")); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), missing+":") {
		t.Errorf("in a directory that is missing: %v", err)
	}
}

// What is killed while it writes leaves nothing: the content has no name yet.
func TestWriteFileHasNoNameYet(t *testing.T) {
	dir := t.TempDir()
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_WRONLY, 0o600)
	if err != nil {
		t.Skipf("no nameless files here: %v", err)
	}
	unix.Close(fd)
	err = WriteFile(filepath.Join(dir, "file"), func(w io.Writer) error {
		all, err := os.ReadDir(dir)
		if len(all) > 0 {
			t.Errorf("there is %v while it is being written", all)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// A pipe stays a pipe (and root's /dev/null a device).
func TestWriteFileThrough(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	reader, err := os.OpenFile(pipe, os.O_RDWR, 0) // does not wait for a writer
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	if err := WriteFile(pipe, text("through")); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 20)
	if n, err := reader.Read(buf); err != nil || string(buf[:n]) != "through" {
		t.Errorf("read %q, %v", buf[:n], err)
	}
	if st, err := os.Lstat(pipe); err != nil || st.Mode().Type() != fs.ModeNamedPipe {
		t.Errorf("it is %v now, %v", st, err)
	}
}
