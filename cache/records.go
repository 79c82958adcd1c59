package cache

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// records is the store's Index: a file a record, in 256 directories.
//
//	lamina-record-1 <sha256 of the rest, in hex>\n
//	<record>
//
// A file that does not verify is a miss, which is all the crash safety there is
// and all that is needed.
type records struct{ store *Store }

const recordMagic = "lamina-record-1 "

// touchAfter is how old a record's modification time may grow while it is being
// used: fresh enough to tell what was used before what, at one write a minute.
const touchAfter = time.Minute

// Index returns the store's records.
func (s *Store) Index() Index { return records{s} }

func (r records) path(k Key) (string, error) {
	if err := k.Validate(); err != nil {
		return "", fmt.Errorf("key %q: %w", k, err)
	}
	hex := k.Encoded()
	return r.store.Path("index", hex[:2], hex), nil
}

// Peek returns the record of k as Get does, but does not count as a use of it.
func (s *Store) Peek(k Key) ([]byte, error) {
	path, err := records{s}.path(k)
	if err != nil {
		return nil, err
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	record, ok := decodeRecord(data)
	if !ok {
		return nil, fmt.Errorf("record %s is damaged: %w", k, fs.ErrNotExist)
	}
	return record, nil
}

func (r records) Get(_ context.Context, k Key) ([]byte, error) {
	record, err := r.store.Peek(k)
	if err != nil {
		return nil, err
	}
	path, err := r.path(k)
	if err != nil {
		return nil, err
	}
	if st, err := os.Stat(path); err == nil && time.Since(st.ModTime()) > touchAfter {
		now := time.Now()
		os.Chtimes(path, now, now) // says "used"; that it fails is no loss
	}
	return record, nil
}

func (r records) Put(_ context.Context, k Key, record []byte) error {
	path, err := r.path(k)
	if err != nil {
		return err
	}
	name, err := filepath.Rel(r.store.root, path)
	if err != nil {
		return err
	}
	data := encodeRecord(record)
	err = r.store.writeFile(name, data, false)
	if errors.Is(err, fs.ErrNotExist) {
		if err = os.MkdirAll(filepath.Dir(path), 0o700); err == nil {
			err = r.store.writeFile(name, data, false)
		}
	}
	if err != nil {
		return fmt.Errorf("record %s: %w", k, err)
	}
	return nil
}

func encodeRecord(record []byte) []byte {
	sum := sha256.Sum256(record)
	var b bytes.Buffer
	b.Grow(len(recordMagic) + 2*len(sum) + 1 + len(record))
	b.WriteString(recordMagic)
	b.WriteString(hex.EncodeToString(sum[:]))
	b.WriteByte('\n')
	b.Write(record)
	return b.Bytes()
}

func decodeRecord(data []byte) ([]byte, bool) {
	head := len(recordMagic) + 2*sha256.Size + 1
	if len(data) < head || string(data[:len(recordMagic)]) != recordMagic || data[head-1] != '\n' {
		return nil, false
	}
	sum := sha256.Sum256(data[head:])
	if hex.EncodeToString(sum[:]) != string(data[len(recordMagic):head-1]) {
		return nil, false
	}
	return data[head:], true
}
