package cache

import (
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
)

// maxOrigins is how many repositories are remembered for one blob.
const maxOrigins = 8

// Origins returns the repositories ("registry/path") that are known to hold the
// blob d, latest first: where it can be fetched from when it is not here, and
// mounted from when it is to be pushed to the same registry. It is advice; a
// repository may have lost the blob since.
func (s *Store) Origins(d digest.Digest) []string {
	data, err := os.ReadFile(s.Path("origins", d.Encoded()))
	if err != nil {
		return nil
	}
	return strings.Fields(string(data))
}

// AddOrigin remembers that repository holds the blob d. Of two processes that
// add at once one may be forgotten, which costs a transfer at worst.
func (s *Store) AddOrigin(d digest.Digest, repository string) error {
	if err := d.Validate(); err != nil {
		return err
	}
	all := s.Origins(d)
	if len(all) > 0 && all[0] == repository {
		return nil
	}
	all = slices.DeleteFunc(all, func(o string) bool { return o == repository })
	all = slices.Insert(all, 0, repository)
	all = all[:min(len(all), maxOrigins)]
	return s.writeFile("origins/"+d.Encoded(), []byte(strings.Join(all, "\n")+"\n"), false)
}

// DropOrigins forgets where d can be had.
func (s *Store) DropOrigins(d digest.Digest) error {
	err := os.Remove(s.Path("origins", d.Encoded()))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
