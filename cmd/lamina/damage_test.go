package main

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"lamina/cache/registry/registrytest"
	"lamina/cmd/lamina/internal/fsck"
)

// TestDamage changes bytes of a store that builds have filled, cuts files off and
// removes them, at random. What matters of that is found by fsck, which leaves nothing
// of it when it repairs; and then every stage comes out as in a store that was never
// damaged. Before that, a build may fail, but not crash.
//
// LAMINA_DAMAGE is the number of damages (100), LAMINA_SEED makes others (1).
func TestDamage(t *testing.T) {
	needRun(t)
	seed := fromEnv(t, "LAMINA_SEED", 1)
	t.Logf("LAMINA_SEED=%d", seed)
	d := newDamager(t, rand.New(rand.NewPCG(seed, 0)))
	total := int(fromEnv(t, "LAMINA_DAMAGE", 100))
	for left := total; left > 0 && !t.Failed(); {
		n := min(left, 1+d.random.IntN(max(16, total/25)))
		left -= n
		d.round(n)
	}
	t.Logf("%d damages: %d had to be found and were, %d more were found, %d were not; %d builds of damaged stores succeeded, %d failed",
		d.required+d.optional+d.unseen, d.required, d.optional, d.unseen, d.succeeded, d.failed)
}

const damagedFile = `
FROM %[1]s/base:1 AS deps
RUN --mount=type=cache,target=/cache seq 1 500 > /cache/x; mkdir /deps; for i in $(seq 20); do echo dep$i > /deps/f$i; done; \
    ln /deps/f1 /deps/hard; ln -s f2 /deps/soft; chown 3:4 /deps/f3; chmod 4711 /deps/f4; seq 1 5000 > /deps/large
FROM deps AS work
COPY files /files
RUN cat /files/* /deps/f* | sha256sum > /sum; rm /etc/motd
FROM %[1]s/base:1 AS final
COPY --from=work /sum /deps /out/
COPY --chown=7:8 files/a.txt /a
WORKDIR /w
RUN echo done > done
`

// damager damages copies of a store.
type damager struct {
	*tool
	random *rand.Rand
	sound  string // the store
	want   map[string][]string

	required, optional, unseen int
	succeeded, failed          int
}

func newDamager(t *testing.T, random *rand.Rand) *damager {
	reg := registrytest.Start()
	t.Cleanup(reg.Close)
	d := &damager{tool: newTool(t), random: random, want: map[string][]string{}}
	d.busybox()
	base := *d.tool
	base.root = filepath.Join(t.TempDir(), "base")
	d.file("base.Dockerfile", busyboxBase+"COPY motd /etc/motd\n")
	d.file("motd", "welcome\n")
	base.must("build", "-q", "--push", "-t", reg.Host+"/base:1", "-f", "base.Dockerfile", ".")
	for i := range 30 {
		d.file(fmt.Sprintf("files/%c.txt", 'a'+i), strings.Repeat(fmt.Sprintln("line", i), 10+i*i))
	}
	d.file("Dockerfile", fmt.Sprintf(damagedFile, reg.Host))
	for _, stage := range damagedStages {
		d.file(stage+".Dockerfile", fmt.Sprintf(damagedFile, reg.Host)+"FROM "+stage+"\n")
		d.want[stage] = d.tool.built(stage)
	}
	d.must("build", "-q", "-t", "app:1", ".")
	d.must("build", "-q", "-t", "app:zstd", "-o", "type=image,compression=zstd", ".")
	d.must("fsck", "--repair") // lists the layers of steps that were too short for it
	if r := d.fsck(); len(r.Findings) > 0 || r.Unlisted > 0 {
		t.Fatalf("a sound store: %+v", r)
	}
	d.sound = d.root
	return d
}

var damagedStages = []string{"deps", "work", "final"}

// fsck checks the store.
func (d *damager) fsck(args ...string) (r fsck.Report) {
	d.Helper()
	res := d.run(append([]string{"fsck", "--format=json"}, args...)...)
	if err := json.Unmarshal([]byte(res.stdout), &r); err != nil {
		d.Fatalf("fsck %v: exit code %d: %v\n%s", args, res.code, err, res.stderr)
	}
	if want := min(r.Damaged(), 1); res.code != want {
		d.Errorf("fsck %v: exit code is %d, want %d\n%s", args, res.code, want, res.stdout)
	}
	return r
}

// round damages a copy of the store n times, and has it repaired.
func (d *damager) round(n int) {
	d.Helper()
	d.copyStore()
	defer os.RemoveAll(d.root)
	all := d.damageAll(n, func(damage) bool { return true })
	// What a build makes of a damaged layer is wrong, and nothing tells that later.
	inFiles := slices.ContainsFunc(all, func(x damage) bool { return strings.Contains(x.path, "/fs/") || strings.HasSuffix(x.path, "/implied") })
	if d.random.IntN(3) == 0 && !inFiles {
		d.tryBuild(all)
	}
	found := d.fsck()
	for _, x := range all {
		switch seen := finds(found, x); {
		case seen && x.matters():
			d.required++
		case seen:
			d.optional++
		case x.matters() && !gone(x, all):
			d.Errorf("%v was not found, only %+v", x, found.Findings)
		default:
			d.unseen++
		}
	}
	d.fsck("--repair")
	for _, f := range d.fsck().Findings {
		if f.State != fsck.Left {
			d.Errorf("after %v and a repair: %+v", all, f)
		}
	}
	d.must("build", "-q", "-t", "app:1", ".")
	d.must("build", "-q", "-t", "app:zstd", "-o", "type=image,compression=zstd", ".")
	for _, stage := range damagedStages {
		if diff := cmp.Diff(d.want[stage], d.built(stage)); diff != "" {
			d.Errorf("after %v and a repair, %s is (-want +got):\n%s", all, stage, diff)
		}
	}
	for _, f := range d.fsck().Findings {
		// An image that has lost its name to a better one, or all names, is not built again.
		if f.Damage && (f.Part != fsck.Images || strings.HasPrefix(f.Problem, "image app")) {
			d.Errorf("after %v, a repair and builds: %+v", all, f)
		}
	}
}

// TestDamagedBuild builds in stores that were damaged and that nobody repaired, where no
// file of a layer was: whether those are right is only seen by reading all of them.
// All else is noticed when it is read, and made again.
func TestDamagedBuild(t *testing.T) {
	needRun(t)
	seed := fromEnv(t, "LAMINA_SEED", 1)
	t.Logf("LAMINA_SEED=%d", seed)
	d := newDamager(t, rand.New(rand.NewPCG(seed, 0)))
	for left := int(fromEnv(t, "LAMINA_DAMAGE", 40)); left > 0 && !t.Failed(); {
		n := min(left, 1+d.random.IntN(16))
		left -= n
		d.copyStore()
		all := d.damageAll(n, func(x damage) bool {
			return !strings.HasPrefix(x.path, "layers/") || x.what == "removed" && !strings.Contains(x.path, "/fs/") || strings.HasSuffix(x.path, "/info.json") || strings.HasSuffix(x.path, "/list")
		})
		d.must("build", "-q", "-t", "app:1", ".")
		for _, stage := range damagedStages {
			if diff := cmp.Diff(d.want[stage], d.built(stage)); diff != "" {
				d.Errorf("after %v, %s is (-want +got):\n%s", all, stage, diff)
			}
		}
		os.RemoveAll(d.root)
	}
}

// tryBuild builds in the damaged store. What it repairs itself need not be found.
func (d *damager) tryBuild(all []damage) {
	d.Helper()
	r := d.run("build", "-q", "-t", "app:1", ".")
	switch {
	case r.code == 0:
		d.succeeded++
	case r.code != 1 || !strings.HasPrefix(r.stderr, "lamina: ") && !strings.Contains(r.stderr, "\nlamina: ") && !strings.Contains(r.stderr, "Dockerfile:"):
		d.Errorf("build with %v: exit code %d\n%s", all, r.code, r.stderr)
	default:
		d.failed++
		d.Logf("build with %v failed: %s", all, r.stderr)
	}
	for i := range all {
		all[i].built = true
	}
}

// copyStore makes a copy of the sound store the one that is worked on.
func (d *damager) copyStore() {
	d.Helper()
	d.root = filepath.Join(d.TempDir(), "store")
	if out, err := exec.Command("cp", "-a", d.sound, d.root).CombinedOutput(); err != nil {
		d.Fatalf("%v: %s", err, out)
	}
}

// damageAll damages n things that may be.
func (d *damager) damageAll(n int, may func(damage) bool) (all []damage) {
	d.Helper()
	files := d.files()
	for len(all) < n {
		x := d.choose(files)
		alone := !slices.ContainsFunc(all, func(y damage) bool { return witness(x, y) || witness(y, x) })
		if may(x) && alone && d.do(x) {
			all = append(all, x)
		}
	}
	return all
}

// damage is one change of a store.
type damage struct {
	what, path string
	built      bool // a build came after it
}

func (x damage) String() string { return x.what + " " + x.path }

// files lists the regular files of the store by the part that they are of.
func (d *damager) files() map[string][]string {
	d.Helper()
	parts := map[string][]string{}
	err := filepath.WalkDir(d.root, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		name, err := filepath.Rel(d.root, path)
		if err != nil {
			return err
		}
		part, rest, _ := strings.Cut(name, "/")
		if part == "layers" && !strings.Contains(rest, "/fs/") {
			part = "beside layers"
		}
		parts[part] = append(parts[part], name)
		return nil
	})
	if err != nil {
		d.Fatal(err)
	}
	return parts
}

// witness tells whether x is what y would be found by: what is damaged together with
// all that tells of it cannot be seen.
func witness(x, y damage) bool {
	layer, list := strings.CutSuffix(x.path, "/list")
	return list && strings.HasPrefix(y.path, layer+"/") || x.path == "index.copy" && y.path == "index.json"
}

// choose says what to damage next.
func (d *damager) choose(files map[string][]string) damage {
	part := slices.Sorted(maps.Keys(files))[d.random.IntN(len(files))]
	x := damage{path: files[part][d.random.IntN(len(files[part]))]}
	switch kind := d.random.IntN(4); {
	case kind == 0:
		x.what = "removed"
	case kind == 1 && part == "layers": // all of it, or its files
		x.what, x.path = "removed", strings.Join(strings.Split(x.path, "/")[:2+d.random.IntN(2)], "/")
	case kind == 1:
		x.what = "truncated"
	default:
		x.what = "changed"
	}
	return x
}

// do does a damage, and tells whether there was something to be damaged.
func (d *damager) do(x damage) bool {
	d.Helper()
	full := filepath.Join(d.root, x.path)
	st, err := os.Lstat(full)
	if err != nil || x.what != "removed" && st.Size() == 0 {
		return false // an earlier one was here
	}
	switch x.what {
	case "removed":
		err = os.RemoveAll(full)
	case "truncated":
		err = os.Truncate(full, d.random.Int64N(st.Size()))
	default:
		err = d.flip(full, st.Size())
	}
	if err == nil && x.what != "removed" { // as a disk would: no time tells of it
		err = os.Chtimes(full, st.ModTime(), st.ModTime())
	}
	if err != nil {
		d.Fatal(err)
	}
	return true
}

// flip changes one bit of a file.
func (d *damager) flip(name string, size int64) error {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	var b [1]byte
	at := d.random.Int64N(size)
	if _, err := f.ReadAt(b[:], at); err != nil {
		return err
	}
	b[0] ^= 1 << d.random.IntN(8)
	_, err = f.WriteAt(b[:], at)
	return err
}

// matters tells whether fsck has to find a damage. It need not find
//
//   - what a build did before that: it removes what it finds damaged;
//   - the content of cache mounts, and what steps printed: nobody knows what they were;
//   - what has been locked, and what is half-made: it is nothing;
//   - why records were removed and what layers take on the disk, which have checksums
//     of their own, and are only for people or computed again;
//   - that something is gone which is only advice or there to be quicker: where blobs
//     are, digests of files, lists and infos of layers, builds that are remembered;
//     and that advice about where a blob is has become another that makes sense;
//   - that a blob is gone, or a record, which is to have never been there, unless
//     it is missed by an image: which is found at index.json.
func (x damage) matters() bool {
	part, rest, _ := strings.Cut(x.path, "/")
	_, base := filepath.Split(x.path)
	switch part {
	case "locks", "tmp", "containers", "evictions", "evictions.old", "usage", "mounts", "origins":
		return false
	case "sums", "index", "blobs", "index.copy", "oci-layout":
		return !x.built && x.what != "removed"
	case "builds":
		return base == "build" && x.what != "removed"
	case "layers":
		if base == "implied" && x.what == "truncated" { // perhaps by what is at its end anyway
			return false
		}
		inFiles := strings.Contains(rest, "/fs")
		return !x.built && (inFiles || x.what != "removed" && base != "unsynced")
	}
	return !x.built
}

// finds tells whether a report has a damage.
func finds(r fsck.Report, x damage) bool {
	return slices.ContainsFunc(r.Findings, func(f fsck.Finding) bool {
		return x.path == f.Path || strings.HasPrefix(x.path, f.Path+"/") ||
			x.path == "index.copy" && f.Path == "index.json"
	})
}

// gone tells whether what was damaged was removed, alone or with others, by another
// damage. What is made again by whoever opens the store may be there.
func gone(x damage, all []damage) bool {
	return x.what != "removed" && slices.ContainsFunc(all, func(y damage) bool { return y.what == "removed" && strings.HasPrefix(x.path+"/", y.path+"/") })
}
