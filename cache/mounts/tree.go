package mounts

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
)

// Bounds of a tree, which a stranger may have written.
const (
	maxTree    = 256 << 20 // bytes of a tree, not compressed
	maxEntries = 4 << 20
	maxPacks   = 64
	maxPath    = 4096     // bytes of a path, as in Linux
	maxName    = 255      // and of each name in it
	maxXattrs  = 64 << 10 // bytes of one file's attributes
	maxFile    = 1 << 40  // and of its content
	maxOwner   = 1<<32 - 2
)

// Tree is all of a cache mount but the contents of its files. Devices, sockets and
// pipes are not in it, nor are set-user-ID and set-group-ID bits of files, and of the
// extended attributes only the user's.
type Tree struct {
	// Entries are in such an order that a directory comes before what is in it, and
	// a file before other names of it. The first is ".", what is mounted.
	Entries []Entry
}

// Kind is the kind of an [Entry].
type Kind string

// The kinds of entries.
const (
	File    Kind = ""
	Dir     Kind = "d"
	Symlink Kind = "l"
	Link    Kind = "h" // another name of a file
)

// Entry is one name of a tree.
type Entry struct {
	Path string // relative, clean; "." is what is mounted
	Kind Kind
	Mode uint32 // permission bits
	UID  int
	GID  int
	Time int64 // of modification, nanoseconds since 1970
	// Size and Content are a file's: its bytes, and their SHA-256. An empty file has
	// no Content.
	Size    int64
	Content [32]byte
	// Pack is the position of the pack that has the content.
	Pack int
	// Target is that of a symbolic link, or the first name of the file.
	Target string
	Xattrs map[string]string
}

// wire is an Entry as a line of JSON. Bytes that are not UTF-8 are escaped.
type wire struct {
	Path    string            `json:"p"`
	Kind    Kind              `json:"k,omitempty"`
	Mode    uint32            `json:"m,omitempty"`
	UID     int               `json:"u,omitempty"`
	GID     int               `json:"g,omitempty"`
	Time    int64             `json:"t,omitempty"`
	Size    int64             `json:"s,omitempty"`
	Content string            `json:"c,omitempty"`
	Pack    int               `json:"b,omitempty"`
	Target  string            `json:"l,omitempty"`
	Xattrs  map[string][]byte `json:"x,omitempty"`
}

// escape makes UTF-8 of any bytes: "%" and what is not UTF-8 becomes %XX.
func escape(s string) string {
	if utf8.ValidString(s) && !strings.Contains(s, "%") {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		if r == utf8.RuneError && n == 1 || r == '%' {
			fmt.Fprintf(&b, "%%%02X", s[0])
		} else {
			b.WriteString(s[:n])
		}
		s = s[n:]
	}
	return b.String()
}

func unescape(s string) (string, error) {
	if !strings.Contains(s, "%") {
		return s, nil
	}
	var b []byte
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			b = append(b, s[i])
			continue
		}
		if i+2 >= len(s) {
			return "", errors.New("a name with half an escape")
		}
		n, err := strconv.ParseUint(s[i+1:i+3], 16, 8)
		if err != nil {
			return "", errors.New("a name with a wrong escape")
		}
		b = append(b, byte(n))
		i += 2
	}
	return string(b), nil
}

func (e Entry) wire() wire {
	w := wire{
		Path: escape(e.Path), Kind: e.Kind, Mode: e.Mode, UID: e.UID, GID: e.GID, Time: e.Time,
		Size: e.Size, Pack: e.Pack, Target: escape(e.Target),
	}
	if e.Kind == File && e.Size > 0 {
		w.Content = base64.RawStdEncoding.EncodeToString(e.Content[:])
	}
	for k, v := range e.Xattrs {
		if w.Xattrs == nil {
			w.Xattrs = map[string][]byte{}
		}
		w.Xattrs[escape(k)] = []byte(v)
	}
	return w
}

func (w wire) entry() (e Entry, err error) {
	e = Entry{Kind: w.Kind, Mode: w.Mode, UID: w.UID, GID: w.GID, Time: w.Time, Size: w.Size, Pack: w.Pack}
	if e.Path, err = unescape(w.Path); err != nil {
		return e, err
	}
	if e.Target, err = unescape(w.Target); err != nil {
		return e, err
	}
	if w.Content != "" {
		sum, err := base64.RawStdEncoding.DecodeString(w.Content)
		if err != nil || len(sum) != len(e.Content) {
			return e, errors.New("a digest that is none")
		}
		e.Content = [32]byte(sum)
	}
	for k, v := range w.Xattrs {
		if e.Xattrs == nil {
			e.Xattrs = map[string]string{}
		}
		if k, err = unescape(k); err != nil {
			return e, err
		}
		e.Xattrs[k] = string(v)
	}
	return e, nil
}

// write writes the tree, one line of JSON for each entry.
func (t *Tree) write(w io.Writer) error {
	b := bufio.NewWriter(w)
	enc := json.NewEncoder(b)
	enc.SetEscapeHTML(false)
	for _, e := range t.Entries {
		if err := enc.Encode(e.wire()); err != nil {
			return err
		}
	}
	return b.Flush()
}

// ID identifies what the tree is, wherever its contents lie.
func (t *Tree) ID() (digest.Digest, error) {
	bare := Tree{slices.Clone(t.Entries)}
	for i := range bare.Entries {
		bare.Entries[i].Pack = 0
	}
	d := digest.SHA256.Digester()
	if err := bare.write(d.Hash()); err != nil {
		return "", err
	}
	return d.Digest(), nil
}

// encode returns the tree compressed.
func (t *Tree) encode() ([]byte, error) {
	var b bytes.Buffer
	z, err := zstd.NewWriter(&b, zstd.WithEncoderConcurrency(1))
	if err != nil {
		return nil, err
	}
	err = t.write(z)
	if cerr := z.Close(); err == nil {
		err = cerr
	}
	return b.Bytes(), err
}

// ErrDamaged reports a tree or a pack that makes no sense, or is not what was promised.
var ErrDamaged = errors.New("the cache mount is damaged")

// decodeTree reads what encode wrote, or anybody else.
func decodeTree(r io.Reader) (*Tree, error) {
	z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxTree))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	defer z.Close()
	return readTree(z)
}

// readTree reads the lines of a tree, and checks that they make one.
func readTree(r io.Reader) (*Tree, error) {
	limited := &io.LimitedReader{R: r, N: maxTree + 1}
	dec := json.NewDecoder(bufio.NewReaderSize(limited, 64<<10))
	t := &Tree{}
	for {
		var w wire
		err := dec.Decode(&w)
		if err == io.EOF && limited.N > 0 {
			break
		}
		if limited.N <= 0 || len(t.Entries) >= maxEntries {
			return nil, fmt.Errorf("%w: its list of files is too long", ErrDamaged)
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
		}
		e, err := w.entry()
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
		}
		t.Entries = append(t.Entries, e)
	}
	if err := t.check(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return t, nil
}

// check tells what is wrong with the tree. A tree without fault can be made in an
// empty directory without touching anything outside of it: each name is in a
// directory that the tree itself has, so that none is behind a link.
func (t *Tree) check() error {
	if len(t.Entries) == 0 || t.Entries[0].Path != "." {
		return errors.New("it has no root")
	}
	if k := t.Entries[0].Kind; k != Dir && k != File {
		return errors.New("its root is a link")
	}
	kinds := make(map[string]Kind, len(t.Entries))
	for i, e := range t.Entries {
		if err := e.check(); err != nil {
			return fmt.Errorf("%q: %w", e.Path, err)
		}
		if _, twice := kinds[e.Path]; twice {
			return fmt.Errorf("%q: it is there twice", e.Path)
		}
		if parent, ok := kinds[path.Dir(e.Path)]; i > 0 && (!ok || parent != Dir) {
			return fmt.Errorf("%q: it is in no directory", e.Path)
		}
		if first, ok := kinds[e.Target]; e.Kind == Link && (!ok || first != File) {
			return fmt.Errorf("%q: it is another name of %q, which is no file before it", e.Path, e.Target)
		}
		kinds[e.Path] = e.Kind
	}
	return nil
}

// check tells what is wrong with the entry by itself.
func (e Entry) check() error {
	if err := checkPath(e.Path); err != nil {
		return err
	}
	switch {
	case e.Kind != File && e.Kind != Dir && e.Kind != Symlink && e.Kind != Link:
		return fmt.Errorf("unknown kind %q", e.Kind)
	case e.Mode&^0o7777 != 0:
		return fmt.Errorf("mode %o", e.Mode)
	case e.UID < 0 || e.UID > maxOwner || e.GID < 0 || e.GID > maxOwner:
		return fmt.Errorf("owner %d:%d", e.UID, e.GID)
	case e.Size < 0 || e.Size > maxFile || e.Kind != File && e.Size != 0:
		return fmt.Errorf("size %d", e.Size)
	case e.Pack < 0 || e.Pack >= maxPacks:
		return fmt.Errorf("pack %d", e.Pack)
	case (e.Kind == Symlink || e.Kind == Link) == (e.Target == ""), len(e.Target) > maxPath, strings.Contains(e.Target, "\x00"):
		return errors.New("a link's target that is none")
	}
	size := 0
	for k, v := range e.Xattrs {
		size += len(k) + len(v)
		if !strings.HasPrefix(k, userXattr) || len(k) > maxName || strings.Contains(k, "\x00") || size > maxXattrs {
			return errors.New("an extended attribute that no cache mount has")
		}
	}
	return nil
}

// checkPath tells whether name is relative, clean and no longer than Linux has it.
func checkPath(name string) error {
	if name == "" || len(name) > maxPath || name[0] == '/' || path.Clean(name) != name || name == ".." || strings.HasPrefix(name, "../") || strings.Contains(name, "\x00") {
		return errors.New("a name that leads elsewhere")
	}
	for part := range strings.SplitSeq(name, "/") {
		if len(part) > maxName {
			return errors.New("a name that is too long")
		}
	}
	return nil
}

// Size is the number of bytes in its files, and Files how many there are. A content
// that several files have counts for each.
func (t *Tree) Size() (bytes int64, files int) {
	for _, e := range t.Entries {
		if e.Kind == File {
			bytes += e.Size
			files++
		}
	}
	return bytes, files
}

// perEntry is what a name costs beside its content, in bytes: a header of a tar.
const perEntry = 512

// weight is what an entry adds to a mount.
func (e Entry) weight() int64 {
	if e.Kind == Dir {
		return 0
	}
	return perEntry + e.Size
}

// Change says how much of a mount is new or gone since an earlier tree, in bytes,
// a name counting as one block of a tar. That only attributes changed, times for
// example, counts for nothing.
func (t *Tree) Change(from *Tree) int64 {
	old := map[string]Entry{}
	for _, e := range from.Entries {
		old[e.Path] = e
	}
	var sum int64
	for _, e := range t.Entries {
		was, ok := old[e.Path]
		delete(old, e.Path)
		if ok && was.Kind == e.Kind && was.Content == e.Content && was.Size == e.Size && was.Target == e.Target {
			continue
		}
		sum += e.weight()
		if ok {
			sum += was.weight()
		}
	}
	for _, gone := range old {
		sum += gone.weight()
	}
	return sum
}

// weight is that of all entries.
func (t *Tree) weight() (sum int64) {
	for _, e := range t.Entries {
		sum += e.weight()
	}
	return sum
}

// contents are the contents of the tree's files, in order, each once.
func (t *Tree) contents() []Entry {
	seen := map[[32]byte]bool{}
	var all []Entry
	for _, e := range t.Entries {
		if e.Kind == File && e.Size > 0 && !seen[e.Content] {
			seen[e.Content] = true
			all = append(all, e)
		}
	}
	return all
}

// copyXattrs is a copy, nil if there are none.
func copyXattrs(m map[string]string) map[string]string {
	if len(m) == 0 {
		return nil
	}
	return maps.Clone(m)
}
