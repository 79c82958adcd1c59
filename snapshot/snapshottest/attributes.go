package snapshottest

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"lamina/snapshot"
	"lamina/snapshot/layer"
)

// capability is a value of security.capability: cap_net_raw+ep, revision 2.
const capability = "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"

// attributes are about what is known of a file beside its name and content.
var attributes = []test{
	{"ModeOfAFile", func(h *harness) {
		s := h.base(nil, files("d/", "d/f=x"))
		s = h.run(s, chmod("d/f", 0o600))
		h.holds(s, "/ d", "- d/f")
		equal(h, "the mode", h.lstat(s, "d/f").Mode, 0o600)
		h.contains(s, "d/f", "x")
	}},
	{"ModeOfADirectory", func(h *harness) {
		s := h.base(nil, files("d/", "d/f=x"))
		s = h.run(s, chmod("d", 0o1777))
		h.holds(s, "/ d")
		h.shows(s, "d", "d/f")
		equal(h, "the mode", h.lstat(s, "d").Mode, 0o1777)
	}},
	{"ModeOfTheRoot", func(h *harness) {
		s := h.base(nil, func(d *layer.Draft) error { return d.Mkdir(".", entry(0o711)) })
		s = h.run(s, write("f=x"))
		equal(h, "the mode", h.lstat(s, ".").Mode, 0o711)
		s = h.run(s, do(chmod(".", 0o750), stamp(then, ".")))
		equal(h, "the mode", h.lstat(s, ".").Mode, 0o750)
		equal(h, "the root's time", h.lstat(s, ".").ModTime.Equal(then), true)
	}},
	{"SpecialModes", func(h *harness) {
		s := h.base(nil, files("d/", "f=x"))
		s = h.run(s, do(chmod("f", 0o6755), chmod("d", 0o3775), write("g=y"), chmod("g", 0), mkdir("e"), chmod("e", 0)))
		for name, mode := range map[string]uint32{"f": 0o6755, "d": 0o3775, "g": 0, "e": 0} {
			equal(h, "the mode of "+name, h.lstat(s, name).Mode, mode)
		}
	}},
	{"Owner", func(h *harness) {
		s := h.base(nil, files("d/", "d/f=x", "l -> f"))
		const big = 1<<31 + 5
		s = h.run(s, do(lchown("d/f", 1, 2), lchown("l", 3, 4), write("g=x"), lchown("g", big, big+1)))
		h.holds(s, "/ d", "- d/f", "- g", "@ l")
		for name, owner := range map[string][2]int{"d": {0, 0}, "d/f": {1, 2}, "l": {3, 4}, "g": {big, big + 1}} {
			e := h.lstat(s, name)
			equal(h, "the owner of "+name, [2]int{e.UID, e.GID}, owner)
		}
	}},
	{"OwnerKeepsSetuid", func(h *harness) {
		s := h.base(nil, func(d *layer.Draft) error {
			e := entry(0o4755)
			e.UID, e.GID = 5, 6
			return d.File("f", e, strings.NewReader("x"))
		})
		s = h.run(s, write("g=y"))
		equal(h, "the mode", h.lstat(s, "f").Mode, 0o4755)
		s = h.run(s, stamp(then.Add(1), "f"))
		equal(h, "the mode after it was copied up", h.lstat(s, "f").Mode, 0o4755)
	}},
	{"Times", func(h *harness) {
		s := h.base(nil, files("d/", "d/f=x", "l -> d"))
		times := map[string]time.Time{
			"d/f": time.Unix(1, 1), "d": time.Unix(1234567890, 987654321), "l": time.Unix(77, 5),
			"old": time.Unix(-1000, 999999999), "new": time.Unix(5e9, 1),
		}
		s = h.run(s, do(write("old=x", "new=x"), func(root string) error {
			var err error
			for name, at := range times {
				err = errors.Join(err, stamp(at, name)(root))
			}
			return err
		}))
		for name, at := range times {
			equal(h, "the time of "+name, h.lstat(s, name).ModTime.UTC(), at.UTC())
		}
	}},
	{"Xattrs", func(h *harness) {
		s := h.base(nil, func(d *layer.Draft) error {
			return errors.Join(files("d/", "d/f=x", "d/g=y")(d),
				d.SetAttrs("d", entry(0o755), map[string]string{"user.dir": "1"}),
				d.SetAttrs("d/f", entry(0o644), map[string]string{"user.a": "1", "user.b": "2"}))
		})
		s = h.run(s, do(setxattr("d/f", "user.c", "3\x00\xff"), setxattr("d/g", "user.empty", ""),
			on("d/f", func(full string) error { return unix.Lremovexattr(full, "user.a") })))
		h.holds(s, "/ d", "- d/f", "- d/g")
		h.xattrs(s, "d", `user.dir="1"`)
		h.xattrs(s, "d/f", `user.b="2" user.c="3\x00\xff"`)
		h.xattrs(s, "d/g", `user.empty=""`)
	}},
	{"Capabilities", func(h *harness) {
		s := h.base(nil, files("f=x"))
		s = h.run(s, setxattr("f", "security.capability", capability))
		want := fmt.Sprintf("security.capability=%q", capability)
		h.xattrs(s, "f", want)
		s = h.run(s, stamp(then.Add(1), "f"))
		h.xattrs(s, "f", want)
		s = h.run(s, do(write("g=y"), setxattr("g", "security.capability", capability), chmod("g", 0o4711)))
		h.xattrs(s, "g", want)
	}},
	{"NothingOfTheDriverIsKept", func(h *harness) {
		s := h.base(nil, files("d/", "d/e/", "d/e/f=x", "d/g=y"))
		s = h.run(s, do(write("d/e/f=z"), link("d/g", "d/h"), remove("d/e/f"), mkdir("d/n"), setxattr("d/n", "user.x", "1")))
		h.xattrs(s, ".", "")
		h.xattrs(s, "d", "")
		h.xattrs(s, "d/e", "")
		h.xattrs(s, "d/h", "")
		h.xattrs(s, "d/n", `user.x="1"`)
	}},
	{"Devices", func(h *harness) {
		s := h.run(nil, do(mkdir("dev"), mknod("dev/null", unix.S_IFCHR|0o666, 1, 3), mknod("dev/sda", unix.S_IFBLK|0o660, 8, 300), mkfifo("dev/p")))
		h.holds(s, "/ dev", "? dev/null", "? dev/p", "? dev/sda")
		null, sda := h.lstat(s, "dev/null"), h.lstat(s, "dev/sda")
		equal(h, "the kind of null", null.Kind, snapshot.CharDevice)
		equal(h, "the number of null", [2]uint32{null.Major, null.Minor}, [2]uint32{1, 3})
		equal(h, "the kind of sda", sda.Kind, snapshot.BlockDevice)
		equal(h, "the number of sda", [2]uint32{sda.Major, sda.Minor}, [2]uint32{8, 300})
		equal(h, "the kind of p", h.lstat(s, "dev/p").Kind, snapshot.Fifo)
		s = h.run(s, do(chmod("dev/null", 0o600), lchown("dev/p", 1, 1)))
		h.holds(s, "/ dev", "? dev/null", "? dev/p")
		s = h.run(s, do(remove("dev/null"), mknod("dev/null", unix.S_IFCHR|0o666, 5, 1)))
		equal(h, "the number of null", h.lstat(s, "dev/null").Major, 5)
	}},
	{"Sockets", func(h *harness) {
		s := h.base(nil, files("d/", "d/f=x"))
		s = h.run(s, do(remove("d/f"), socket("d/f"), socket("d/s")))
		s = h.run(s, write("d/g=y"))
		h.contains(s, "d/g", "y")
	}},
	{"Symlinks", func(h *harness) {
		long := strings.Repeat("long/", 800)
		s := h.run(nil, do(
			on("dangling", func(full string) error { return os.Symlink("/no/where", full) }),
			on("odd", func(full string) error { return os.Symlink("a\nb\xff", full) }),
			on("long", func(full string) error { return os.Symlink(long, full) }),
			on("self", func(full string) error { return os.Symlink("self", full) })))
		for name, to := range map[string]string{"dangling": "/no/where", "odd": "a\nb\xff", "long": long, "self": "self"} {
			equal(h, "the target of "+name, h.lstat(s, name).Link, to)
		}
		s = h.run(s, do(remove("self"), on("self", func(full string) error { return os.Symlink("other", full) })))
		equal(h, "the target of self", h.lstat(s, "self").Link, "other")
	}},
	{"SparseFiles", func(h *harness) {
		const size = 32 << 20
		s := h.run(nil, on("f", func(full string) error {
			f, err := os.Create(full)
			if err != nil {
				return err
			}
			_, err = f.WriteAt([]byte("end"), size-3)
			return errors.Join(err, f.Close())
		}))
		equal(h, "the size", h.lstat(s, "f").Size, size)
		s = h.run(s, chmod("f", 0o600))
		d, err := h.pool.Open(s[1])
		h.must(err)
		var st unix.Stat_t
		h.must(unix.Stat(filepath.Join(d.Path(), "f"), &st))
		equal(h, "the size of the copy", st.Size, size)
		if st.Blocks*512 > 1<<20 {
			h.Errorf("a file of 3 bytes and a hole takes %d bytes on the disk", st.Blocks*512)
		}
	}},
	{"OddNames", func(h *harness) {
		names := []string{
			"new\nline", "not\xffutf8\xc3", "back\\slash", "tab\tquote\"'", "a b", "-rf", "*", "...", "..data",
			strings.Repeat("n", 255), "ünïcödé", "\x01\x7f", "colon:comma,equals=", "wh.x",
		}
		specs, kept := []string{}, []string{}
		for _, name := range names {
			specs = append(specs, name+"/")
			kept = append(kept, filepath.Join(name, name))
		}
		s := h.base(nil, files(specs...))
		s = h.run(s, func(root string) error {
			var err error
			for _, name := range kept {
				err = errors.Join(err, os.WriteFile(filepath.Join(root, name), []byte(name), 0o644))
			}
			return err
		})
		for _, name := range kept {
			h.contains(s, name, name)
		}
		s = h.run(s, remove(kept...))
		s = h.run(s, remove(names...))
		h.shows(s)
	}},
}

// xattrs compares the extended attributes of name with want: key="value", by key.
func (h *harness) xattrs(s stack, name, want string) {
	h.Helper()
	tree, err := h.pool.Stack(s)
	h.must(err)
	found, err := tree.Xattrs(name)
	h.must(err)
	equal(h, "attributes of "+name, describeXattrs(found), want)
}

func chmod(name string, mode uint32) func(root string) error {
	return on(name, func(full string) error { return unix.Chmod(full, mode) })
}

func lchown(name string, uid, gid int) func(root string) error {
	return on(name, func(full string) error { return os.Lchown(full, uid, gid) })
}

func mkfifo(name string) func(root string) error {
	return on(name, func(full string) error { return unix.Mkfifo(full, 0o644) })
}

func mknod(name string, mode, major, minor uint32) func(root string) error {
	return on(name, func(full string) error {
		// Not in mknod(2) alone, which the umask applies to.
		return errors.Join(unix.Mknod(full, mode, int(unix.Mkdev(major, minor))), unix.Chmod(full, mode&0o7777))
	})
}

// socket leaves a socket behind, as a daemon that was killed does.
func socket(name string) func(root string) error {
	return on(name, func(full string) error {
		// Addresses are short, and temporary directories are not.
		dir, err := os.Open(filepath.Dir(full))
		if err != nil {
			return err
		}
		defer dir.Close()
		short := fmt.Sprintf("/proc/thread-self/fd/%d/%s", dir.Fd(), filepath.Base(full))
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: short, Net: "unix"})
		if err != nil {
			return err
		}
		l.SetUnlinkOnClose(false)
		return l.Close()
	})
}
