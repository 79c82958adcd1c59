package layer

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// Where openat2 is missing, its replacement must give the same answers.
func TestWalkBeneath(t *testing.T) {
	root := t.TempDir()
	for _, dir := range []string{"a/b"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(root, "a/b/f"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for link, target := range map[string]string{"l": "a", "a/up": "..", "a/b/abs": "/etc", "a/b/lf": "f"} {
		if err := os.Symlink(target, filepath.Join(root, link)); err != nil {
			t.Fatal(err)
		}
	}
	at, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(at)
	const dir, path, file = unix.O_PATH | unix.O_DIRECTORY, unix.O_PATH, unix.O_RDONLY
	for _, tt := range []struct {
		name  string
		flags int
		want  error
	}{
		{".", dir, nil}, {"a", dir, nil}, {"a/b", dir, nil}, {"a/b/f", file, nil}, {"a/b/f", path, nil},
		{"x", path, unix.ENOENT}, {"x/y", path, unix.ENOENT}, {"a/b/f/x", path, unix.ENOTDIR}, {"a/b/f", dir, unix.ENOTDIR},
		{"l", path, nil}, {"l", file, unix.ELOOP}, {"l/b", path, unix.ELOOP}, {"a/up/a", path, unix.ELOOP},
		{"a/b/abs/passwd", file, unix.ELOOP}, {"a/b/abs", path, nil}, {"a/b/lf", file, unix.ELOOP}, {"a/b/lf/x", file, unix.ELOOP},
	} {
		for how, open := range map[string]func(int, string, int) (int, error){"openat2": openBeneath, "openat": func(dir int, name string, flags int) (int, error) {
			return walkBeneath(dir, name, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC)
		}} {
			fd, err := open(at, tt.name, tt.flags)
			if err == nil {
				unix.Close(fd)
			}
			if err != tt.want {
				t.Errorf("%s %q %#o: got error %v, want %v", how, tt.name, tt.flags, err, tt.want)
			}
		}
	}
	if _, err := openDirBeneath(at, "l"); err != unix.ELOOP {
		t.Errorf("openDirBeneath of a link: got error %v, want ELOOP", err)
	}
}
