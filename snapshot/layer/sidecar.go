package layer

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"unicode/utf8"

	"lamina/snapshot"
)

// record holds the true attributes of one name that the disk could not hold.
// What is absent is right on disk.
type record struct {
	Name   raw     `json:"name"`
	Owner  *[2]int `json:"owner,omitempty"` // UID and GID
	Mode   *uint32 `json:"mode,omitempty"`
	Device *device `json:"device,omitempty"`
	// Whiteout and Opaque say that an empty file, or a directory, is one.
	Whiteout bool           `json:"whiteout,omitempty"`
	Opaque   bool           `json:"opaque,omitempty"`
	Xattrs   map[string]raw `json:"xattrs,omitempty"`
}

// device is what an empty file stands for.
type device struct {
	Block bool   `json:"block,omitempty"`
	Major uint32 `json:"major"`
	Minor uint32 `json:"minor"`
}

// visible tells whether a process that uses the files notices what is recorded.
func (r *record) visible() bool {
	return r.Owner != nil || r.Mode != nil || r.Device != nil || r.Whiteout || r.Opaque
}

func (r *record) empty() bool { return !r.visible() && len(r.Xattrs) == 0 }

// amend makes an item that was read from disk true.
func (r *record) amend(it *Item) {
	if r.Owner != nil {
		it.UID, it.GID = r.Owner[0], r.Owner[1]
	}
	if r.Mode != nil {
		it.Mode = *r.Mode
	}
	if r.Device != nil {
		it.Kind, it.Size = snapshot.CharDevice, 0
		if r.Device.Block {
			it.Kind = snapshot.BlockDevice
		}
		it.Major, it.Minor = r.Device.Major, r.Device.Minor
	}
	it.Whiteout = it.Whiteout || r.Whiteout
	it.Opaque = it.Opaque || r.Opaque
}

// raw is a string of any bytes, which JSON's are not.
type raw string

const rawPrefix = "base64:"

// MarshalText implements [encoding.TextMarshaler].
func (s raw) MarshalText() ([]byte, error) {
	if utf8.ValidString(string(s)) && !strings.HasPrefix(string(s), rawPrefix) {
		return []byte(s), nil
	}
	return base64.StdEncoding.AppendEncode([]byte(rawPrefix), []byte(s)), nil
}

// UnmarshalText implements [encoding.TextUnmarshaler].
func (s *raw) UnmarshalText(b []byte) error {
	enc, ok := strings.CutPrefix(string(b), rawPrefix)
	if !ok {
		*s = raw(b)
		return nil
	}
	dec, err := base64.StdEncoding.DecodeString(enc)
	*s = raw(dec)
	return err
}

// writeRecords writes the records that are not empty to file, which is not made
// if there are none.
func writeRecords(file string, records map[string]*record) error {
	var names []string
	for name, r := range records {
		if !r.empty() {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return nil
	}
	slices.Sort(names)
	return writeNew(file, func(w *bufio.Writer) error {
		enc := json.NewEncoder(w)
		enc.SetEscapeHTML(false)
		for _, name := range names {
			r := *records[name] // names of one file share a record
			r.Name = raw(name)
			if err := enc.Encode(&r); err != nil {
				return err
			}
		}
		return nil
	})
}

// readRecords reads what writeRecords wrote; nothing if file does not exist.
func readRecords(file string) (map[string]*record, error) {
	b, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	m := make(map[string]*record, strings.Count(string(b), "\n"))
	for line := range strings.Lines(string(b)) {
		r := new(record)
		if err := json.Unmarshal([]byte(line), r); err != nil {
			return nil, fmt.Errorf("read %s: line %d: %w", file, len(m)+1, err)
		}
		m[string(r.Name)] = r
	}
	return m, nil
}

// writeNames writes names, sorted, with NUL after each, to file, which is not
// made if there are none.
func writeNames(file string, names []string) error {
	if len(names) == 0 {
		return nil
	}
	slices.Sort(names)
	return writeNew(file, func(w *bufio.Writer) error {
		for _, name := range names {
			w.WriteString(name)
			w.WriteByte(0)
		}
		return nil
	})
}

// readNames reads what writeNames wrote; nothing if file does not exist.
func readNames(file string) ([]string, error) {
	b, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(b) == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return strings.Split(strings.TrimSuffix(string(b), "\x00"), "\x00"), nil
}

// writeNew writes a file that must not exist yet.
func writeNew(file string, write func(*bufio.Writer) error) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(f)
	err = write(w)
	if err == nil {
		err = w.Flush()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	return err
}
