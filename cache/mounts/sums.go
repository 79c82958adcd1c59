package mounts

import (
	"encoding/json"
	"os"
	"path/filepath"

	"github.com/klauspost/compress/zstd"
)

// sums are the digests of a mount's files, by path, when it was last looked at. They
// spare reading what did not change since. Losing them costs time only.
type sums map[string]stamp

// stamp tells whether a file is the one whose content is known: nothing changes a
// file without changing this, within the precision of the kernel's clock.
type stamp struct {
	Ino     uint64   `json:"i"`
	Size    int64    `json:"s"`
	Time    int64    `json:"t"`
	Changed int64    `json:"c"`
	Seen    int64    `json:"n"`
	Content [32]byte `json:"-"`
	Hash    []byte   `json:"h"`
}

// is tells whether the file did not change from s to t.
func (s stamp) is(t stamp) bool {
	return s.Ino == t.Ino && s.Size == t.Size && s.Time == t.Time && s.Changed == t.Changed
}

const sumsFile = "sums"

// readSums reads the sums in a mount's directory; none is no error.
func readSums(dir string) sums {
	data, err := os.ReadFile(filepath.Join(dir, sumsFile))
	if err != nil {
		return nil
	}
	z, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxTree))
	if err != nil {
		return nil
	}
	defer z.Close()
	plain, err := z.DecodeAll(data, nil)
	all := sums{}
	if err != nil || json.Unmarshal(plain, &all) != nil {
		return nil
	}
	for name, s := range all {
		if len(s.Hash) != len(s.Content) {
			return nil
		}
		s.Content, s.Hash = [32]byte(s.Hash), nil
		all[name] = s
	}
	return all
}

// write replaces the sums in a mount's directory.
func (all sums) write(dir string) error {
	out := make(sums, len(all))
	for name, s := range all {
		s.Hash = s.Content[:]
		out[name] = s
	}
	plain, err := json.Marshal(out)
	if err != nil {
		return err
	}
	z, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return err
	}
	defer z.Close()
	return writeBeside(dir, sumsFile, z.EncodeAll(plain, nil))
}
