package archive

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"

	"lamina/snapshot/layertar"
)

// magicSize is how many bytes tell a compression.
const magicSize = 6

// compressionOf returns what to append to a layer's media type, by the first
// bytes of the layer.
func compressionOf(head []byte) string {
	switch {
	case strings.HasPrefix(string(head), "\x1f\x8b"):
		return "+gzip"
	case strings.HasPrefix(string(head), "\x28\xb5\x2f\xfd"):
		return "+zstd"
	}
	return ""
}

// isCompressed tells whether f is something else than a plain tar, as far as the
// first bytes tell: those of a tar are a file's name.
func isCompressed(f io.ReaderAt) bool {
	head := make([]byte, magicSize)
	if _, err := f.ReadAt(head, 0); err != nil {
		return false
	}
	return compressionOf(head) != "" || strings.HasPrefix(string(head), "BZh") || string(head) == "\xfd7zXZ\x00"
}

// read keeps r, decompressed, in a temporary file that has no name.
func read(name string, r io.Reader, tmp string) (*Archive, error) {
	plain, err := layertar.Decompress(r)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	defer plain.Close()
	f, err := os.CreateTemp(tmp, "archive-")
	if err != nil {
		return nil, err
	}
	err = os.Remove(f.Name())
	if err == nil {
		_, err = io.Copy(f, plain)
	}
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return newTarArchive(name, f)
}

// tarFS is the regular files of a tar, read in place.
type tarFS struct {
	r     io.ReaderAt
	files map[string]section
}

// section is where a file's bytes are.
type section struct{ offset, size int64 }

// indexTar notes where the files of the tar f are. Links, by which old archives
// name a layer that occurs twice, stand for what they point to.
func indexTar(f *os.File) (*tarFS, error) {
	t := &tarFS{r: f, files: map[string]section{}}
	links := map[string]string{}
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		name := path.Clean(strings.TrimPrefix(h.Name, "/"))
		delete(links, name)
		switch h.Typeflag {
		case tar.TypeReg:
			// The reader takes whole headers and skips contents, so that it stands
			// at the first byte of this one now.
			offset, err := f.Seek(0, io.SeekCurrent)
			if err != nil {
				return nil, err
			}
			t.files[name] = section{offset, h.Size}
		case tar.TypeLink:
			links[name] = path.Clean(h.Linkname)
		case tar.TypeSymlink:
			links[name] = path.Join(path.Dir(name), h.Linkname)
		}
	}
	for name, target := range links {
		if s, ok := t.files[target]; ok {
			t.files[name] = s
		}
	}
	return t, nil
}

// Open implements [fs.FS].
func (t *tarFS) Open(name string) (fs.File, error) {
	s, ok := t.files[name]
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return &tarFile{io.NewSectionReader(t.r, s.offset, s.size), tarInfo{path.Base(name), s.size}}, nil
}

type tarFile struct {
	*io.SectionReader
	info tarInfo
}

func (f *tarFile) Stat() (fs.FileInfo, error) { return f.info, nil }
func (f *tarFile) Close() error               { return nil }

type tarInfo struct {
	name string
	size int64
}

func (i tarInfo) Name() string       { return i.name }
func (i tarInfo) Size() int64        { return i.size }
func (i tarInfo) Mode() fs.FileMode  { return 0o644 }
func (i tarInfo) ModTime() time.Time { return time.Unix(0, 0) }
func (i tarInfo) IsDir() bool        { return false }
func (i tarInfo) Sys() any           { return nil }
