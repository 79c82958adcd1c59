package snapshot

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"maps"
)

// Unchanged tells whether e with xattrs, which lies above t at name, is what t
// has there anyway, so that a layer need not say it. Of a directory the time does
// not count: it changes with what is in it. A file with several names is always
// said: it may be to one of them that it has another. open opens e's content, if
// e is a regular file.
func Unchanged(
	t Tree, name string, e Entry, xattrs map[string]string, open func() (io.ReadCloser, error),
) (bool, error) {
	old, err := t.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil || !sameAttrs(old, e) || e.Kind != Dir && e.Nlink > 1 {
		return false, err
	}
	kept, err := t.Xattrs(name)
	if err != nil || !maps.Equal(kept, xattrs) {
		return false, err
	}
	if e.Kind != File || e.Size == 0 {
		return true, nil
	}
	above, err := open()
	if err != nil {
		return false, err
	}
	defer above.Close()
	below, err := t.Open(name)
	if err != nil {
		return false, err
	}
	defer below.Close()
	return sameContent(above, below)
}

func sameAttrs(a, b Entry) bool {
	if a.Kind != b.Kind || a.Mode != b.Mode || a.UID != b.UID || a.GID != b.GID {
		return false
	}
	switch a.Kind {
	case Dir:
		return true
	case File:
		if a.Size != b.Size {
			return false
		}
	case Symlink:
		if a.Link != b.Link {
			return false
		}
	case CharDevice, BlockDevice:
		if a.Major != b.Major || a.Minor != b.Minor {
			return false
		}
	}
	return a.ModTime.Equal(b.ModTime)
}

func sameContent(a, b io.Reader) (bool, error) {
	var x, y [32 << 10]byte
	for {
		n, err := io.ReadFull(a, x[:])
		m, err2 := io.ReadFull(b, y[:])
		if !bytes.Equal(x[:n], y[:m]) {
			return false, nil
		}
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return true, nil
		}
		if err != nil || err2 != nil {
			return false, errors.Join(err, err2)
		}
	}
}
