package travel

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"lamina/cache"
	"lamina/cache/cachetest"
	"lamina/cache/mounts"
)

// mounter is a machine that has a cache mount.
type mounter struct {
	*fixture
	mounts mounts.Mounts
	data   string
}

var mountSpec = mounts.Spec{ID: "go"}

func (f *fixture) mounter(t *testing.T) *mounter {
	t.Helper()
	store, err := cache.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	m := &mounter{f, mounts.In(store), mounts.In(store).Data(mountSpec.Name())}
	if err := m.mounts.Make(mountSpec.Name(), mountSpec, func(data string) error { return os.Mkdir(data, 0o755) }); err != nil {
		t.Fatal(err)
	}
	return m
}

// cacheOf is a cache that has the mount, with a new file of this name, instead of what
// is there.
func (m *mounter) cacheOf(file string, there *Cache, repo *cachetest.Memory) *Cache {
	m.Helper()
	if err := os.WriteFile(filepath.Join(m.data, file), []byte(strings.Repeat(file, 100)), 0o644); err != nil {
		m.Fatal(err)
	}
	opt := mounts.PackOptions{Blobs: repo}
	var replaces digest.Digest
	if there != nil && there.Mount(mountSpec.Name()) != nil {
		opt.Base = there.Mount(mountSpec.Name())
		replaces = opt.Base.ID
	}
	b, err := m.mounts.Pack(m.Context(), mountSpec.Name(), mountSpec, opt)
	if err != nil {
		m.Fatal(err)
	}
	m.Cleanup(func() { b.Close() })
	own := newCache()
	own.AddMount(b.Version, replaces, b)
	return own
}

// files are those of the mount that is in repo.
func (m *mounter) files(repo *cachetest.Memory) (names []string) {
	m.Helper()
	c := m.read(repo, "cache")
	other := m.mounter(m.TB.(*testing.T))
	err := other.mounts.Restore(m.Context(), mountSpec, []mounts.Offer{{Version: c.Mount(mountSpec.Name()), Blobs: repo}}, mounts.RestoreOptions{
		Failed: func(_ mounts.Offer, err error) { m.Error(err) },
	})
	if err != nil {
		m.Fatal(err)
	}
	entries, err := os.ReadDir(other.data)
	if err != nil {
		m.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func (m *mounter) want(repo *cachetest.Memory, names ...string) {
	m.Helper()
	if got := m.files(repo); !slices.Equal(got, names) {
		m.Errorf("the mount has %q, want %q", got, names)
	}
}

// Mounts lie beside steps, and whoever adds steps keeps them.
func TestMountsStay(t *testing.T) {
	f := newFixture(t)
	m, repo := f.mounter(t), cachetest.NewMemory()
	r := f.write(repo, "cache", m.cacheOf("a", nil, repo))
	if len(r.Mounts) != 1 || !r.Written {
		t.Fatalf("%+v", r)
	}
	f.write(repo, "cache", f.pack(f.run("make", digest.FromString("image"))))
	m.want(repo, "a")
	there := f.read(repo, "cache")
	f.write(repo, "cache", m.cacheOf("b", there, repo))
	m.want(repo, "a", "b")
	if c := f.read(repo, "cache"); c.Steps() != 1 || c.Dropped != 0 {
		t.Errorf("%d steps, %d dropped", c.Steps(), c.Dropped)
	}
}

// Of two machines that replace the same version the first wins, as a whole, and the
// other is told.
func TestMountsAreNotMixed(t *testing.T) {
	f := newFixture(t)
	one, two, repo := f.mounter(t), f.mounter(t), cachetest.NewMemory()
	f.write(repo, "cache", one.cacheOf("a", nil, repo))
	base := f.read(repo, "cache")
	first, second := one.cacheOf("b", base, repo), two.cacheOf("c", base, repo)
	f.write(repo, "cache", first)
	r := f.write(repo, "cache", second)
	one.want(repo, "a", "b")
	if got := r.Mounts[0].ID; got == second.Mounts()[0].ID || got != first.Mounts()[0].ID {
		t.Errorf("reported %s", got)
	}
	// The next build of the second machine replaces what it has seen by then.
	f.write(repo, "cache", two.cacheOf("d", f.read(repo, "cache"), repo))
	one.want(repo, "c", "d")
}

// A mount that was used stays, one that nobody uses goes.
func TestMountsAge(t *testing.T) {
	f := newFixture(t)
	m, repo := f.mounter(t), cachetest.NewMemory()
	own := m.cacheOf("a", nil, repo)
	f.write(repo, "cache", own)
	there := f.read(repo, "cache")
	used := func(later time.Duration) *Cache {
		v := *there.Mount(mountSpec.Name())
		v.Used = v.Used.Add(later)
		c := newCache()
		c.AddMount(&v, v.ID, nil)
		return c
	}
	if !there.has(used(time.Hour)) {
		t.Error("that it was used an hour later is worth writing")
	}
	if there.has(used(2 * usedAfter)) {
		t.Error("that it was used days later is not worth writing")
	}
	if kept := merge(there, used(2*usedAfter), time.Now().Add(maxIdle+usedAfter)); kept.Mount(mountSpec.Name()) == nil {
		t.Error("one that was used is gone")
	}
	if kept := merge(there, newCache(), time.Now().Add(maxIdle+usedAfter)); len(kept.Mounts()) != 0 {
		t.Error("one that nobody uses is kept")
	}
}

// What the registry lost is sent again as soon as somebody notices.
func TestMountsHeal(t *testing.T) {
	f := newFixture(t)
	m, repo := f.mounter(t), cachetest.NewMemory()
	f.write(repo, "cache", m.cacheOf("a", nil, repo))
	there := f.read(repo, "cache")
	lost := *there.Mount(mountSpec.Name())
	b, err := m.mounts.Pack(t.Context(), mountSpec.Name(), mountSpec, mounts.PackOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	b.Version.Packed = b.Version.Packed.Add(time.Minute)
	own := newCache()
	own.AddMount(b.Version, lost.ID, b)
	if b.Version.ID != lost.ID {
		t.Fatal("the same mount has two identities")
	}
	if there.has(own) {
		t.Error("what was packed again is not worth writing")
	}
	if kept := merge(there, own, time.Now()); kept.Mount(mountSpec.Name()).Packed != b.Version.Packed {
		t.Error("what cannot be read stays")
	}
}

// A mount that makes no sense is left out, and everything else is used.
func TestReadLeavesOutMounts(t *testing.T) {
	f := newFixture(t)
	m, repo := f.mounter(t), cachetest.NewMemory()
	c := m.cacheOf("a", nil, repo)
	c.join(f.pack(f.run("make", digest.FromString("image"))))
	f.write(repo, "cache", c)
	there := f.read(repo, "cache")
	held := append(there.layers(), there.mountLayers()...)
	for name, spoil := range map[string]func(v *mounts.Version){
		"no id":               func(v *mounts.Version) { v.Spec.ID = "" },
		"a long id":           func(v *mounts.Version) { v.Spec.ID = strings.Repeat("x", 1<<20) },
		"no identity":         func(v *mounts.Version) { v.ID = "" },
		"no tree":             func(v *mounts.Version) { v.Tree.Digest = "" },
		"a tree elsewhere":    func(v *mounts.Version) { v.Tree.Digest = digest.FromString("x") },
		"a tree that is none": func(v *mounts.Version) { v.Tree.MediaType = mounts.PackType },
		"a huge tree":         func(v *mounts.Version) { v.Tree.Size = 1 << 40 },
		"a pack elsewhere":    func(v *mounts.Version) { v.Packs[0].Blob.Digest = digest.FromString("x") },
		"a pack of a path":    func(v *mounts.Version) { v.Packs[0].Blob.Digest = "sha256:../../x" },
		"another algorithm": func(v *mounts.Version) {
			v.Packs[0].Blob.Digest = digest.Digest("sha512:" + strings.Repeat("0", 128))
		},
		"another size": func(v *mounts.Version) { v.Packs[0].Blob.Size++ },
		"many packs":   func(v *mounts.Version) { v.Packs = slices.Repeat(v.Packs, 100) },
		"a bomb":       func(v *mounts.Version) { v.Packs[0].Plain = 1 << 40 },
		"an overflow": func(v *mounts.Version) {
			v.Packs = slices.Repeat(v.Packs, 4)
			for i := range v.Packs {
				v.Packs[i].Plain = 1 << 62
			}
		},
		"a negative size": func(v *mounts.Version) { v.Size = -1 },
		"in the future":   func(v *mounts.Version) { v.Packed = time.Now().Add(1000 * time.Hour) },
	} {
		t.Run(name, func(t *testing.T) {
			doc := there.document()
			v := *doc.Mounts[0]
			v.Packs = slices.Clone(v.Packs)
			spoil(&v)
			doc.Mounts = []*mounts.Version{&v, nil}
			got := doc.cache(held)
			if got.Dropped != 2 || len(got.Mounts()) != 0 || got.Steps() != 1 {
				t.Errorf("%d dropped, %d mounts, %d steps", got.Dropped, len(got.Mounts()), got.Steps())
			}
		})
	}
	doc := there.document()
	if got := doc.cache(held); got.Dropped != 0 || len(got.Mounts()) != 1 {
		t.Error("nothing was wrong with it")
	}
	many := newCache()
	for i := range 2 * maxMounts {
		v := *there.Mounts()[0]
		v.Spec.ID = fmt.Sprint(i)
		many.AddMount(&v, "", nil)
	}
	if kept := merge(there, many, time.Now()); len(kept.Mounts()) != maxMounts {
		t.Errorf("%d mounts are kept", len(kept.Mounts()))
	}
}
