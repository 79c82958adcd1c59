package snapshottest

import (
	"errors"
	"os"
	"path/filepath"

	"lamina/snapshot/layer"
)

// changes are about what is in a layer: files that came, went and changed.
var changes = []test{
	{"Nothing", func(h *harness) {
		s := h.base(nil, files("d/", "d/f=x"))
		s = h.run(s, do())
		h.holds(s)
		h.shows(s, "d", "d/f")
	}},
	{"Scratch", func(h *harness) {
		s := h.run(nil, do(mkdir("d"), write("d/f=x")))
		h.holds(s, "/ d", "- d/f")
		h.contains(s, "d/f", "x")
	}},
	{"New", func(h *harness) {
		s := h.base(nil, files("d/", "d/old=x"))
		s = h.run(s, do(write("d/new=y"), mkdir("d/e", "d/e/g"), write("d/e/g/f=z")))
		h.holds(s, "/ d", "/ d/e", "/ d/e/g", "- d/e/g/f", "- d/new")
		h.shows(s, "d", "d/e", "d/e/g", "d/e/g/f", "d/new", "d/old")
	}},
	{"Changed", func(h *harness) {
		s := h.base(nil, files("d/", "d/f=before", "d/same=x", "top=before"))
		s = h.run(s, write("d/f=after", "top=beyond"))
		h.holds(s, "/ d", "- d/f", "- top")
		h.contains(s, "d/f", "after")
		h.contains(s, "top", "beyond")
		equal(h, "the directory's time", h.lstat(s, "d").ModTime.Equal(then), true)
	}},
	{"ChangedToEqualSizeAndTime", func(h *harness) {
		s := h.base(nil, files("f=before"))
		s = h.run(s, do(write("f=behind"), stamp(then, "f")))
		h.contains(s, "f", "behind")
	}},
	{"WhiteoutOfFile", func(h *harness) {
		s := h.base(nil, files("d/", "d/f=x", "d/g=y"))
		s = h.run(s, remove("d/f"))
		h.holds(s, "/ d", "x d/f")
		h.shows(s, "d", "d/g")
	}},
	{"WhiteoutOfDirectory", func(h *harness) {
		s := h.base(nil, files("a/", "a/d/", "a/d/e/", "a/d/e/f=x", "a/g=y"))
		s = h.run(s, remove("a/d"))
		h.holds(s, "/ a", "x a/d")
		h.shows(s, "a", "a/g")
	}},
	{"WhiteoutInTheRoot", func(h *harness) {
		s := h.base(nil, files("f=x", "d/", "l -> f"))
		s = h.run(s, remove("f", "d", "l"))
		h.holds(s, "x d", "x f", "x l")
		h.shows(s)
	}},
	{"BackAfterWhiteout", func(h *harness) {
		s := h.base(nil, files("d/", "d/f=one"))
		s = h.run(s, remove("d"))
		s = h.run(s, do(mkdir("d"), write("d/g=two")))
		h.holds(s, "/ d", "- d/g")
		h.shows(s, "d", "d/g")
		s = h.run(s, write("d/f=three"))
		h.shows(s, "d", "d/f", "d/g")
	}},
	{"CreatedAndRemoved", func(h *harness) {
		s := h.base(nil, files("d/", "d/f=x"))
		s = h.run(s, do(write("d/g=y"), remove("d/g"), mkdir("e"), remove("e")))
		h.holds(s)
		h.shows(s, "d", "d/f")
	}},
	{"WrittenAsItWas", func(h *harness) {
		s := h.base(nil, files("d/", "d/f=x", "d/g=y", "d/h=z", "e/", "e/f=x"))
		s = h.run(s, do(
			write("d/f=x", "d/g=Y", "d/h=z", "e/f=x"), stamp(then, "d/f", "d/g", "e/f"), // h is later
			chmod("e", 0o700), chmod("e", 0o755), on("d/f", func(full string) error { return os.Chmod(full, 0o644) })))
		h.holds(s, "/ d", "- d/g", "- d/h")
		h.shows(s, "d", "d/f", "d/g", "d/h", "e", "e/f")
	}},
	{"RootUnchanged", func(h *harness) {
		s := h.base(nil, func(d *layer.Draft) error { return d.Mkdir(".", entry(0o711)) })
		s = h.run(s, write("f=x"))
		h.implies(s, ".")
		s = h.run(s, chmod(".", 0o700))
		h.implies(s)
	}},
	{"DirectoryBecomesFile", func(h *harness) {
		s := h.base(nil, files("a/", "a/d/", "a/d/f=x"))
		s = h.run(s, do(remove("a/d"), write("a/d=y")))
		h.holds(s, "/ a", "- a/d")
		h.shows(s, "a", "a/d")
	}},
	{"FileBecomesDirectory", func(h *harness) {
		s := h.base(nil, files("a/", "a/f=x"))
		s = h.run(s, do(remove("a/f"), mkdir("a/f"), write("a/f/g=y")))
		h.holds(s, "/ a", "/ a/f", "- a/f/g")
		h.shows(s, "a", "a/f", "a/f/g")
	}},
	{"DirectoryBecomesLink", func(h *harness) {
		s := h.base(nil, files("a/", "a/f=x", "b/", "b/g=y"))
		s = h.run(s, do(remove("a"), on("a", func(full string) error { return os.Symlink("b", full) })))
		h.holds(s, "@ a")
		h.shows(s, "a", "b", "b/g")
	}},
	{"LinkBecomesDirectory", func(h *harness) {
		s := h.base(nil, files("a -> b", "b/", "b/g=y"))
		s = h.run(s, do(remove("a"), mkdir("a"), write("a/f=x")))
		h.holds(s, "/ a", "- a/f")
		h.shows(s, "a", "a/f", "b", "b/g")
	}},
	{"FileBelowAFileOfAnotherLayer", func(h *harness) {
		s := h.base(nil, files("d/", "d/f=x"))
		s = h.run(s, do(remove("d"), write("d=file")))
		s = h.run(s, do(remove("d"), mkdir("d"), write("d/g=y")))
		h.shows(s, "d", "d/g")
	}},
	{"Opaque", func(h *harness) {
		s := h.base(nil, files("a/", "a/d/", "a/d/f=x", "a/d/g=y"))
		s = h.run(s, do(remove("a/d"), mkdir("a/d"), write("a/d/g=z")))
		h.holds(s, "/ a", "! a/d", "- a/d/g")
		h.shows(s, "a", "a/d", "a/d/g")
		h.contains(s, "a/d/g", "z")
	}},
	{"OpaqueWithin", func(h *harness) {
		s := h.base(nil, files("d/", "d/e/", "d/e/f=x"))
		s = h.run(s, do(remove("d"), mkdir("d", "d/e"), write("d/e/g=y")))
		h.holds(s, "! d", "/ d/e", "- d/e/g")
		h.shows(s, "d", "d/e", "d/e/g")
	}},
	{"OpaqueIsNotForNewDirectories", func(h *harness) {
		s := h.base(nil, files("d/"))
		s = h.run(s, mkdir("d/e", "d/e/f", "g"))
		h.holds(s, "/ d", "/ d/e", "/ d/e/f", "/ g")
	}},
	{"RenamedFile", func(h *harness) {
		s := h.base(nil, files("d/", "d/f=x", "e/"))
		s = h.run(s, move("d/f", "e/g"))
		h.holds(s, "/ d", "x d/f", "/ e", "- e/g")
		equal(h, "the file's time", h.lstat(s, "e/g").ModTime.Equal(then), true)
	}},
	{"RenamedDirectory", func(h *harness) {
		s := h.base(nil, files("d/", "d/e/", "d/e/f=x", "d/g=y"))
		s = h.run(s, move("d", "n"))
		h.holds(s, "x d", "/ n", "/ n/e", "- n/e/f", "- n/g")
		h.shows(s, "n", "n/e", "n/e/f", "n/g")
	}},
	{"RenamedOver", func(h *harness) {
		s := h.base(nil, files("a=one", "b=two"))
		s = h.run(s, move("a", "b"))
		h.holds(s, "x a", "- b")
		h.contains(s, "b", "one")
	}},
	{"Exchanged", func(h *harness) {
		s := h.base(nil, files("a=one", "b=two", "c/", "c/f=x", "d/", "d/g=y"))
		s = h.run(s, do(move("a", "t"), move("b", "a"), move("t", "b"), move("c", "u"), move("d", "c"), move("u", "d")))
		h.holds(s, "- a", "- b", "! c", "- c/g", "! d", "- d/f")
		h.contains(s, "a", "two")
		h.contains(s, "b", "one")
	}},
	{"HardLinksOfNewFiles", func(h *harness) {
		s := h.base(nil, files("d/"))
		s = h.run(s, do(write("a=x"), link("a", "b"), link("a", "d/c")))
		h.holds(s, "- a", "- b", "/ d", "- d/c")
		equal(h, "the number of names", h.lstat(s, "d/c").Nlink, 3)
		equal(h, "the file of d/c", h.lstat(s, "d/c").Ino, h.lstat(s, "a").Ino)
	}},
	{"HardLinkToALowerFile", func(h *harness) {
		s := h.base(nil, files("d/", "d/f=x"))
		s = h.run(s, link("d/f", "g"))
		h.holds(s, "/ d", "- d/f", "- g")
		equal(h, "the file of g", h.lstat(s, "g").Ino, h.lstat(s, "d/f").Ino)
	}},
	{"HardLinkUnlinked", func(h *harness) {
		s := h.base(nil, func(d *layer.Draft) error {
			return errors.Join(files("a=x")(d), d.Link("a", "b"), d.Link("a", "c"))
		})
		s = h.run(s, remove("b"))
		h.shows(s, "a", "c")
		equal(h, "the file of c", h.lstat(s, "c").Ino, h.lstat(s, "a").Ino)
	}},
	{"HardLinkedSymlinkAndFifo", func(h *harness) {
		s := h.run(nil, do(
			on("l", func(full string) error { return os.Symlink("to", full) }), link("l", "m"),
			mkfifo("p"), link("p", "q")))
		h.holds(s, "@ l", "@ m", "? p", "? q")
		equal(h, "the file of m", h.lstat(s, "m").Ino, h.lstat(s, "l").Ino)
		equal(h, "the file of q", h.lstat(s, "q").Ino, h.lstat(s, "p").Ino)
	}},
	{"ManyLayersOfOneDirectory", func(h *harness) {
		s := h.base(nil, files("d/", "d/a=x"))
		for _, name := range []string{"b", "c", "e"} {
			s = h.run(s, write("d/"+name+"=y"))
		}
		s = h.run(s, remove("d/a", "d/c"))
		h.holds(s, "/ d", "x d/a", "x d/c")
		h.shows(s, "d", "d/b", "d/e")
	}},
	{"DeepDirectories", func(h *harness) {
		deep := filepath.Join(many(100, "deep")...)
		s := h.run(nil, on(deep, func(full string) error { return os.MkdirAll(full, 0o755) }))
		s = h.run(s, write(filepath.Join(deep, "f=x")))
		h.contains(s, filepath.Join(deep, "f"), "x")
		s = h.run(s, remove("deep"))
		h.holds(s, "x deep")
	}},
}

func many(n int, s string) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = s
	}
	return all
}
