package mounts

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lamina/cache"
)

// PackOptions say which mounts are worth sending.
type PackOptions struct {
	// MaxSize is the most bytes that a mount's files may have; 0 is no limit.
	MaxSize int64
	// MinChange says how much has to have changed since Base.
	MinChange Threshold
	// Base is what this replaces; nil if there is nothing. Its blobs are in Blobs.
	Base  *Version
	Blobs cache.Blobs
}

// Threshold is how much of a mount has to change until it is sent: at least one
// byte, and Share of its size or Bytes, whichever is less. The zero Threshold is any
// change; a negative member does not count.
type Threshold struct {
	Share float64
	Bytes int64
}

// reached tells whether change, of a mount of this size, is enough.
func (t Threshold) reached(change, size int64) bool {
	least := int64(-1)
	if t.Share >= 0 {
		least = int64(t.Share * float64(size))
	}
	if t.Bytes >= 0 && (least < 0 || t.Bytes < least) {
		least = t.Bytes
	}
	return change > 0 && change >= least
}

// Outcome says what Pack found.
type Outcome int

// The outcomes of Pack.
const (
	Packed    Outcome = iota
	Unchanged         // it is what Base is, or nearly
	TooLarge          // it is larger than MaxSize
)

// Report is what Pack found.
type Report struct {
	Outcome Outcome
	Size    int64 // bytes in the mount's files
	Change  int64 // bytes that differ from Base
}

// Bundle is a version that is ready to be sent, and those of its blobs that are not
// elsewhere.
type Bundle struct {
	Version *Version
	Report  Report
	blobs   map[digest.Digest]string // files
}

// Pack makes a version of the mount name. Contents that Base has stay in its packs,
// unless most of a pack has become useless or packs become many. The mount is as it
// was at one instant; it is ErrBusy if others do not leave it alone, fs.ErrNotExist
// if there is none. The caller must close the bundle.
func (m Mounts) Pack(ctx context.Context, name string, spec Spec, opt PackOptions) (*Bundle, error) {
	release, err := m.Use(ctx, name)
	if err != nil {
		return nil, err
	}
	defer release()
	dir := m.Dir(name)
	tree, seen, err := scan(ctx, m.Data(name), readSums(dir))
	if err != nil {
		return nil, err
	}
	if err := seen.write(dir); err != nil {
		return nil, err
	}
	b := &Bundle{}
	var files int
	b.Report.Size, files = tree.Size()
	if opt.MaxSize > 0 && b.Report.Size > opt.MaxSize {
		b.Report.Outcome = TooLarge
		return b, nil
	}
	var base *Tree
	if opt.Base != nil {
		if base, err = opt.Base.readTree(ctx, opt.Blobs); err != nil {
			return nil, fmt.Errorf("read what is to be replaced: %w", err)
		}
		b.Report.Change = tree.Change(base)
		if !opt.MinChange.reached(b.Report.Change, base.weight()) {
			b.Report.Outcome = Unchanged
			return b, nil
		}
	}
	now := time.Now().UTC().Truncate(time.Second)
	b.Version = &Version{Spec: spec, Size: b.Report.Size, Files: files, Packed: now, Used: now}
	if err := m.fill(ctx, b, tree, m.Data(name), base, opt.Base); err != nil {
		return nil, errors.Join(err, b.Close())
	}
	return b, nil
}

// fill makes the blobs of b's version, which is tree.
func (m Mounts) fill(ctx context.Context, b *Bundle, tree *Tree, data string, base *Tree, from *Version) error {
	p := plan(tree, base, from)
	v := b.Version
	v.Packs = p.kept
	tmp, err := m.store.Temp()
	if err != nil {
		return err
	}
	b.blobs = map[digest.Digest]string{}
	if len(p.fresh) > 0 {
		pack, file, err := writePack(ctx, tmp, data, p.fresh)
		if err != nil {
			return err
		}
		b.blobs[pack.Blob.Digest] = file
		v.Packs = append(v.Packs, pack)
	}
	for i, e := range tree.Entries {
		if e.Kind == File && e.Size > 0 {
			at, ok := p.at[e.Content]
			if !ok {
				at = len(p.kept)
			}
			tree.Entries[i].Pack = at
		}
	}
	if v.ID, err = tree.ID(); err != nil {
		return err
	}
	list, err := tree.encode()
	if err != nil {
		return err
	}
	if len(list) > maxTreeBlob {
		return errors.New("it has too many files")
	}
	v.Tree = ocispec.Descriptor{MediaType: TreeType, Digest: digest.FromBytes(list), Size: int64(len(list))}
	file, err := os.CreateTemp(tmp, "tree-")
	if err != nil {
		return err
	}
	b.blobs[v.Tree.Digest] = file.Name()
	_, err = file.Write(list)
	return errors.Join(err, file.Close())
}

// planned says where contents are to lie.
type planned struct {
	kept  []Pack           // packs of before
	at    map[[32]byte]int // which of them has a content
	fresh []Entry          // files whose contents are in none, in order
}

// plan keeps the packs of base but those of which more than half is not needed any
// more, and those that are no larger than what is written anyhow: so there are never
// more of them than the logarithm of the mount's size, and a content is sent as
// often at most.
func plan(tree, base *Tree, from *Version) planned {
	p := planned{at: map[[32]byte]int{}}
	contents := tree.contents()
	if base == nil {
		p.fresh = contents
		return p
	}
	in := map[[32]byte]int{}
	for _, e := range base.contents() {
		in[e.Content] = e.Pack
	}
	used := make([]int64, len(from.Packs))
	var size int64 // of what has to be written
	for _, e := range contents {
		if i, ok := in[e.Content]; ok {
			used[i] += e.Size
		} else {
			size += e.Size
		}
	}
	keep := make([]bool, len(used))
	bySize := make([]int, len(used))
	for i := range used {
		bySize[i] = i
		if keep[i] = used[i] > from.Packs[i].Plain/2; !keep[i] {
			size += used[i]
		}
	}
	slices.SortFunc(bySize, func(a, b int) int { return int(min(1, max(-1, used[a]-used[b]))) })
	for n, i := range bySize {
		if keep[i] && (used[i] <= size || len(bySize)-n >= maxPacks) {
			keep[i] = false
			size += used[i]
		}
	}
	moved := make([]int, len(used))
	for i, pack := range from.Packs {
		if keep[i] {
			moved[i] = len(p.kept)
			p.kept = append(p.kept, pack)
		}
	}
	for _, e := range contents {
		if i, ok := in[e.Content]; ok && keep[i] {
			p.at[e.Content] = moved[i]
		} else {
			p.fresh = append(p.fresh, e)
		}
	}
	return p
}

// writePack writes the contents of files below data as one pack into a new file in
// tmp. A file that is not what it was any more is ErrBusy.
func writePack(ctx context.Context, tmp, data string, files []Entry) (pack Pack, name string, err error) {
	f, err := os.CreateTemp(tmp, "pack-")
	if err != nil {
		return pack, "", err
	}
	defer func() {
		if cerr := f.Close(); err == nil {
			err = cerr
		}
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	sum, size := digest.SHA256.Digester(), new(counter)
	buf := bufio.NewWriterSize(io.MultiWriter(f, sum.Hash(), size), 256<<10)
	z, err := zstd.NewWriter(buf)
	if err != nil {
		return pack, "", err
	}
	defer z.Close()
	tw := tar.NewWriter(z)
	root, err := openRoot(data)
	if err != nil {
		return pack, "", err
	}
	defer root.Close()
	for _, e := range files {
		if err := root.copy(ctx, tw, e); err != nil {
			return pack, "", err
		}
		pack.Plain += e.Size
	}
	if err := errors.Join(tw.Close(), z.Close(), buf.Flush()); err != nil {
		return pack, "", err
	}
	pack.Blob = ocispec.Descriptor{MediaType: PackType, Digest: sum.Digest(), Size: int64(*size)}
	return pack, f.Name(), nil
}

// counter counts what is written to it.
type counter int64

func (c *counter) Write(b []byte) (int, error) {
	*c += counter(len(b))
	return len(b), nil
}

// root is what is mounted: a directory, out of which nothing leads, or a file.
type root struct {
	*os.Root
	file string // the name of what is mounted, if it is a file
}

func openRoot(data string) (*root, error) {
	st, err := os.Lstat(data)
	if err != nil {
		return nil, err
	}
	if st.IsDir() {
		r, err := os.OpenRoot(data)
		return &root{Root: r}, err
	}
	r, err := os.OpenRoot(filepath.Dir(data))
	return &root{r, filepath.Base(data)}, err
}

// open opens the file e.
func (r *root) open(e Entry) (*os.File, error) {
	name := e.Path
	if name == "." && r.file != "" {
		name = r.file
	}
	f, err := r.OpenFile(name, os.O_RDONLY|nonblock, 0)
	if err != nil {
		return nil, err
	}
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		return nil, errors.Join(ErrBusy, err, f.Close())
	}
	return f, nil
}

// copy writes the content of e to a pack, named by its digest.
func (r *root) copy(ctx context.Context, tw *tar.Writer, e Entry) error {
	f, err := r.open(e)
	if errors.Is(err, fs.ErrNotExist) {
		return ErrBusy
	}
	if err != nil {
		return err
	}
	defer f.Close()
	hdr := &tar.Header{Typeflag: tar.TypeReg, Name: hex.EncodeToString(e.Content[:]), Mode: 0o644, Size: e.Size, ModTime: time.Unix(0, 0)}
	if err := tw.WriteHeader(hdr); err != nil {
		return err
	}
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(tw, h), io.LimitReader(&contextReader{ctx, f}, e.Size))
	if err != nil {
		return err
	}
	if n != e.Size || !bytes.Equal(h.Sum(nil), e.Content[:]) {
		return ErrBusy
	}
	return nil
}

// Has tells whether the bundle itself has the blob.
func (b *Bundle) Has(d ocispec.Descriptor) bool {
	_, ok := b.blobs[d.Digest]
	return ok
}

// Open returns a blob of the bundle; others are fs.ErrNotExist.
func (b *Bundle) Open(d ocispec.Descriptor) (io.ReadCloser, error) {
	file, ok := b.blobs[d.Digest]
	if !ok {
		return nil, errMissing("blob " + d.Digest.String())
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	return cache.Verify(f, d), nil
}

// Close removes the bundle's blobs.
func (b *Bundle) Close() error {
	var errs []error
	for d, file := range b.blobs {
		errs = append(errs, os.Remove(file))
		delete(b.blobs, d)
	}
	return errors.Join(errs...)
}

// Sent notes that v is what the mount name was when it was sent to others.
func (m Mounts) Sent(name string, v *Version) error {
	a, err := readAbout(m.Dir(name))
	if err != nil {
		return err
	}
	a.Spec, a.Version, a.Packed = v.Spec, v.ID, v.Packed
	return writeAbout(m.Dir(name), a)
}
