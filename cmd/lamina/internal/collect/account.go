package collect

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"lamina/cache"
	"lamina/solver/local"
)

// Nobody keeps count of what is added to a store: after each build it is asked what
// there is now, and the answer is mostly remembered. A directory that did not change
// since has the same files, and these never change, since everything is published by
// renaming. What is in a layer, a cache mount or a repository takes
// what it took, as long as the directory at its top is the same: layers do not change, and
// the others are touched by whoever uses them. So a build that added nothing costs one
// stat(2) for each directory of the store.
//
//	lamina-usage-1 <crc32 of the rest, in hex>\n
//	swept <time>\n                     when what is old was last looked for
//	warned <bytes>\n                   the cap that could not be held, once told
//	<path>\t<changed>\t<bytes>\n      of a directory without those in it
//	layers/*\t<changed>\t<bytes>\n    of all layers together
//
// Times are in nanoseconds of Unix time. A file that does not verify is no file.
const (
	accountFile  = "usage"
	accountMagic = "lamina-usage-1 "

	// tick is how coarse the times of a filesystem may be. What was changed so
	// recently may change again without another time to show for it.
	tick = 2 * time.Second
)

// part is what is remembered of a directory.
type part struct {
	changed int64 // see stamp
	bytes   int64
}

// account is what is remembered of what a store takes. Only who has the store
// exclusively may use it.
type account struct {
	store  *cache.Store
	swept  time.Time
	warned int64

	known    map[string]part
	children map[string][]string // directories in a known one
	rest     []byte              // what is known of each layer, until that is asked for
	now      map[string]part     // what is so now, and will still be told by its time
	began    time.Time
	dirty    bool // something is not as it was known
}

// openAccount reads the account of the store; without one, nothing is known.
func openAccount(store *cache.Store) *account {
	a := &account{
		store: store, known: map[string]part{}, children: map[string][]string{},
		now: map[string]part{}, began: time.Now(),
	}
	data, err := os.ReadFile(store.Path(accountFile))
	if err != nil || a.decode(data) != nil {
		a.known, a.children, a.rest, a.dirty = map[string]part{}, map[string][]string{}, nil, true
		a.swept, a.warned = time.Time{}, 0
	}
	return a
}

// total is what the store takes.
func (a *account) total() (int64, error) {
	root, err := os.ReadDir(a.store.Path())
	if err != nil {
		return 0, err
	}
	var d disk
	sum, _, err := d.file(a.store.Path())
	for _, e := range root {
		if err != nil {
			return 0, err
		}
		var n int64
		switch name := e.Name(); {
		case !e.IsDir():
			n, _, err = d.file(a.store.Path(name))
		case name == layersDir:
			n, err = a.layers()
		case isSealed(name):
			n, err = a.flat(name, a.sealedBytes)
		case isFlat(name):
			n, err = a.flat(name, a.flatBytes)
		default:
			n, _, err = d.tree(a.store.Path(name))
		}
		sum += n
	}
	return sum, err
}

// isSealed tells whether what is in the directory are units that are measured once.
func isSealed(dir string) bool { return dir == layersDir || dir == "mounts" || dir == local.GitDir }

// isFlat tells whether nothing below the directory changes unless by renaming. The logs
// of a build do while it runs, but then nobody asks.
func isFlat(dir string) bool {
	return dir == "blobs" || dir == "index" || dir == "origins" || dir == "locks" || dir == buildsDir
}

// layersDir is where layers are, and allLayers what is remembered of all of them.
const (
	layersDir = "layers"
	allLayers = layersDir + "/*"
)

// layers is what all layers take. There are so many that not even each is looked at if
// none was added or removed.
func (a *account) layers() (int64, error) {
	var st unix.Stat_t
	if err := unix.Lstat(a.store.Path(layersDir), &st); err != nil {
		return 0, pathError("stat", layersDir, gone(err))
	}
	changed := stamp(&st)
	if was, ok := a.known[allLayers]; ok && was.changed == changed && a.rest != nil {
		a.now[allLayers] = was
		return was.bytes, nil
	}
	sum, err := a.flat(layersDir, a.sealedBytes)
	a.remember(allLayers, part{changed, sum})
	return sum, err
}

// each reads what is known of each layer.
func (a *account) each() {
	rest := a.rest
	a.rest = nil
	_ = a.decodeParts(rest) // was checked with all the rest
	if _, counted := a.now[allLayers]; !counted {
		return
	}
	for path, p := range a.known { // are so still, or that would not be
		if strings.HasPrefix(path, layersDir) {
			a.now[path] = p
		}
	}
}

// flat is what the directory takes. Those in it are measured by sub.
func (a *account) flat(dir string, sub func(string) (int64, error)) (int64, error) {
	var st unix.Stat_t
	if err := unix.Lstat(a.store.Path(dir), &st); err != nil {
		return 0, pathError("stat", dir, gone(err))
	}
	p := part{changed: stamp(&st)}
	var dirs []string
	if dir == layersDir {
		a.each()
	}
	if was, ok := a.known[dir]; ok && was.changed == p.changed {
		p.bytes, dirs = was.bytes, a.children[dir]
	} else {
		var err error
		if p.bytes, dirs, err = a.files(dir); err != nil {
			return 0, err
		}
		p.bytes += st.Blocks * statBlock
		a.dirty = true
	}
	a.remember(dir, p)
	sum := p.bytes
	for _, name := range dirs {
		n, err := sub(name)
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return sum, nil
}

func (a *account) flatBytes(dir string) (int64, error) { return a.flat(dir, a.flatBytes) }

func (a *account) sealedBytes(path string) (int64, error) {
	n, _, err := a.sealed(path)
	return n, err
}

// files adds up the files in dir, and returns the paths of the directories.
func (a *account) files(dir string) (sum int64, dirs []string, err error) {
	entries, err := os.ReadDir(a.store.Path(dir))
	if err != nil {
		return 0, nil, gone(err)
	}
	var d disk
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if e.IsDir() {
			dirs = append(dirs, path)
			continue
		}
		n, _, err := d.file(a.store.Path(path))
		if err != nil {
			return 0, nil, err
		}
		sum += n
	}
	return sum, dirs, nil
}

// sealed is what a unit takes with all that is in it, and when it was last changed or touched.
func (a *account) sealed(path string) (int64, time.Time, error) {
	var st unix.Stat_t
	if err := unix.Lstat(a.store.Path(path), &st); err != nil {
		return 0, time.Time{}, pathError("stat", path, gone(err))
	}
	changed := modified(&st)
	p := part{changed: stamp(&st)}
	if strings.HasPrefix(path, layersDir) {
		a.each()
	}
	if was, ok := a.known[path]; ok && was.changed == p.changed {
		p.bytes = was.bytes
	} else {
		// The files that a folded layer shares are those of the layers it was made of.
		d := disk{own: strings.HasPrefix(filepath.Base(path), foldPrefix)}
		var err error
		if p.bytes, _, err = d.tree(a.store.Path(path)); err != nil {
			return 0, changed, err
		}
		a.dirty = true
	}
	a.remember(path, p)
	return p.bytes, changed, nil
}

// stamp is when a directory last changed, or its attributes: a time of modification can
// be set to what it was, this not.
func stamp(st *unix.Stat_t) int64 { return time.Unix(st.Ctim.Unix()).UnixNano() }

// unknown is of a directory that is measured each time.
var unknown = part{changed: -1}

// remember keeps p, unless it may change without a sign.
func (a *account) remember(path string, p part) {
	if a.began.Sub(time.Unix(0, p.changed)) < tick {
		p, a.dirty = unknown, true
	}
	a.now[path] = p
	if strings.ContainsAny(path, "\t\n") { // cannot be written down
		a.now[filepath.Dir(path)] = unknown
	}
}

// doubt forgets one of each rounds parts that are measured once, others each day: what somebody
// changed by hand is noticed in time.
func (a *account) doubt(now time.Time) {
	const rounds = 30
	a.each()
	delete(a.known, allLayers)
	today := uint32(now.Unix()/(24*60*60)) % rounds
	for path := range a.known {
		if isSealed(filepath.Dir(path)) && crc32.ChecksumIEEE([]byte(path))%rounds == today {
			delete(a.known, path)
		}
	}
}

// touchy forgets what is in use: it may change at any time.
func (a *account) touchy(claims []cache.Claim) {
	for _, c := range claims {
		for _, path := range c.Paths {
			if _, ok := a.now[path]; ok && isSealed(filepath.Dir(path)) && filepath.Dir(path) != "layers" {
				a.now[path], a.dirty = unknown, true
			}
		}
	}
}

// save writes the account, if it says anything new.
func (a *account) save() error {
	if !a.dirty {
		return nil
	}
	tmp := a.store.Path(accountFile + ".new")
	if err := os.WriteFile(tmp, a.encode(), 0o600); err != nil {
		return fmt.Errorf("write what the store takes: %w", err)
	}
	return os.Rename(tmp, a.store.Path(accountFile))
}

func (a *account) encode() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "swept %d\nwarned %d\n", nano(a.swept), a.warned)
	paths := make([]string, 0, len(a.now))
	for path := range a.now {
		paths = append(paths, path)
	}
	slices.Sort(paths)
	var last bytes.Buffer
	for _, path := range paths {
		to := &b
		if strings.HasPrefix(path, layersDir) && path != allLayers {
			to = &last
		}
		if !strings.ContainsAny(path, "\t\n") {
			fmt.Fprintf(to, "%s\t%d\t%d\n", path, a.now[path].changed, a.now[path].bytes)
		}
	}
	b.Write(last.Bytes())
	b.Write(a.rest)
	return append(fmt.Appendf(nil, "%s%08x\n", accountMagic, crc32.ChecksumIEEE(b.Bytes())), b.Bytes()...)
}

var errAccount = errors.New("the account is damaged")

func (a *account) decode(data []byte) error {
	head, rest, _ := bytes.Cut(data, []byte("\n"))
	if string(head) != fmt.Sprintf("%s%08x", accountMagic, crc32.ChecksumIEEE(rest)) {
		return errAccount
	}
	if i := bytes.Index(rest, []byte("\n"+layersDir+"\t")); i >= 0 {
		rest, a.rest = rest[:i+1], rest[i+1:]
	}
	return a.decodeParts(rest)
}

// decodeParts reads lines.
func (a *account) decodeParts(text []byte) error {
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		path, numbers, ok := strings.Cut(lines.Text(), "\t")
		if !ok {
			name, value, _ := strings.Cut(path, " ")
			n, err := strconv.ParseInt(value, 10, 64)
			if err != nil {
				return errAccount
			}
			switch name {
			case "swept":
				a.swept = time.Unix(0, n)
			case "warned":
				a.warned = n
			}
			continue
		}
		changed, size, _ := strings.Cut(numbers, "\t")
		c, err1 := strconv.ParseInt(changed, 10, 64)
		n, err2 := strconv.ParseInt(size, 10, 64)
		if err1 != nil || err2 != nil {
			return errAccount
		}
		a.known[path] = part{c, n}
		if parent := filepath.Dir(path); parent != "." && path != allLayers {
			a.children[parent] = append(a.children[parent], path)
		}
	}
	return lines.Err()
}

func nano(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}
