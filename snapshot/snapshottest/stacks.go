package snapshottest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"lamina/snapshot"
	"lamina/snapshot/layer"
)

// stacks are about layers on layers.
var stacks = []test{
	{"ImpliedDirectories", func(h *harness) {
		s := h.base(nil, func(d *layer.Draft) error {
			e := entry(0o750)
			e.UID, e.GID = 7, 8
			return errors.Join(d.Mkdir("a", e), d.Mkdir("a/b", e), d.SetAttrs("a", e, map[string]string{"user.x": "1"}))
		})
		s = h.base(s, func(d *layer.Draft) error {
			return errors.Join(d.File("a/b/f", entry(0o644), strings.NewReader("x")), d.File("n/f", entry(0o644), strings.NewReader("y")))
		})
		h.check(s)
		equal(h, "the mode", h.lstat(s, "a/b").Mode, 0o750)
		s = h.run(s, write("a/b/g=z", "n/g=z"))
		h.holds(s, "/ a", "/ a/b", "- a/b/g", "/ n", "- n/g")
		for _, name := range []string{"a", "a/b"} {
			e := h.lstat(s, name)
			equal(h, "the mode of "+name, e.Mode, 0o750)
			equal(h, "the owner of "+name, [2]int{e.UID, e.GID}, [2]int{7, 8})
		}
		h.xattrs(s, "a", `user.x="1"`)
		equal(h, "the mode of n", h.lstat(s, "n").Mode, 0o755)
		h.run(s, do(), dirTarget("/a/b/target"))
	}},
	{"ImpliedDirectoriesAboveRemovedOnes", func(h *harness) {
		s := h.base(nil, func(d *layer.Draft) error { return d.Mkdir("a", entry(0o700)) })
		s = h.base(s, func(d *layer.Draft) error { return d.Whiteout("a") })
		s = h.base(s, func(d *layer.Draft) error { return d.File("a/f", entry(0o644), strings.NewReader("x")) })
		h.check(s)
		equal(h, "the mode", h.lstat(s, "a").Mode, 0o755)
		s = h.base(s, func(d *layer.Draft) error { return d.Whiteout("a") })
		h.check(s)
		h.shows(s)
	}},
	{"OpaqueDirectoriesOfArchives", func(h *harness) {
		s := h.base(nil, files("a/", "a/f=x", "a/d/", "a/d/g=y"))
		s = h.base(s, func(d *layer.Draft) error {
			return errors.Join(d.File("a/n", entry(0o644), strings.NewReader("z")), d.Opaque("a"))
		})
		h.check(s)
		h.shows(s, "a", "a/n")
		s = h.run(s, write("a/m=w"))
		h.holds(s, "/ a", "- a/m")
	}},
	{"OpaqueRoot", func(h *harness) {
		s := h.base(nil, files("a/", "a/f=x"))
		s = h.base(s, func(d *layer.Draft) error { return errors.Join(files("b=y")(d), d.Opaque(".")) })
		h.check(s)
		h.shows(s, "b")
		s = h.run(s, write("c=z"))
		h.holds(s, "- c")
		h.shows(s, "b", "c")
	}},
	{"WhiteoutInADirectoryOfItsOwn", func(h *harness) {
		// No other layer has d/, where the kernel is quick to list what it finds.
		s := h.base(nil, files("a=x"))
		s = h.base(s, func(d *layer.Draft) error { return errors.Join(files("d/", "d/b=y")(d), d.Whiteout("d/gone")) })
		h.check(s)
		h.shows(s, "a", "d", "d/b")
		s = h.run(s, remove("d"))
		h.holds(s, "x d")
	}},
	{"WhiteoutsOfNothing", func(h *harness) {
		s := h.base(nil, files("d/"))
		s = h.base(s, func(d *layer.Draft) error {
			return errors.Join(files("d/")(d), d.Whiteout("gone"), d.Whiteout("d/gone"))
		})
		h.check(s)
		h.shows(s, "d")
		s = h.run(s, write("gone=x", "d/gone=y"))
		h.holds(s, "/ d", "- d/gone", "- gone")
	}},
	{"SameLayerTwice", func(h *harness) {
		one := h.base(nil, files("d/", "d/f=one"))
		two := h.base(nil, files("d/", "d/f=two", "d/g=two"))
		s := stack{one[0], two[0], one[0], one[0]}
		h.check(s)
		h.contains(s, "d/f", "one")
		s = h.run(s, remove("d/f"))
		h.shows(s, "d", "d/g")
	}},
	{"ManyLayers", func(h *harness) { manyLayers(h, 300) }},
	{"TooManyLayersForTheKernel", func(h *harness) { manyLayers(h, 500) }},
	{"ViewIsReadOnly", func(h *harness) {
		s := h.base(nil, files("f=x"))
		h.view(s, func(root string) error {
			if err := os.WriteFile(filepath.Join(root, "f"), nil, 0o644); !errors.Is(err, unix.EROFS) {
				return fmt.Errorf("write to a view: %v, want %v", err, unix.EROFS)
			}
			return nil
		})
	}},
	{"ViewOfScratch", func(h *harness) { h.check(nil) }},
	{"MissingLayer", func(h *harness) {
		s := append(h.base(nil, files("f=x")), "missing")
		if _, err := h.driver.Begin(h.Context(), s, nil); !errors.Is(err, fs.ErrNotExist) {
			h.Errorf("Begin: %v, want %v", err, fs.ErrNotExist)
		}
		if _, err := h.driver.View(h.Context(), s); !errors.Is(err, fs.ErrNotExist) {
			h.Errorf("View: %v, want %v", err, fs.ErrNotExist)
		}
		h.leftovers()
	}},
}

// manyLayers makes n layers that change each other and compares what the kernel
// shows with what is read from them.
func manyLayers(h *harness, n int) {
	s := h.base(nil, files("d/", "same=0"))
	for i := 1; i < n; i++ {
		s = h.base(s, func(d *layer.Draft) error { return oneOfMany(d, i) })
	}
	h.check(s)
	h.contains(s, "same", fmt.Sprint(n-1))
	s = h.run(s, do(remove("d/f01"), write("d/new=x", "e/new=y")))
	h.holds(s, "/ d", "x d/f01", "- d/new", "/ e", "- e/new")
}

// oneOfMany writes the layer of number i: a file that stays, one that all have, a
// directory that is sometimes implied, and now and then something removed,
// hidden, replaced or linked.
func oneOfMany(d *layer.Draft, i int) error {
	file := func(prefix string, i int) string { return fmt.Sprintf("%s%02d", prefix, i%60) }
	put := func(name string) error {
		return d.File(name, entry(0o644), strings.NewReader(fmt.Sprint(i)))
	}
	var err error
	if i%3 == 0 {
		err = d.Mkdir("d", snapshot.Entry{Mode: 0o700 + uint32(i%8), UID: i, ModTime: then})
	}
	err = errors.Join(err, put("same"), put(file("d/f", i)), put(fmt.Sprintf("e/%d/f", i%7)))
	switch i % 11 {
	case 1:
		err = errors.Join(err, d.Whiteout(file("d/f", i+5)))
	case 2:
		err = errors.Join(err, d.Opaque(fmt.Sprintf("e/%d", i%7)))
	case 3:
		err = errors.Join(err, put("turns"))
	case 4:
		err = errors.Join(err, put(fmt.Sprintf("turns/%d", i)))
	case 5:
		err = errors.Join(err, d.Whiteout("turns"), d.Link("same", file("d/l", i)))
	case 6:
		err = errors.Join(err, d.Whiteout("turns"), put(fmt.Sprintf("turns/%d", i)))
	}
	return err
}
