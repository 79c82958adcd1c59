package fileset

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"hash/maphash"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"lamina/snapshot"
)

// identityVersion begins every identity. Whoever changes what is hashed, or how,
// changes it.
const identityVersion = "lamina files 2\n"

// Identity says what is selected; see [Selection.Digest].
type Identity struct {
	// Digest is the same for two selections if copying has the same result.
	Digest digest.Digest

	trail trail
}

// trail is what is kept of the files that an identity was made of: enough to name
// the one that changed, and not more of a million files than of a hundred thousand.
type trail struct {
	seed  maphash.Seed
	marks []mark
	full  bool // there were more files
}

// maxTrail is how many files a trail has, at most.
const maxTrail = 1 << 17

// mark stands for one file. It is good for saying what changed; whether anything
// did is the digest's business.
type mark struct{ name, file uint32 }

// identifier makes an identity from files that it is told about in order. All of
// them go into one hash, without ambiguity: every string is preceded by its length.
type identifier struct {
	hash  hash.Hash
	buf   []byte
	table func(Sum) error // may be nil
	trail trail           // of the files so far; bounded by maxTrail
	want  *Identity       // if set, another one is an error
	count int             // of the files so far
}

func newIdentifier(table func(Sum) error, want *Identity) *identifier {
	id := &identifier{hash: sha256.New(), table: table, want: want}
	if want == nil {
		id.trail.seed = maphash.MakeSeed()
	}
	id.hash.Write([]byte(identityVersion))
	return id
}

// match begins the files of m. Of an archive that will be unpacked only the
// content counts.
func (id *identifier) match(m *match, archive bool) {
	switch {
	case archive:
		id.buf = append(id.buf[:0], 'a')
	case m.entry.Kind == snapshot.Dir:
		id.buf = append(id.buf[:0], 'd')
	default:
		id.buf = appendString(append(id.buf[:0], 'f'), m.base)
	}
	id.hash.Write(id.buf)
}

// file adds a file that is called rel below its match, and nothing if it is the
// match itself.
func (id *identifier) file(rel string, archive bool, s Sum) error {
	b := append(id.buf[:0], '+')
	if !archive {
		b = appendString(b, rel)
		b = binary.AppendUvarint(b, uint64(s.Mode))
		b = binary.AppendUvarint(b, uint64(s.UID))
		b = binary.AppendUvarint(b, uint64(s.GID))
	}
	b = appendString(b, string(s.Digest))
	id.buf = b
	id.hash.Write(b)
	if err := id.mark(s.Name, b); err != nil {
		return err
	}
	id.count++
	if id.table == nil {
		return nil
	}
	return id.table(s)
}

// mark remembers a file, or compares it with the one that is wanted.
func (id *identifier) mark(name string, file []byte) error {
	t := &id.trail
	if id.want != nil {
		t = &id.want.trail
	}
	if t.seed == (maphash.Seed{}) {
		return nil // an Identity of a digest alone
	}
	m := mark{
		name: uint32(maphash.String(t.seed, name)),
		file: uint32(maphash.Bytes(t.seed, file)),
	}
	if id.want != nil {
		return t.check(id.count, name, m)
	}
	if len(t.marks) < maxTrail {
		t.marks = append(t.marks, m)
	} else {
		t.full = true
	}
	return nil
}

// check compares the file name with the ith one.
func (t *trail) check(i int, name string, m mark) error {
	switch {
	case i < len(t.marks) && t.marks[i] == m, i >= len(t.marks) && t.full:
		return nil
	case i < len(t.marks) && t.marks[i].name != m.name &&
		slices.ContainsFunc(t.marks[i+1:], func(later mark) bool { return later.name == m.name }):
		return fmt.Errorf("what was listed before %s: %w", name, ErrChanged)
	}
	return fmt.Errorf("%s: %w", name, ErrChanged)
}

// identity ends the files. It is an error if it is not the wanted one; paths say
// then what was selected.
func (id *identifier) identity(paths []string) (Identity, error) {
	got := Identity{Digest: digest.NewDigest(digest.SHA256, id.hash), trail: id.trail}
	if id.want == nil || got.Digest == id.want.Digest {
		return got, nil
	}
	return got, fmt.Errorf("something in %s: %w", strings.Join(paths, " "), ErrChanged)
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}
