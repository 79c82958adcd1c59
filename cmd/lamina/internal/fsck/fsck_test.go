package fsck_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lamina/cache"
	"lamina/cmd/lamina/internal/collect"
	"lamina/cmd/lamina/internal/fsck"
	"lamina/exporter"
	"lamina/snapshot"
	"lamina/snapshot/fileset"
	"lamina/snapshot/layer"
	"lamina/solver"
)

// world is a store with a layer "made" that image app:1 was packed of, a layer "only"
// that is nowhere else, a record of each, and one of each other thing.
type world struct {
	*testing.T
	root  string
	store *cache.Store
	pool  *layer.Pool
	image ocispec.Descriptor
	blob  ocispec.Descriptor // of the layer made
	steps map[snapshot.ID]cache.Key
}

func newWorld(t *testing.T) *world {
	w := &world{T: t, root: t.TempDir(), steps: map[snapshot.ID]cache.Key{}}
	w.open()
	w.layer("made")
	w.layer("only")
	w.step("made", snapshot.Layer{ID: "made"})
	w.step("only", snapshot.Layer{ID: "only"})
	out := exporter.Output{Layers: []snapshot.Layer{{ID: "made"}}, Config: dockerspec.DockerOCIImage{}}
	out.Config.OS, out.Config.Architecture = "linux", "amd64"
	var err error
	w.image, err = exporter.Pack(t.Context(), []exporter.Output{out}, w.pool, w.store, exporter.PackOptions{})
	w.must(err)
	img, err := exporter.ReadImage(t.Context(), w.store, w.image, ocispec.Platform{})
	w.must(err)
	w.blob = *img.Layers[0].Blob
	w.must(w.store.Tag(t.Context(), "docker.io/library/app:1", w.image))
	w.must(w.store.AddOrigin(digest.FromString("elsewhere"), "example.com/app"))
	w.write("mounts/m/data/x", "x")
	w.write("mounts/m/id", "m\n")
	w.sums()
	if r := w.check(false); len(r.Findings) > 0 {
		t.Fatalf("a sound store: %+v", r.Findings)
	}
	return w
}

func (w *world) open() {
	w.Helper()
	var err error
	w.store, err = cache.Open(w.root)
	w.must(err)
	w.Cleanup(func() { w.store.Close() })
	w.pool, err = layer.OpenPool(w.store.Path("layers"), w.store.Temp)
	w.must(err)
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *world) layer(id snapshot.ID) {
	w.Helper()
	d, err := w.pool.Draft()
	w.must(err)
	defer d.Close()
	e := snapshot.Entry{Mode: 0o644, ModTime: time.Unix(1700000000, 0)}
	w.must(errors.Join(d.File("a", e, strings.NewReader(string(id))), d.File("b", e, strings.NewReader("b")), d.Commit(id)))
}

// step records a step with this result.
func (w *world) step(id snapshot.ID, layers ...snapshot.Layer) {
	w.Helper()
	r := solver.NewRecord("run", json.RawMessage(fmt.Sprintf(`{"args":[%q]}`, id)))
	r.Name, r.Pos = "RUN "+string(id), solver.Pos{File: "Dockerfile", First: 3, Last: 3}
	k, _ := r.Keys()
	r.Result = solver.Result{ID: k, Layers: layers}
	data, err := json.Marshal(r)
	w.must(err)
	w.must(w.store.Index().Put(w.Context(), k, data))
	w.steps[id] = k
}

// sums makes a stat index of some files.
func (w *world) sums() {
	w.Helper()
	dir := w.TempDir()
	w.must(os.WriteFile(filepath.Join(dir, "f"), []byte("f"), 0o644))
	old := time.Unix(1700000000, 0)
	w.must(os.Chtimes(filepath.Join(dir, "f"), old, old))
	tree, err := fileset.Host(dir)
	w.must(err)
	defer tree.Close()
	x, err := fileset.OpenIndex(w.store.Path("sums"))
	w.must(err)
	defer x.Close()
	e, err := tree.Lstat("f")
	w.must(err)
	e.ChangeTime = old
	_, err = x.Sum(w.Context(), tree, "f", e)
	w.must(errors.Join(err, x.Save()))
}

func (w *world) path(name string) string { return filepath.Join(w.root, name) }

func (w *world) write(name, data string) {
	w.Helper()
	w.must(os.MkdirAll(filepath.Dir(w.path(name)), 0o700))
	w.must(os.WriteFile(w.path(name), []byte(data), 0o600))
}

// spoil changes the last byte of a file.
func (w *world) spoil(name string) {
	w.Helper()
	data, err := os.ReadFile(w.path(name))
	w.must(err)
	st, err := os.Stat(w.path(name))
	w.must(err)
	data[len(data)-1] ^= 1
	w.must(os.WriteFile(w.path(name), data, 0o600))
	w.must(os.Chmod(w.path(name), st.Mode()))
	w.must(os.Chtimes(w.path(name), st.ModTime(), st.ModTime()))
}

func (w *world) remove(name string) {
	w.Helper()
	w.must(os.RemoveAll(w.path(name)))
}

func (w *world) recordPath(id snapshot.ID) string {
	return "index/" + w.steps[id].Encoded()[:2] + "/" + w.steps[id].Encoded()
}

func blobPath(d ocispec.Descriptor) string { return "blobs/sha256/" + d.Digest.Encoded() }

func (w *world) check(repair bool) *fsck.Report {
	w.Helper()
	// What is kept of an earlier look is not what is there.
	store, err := cache.Open(w.root)
	w.must(err)
	defer store.Close()
	pool, err := layer.OpenPool(store.Path("layers"), store.Temp)
	w.must(err)
	r, err := fsck.Check(w.Context(), store, pool, fsck.Options{Repair: repair})
	w.must(err)
	return r
}

// found is a finding, in short: "state path: problem".
func found(r *fsck.Report) (all []string) {
	for _, f := range r.Findings {
		state := string(f.State)
		if !f.Damage {
			state = "note, " + state
		}
		all = append(all, state+" "+f.Path+": "+f.Problem)
	}
	return all
}

func TestCheck(t *testing.T) {
	tests := map[string]struct {
		damage func(*world)
		want   func(*world) []string // beginnings
		after  []string              // what a check after the repair still finds
	}{
		"blob that can be packed again": {
			func(w *world) { w.spoil(blobPath(w.blob)) },
			func(w *world) []string {
				return []string{"repaired " + blobPath(w.blob) + ": its content", "repaired index.json: image app:1 lacks its layer"}
			}, nil,
		},
		"blob that is gone": {
			func(w *world) { w.remove(blobPath(w.blob)) },
			func(w *world) []string { return []string{"repaired index.json: image app:1 lacks its layer"} }, nil,
		},
		"manifest": {
			func(w *world) { w.spoil(blobPath(w.image)) },
			func(w *world) []string {
				return []string{"repaired " + blobPath(w.image) + ": its content", "left index.json: image app:1 lacks its manifest"}
			},
			[]string{"left index.json: image app:1 lacks its manifest"},
		},
		"manifest that is elsewhere": {
			func(w *world) {
				w.must(w.store.AddOrigin(w.image.Digest, "example.com/app"))
				w.spoil(blobPath(w.image))
			},
			func(w *world) []string { return []string{"repaired " + blobPath(w.image) + ": its content"} }, nil,
		},
		"no blob": {
			func(w *world) { w.write("blobs/sha256/notes.txt", "mine") },
			func(w *world) []string { return []string{"note, left blobs/sha256/notes.txt: is no blob"} },
			[]string{"note, left blobs/sha256/notes.txt: is no blob"},
		},
		"file of a layer": {
			func(w *world) { w.spoil("layers/only/fs/a") },
			func(w *world) []string {
				return []string{"repaired layers/only: one of its files", "repaired " + w.recordPath("only") + ": its layer only is damaged"}
			}, nil,
		},
		"layer that is gone": {
			func(w *world) { w.remove("layers/only") },
			func(w *world) []string {
				return []string{"repaired " + w.recordPath("only") + ": its layer only is gone"}
			}, nil,
		},
		"files that are gone": {
			func(w *world) { w.remove("layers/only/fs") },
			func(w *world) []string {
				return []string{"repaired layers/only: its files are gone", "repaired " + w.recordPath("only") + ": its layer only is damaged"}
			}, nil,
		},
		"layer that the record has elsewhere": {
			func(w *world) {
				info, err := mustOpen(w, "made").Info()
				w.must(err)
				w.step("made", snapshot.Layer{ID: "made", DiffID: info.DiffID, Blob: &w.blob})
				w.spoil("layers/made/fs/a")
			},
			func(w *world) []string { return []string{"repaired layers/made: one of its files"} }, nil,
		},
		"torn layer": {
			func(w *world) { w.write("layers/only/unsynced", "another boot\n") },
			func(w *world) []string {
				return []string{"repaired layers/only: the power failed", "repaired " + w.recordPath("only") + ": its layer only is damaged"}
			}, nil,
		},
		"attributes": {
			func(w *world) { w.write("layers/only/attrs", "{") },
			func(w *world) []string {
				return []string{"repaired layers/only: the attributes of its files", "repaired " + w.recordPath("only") + ": its layer only is damaged"}
			}, nil,
		},
		"info": {
			func(w *world) { w.spoil("layers/made/info.json") },
			func(w *world) []string { return []string{"repaired layers/made/info.json: is damaged"} }, nil,
		},
		"list": {
			func(w *world) { w.spoil("layers/made/list") },
			func(w *world) []string { return []string{"repaired layers/made/list: is damaged"} }, nil,
		},
		"link to nothing": {
			func(w *world) { w.must(os.Symlink("nothing", w.path("layers/sha256-ab"))) },
			func(w *world) []string { return []string{"repaired layers/sha256-ab: is a link"} }, nil,
		},
		"record": {
			func(w *world) { w.spoil(w.recordPath("only")) },
			func(w *world) []string { return []string{"repaired " + w.recordPath("only") + ": its checksum"} }, nil,
		},
		"record of another result": {
			func(w *world) {
				data, err := w.store.Index().Get(w.Context(), w.steps["only"])
				w.must(err)
				other := strings.Replace(string(data), `"args":["only"]`, `"args":["other"]`, 1)
				w.must(w.store.Index().Put(w.Context(), w.steps["only"], []byte(other)))
			},
			func(w *world) []string {
				return []string{"repaired " + w.recordPath("only") + ": its result is not that"}
			}, nil,
		},
		"record that is nonsense": {
			func(w *world) { w.must(w.store.Index().Put(w.Context(), w.steps["only"], []byte("[1]"))) },
			func(w *world) []string { return []string{"repaired " + w.recordPath("only") + ": it makes no sense"} }, nil,
		},
		"names": {
			func(w *world) { w.write("index.json", "{") },
			func(w *world) []string { return []string{"repaired index.json: is damaged"} }, nil,
		},
		"a letter of a name": {
			func(w *world) { w.replace("index.json", "app:1", "apq:1") },
			func(w *world) []string { return []string{"repaired index.json: is not what lamina wrote last"} }, nil,
		},
		"a digit of a digest": {
			func(w *world) {
				hex := w.image.Digest.Encoded()
				w.replace("index.json", hex, strings.Repeat("0", 64))
			},
			func(w *world) []string { return []string{"repaired index.json: is not what lamina wrote last"} }, nil,
		},
		"blanks between names": {
			func(w *world) { w.replace("index.json", "\n  ", "\n ") },
			func(w *world) []string { return []string{"note, repaired index.json: is not what lamina wrote last"} }, nil,
		},
		"names that are gone": {
			func(w *world) { w.remove("index.json") },
			func(w *world) []string { return []string{"repaired index.json: is missing"} }, nil,
		},
		"copy of the names": {
			func(w *world) { w.spoil("index.copy") },
			func(w *world) []string { return []string{"repaired index.copy: is damaged"} }, nil,
		},
		"layout": {
			func(w *world) { w.write("oci-layout", "{}") },
			func(w *world) []string { return []string{"repaired oci-layout: is damaged"} }, nil,
		},
		"origin": {
			func(w *world) {
				w.write("origins/"+digest.FromString("elsewhere").Encoded(), "exam ple..com/app\nexample.com/app\n")
			},
			func(w *world) []string {
				return []string{"repaired origins/" + digest.FromString("elsewhere").Encoded() + ": names no place"}
			}, nil,
		},
		"sums": {
			func(w *world) { w.spoil("sums") },
			func(w *world) []string { return []string{"repaired sums: is damaged"} }, nil,
		},
		"cache mount": {
			func(w *world) { w.remove("mounts/m/data") },
			func(w *world) []string { return []string{"repaired mounts/m: has no data"} }, nil,
		},
		"repository": {
			func(w *world) { w.write("git/r.git/HEAD", "nonsense") },
			func(w *world) []string { return []string{"repaired git/r.git: git finds it damaged"} }, nil,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			test.damage(w)
			if r := w.check(false); name != "no blob" && len(r.Findings) == 0 {
				t.Error("without repair nothing is found")
			}
			matches(t, "repair", test.want(w), found(w.check(true)))
			matches(t, "after", test.after, found(w.check(false)))
		})
	}
}

func mustOpen(w *world, id snapshot.ID) *layer.Dir {
	w.Helper()
	d, err := w.pool.Open(id)
	w.must(err)
	return d
}

func (w *world) replace(name, old, text string) {
	w.Helper()
	data, err := os.ReadFile(w.path(name))
	w.must(err)
	if !strings.Contains(string(data), old) {
		w.Fatalf("%s has no %q", name, old)
	}
	w.write(name, strings.ReplaceAll(string(data), old, text))
}

// matches compares findings with how they are to begin.
func matches(t *testing.T, what string, want, got []string) {
	t.Helper()
	for i := range max(len(want), len(got)) {
		if i >= len(want) || i >= len(got) || !strings.HasPrefix(got[i], want[i]) {
			t.Errorf("%s: got\n%s\nwant\n%s", what, strings.Join(got, "\n"), strings.Join(want, "\n"))
			return
		}
	}
}

// TestNamesLost finds images without their names.
func TestNamesLost(t *testing.T) {
	w := newWorld(t)
	w.write("index.json", "{")
	w.write("index.copy", "{")
	matches(t, "repair", []string{"repaired index.json: is damaged, and so is its copy"}, found(w.check(true)))
	names, err := w.store.Names(t.Context())
	if err != nil || len(names) != 1 || names[0].Name != "" || names[0].Root.Digest != w.image.Digest {
		t.Errorf("names are %v, %v", names, err)
	}
	if data, err := os.ReadFile(w.path("index.json.damaged")); err != nil || string(data) != "{" {
		t.Errorf("what it was: %q, %v", data, err)
	}
}

// TestEvicted leaves word of why a step is executed again.
func TestEvicted(t *testing.T) {
	w := newWorld(t)
	w.remove("layers/only")
	w.check(true)
	e, err := collect.Evicted(w.store, w.steps["only"])
	if err != nil || e.Reason != collect.ByFsck {
		t.Errorf("eviction is %+v, %v", e, err)
	}
	if _, err := w.store.Index().Get(t.Context(), w.steps["made"]); err != nil {
		t.Errorf("a good record: %v", err)
	}
}

func TestInUse(t *testing.T) {
	w := newWorld(t)
	w.remove("layers/only")
	other, err := cache.Open(w.root)
	w.must(err)
	defer other.Close()
	w.must(other.Use(t.Context()))
	if _, err := fsck.Check(t.Context(), w.store, w.pool, fsck.Options{Repair: true}); !errors.Is(err, cache.ErrInUse) {
		t.Errorf("error is %v", err)
	}
	if r := w.check(false); r.Damaged() != 1 {
		t.Errorf("findings are %v", found(r))
	}
}

// TestRunning spares what a running container uses.
func TestRunning(t *testing.T) {
	w := newWorld(t)
	w.spoil("layers/only/fs/a")
	other, err := cache.Open(w.root)
	w.must(err)
	defer other.Close()
	w.must(other.Use(t.Context()))
	w.must(other.UseOnly(cache.Claim{By: "container 123", Paths: []string{"layers/only/fs"}}))
	matches(t, "repair", []string{"left layers/only: one of", "repaired " + w.recordPath("only")}, found(w.check(true)))
	if _, err := os.Lstat(w.path("layers/only/fs")); err != nil {
		t.Error(err)
	}
	w.must(other.Close())
	matches(t, "repair", []string{"repaired layers/only: one of"}, found(w.check(true)))
}

// TestNoFalseAlarms checks again and again while somebody makes and removes everything.
func TestNoFalseAlarms(t *testing.T) {
	w := newWorld(t)
	ctx, cancel := context.WithCancel(t.Context())
	var busy sync.WaitGroup
	for n := range 2 {
		busy.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				if err := w.work(fmt.Sprintf("w%d-%d", n, i%3)); err != nil && ctx.Err() == nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for range 30 {
		if r := w.check(false); r.Damaged() > 0 {
			t.Errorf("%v", found(r))
		}
	}
	cancel()
	busy.Wait()
}

// work makes a layer, a blob, a name and a record, and takes them away again.
func (w *world) work(name string) error {
	id := snapshot.ID(name)
	d, err := w.pool.Draft()
	if err != nil {
		return err
	}
	defer d.Close()
	if err := errors.Join(d.File("f", snapshot.Entry{Mode: 0o600}, strings.NewReader(name)), d.Commit(id)); err != nil {
		return err
	}
	out := exporter.Output{Layers: []snapshot.Layer{{ID: id}}}
	out.Config.OS, out.Config.Architecture = "linux", "amd64"
	root, err := exporter.Pack(w.Context(), []exporter.Output{out}, w.pool, w.store, exporter.PackOptions{})
	if err != nil {
		return err
	}
	tag := "docker.io/library/" + name + ":latest"
	if err := w.store.Tag(w.Context(), tag, root); err != nil {
		return err
	}
	if err := errors.Join(w.store.Untag(w.Context(), tag), w.store.Forget(w.Context(), root.Digest), w.pool.Remove(id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.Remove(w.path(blobPath(root)))
}
