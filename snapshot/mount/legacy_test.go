package mount

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// New kernels take the old form too, so it can be tested on them.
func TestLegacyOverlay(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a:b,c=d")
	for _, name := range []string{"top", "bottom", "upper", "work", "root"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"top/a", "bottom/a", "bottom/b"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	root := dir + "/root"
	err := Private(func() error {
		fd, err := legacyOverlay(root, []string{
			"lowerdir+=" + dir + "/top", "lowerdir+=" + dir + "/bottom", "upperdir=" + dir + "/upper",
			"workdir=" + dir + "/work", "redirect_dir=off", "metacopy=off", "index=off", "volatile"})
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if left, err := os.ReadDir(root); err != nil || len(left) > 0 {
			t.Errorf("before it is attached the root holds %v, %v", left, err)
		}
		if err := attach(fd, root, "/", true); err != nil {
			return err
		}
		for name, want := range map[string]string{"a": "top/a", "b": "bottom/b"} {
			got, err := os.ReadFile(filepath.Join(root, name))
			if err != nil || string(got) != want {
				t.Errorf("%s holds %q, %v, want %q", name, got, err, want)
			}
		}
		if err := os.Remove(root + "/b"); err != nil {
			return err
		}
		fi, err := os.Lstat(dir + "/upper/b")
		if err == nil && fi.Mode().Type() != os.ModeDevice|os.ModeCharDevice {
			err = fmt.Errorf("the upper directory holds %v, want a whiteout", fi.Mode())
		}
		return err
	})
	if errors.Is(err, unix.EPERM) {
		t.Skip("mounting needs privileges: ", err)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestLegacyOverlayTakesAPageOfOptions(t *testing.T) {
	var options []string
	for range 500 {
		options = append(options, "lowerdir+="+t.TempDir())
	}
	_, err := legacyOverlay(t.TempDir(), options)
	if want := "500 layers are too many for this kernel; Linux 6.7 takes more"; err == nil || err.Error() != want {
		t.Errorf("legacyOverlay: %v, want %s", err, want)
	}
}

func TestOverlayErrorOfTheNewForm(t *testing.T) {
	err := Private(func() error {
		_, err := overlay(t.TempDir(), []string{"colour=red", "lowerdir+=" + t.TempDir()})
		return err
	})
	if errors.Is(err, unix.EPERM) {
		t.Skip("mounting needs privileges: ", err)
	}
	if err == nil || !strings.Contains(err.Error(), "Unknown parameter 'colour'") {
		t.Errorf("overlay: %v, want what the kernel says of the option", err)
	}
}
