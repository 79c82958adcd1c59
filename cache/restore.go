package cache

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"
)

// index.json is the one file of the store that nothing else could be computed from,
// and its format, which is not ours, has no room for a checksum. So what was written
// last is kept beside it once more, in the form of a record. It is read where
// index.json is gone or is no JSON any more.
const indexCopy = "index.copy"

// damagedIndexError reports an index.json that makes no sense.
type damagedIndexError struct {
	file string
	err  error
}

func (e *damagedIndexError) Error() string { return fmt.Sprintf("%s is damaged: %v", e.file, e.err) }
func (e *damagedIndexError) Unwrap() error { return e.err }

// Hint says what can be done.
func (e *damagedIndexError) Hint() string {
	return "'lamina fsck --repair' finds the images again, without their names"
}

// parseIndex reads index.json. One that is not there is fs.ErrNotExist.
func (s *Store) parseIndex() (idx ocispec.Index, err error) {
	data, err := os.ReadFile(s.Path(indexFile))
	if err != nil {
		return idx, err
	}
	if err := json.Unmarshal(data, &idx); err != nil {
		return idx, &damagedIndexError{s.Path(indexFile), err}
	}
	return idx, nil
}

func (s *Store) lastIndex() (idx ocispec.Index, err error) {
	data, err := os.ReadFile(s.Path(indexCopy))
	if err != nil {
		return idx, err
	}
	record, ok := decodeRecord(data)
	if !ok {
		return idx, errors.New("the copy of index.json is damaged")
	}
	return idx, json.Unmarshal(record, &idx)
}

// LockNames keeps everybody from changing names until unlock is called, so that index.json
// and its copy are of one state.
func (s *Store) LockNames(ctx context.Context) (unlock func(), err error) {
	f, err := lockFile(ctx, s.Path("locks", indexFile), unix.LOCK_EX)
	if err != nil {
		return nil, fmt.Errorf("lock store: %w", err)
	}
	return func() { f.Close() }, nil
}

// ReadNames returns the roots as index.json itself has them. It is an error if that
// makes no sense, and fs.ErrNotExist if it is gone.
func (s *Store) ReadNames() ([]Named, error) {
	idx, err := s.parseIndex()
	if err != nil {
		return nil, err
	}
	return named(idx), nil
}

// LastNames returns the roots as this store wrote them last, and an error if nobody
// knows: fs.ErrNotExist if that was never written.
func (s *Store) LastNames() ([]Named, error) {
	idx, err := s.lastIndex()
	if err != nil {
		return nil, err
	}
	return named(idx), nil
}

// NamesIntact tells whether index.json is, to the byte, what this store wrote last.
func (s *Store) NamesIntact() bool {
	data, err := os.ReadFile(s.Path(indexFile))
	if err != nil {
		return false
	}
	last, err := os.ReadFile(s.Path(indexCopy))
	if err != nil {
		return false
	}
	record, ok := decodeRecord(last)
	return ok && bytes.Equal(record, data)
}

// ReplaceNames makes roots all the roots there are. What index.json was, if it was
// something else, is kept beside it as index.json.damaged.
func (s *Store) ReplaceNames(ctx context.Context, roots []Named) error {
	unlock, err := s.LockNames(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	data, err := encodeIndex(roots)
	if err != nil {
		return err
	}
	old, err := os.ReadFile(s.Path(indexFile))
	if err == nil && !bytes.Equal(old, data) {
		err = os.Rename(s.Path(indexFile), s.Path(indexFile+".damaged"))
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return s.writeIndex(data)
}

// CheckLayout tells what is wrong with the file that says that the store is an OCI
// layout, and WriteLayout writes it anew.
func (s *Store) CheckLayout() error {
	data, err := os.ReadFile(s.Path(layoutFile))
	if err != nil {
		return err
	}
	var layout map[string]any // keys as they are, which a struct would take in any case
	if err := json.Unmarshal(data, &layout); err != nil {
		return err
	}
	if version := layout["imageLayoutVersion"]; version != ocispec.ImageLayoutVersion {
		return fmt.Errorf("its version is %v, not %q", version, ocispec.ImageLayoutVersion)
	}
	return nil
}

// WriteLayout writes the file that says that the store is an OCI layout.
func (s *Store) WriteLayout() error {
	return s.writeFile(layoutFile, []byte(`{"imageLayoutVersion":"`+ocispec.ImageLayoutVersion+`"}`), true)
}

// DecodeRecord returns what the file of a record holds, and false if it is damaged.
func DecodeRecord(file []byte) ([]byte, bool) { return decodeRecord(file) }
