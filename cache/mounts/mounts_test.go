package mounts_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"lamina/cache"
	"lamina/cache/cachetest"
	"lamina/cache/mounts"
)

// machine is a store with cache mounts.
type machine struct {
	*testing.T
	store *cache.Store
	mounts.Mounts
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	store, err := cache.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(cache.RemoveAll(store.Path("mounts")), store.Close()); err != nil {
			t.Error(err)
		}
	})
	return &machine{t, store, mounts.In(store)}
}

var spec = mounts.Spec{ID: "mod"}

// must fails the test on an error.
func (m *machine) must(err error) {
	m.Helper()
	if err != nil {
		m.Fatal(err)
	}
}

// make makes the mount empty.
func (m *machine) make() string {
	m.Helper()
	m.must(m.Make(spec.Name(), spec, func(data string) error { return os.Mkdir(data, 0o755) }))
	return m.Data(spec.Name())
}

// write writes files: names to contents.
func (m *machine) write(files map[string]string) {
	m.Helper()
	data := m.make()
	for name, content := range files {
		at := filepath.Join(data, name)
		m.must(os.MkdirAll(filepath.Dir(at), 0o755))
		m.must(os.WriteFile(at, []byte(content), 0o644))
	}
}

// list describes everything at a path as lines.
func list(t *testing.T, root string) []string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(root, func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		st := info.Sys().(*syscall.Stat_t)
		rel, _ := filepath.Rel(root, name)
		line := fmt.Sprintf("%s %v %d:%d %d", rel, info.Mode(), st.Uid, st.Gid, info.ModTime().UnixNano())
		switch {
		case info.Mode().IsRegular():
			data, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" %q links=%d", data, st.Nlink)
			value := make([]byte, 100)
			if n, err := unix.Getxattr(name, "user.test", value); err == nil {
				line += fmt.Sprintf(" test=%q", value[:n])
			}
		case info.Mode()&fs.ModeSymlink != 0:
			target, _ := os.Readlink(name)
			line += " -> " + target
		}
		all = append(all, line)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// send packs the mount and puts its blobs into repo.
func (m *machine) send(repo *cachetest.Memory, opt mounts.PackOptions) *mounts.Bundle {
	m.Helper()
	opt.Blobs = repo
	b, err := m.Pack(m.Context(), spec.Name(), spec, opt)
	m.must(err)
	m.Cleanup(func() { b.Close() })
	if b.Version == nil {
		return b
	}
	for _, d := range b.Version.Blobs() {
		if !b.Has(d) {
			ok, err := repo.Has(m.Context(), d)
			if err != nil || !ok {
				m.Fatalf("%s is neither in the bundle nor there: %v", d.Digest, err)
			}
			continue
		}
		r, err := b.Open(d)
		m.must(err)
		m.must(repo.Put(m.Context(), d, r))
		m.must(r.Close())
	}
	m.must(b.Version.Check())
	return b
}

// restore makes the mount of a version, and returns what was said.
func (m *machine) restore(repo cache.Blobs, versions ...*mounts.Version) (said []string) {
	m.Helper()
	var offers []mounts.Offer
	for i, v := range versions {
		offers = append(offers, mounts.Offer{Version: v, Blobs: repo, Place: fmt.Sprint(i)})
	}
	m.must(m.Restore(m.Context(), spec, offers, mounts.RestoreOptions{
		Begin:  func(o mounts.Offer) { said = append(said, "begin "+o.Place) },
		Failed: func(o mounts.Offer, err error) { said = append(said, "failed "+o.Place+": "+err.Error()) },
	}))
	return said
}

// A mount arrives as it was: names, contents, modes, owners, times, links.
func TestTravels(t *testing.T) {
	a, b := newMachine(t), newMachine(t)
	a.write(map[string]string{
		"dir/file": "content", "dir/empty": "", "same": "content", "big": strings.Repeat("0123456789", 100_000),
		"name with \xff bytes 100%": "x", "cache/download/list": "v1.0.0\n",
	})
	data := a.Data(spec.Name())
	a.must(os.Link(filepath.Join(data, "dir/file"), filepath.Join(data, "linked")))
	a.must(os.Symlink("/etc/passwd", filepath.Join(data, "dir/outside")))
	a.must(os.Symlink("nowhere", filepath.Join(data, "dangling")))
	a.must(os.Mkdir(filepath.Join(data, "readonly"), 0o755))
	a.must(os.WriteFile(filepath.Join(data, "readonly/f"), []byte("r"), 0o444))
	a.must(os.Chmod(filepath.Join(data, "same"), 0o640))
	if err := unix.Setxattr(filepath.Join(data, "same"), "user.test", []byte("v"), 0); err != nil && err != unix.ENOTSUP {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		a.must(os.Lchown(filepath.Join(data, "dir/file"), 1000, 1001))
		a.must(os.Lchown(filepath.Join(data, "dangling"), 5, 6))
		a.must(os.Lchown(filepath.Join(data, "readonly"), 7, 8))
	}
	old := time.Date(1985, 10, 26, 8, 15, 0, 123456789, time.UTC)
	a.must(os.Chtimes(filepath.Join(data, "big"), old, old))
	a.must(os.Chtimes(filepath.Join(data, "dir"), old, old))
	a.must(os.Chmod(filepath.Join(data, "readonly"), 0o555))
	repo := cachetest.NewMemory()
	sent := a.send(repo, mounts.PackOptions{})
	if said := b.restore(repo, sent.Version); !slices.Equal(said, []string{"begin 0"}) {
		t.Errorf("said %q", said)
	}
	want, got := list(t, data), list(t, b.Data(spec.Name()))
	if !slices.Equal(want, got) {
		t.Errorf("sent\n%s\narrived\n%s", strings.Join(want, "\n"), strings.Join(got, "\n"))
	}
	again, err := b.Pack(t.Context(), spec.Name(), spec, mounts.PackOptions{Base: sent.Version, Blobs: repo})
	b.must(err)
	if again.Report.Outcome != mounts.Unchanged || again.Report.Change != 0 {
		t.Errorf("what arrived and was not touched is reported as %+v", again.Report)
	}
}

// Devices, sockets, pipes and powers stay behind.
func TestLeavesBehind(t *testing.T) {
	a, b := newMachine(t), newMachine(t)
	a.write(map[string]string{"tool": "x"})
	data := a.Data(spec.Name())
	a.must(os.Chmod(filepath.Join(data, "tool"), 0o755|fs.ModeSetuid|fs.ModeSetgid))
	a.must(unix.Mkfifo(filepath.Join(data, "pipe"), 0o644))
	if os.Geteuid() == 0 {
		if err := unix.Mknod(filepath.Join(data, "null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))); err != nil {
			t.Logf("no device: %v", err)
		}
	}
	repo := cachetest.NewMemory()
	b.restore(repo, a.send(repo, mounts.PackOptions{}).Version)
	entries, err := os.ReadDir(b.Data(spec.Name()))
	b.must(err)
	if len(entries) != 1 {
		t.Errorf("%v arrived", entries)
	}
	st, err := os.Stat(filepath.Join(b.Data(spec.Name()), "tool"))
	b.must(err)
	if st.Mode() != 0o755 {
		t.Errorf("mode %v", st.Mode())
	}
}

// Only what is new is sent, what is gone is gone, and there are never many packs.
func TestSendsWhatChanged(t *testing.T) {
	a := newMachine(t)
	files := map[string]string{}
	for i := range 40 {
		files[fmt.Sprintf("m%d/file", i)] = string(cachetest.Bytes(uint64(i), 10_000))
	}
	a.write(files)
	data := a.Data(spec.Name())
	repo := cachetest.NewMemory()
	v := a.send(repo, mounts.PackOptions{}).Version
	var sent int64
	for i := range 30 {
		a.must(os.WriteFile(filepath.Join(data, fmt.Sprintf("new%d", i)), cachetest.Bytes(uint64(1000+i), 10_000), 0o644))
		if i > 0 {
			a.must(os.Rename(filepath.Join(data, fmt.Sprintf("new%d", i-1)), filepath.Join(data, fmt.Sprintf("moved%d", i-1))))
		}
		if i >= 10 {
			a.must(os.RemoveAll(filepath.Join(data, fmt.Sprintf("m%d", i-10))))
		}
		b := a.send(repo, mounts.PackOptions{Base: v})
		v = b.Version
		for _, d := range v.Blobs() {
			if b.Has(d) {
				sent += d.Size
			}
		}
		if len(v.Packs) > 8 {
			t.Fatalf("%d packs after %d versions", len(v.Packs), i)
		}
	}
	if sent > 30*10_000*10 {
		t.Errorf("%d bytes were sent for 300,000 that were new", sent)
	}
	other := newMachine(t)
	other.restore(repo, v)
	if want, got := list(t, data), list(t, other.Data(spec.Name())); !slices.Equal(want, got) {
		t.Errorf("after 30 versions\n%s\narrived\n%s", strings.Join(want, "\n"), strings.Join(got, "\n"))
	}
	var packed int64
	for _, p := range v.Packs {
		packed += p.Plain
	}
	if packed > 2*v.Size {
		t.Errorf("packs have %d bytes for a mount of %d", packed, v.Size)
	}
}

// A file that was replaced by another of the same size and time is another: tools
// that unpack archives set times as they please.
func TestSeesContents(t *testing.T) {
	a, b := newMachine(t), newMachine(t)
	a.write(map[string]string{"package.json": "1.2.3"})
	file := filepath.Join(a.Data(spec.Name()), "package.json")
	old := time.Date(1985, 10, 26, 8, 15, 0, 0, time.UTC)
	a.must(os.Chtimes(file, old, old))
	repo := cachetest.NewMemory()
	first := a.send(repo, mounts.PackOptions{})
	a.must(os.WriteFile(file, []byte("1.2.4"), 0o644))
	a.must(os.Chtimes(file, old, old))
	second := a.send(repo, mounts.PackOptions{Base: first.Version})
	if second.Version == nil {
		t.Fatalf("not seen: %+v", second.Report)
	}
	b.restore(repo, second.Version)
	if got, _ := os.ReadFile(filepath.Join(b.Data(spec.Name()), "package.json")); string(got) != "1.2.4" {
		t.Errorf("%q arrived", got)
	}
}

func TestThresholds(t *testing.T) {
	for _, tc := range []struct {
		name      string
		threshold mounts.Threshold
		add       int
		max       int64
		want      mounts.Outcome
	}{
		{name: "nothing", want: mounts.Unchanged},
		{name: "any change", add: 1, want: mounts.Packed},
		{name: "less than the share", threshold: mounts.Threshold{Share: 0.1, Bytes: -1}, add: 5_000, want: mounts.Unchanged},
		{name: "the share", threshold: mounts.Threshold{Share: 0.1, Bytes: -1}, add: 20_000, want: mounts.Packed},
		{name: "less than the bytes", threshold: mounts.Threshold{Share: -1, Bytes: 10_000}, add: 5_000, want: mounts.Unchanged},
		{name: "the bytes", threshold: mounts.Threshold{Share: 0.9, Bytes: 10_000}, add: 20_000, want: mounts.Packed},
		{name: "too large", add: 1, max: 1000, want: mounts.TooLarge},
		{name: "large enough", add: 1, max: 200_000, want: mounts.Packed},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := newMachine(t)
			a.write(map[string]string{"a": strings.Repeat("a", 100_000)})
			repo := cachetest.NewMemory()
			v := a.send(repo, mounts.PackOptions{}).Version
			if tc.add > 0 {
				a.write(map[string]string{"b": strings.Repeat("b", tc.add)})
			}
			b := a.send(repo, mounts.PackOptions{Base: v, MinChange: tc.threshold, MaxSize: tc.max})
			if b.Report.Outcome != tc.want || (b.Version != nil) != (tc.want == mounts.Packed) {
				t.Errorf("%+v", b.Report)
			}
		})
	}
}

// What is here stays, unless what is elsewhere is certainly better.
func TestWhatIsRestored(t *testing.T) {
	repo := cachetest.NewMemory()
	origin := newMachine(t)
	origin.write(map[string]string{"f": "one"})
	one := origin.send(repo, mounts.PackOptions{}).Version
	origin.write(map[string]string{"f": "two"})
	two := origin.send(repo, mounts.PackOptions{}).Version
	one.Packed = time.Now().Add(-time.Hour)
	two.Packed = time.Now()
	later := *two
	later.Packed = time.Now().Add(outdatedAfter + time.Minute)
	for _, tc := range []struct {
		name   string
		before func(m *machine)
		offers []*mounts.Version
		want   string
	}{
		{name: "nothing here", offers: []*mounts.Version{one}, want: "one"},
		{name: "the newest", offers: []*mounts.Version{one, two}, want: "two"},
		{name: "in any order", offers: []*mounts.Version{two, one}, want: "two"},
		{name: "an empty directory", before: func(m *machine) { m.make() }, offers: []*mounts.Version{one}, want: "one"},
		{name: "one's own", before: func(m *machine) { m.write(map[string]string{"f": "own"}) }, offers: []*mounts.Version{two, &later}, want: "own"},
		{name: "untouched since", before: func(m *machine) { m.restore(repo, one) }, offers: []*mounts.Version{two}, want: "two"},
		{name: "never back", before: func(m *machine) { m.restore(repo, two) }, offers: []*mounts.Version{one}, want: "two"},
		{name: "changed since", before: func(m *machine) {
			m.restore(repo, one)
			m.write(map[string]string{"f": "changed"})
		}, offers: []*mounts.Version{two}, want: "changed"},
		{name: "changed, but long ago", before: func(m *machine) {
			m.restore(repo, one)
			m.write(map[string]string{"f": "changed"})
		}, offers: []*mounts.Version{&later}, want: "two"},
		{name: "in use", before: func(m *machine) {
			m.restore(repo, one)
			release, err := m.Use(m.Context(), spec.Name())
			m.must(err)
			m.Cleanup(release)
		}, offers: []*mounts.Version{&later}, want: "one"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m := newMachine(t)
			if tc.before != nil {
				tc.before(m)
			}
			m.restore(repo, tc.offers...)
			if got, err := os.ReadFile(filepath.Join(m.Data(spec.Name()), "f")); string(got) != tc.want {
				t.Errorf("there is %q, %v; want %q", got, err, tc.want)
			}
		})
	}
}

// outdatedAfter is what docs/cache.md says: a day.
const outdatedAfter = 24 * time.Hour

// lossy is blobs of which some are gone or spoiled.
type lossy struct {
	cache.Blobs
	spoil func(ocispec.Descriptor, []byte) ([]byte, error)
}

func (l lossy) Open(ctx context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	r, err := l.Blobs.Open(ctx, d)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	if err == nil {
		data, err = l.spoil(d, data)
	}
	return io.NopCloser(bytes.NewReader(data)), err
}

// A version of which something is missing is not there at all, and the next is taken.
func TestNeverHalf(t *testing.T) {
	repo := cachetest.NewMemory()
	origin := newMachine(t)
	origin.write(map[string]string{"a": strings.Repeat("a", 100_000), "b": string(cachetest.Bytes(1, 100_000))})
	older := origin.send(repo, mounts.PackOptions{}).Version
	older.Packed = older.Packed.Add(-time.Hour)
	origin.write(map[string]string{"c": string(cachetest.Bytes(2, 100_000))})
	newer := origin.send(repo, mounts.PackOptions{Base: older}).Version
	if len(newer.Packs) != 2 {
		t.Fatalf("%d packs", len(newer.Packs))
	}
	mine := map[string]bool{newer.Tree.Digest.String(): true, newer.Packs[1].Blob.Digest.String(): true}
	for name, spoil := range map[string]func(ocispec.Descriptor, []byte) ([]byte, error){
		"gone": func(ocispec.Descriptor, []byte) ([]byte, error) { return nil, fs.ErrNotExist },
		"cut":  func(_ ocispec.Descriptor, data []byte) ([]byte, error) { return data[:len(data)/2], nil },
		"zeroes": func(_ ocispec.Descriptor, data []byte) ([]byte, error) {
			clear(data[len(data)/2 : len(data)/2+100])
			return data, nil
		},
	} {
		for which := range mine {
			t.Run(name+" "+which[:14], func(t *testing.T) {
				m := newMachine(t)
				blobs := lossy{repo, func(d ocispec.Descriptor, data []byte) ([]byte, error) {
					if d.Digest.String() == which {
						return spoil(d, data)
					}
					return data, nil
				}}
				said := m.restore(blobs, newer, older)
				if len(said) != 3 || !strings.HasPrefix(said[1], "failed 0: ") || said[2] != "begin 1" {
					t.Errorf("said %q", said)
				}
				entries, err := os.ReadDir(m.Data(spec.Name()))
				if len(entries) != 2 {
					t.Errorf("there are %v, %v", entries, err)
				}
				m = newMachine(t)
				m.restore(blobs, newer)
				if _, err := os.Lstat(m.Dir(spec.Name())); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("half a mount was made: %v", err)
				}
			})
		}
	}
}

// Two that restore at once make one.
func TestRestoreOnce(t *testing.T) {
	repo := cachetest.NewMemory()
	origin := newMachine(t)
	origin.write(map[string]string{"f": "x"})
	v := origin.send(repo, mounts.PackOptions{}).Version
	m := newMachine(t)
	begun := make(chan bool, 8)
	errs := make(chan error)
	for range 8 {
		go func() {
			errs <- m.Restore(context.Background(), spec, []mounts.Offer{{Version: v, Blobs: repo}}, mounts.RestoreOptions{
				Begin: func(mounts.Offer) { begun <- true },
			})
		}()
	}
	for range 8 {
		m.must(<-errs)
	}
	if len(begun) != 1 {
		t.Errorf("it was fetched %d times", len(begun))
	}
}

// meddling is a context that does something whenever it is asked whether it ended,
// which who walks a mount does at each file.
type meddling struct {
	context.Context
	meddle func()
}

func (c meddling) Err() error {
	c.meddle()
	return c.Context.Err()
}

// A mount that is written to all the time is not packed, nor is one that somebody
// exchanges for links while it is read.
func TestBusy(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("this machine's own"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, meddle := range map[string]func(data string, n int) error{
		"writes": func(data string, n int) error {
			return os.WriteFile(filepath.Join(data, "dir/f"), fmt.Append(nil, n), 0o644)
		},
		"adds": func(data string, n int) error {
			return os.WriteFile(filepath.Join(data, fmt.Sprintf("dir/new%d", n)), nil, 0o644)
		},
		"swaps": func(data string, n int) error {
			return errors.Join(os.RemoveAll(filepath.Join(data, "dir")), os.Symlink(filepath.Dir(secret), filepath.Join(data, "dir")))
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			m.write(map[string]string{"dir/f": "x", "dir/secret": "of the mount", "z": "z"})
			n := 0
			ctx := meddling{t.Context(), func() {
				n++
				m.must(meddle(m.Data(spec.Name()), n))
			}}
			if b, err := m.Pack(ctx, spec.Name(), spec, mounts.PackOptions{}); !errors.Is(err, mounts.ErrBusy) {
				t.Errorf("%+v, %v", b, err)
			}
			b, err := m.Pack(t.Context(), spec.Name(), spec, mounts.PackOptions{})
			m.must(err) // once it is left alone
			m.must(b.Close())
		})
	}
}

func TestLocks(t *testing.T) {
	m := newMachine(t)
	ctx, name := t.Context(), spec.Name()
	if _, err := m.Use(ctx, name); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("one that is not there: %v", err)
	}
	m.make()
	one, err := m.Use(ctx, name)
	m.must(err)
	two, err := m.Use(ctx, name)
	m.must(err)
	one()
	if _, err := m.Alone(ctx, name, false); !errors.Is(err, mounts.ErrInUse) {
		t.Errorf("alone with another: %v", err)
	}
	all, err := m.List(ctx)
	if err != nil || len(all) != 1 || !all[0].InUse {
		t.Errorf("%+v, %v", all, err)
	}
	got := make(chan func())
	go func() {
		alone, err := m.Alone(ctx, name, true)
		if err != nil {
			t.Error(err)
		}
		got <- alone
	}()
	two()
	alone := <-got
	canceled, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := m.Use(canceled, name); !errors.Is(err, context.Canceled) {
		t.Errorf("somebody used what another had alone: %v", err)
	}
	m.must(m.Remove(name))
	alone()
	if _, err := m.Use(ctx, name); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after it was removed: %v", err)
	}
}

// The names of mounts are those that earlier releases gave them, and the same everywhere.
func TestNames(t *testing.T) {
	for _, tc := range []struct {
		spec mounts.Spec
		want string
	}{
		{mounts.Spec{ID: "/go/pkg/mod"}, "6c56b69c5f50fc6206b19877f3582b3d"},
		{mounts.Spec{ID: "apt", Attrs: &mounts.Attrs{Mode: 0o700, UID: 1, GID: 2}}, "2a7bcf37172eadaa8d4f4b9bc6775ce5"},
		{mounts.Spec{ID: "apt", From: "sha256:abc", Source: "/seed"}, "c47a53931966501c34098dfac23db882"},
	} {
		if got := tc.spec.Name(); got != tc.want {
			t.Errorf("%+v is %s, want %s", tc.spec, got, tc.want)
		}
	}
}
