package mounts

import (
	"archive/tar"
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lamina/cache"
	"lamina/cache/cachetest"
)

// content is a file whose content is text, in the first pack.
func content(name, text string) Entry {
	return Entry{Path: name, Mode: 0o644, Size: int64(len(text)), Content: [32]byte(digestBytes(text))}
}

func digestBytes(text string) []byte {
	b, err := hex.DecodeString(digest.FromString(text).Encoded())
	if err != nil {
		panic(err)
	}
	return b
}

func dir(name string) Entry { return Entry{Path: name, Kind: Dir, Mode: 0o755} }

// forged is a version that somebody made by hand: of entries and of the members of
// its pack, names to contents.
func forged(t *testing.T, repo *cachetest.Memory, entries []Entry, members ...string) *Version {
	t.Helper()
	tree := &Tree{entries}
	list, err := tree.encode()
	if err != nil {
		t.Fatal(err)
	}
	v := &Version{Spec: Spec{ID: "forged"}, Tree: cachetest.Put(t, repo, TreeType, list), Packed: time.Now()}
	if v.ID, err = tree.ID(); err != nil {
		t.Fatal(err)
	}
	v.Size, v.Files = tree.Size()
	var b bytes.Buffer
	z, err := zstd.NewWriter(&b)
	if err != nil {
		t.Fatal(err)
	}
	tw := tar.NewWriter(z)
	var plain int64
	for i := 0; i < len(members); i += 2 {
		if err := tw.WriteHeader(&tar.Header{Name: members[i], Typeflag: tar.TypeReg, Size: int64(len(members[i+1])), Mode: 0o644}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(tw, members[i+1]); err != nil {
			t.Fatal(err)
		}
		plain += int64(len(members[i+1]))
	}
	if err := errors.Join(tw.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	v.Packs = []Pack{{cachetest.Put(t, repo, PackType, b.Bytes()), plain}}
	return v
}

// within is a directory that is to stay as it is, with one below in which mounts are made.
func within(t *testing.T) (outside string, store *cache.Store) {
	t.Helper()
	outside = t.TempDir()
	if err := os.WriteFile(filepath.Join(outside, "victim"), []byte("untouched"), 0o600); err != nil {
		t.Fatal(err)
	}
	store, err := cache.Open(filepath.Join(outside, "store"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		store.Close()
		data, err := os.ReadFile(filepath.Join(outside, "victim"))
		entries, _ := os.ReadDir(outside)
		if string(data) != "untouched" || err != nil || len(entries) != 2 {
			t.Errorf("something got outside: %q, %v, %v", data, err, entries)
		}
	})
	return outside, store
}

// No tree that a stranger makes up leads anywhere else, and nothing is made of one
// that makes no sense.
func TestHostileTrees(t *testing.T) {
	root, x := dir("."), content("x", "x")
	long := strings.Repeat("n", maxName+1)
	for name, entries := range map[string][]Entry{
		"nothing":                {},
		"no root":                {x},
		"a root that is a link":  {{Path: ".", Kind: Symlink, Target: "/etc"}},
		"above":                  {root, content("../victim", "x")},
		"absolute":               {root, content("/etc/passwd", "x")},
		"not clean":              {root, dir("a"), content("a/../../victim", "x")},
		"behind a link":          {root, {Path: "a", Kind: Symlink, Target: "../../../.."}, content("a/victim", "x")},
		"behind a file":          {root, x, content("x/y", "x")},
		"in no directory":        {root, content("a/x", "x")},
		"twice":                  {root, x, x},
		"a link, then a file":    {root, {Path: "x", Kind: Symlink, Target: "../../../../victim"}, x},
		"a link out":             {root, {Path: "h", Kind: Link, Target: "../../../../victim"}},
		"a link to a link":       {root, {Path: "s", Kind: Symlink, Target: "/etc/passwd"}, {Path: "h", Kind: Link, Target: "s"}},
		"a link to a directory":  {root, dir("d"), {Path: "h", Kind: Link, Target: "d"}},
		"a link to nothing":      {root, {Path: "h", Kind: Link, Target: "later"}, content("later", "x")},
		"a device":               {root, {Path: "null", Kind: "c", Mode: 0o666}},
		"a strange mode":         {root, {Path: "d", Kind: Dir, Mode: 0o040755}},
		"a negative owner":       {root, {Path: "d", Kind: Dir, UID: -1}},
		"an owner out of range":  {root, {Path: "d", Kind: Dir, GID: 1 << 33}},
		"a negative size":        {root, {Path: "x", Size: -1}},
		"a size of exabytes":     {root, {Path: "x", Size: 1 << 60}},
		"a directory of a size":  {root, {Path: "d", Kind: Dir, Size: 1}},
		"a pack that is none":    {root, {Path: "x", Size: 1, Content: x.Content, Pack: 7}},
		"a pack below the first": {root, {Path: "x", Size: 1, Content: x.Content, Pack: -1}},
		"a long name":            {root, content(long, "x")},
		"a long path":            {root, content(strings.Repeat("a/", maxPath), "x")},
		"a name with a NUL":      {root, content("a\x00b", "x")},
		"a link to a NUL":        {root, {Path: "s", Kind: Symlink, Target: "a\x00b"}},
		"capabilities":           {root, {Path: "d", Kind: Dir, Xattrs: map[string]string{"security.capability": "x"}}},
		"an overlay's opaque":    {root, {Path: "d", Kind: Dir, Xattrs: map[string]string{"trusted.overlay.opaque": "y"}}},
		"huge attributes":        {root, {Path: "d", Kind: Dir, Xattrs: map[string]string{"user.x": strings.Repeat("x", maxXattrs+1)}}},
	} {
		t.Run(name, func(t *testing.T) {
			_, store := within(t)
			repo := cachetest.NewMemory()
			v := forged(t, repo, entries, hex.EncodeToString(x.Content[:]), "x")
			wantNothing(t, store, v, repo)
		})
	}
}

// wantNothing tests that a version is refused and leaves nothing.
func wantNothing(t *testing.T, store *cache.Store, v *Version, repo cache.Blobs) {
	t.Helper()
	failed := false
	err := In(store).Restore(t.Context(), v.Spec, []Offer{{Version: v, Blobs: repo}}, RestoreOptions{
		Failed: func(_ Offer, err error) { failed = err != nil },
	})
	if err != nil || !failed {
		t.Errorf("error %v, failed %v", err, failed)
	}
	tmp, err := store.Temp()
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{store.Path("mounts"), tmp} {
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("left in %s: %v, %v", dir, left, err)
		}
	}
}

// A pack is only looked into for contents that the tree wants, and these must be what
// their digests say.
func TestHostilePacks(t *testing.T) {
	x := content("x", "content")
	name := hex.EncodeToString(x.Content[:])
	for what, members := range map[string][]string{
		"another content": {name, "CONTENT"},
		"a longer one":    {name, "content and more"},
		"none":            {"a", "b"},
		"a part of it":    {name, "cont"},
		"in a directory":  {"../" + name, "content"},
	} {
		t.Run(what, func(t *testing.T) {
			_, store := within(t)
			repo := cachetest.NewMemory()
			wantNothing(t, store, forged(t, repo, []Entry{dir("."), x}, members...), repo)
		})
	}
	t.Run("what nobody wants", func(t *testing.T) {
		_, store := within(t)
		repo := cachetest.NewMemory()
		v := forged(t, repo, []Entry{dir("."), x}, "../../../victim", "overwritten", "/etc/passwd", "x", name, "content", "more", "x")
		if err := In(store).Restore(t.Context(), v.Spec, []Offer{{Version: v, Blobs: repo}}, RestoreOptions{}); err != nil {
			t.Fatal(err)
		}
		entries, err := os.ReadDir(In(store).Data(v.Spec.Name()))
		if err != nil || len(entries) != 1 {
			t.Errorf("made %v, %v", entries, err)
		}
	})
	t.Run("not what the version says", func(t *testing.T) {
		for _, spoil := range []func(v *Version){
			func(v *Version) { v.ID = digest.FromString("x") },
			func(v *Version) { v.Size++ },
			func(v *Version) { v.Files++ },
			func(v *Version) { v.Packs = nil },
		} {
			_, store := within(t)
			repo := cachetest.NewMemory()
			v := forged(t, repo, []Entry{dir("."), x}, name, "content")
			spoil(v)
			wantNothing(t, store, v, repo)
		}
	})
}

// Set-user-ID bits that somebody wrote into a tree are not set.
func TestNoPowers(t *testing.T) {
	_, store := within(t)
	repo := cachetest.NewMemory()
	x := content("x", "content")
	x.Mode = 0o6755
	v := forged(t, repo, []Entry{dir("."), x}, hex.EncodeToString(x.Content[:]), "content")
	if err := In(store).Restore(t.Context(), v.Spec, []Offer{{Version: v, Blobs: repo}}, RestoreOptions{}); err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(filepath.Join(In(store).Data(v.Spec.Name()), "x"))
	if err != nil || st.Mode() != 0o755 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
}

// A tree that is a bomb ends where trees end.
func TestTreeBomb(t *testing.T) {
	var b bytes.Buffer
	z, err := zstd.NewWriter(&b)
	if err != nil {
		t.Fatal(err)
	}
	spaces := bytes.Repeat([]byte(" "), 1<<20)
	for range maxTree>>20 + 1 {
		if _, err := z.Write(spaces); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := decodeTree(&b); !errors.Is(err, ErrDamaged) {
		t.Errorf("error is %v", err)
	}
}

// Archives that lead out, or are no cache mount's, are refused, and what was there stays.
func TestHostileImports(t *testing.T) {
	file := func(name string) *tar.Header { return &tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644} }
	link := func(name, target string, kind byte) *tar.Header {
		return &tar.Header{Name: name, Linkname: target, Typeflag: kind, Mode: 0o777}
	}
	for name, headers := range map[string][]*tar.Header{
		"above":               {file("../../../victim")},
		"absolute":            {file("/etc/passwd")},
		"behind a link":       {link("a", "../../../..", tar.TypeSymlink), file("a/victim")},
		"over a link":         {link("a", "../../../../victim", tar.TypeSymlink), file("a")},
		"a directory's link":  {{Name: "a/", Typeflag: tar.TypeDir, Mode: 0o755}, link("a", "/", tar.TypeSymlink)},
		"a link out":          {link("h", "../../../../victim", tar.TypeLink)},
		"a link to a symlink": {link("s", "/etc/passwd", tar.TypeSymlink), link("h", "s", tar.TypeLink)},
		"a device":            {{Name: "null", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3}},
		"a pipe":              {{Name: "pipe", Typeflag: tar.TypeFifo}},
		"the root as a file":  {file("./.")},
		"an unfinished one":   {{Name: "big", Typeflag: tar.TypeReg, Size: 1 << 20, Mode: 0o644}},
	} {
		t.Run(name, func(t *testing.T) {
			_, store := within(t)
			all, spec := In(store), Spec{ID: "x"}
			if err := all.Make(spec.Name(), spec, func(data string) error { return os.MkdirAll(filepath.Join(data, "before"), 0o755) }); err != nil {
				t.Fatal(err)
			}
			var b bytes.Buffer
			tw := tar.NewWriter(&b)
			for _, h := range append([]*tar.Header{file("first")}, headers...) {
				if err := tw.WriteHeader(h); err != nil {
					t.Fatal(err)
				}
			}
			if err := tw.Close(); err != nil && name != "an unfinished one" {
				t.Fatal(err)
			}
			if err := all.Import(t.Context(), spec, &b); err == nil {
				t.Error("it was imported")
			}
			entries, err := os.ReadDir(all.Data(spec.Name()))
			if err != nil || len(entries) != 1 || entries[0].Name() != "before" {
				t.Errorf("there is %v, %v", entries, err)
			}
		})
	}
}

// What is exported is what is imported.
func TestExportImport(t *testing.T) {
	_, store := within(t)
	all, spec := In(store), Spec{ID: "x"}
	old := time.Date(1985, 10, 26, 8, 15, 0, 987654321, time.UTC)
	err := all.Make(spec.Name(), spec, func(data string) error {
		sub := filepath.Join(data, "dir", "of the mount")
		return errors.Join(
			os.MkdirAll(sub, 0o755), os.WriteFile(filepath.Join(sub, "file"), []byte("content"), 0o600),
			os.Link(filepath.Join(sub, "file"), filepath.Join(data, "again")), os.Symlink("../../..", filepath.Join(sub, "up")),
			os.Chtimes(filepath.Join(sub, "file"), old, old), os.Chtimes(filepath.Join(data, "dir"), old, old), os.Chmod(sub, 0o1777),
		)
	})
	if err != nil {
		t.Fatal(err)
	}
	tree := func(spec Spec) *Tree {
		t.Helper()
		tree, _, err := scan(t.Context(), all.Data(spec.Name()), nil)
		if err != nil {
			t.Fatal(err)
		}
		return tree
	}
	var b bytes.Buffer
	if err := all.Export(t.Context(), spec.Name(), &b); err != nil {
		t.Fatal(err)
	}
	other := Spec{ID: "y"}
	if err := all.Import(t.Context(), other, &b); err != nil {
		t.Fatal(err)
	}
	if a, b := tree(spec), tree(other); !slices.EqualFunc(a.Entries, b.Entries, same) {
		t.Errorf("exported\n%+v\nimported\n%+v", a.Entries, b.Entries)
	}
	for _, name := range []string{other.Name()} {
		if _, err := os.Stat(filepath.Join(all.Dir(name), "about.json")); errors.Is(err, fs.ErrNotExist) {
			t.Error("it does not say what it is")
		}
	}
}

// FuzzTree reads anything without panicking; whatever it accepts is safe to make, and
// is written again as it was read.
func FuzzTree(f *testing.F) {
	for _, seed := range []*Tree{
		{[]Entry{dir(".")}},
		{[]Entry{dir("."), content("a%b\xff", "x"), {Path: "l", Kind: Link, Target: "a%b\xff"}, {Path: "s", Kind: Symlink, Target: "/"}}},
	} {
		var b bytes.Buffer
		if err := seed.write(&b); err != nil {
			f.Fatal(err)
		}
		f.Add(b.Bytes())
	}
	f.Add([]byte(`{"p":"../x"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		tree, err := readTree(bytes.NewReader(text))
		if err != nil {
			return
		}
		for _, e := range tree.Entries {
			if !filepath.IsLocal(e.Path) {
				t.Fatalf("%q leads out", e.Path)
			}
		}
		var b bytes.Buffer
		if err := tree.write(&b); err != nil {
			t.Fatal(err)
		}
		again, err := readTree(&b)
		if err != nil {
			t.Fatal(err)
		}
		one, err1 := tree.ID()
		two, err2 := again.ID()
		if one != two || errors.Join(err1, err2) != nil {
			t.Errorf("%s, then %s", one, two)
		}
	})
}

// The parts of a version are checked before anything is fetched.
func TestCheck(t *testing.T) {
	good := func() *Version {
		return forged(t, cachetest.NewMemory(), []Entry{dir("."), content("x", "content")}, hex.EncodeToString(digestBytes("content")), "content")
	}
	if err := good().Check(); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(v *Version){
		"no id":         func(v *Version) { v.Spec.ID = "" },
		"a path":        func(v *Version) { v.Tree.Digest = "sha256:../x" },
		"a bomb":        func(v *Version) { v.Packs[0].Plain = 1 << 50 },
		"many packs":    func(v *Version) { v.Packs = slices.Repeat(v.Packs, maxPacks+1) },
		"no size":       func(v *Version) { v.Packs[0].Blob.Size = 0 },
		"another type":  func(v *Version) { v.Packs[0].Blob.MediaType = ocispec.MediaTypeImageManifest },
		"in the future": func(v *Version) { v.Packed = time.Now().Add(1000 * time.Hour) },
	} {
		v := good()
		spoil(v)
		if v.Check() == nil {
			t.Error(name, "is no fault")
		}
	}
}
