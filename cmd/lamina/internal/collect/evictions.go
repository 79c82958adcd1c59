package collect

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"lamina/cache"
)

// Whoever removes a record from the store says so in a log, so that the step that
// is executed again can be told why:
//
//	evictions      <time> <crc32 of the rest, in hex> <reason> <key> [<key>]\n
//	evictions.old  what evictions was before it grew too long
//
// A time is in seconds of Unix time, a reason has "_" for its blanks, and a key is
// its hex digits. Lines are only added; what is not a whole line is skipped.
const (
	evictionsFile = "evictions"
	evictionsOld  = "evictions.old"

	// maxEvictions bounds each of the two files: some ten thousand evictions.
	maxEvictions = 2 << 20
)

// Reason is why a record was removed.
type Reason string

// The reasons.
const (
	BySize     Reason = "size cap"
	ByAge      Reason = "age"
	ByPrune    Reason = "prune"
	ByPruneAll Reason = "prune --all"
	ByFsck     Reason = "fsck"
)

// Eviction says of a record when and why it was removed.
type Eviction struct {
	Time   time.Time // to the second
	Reason Reason
	// Keys are those that the record was, or could be, found by.
	Keys []cache.Key
}

// NoteEvictions remembers evictions. It is to be called before the records are
// removed. Any number of processes may do so at once.
func NoteEvictions(store *cache.Store, all []Eviction) error {
	if len(all) == 0 {
		return nil
	}
	f, err := os.OpenFile(store.Path(evictionsFile), os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("note evictions: %w", err)
	}
	defer f.Close()
	var b bytes.Buffer
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return fmt.Errorf("note evictions: %w", err)
	}
	if size > 0 {
		b.WriteByte('\n') // ends the line of whoever was killed while writing it
	}
	for _, e := range all {
		line := e.encode()
		fmt.Fprintf(&b, "%d %08x %s\n", e.Time.Unix(), crc32.ChecksumIEEE([]byte(line)), line)
	}
	if _, err := f.Write(b.Bytes()); err != nil {
		return fmt.Errorf("note evictions: %w", err)
	}
	if size+int64(b.Len()) > maxEvictions {
		err = os.Rename(store.Path(evictionsFile), store.Path(evictionsOld))
	}
	return err
}

// Evicted returns the latest eviction of the record of k; it is fs.ErrNotExist if none
// is remembered. The record may have been made anew since.
func Evicted(store *cache.Store, k cache.Key) (Eviction, error) {
	if err := k.Validate(); err != nil {
		return Eviction{}, fmt.Errorf("key %q: %w", k, err)
	}
	for _, name := range []string{evictionsFile, evictionsOld} {
		data, err := os.ReadFile(store.Path(name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return Eviction{}, fmt.Errorf("evictions: %w", err)
		}
		if e, ok := lastEviction(data, k); ok {
			return e, nil
		}
	}
	return Eviction{}, fmt.Errorf("eviction of %s: %w", k, fs.ErrNotExist)
}

// lastEviction finds the last line about k.
func lastEviction(log []byte, k cache.Key) (Eviction, bool) {
	for {
		i := bytes.LastIndex(log, []byte(k.Encoded()))
		if i < 0 {
			return Eviction{}, false
		}
		begin := bytes.LastIndexByte(log[:i], '\n') + 1
		line, _, whole := bytes.Cut(log[begin:], []byte{'\n'})
		if e, ok := decodeEviction(string(line)); ok && whole && slices.Contains(e.Keys, k) {
			return e, true
		}
		log = log[:begin]
	}
}

// encode is e without its time.
func (e Eviction) encode() string {
	fields := []string{strings.ReplaceAll(string(e.Reason), " ", "_")}
	for _, k := range e.Keys {
		fields = append(fields, k.Encoded())
	}
	return strings.Join(fields, " ")
}

func decodeEviction(line string) (Eviction, bool) {
	var e Eviction
	var seconds int64
	var sum uint32
	if _, err := fmt.Sscanf(line, "%d %x ", &seconds, &sum); err != nil {
		return e, false
	}
	fields := strings.SplitN(line, " ", 3)
	if len(fields) < 3 || crc32.ChecksumIEEE([]byte(fields[2])) != sum {
		return e, false
	}
	words := strings.Fields(fields[2])
	e.Time = time.Unix(seconds, 0).UTC()
	e.Reason = Reason(strings.ReplaceAll(words[0], "_", " "))
	for _, w := range words[1:] {
		if _, err := hex.DecodeString(w); err != nil {
			return e, false
		}
		e.Keys = append(e.Keys, digest.NewDigestFromEncoded(digest.SHA256, w))
	}
	return e, true
}
