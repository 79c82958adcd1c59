package layer

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"

	"lamina/snapshot"
)

// A draft notes what it writes, because then it knows what a list says, and nothing
// has to be read again. Who goes through a tree from its beginning to its end, as
// COPY does, and most archives are, writes items in a list's order, and changes
// none but the last; then the list is the journal, with what directories came to be
// in the end. Otherwise it is made by going through the files, and only their
// content is taken from the journal.
type journal struct {
	spill spill
	w     *ListWriter
	order order
	last  *Listed // may still be changed
	count int
	// unordered tells that the items are not those of a list.
	unordered bool
	// first is the first name of each further name of a file.
	first map[string]string
}

// maxUnordered is how many files a draft that was not written in order may have for
// a list to be made of it: it takes some 200 bytes of memory for each of them.
const maxUnordered = 1 << 18

func newJournal(dir string) *journal {
	j := &journal{spill: spill{name: filepath.Join(dir, "journal")}, first: map[string]string{}}
	j.w = NewListWriter(&j.spill)
	j.w.anyOrder = true
	j.last = &Listed{Path: ".", Item: Item{Entry: snapshot.Entry{Name: ".", Kind: snapshot.Dir}}}
	j.unordered = j.order.next(j.last) != nil
	return j
}

// put notes that an item was made.
func (j *journal) put(l Listed) error {
	if err := j.settle(); err != nil {
		return err
	}
	if l.Same != "" {
		if first, ok := j.first[l.Same]; ok {
			l.Same = first
		}
		j.first[l.Path] = l.Same
	}
	if err := j.order.next(&l); err != nil {
		j.unordered = true
	}
	j.last = &l
	j.count++
	return nil
}

// settle writes the last item.
func (j *journal) settle() error {
	if j.last == nil {
		return nil
	}
	err := j.w.Add(j.last)
	j.last = nil
	return err
}

// putDir notes that a directory was made. What it is like is seen at the end.
func (j *journal) putDir(name string) error {
	_, base := split(name)
	return j.put(Listed{Path: name, Item: Item{Entry: snapshot.Entry{Name: base, Kind: snapshot.Dir}}})
}

// amend notes that an item that is no directory has these attributes now.
func (j *journal) amend(name string, e snapshot.Entry, xattrs map[string]string) {
	if j.last == nil || j.last.Path != name || j.last.Same != "" {
		j.unordered = true // it may be a name of an earlier one
		return
	}
	j.last.setAttributes(e)
	if xattrs != nil {
		j.last.Xattrs = xattrs
	}
}

// setAttributes sets what a draft makes of an entry's owner, mode and time.
func (l *Listed) setAttributes(e snapshot.Entry) {
	l.UID, l.GID, l.Mode, l.ModTime = e.UID, e.GID, e.Mode&0o7777, modTime(e)
	if l.Kind == snapshot.Symlink {
		l.Mode = 0o777 // which is what the kernel says of all of them
	}
}

// removed notes that something is gone.
func (j *journal) removed() { j.unordered = true }

// items ends the journal and returns what was written, from its beginning.
func (j *journal) items() (io.ReadCloser, error) {
	if err := j.settle(); err != nil {
		return nil, err
	}
	if err := j.w.Close(); err != nil {
		return nil, err
	}
	return j.spill.open()
}

// spill is bytes in memory, and in a file once they are many.
type spill struct {
	name string
	mem  bytes.Buffer
	file *os.File
}

const spillAfter = 512 << 10

func (s *spill) Write(p []byte) (int, error) {
	if s.file == nil {
		if s.mem.Len()+len(p) <= spillAfter {
			return s.mem.Write(p)
		}
		f, err := os.OpenFile(s.name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return 0, err
		}
		s.file = f
		if _, err := s.mem.WriteTo(f); err != nil {
			return 0, err
		}
	}
	return s.file.Write(p)
}

// open returns the bytes. There is no file by the name any more.
func (s *spill) open() (io.ReadCloser, error) {
	if s.file == nil {
		return io.NopCloser(&s.mem), nil
	}
	_, err := s.file.Seek(0, io.SeekStart)
	return s.file, errors.Join(err, os.Remove(s.name))
}

func (s *spill) close() {
	if s.file != nil {
		s.file.Close()
	}
}

// writeList writes the list of a draft whose files are settled, unless it cannot have one.
func (d *Draft) writeList() error {
	err := d.tryList()
	if errors.Is(err, ErrUnlistable) {
		return os.Remove(filepath.Join(d.dir, listName))
	}
	return err
}

func (d *Draft) tryList() error {
	r, err := d.journal.items()
	if err != nil {
		return err
	}
	defer r.Close()
	file := filepath.Join(d.dir, listName)
	if !d.journal.unordered {
		return writeList(file, func(w *ListWriter) error { return d.listInOrder(w, r) })
	}
	if d.journal.count > maxUnordered {
		return nil
	}
	sums, err := readSums(r)
	if err != nil {
		return err
	}
	return writeList(file, func(w *ListWriter) error { return d.listFiles(w, sums) })
}

// listInOrder writes the journal r as the list.
func (d *Draft) listInOrder(w *ListWriter, r io.Reader) error {
	for l, err := range readList(r, nil) {
		if err == nil && l.Kind == snapshot.Dir && l.Same == "" {
			err = d.describeDir(&l)
		}
		if err == nil {
			err = w.Add(&l)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// describeDir says what the directory l is like.
func (d *Draft) describeDir(l *Listed) error {
	dir := d.dirs[l.Path]
	if l.setAttributes(dir.entry); dir.implied {
		l.Implied = true
		imply(&l.Entry)
	}
	parent, base := split(l.Path)
	at, err := d.fds.get(parent)
	if err != nil {
		return err
	}
	if l.Opaque, l.Xattrs, err = dirXattrs(at, base); err != nil {
		return err
	}
	if r := d.records[l.Path]; r != nil {
		l.Opaque = l.Opaque || r.Opaque
		l.Xattrs = d.files().withRecorded(l.Path, l.Xattrs)
	}
	return nil
}

// readSums returns what the journal r says of the content of each file.
func readSums(r io.Reader) (map[string]Listed, error) {
	sums := map[string]Listed{}
	for l, err := range readList(r, nil) {
		switch {
		case err != nil:
			return nil, err
		case l.Same != "":
			sums[l.Path] = sums[l.Same]
		case l.Kind == snapshot.File:
			sums[l.Path] = Listed{Digest: l.Digest, CRC: l.CRC, HasCRC: l.HasCRC}
		}
	}
	return sums, nil
}

// listFiles writes the list by going through the files.
func (d *Draft) listFiles(w *ListWriter, sums map[string]Listed) error {
	f := d.files()
	links := lister{xattrs: f.xattrs}
	add := func(name string, it Item) error {
		l, err := links.list(name, it)
		if err != nil {
			return err
		}
		if l.needsDigest() {
			sum := sums[name]
			l.Digest, l.CRC, l.HasCRC = sum.Digest, sum.CRC, sum.HasCRC
		}
		return w.Add(&l)
	}
	root, err := f.lstat(".")
	if err == nil {
		err = add(".", root)
	}
	if err != nil {
		return err
	}
	return f.walk(".", add)
}

// dirXattrs tells whether the directory procPath(fd, base) is opaque, and its
// extended attributes that belong to the image. Most have none, which costs one call.
func dirXattrs(fd int, base string) (opaque bool, xattrs map[string]string, err error) {
	keys, err := listXattrs(fd, base)
	if err != nil || len(keys) == 0 {
		return false, nil, err
	}
	if opaque, err = isOpaque(fd, base); err != nil {
		return false, nil, err
	}
	xattrs, err = imageXattrs(fd, base)
	return opaque, xattrs, err
}
