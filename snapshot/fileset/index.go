package fileset

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"path"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"lamina/snapshot"
)

const (
	// keepUnused is after how many days a record that nobody used goes.
	keepUnused = 60
	// refreshUsed is how old, in days, a record's last use must be to be worth
	// writing.
	refreshUsed = 7
	// maxFresh is how many records are kept in memory before they are saved.
	maxFresh = 1 << 14
)

// Index remembers the sums of files by what stat(2) says of them, so that files
// that did not change are not read again. It implements [Sums], and is safe for
// concurrent use. One index can serve any number of trees and processes, and any
// number of files takes the same memory.
//
// A file is taken to be the one remembered if path, inode, size, modification
// and change time are the same. A change that is too fresh for its time to tell
// it from another one in the same tick of the clock is never remembered, which is
// the rule that git's index has for "racily clean" files.
type Index struct {
	file  string
	now   func() time.Time
	today uint16 // days since 1970

	mu    sync.Mutex
	known *indexFile        // what is saved; nil if nothing is
	fresh map[key]record    // what is not
	err   error             // why something could not be saved
	dirs  map[dirName]dirID // of the directories asked about last
}

// dirName is a directory of a tree whose path on this machine is root.
type dirName struct{ root, dir string }

// OpenIndex opens the index in file. One that is missing, damaged or of another
// version is empty: an index only saves time. The caller must close it.
func OpenIndex(file string) (*Index, error) {
	return openIndex(file, time.Now)
}

func openIndex(file string, now func() time.Time) (*Index, error) {
	known, err := openIndexFile(file)
	if err != nil {
		return nil, err
	}
	return &Index{
		file:  file,
		now:   now,
		today: uint16(now().Unix() / (24 * 60 * 60)),
		known: known,
		fresh: map[key]record{},
		dirs:  map[dirName]dirID{},
	}, nil
}

// Close releases the index. What was not saved is forgotten.
func (x *Index) Close() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	clear(x.fresh)
	known := x.known
	x.known = nil
	return known.close()
}

// Sum implements [Sums].
func (x *Index) Sum(
	ctx context.Context, t snapshot.Tree, name string, e snapshot.Entry,
) (digest.Digest, error) {
	if d, ok := x.recall(t, name, e); ok {
		return d, nil
	}
	// What is older than this moment cannot change any more without a new ctime.
	start := x.now()
	d, err := Hash{}.Sum(ctx, t, name, e)
	if err != nil || !settled(e, start) {
		return d, err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	k, c := x.keyOf(t, name, e)
	if r, ok := newRecord(k, c, x.today, d); ok {
		x.learn(r)
	}
	return d, nil
}

// learn remembers a record. The caller holds x.mu.
func (x *Index) learn(r record) {
	x.fresh[r.key()] = r
	if len(x.fresh)%maxFresh == 0 {
		x.save() // at least later, if another process is just saving
	}
}

// Save writes what was learnt, if anything was. Processes that save at the same
// time leave a valid index; one of them may have to learn some of its files again.
func (x *Index) Save() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.save()
	if x.err != nil {
		return fmt.Errorf("save index: %w", x.err)
	}
	return nil
}

// save writes what is fresh and forgets it. The caller holds x.mu.
func (x *Index) save() {
	if len(x.fresh) == 0 {
		return
	}
	next, err := replaceIndex(x.file, x.fresh, x.today)
	if err == nil && next == nil {
		return // another process is doing the same
	}
	clear(x.fresh)
	if err != nil {
		x.err = err
		return
	}
	x.err = errors.Join(x.err, x.known.close())
	x.known = next
}

// recall returns the sum of a file that is as it was when it was hashed.
func (x *Index) recall(t snapshot.Tree, name string, e snapshot.Entry) (digest.Digest, bool) {
	if e.ChangeTime.IsZero() {
		return "", false
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	k, c := x.keyOf(t, name, e)
	r, ok := x.fresh[k]
	if !ok {
		r, ok = x.known.find(k)
	}
	if !ok || r.check() != c {
		return "", false
	}
	if r.used()+refreshUsed <= x.today {
		r.setUsed(x.today)
		x.learn(r)
	}
	return digest.NewDigestFromEncoded(digest.SHA256, hex.EncodeToString(r.sum())), true
}

// settled tells whether a change of the file after the moment start would show in
// its times. Kernels take the time of a change from a clock that ticks at least
// every 10 ms. A filesystem that keeps whole seconds, or pairs of them, is
// recognised by that.
func settled(e snapshot.Entry, start time.Time) bool {
	if e.ChangeTime.IsZero() {
		return false
	}
	tick := 20 * time.Millisecond
	if e.ChangeTime.Nanosecond() == 0 {
		tick = 2 * time.Second
	}
	return e.ChangeTime.Add(tick).Before(start) && e.ModTime.Add(tick).Before(start)
}

// maxDirs is how many directories' names are kept as hashes.
const maxDirs = 64

// keyOf returns where the file's record is, and what must be in it. The caller
// holds x.mu.
func (x *Index) keyOf(t snapshot.Tree, name string, e snapshot.Entry) (key, check) {
	at := dirName{rootPath(t), path.Dir(name)}
	dir, ok := x.dirs[at]
	if !ok {
		if len(x.dirs) >= maxDirs {
			clear(x.dirs)
		}
		sum := sha256.Sum256(appendString(appendString(nil, at.root), at.dir))
		dir = dirID(sum[:])
		x.dirs[at] = dir
	}
	b := make([]byte, 0, 128)
	b = appendString(b, path.Base(name))
	sum := sha256.Sum256(b)
	k := key{dir: dir, name: binary.BigEndian.Uint64(sum[:])}

	b = append(b, dir[:]...)
	for _, n := range []uint64{
		e.Ino, uint64(e.Size), uint64(e.ModTime.UnixNano()), uint64(e.ChangeTime.UnixNano()),
	} {
		b = binary.BigEndian.AppendUint64(b, n)
	}
	sum = sha256.Sum256(b)
	return k, check(sum[:])
}
