package mounts

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"

	"github.com/klauspost/compress/zstd"

	"lamina/cache"
)

// maxWindow bounds the memory that a pack may ask a reader for, in bytes.
const maxWindow = 128 << 20

// unpack makes the mount of v at data, where there is nothing. All contents are
// verified; an error means that not everything is there.
func (v *Version) unpack(ctx context.Context, blobs cache.Blobs, data string) (*Tree, error) {
	tree, err := v.readTree(ctx, blobs)
	if err != nil {
		return nil, err
	}
	u := &unpacker{maker: newMaker(data), want: make([]map[[32]byte][]Entry, len(v.Packs))}
	if err := u.prepare(ctx, tree); err != nil {
		return nil, err
	}
	for i, pack := range v.Packs {
		if len(u.want[i]) == 0 {
			continue
		}
		if err := u.pack(ctx, blobs, pack, u.want[i]); err != nil {
			return nil, err
		}
	}
	return tree, u.links(tree)
}

// unpacker makes a mount of its parts.
type unpacker struct {
	*maker
	want []map[[32]byte][]Entry // by pack and content: the files that have it
}

// prepare makes the directories and the empty files, and lists what is wanted of
// each pack.
func (u *unpacker) prepare(ctx context.Context, tree *Tree) error {
	for _, e := range tree.Entries {
		switch {
		case e.Kind == Dir:
			if err := u.mkdir(e); err != nil {
				return err
			}
		case e.Kind == File && e.Size == 0:
			if err := u.file(ctx, e, nil); err != nil {
				return err
			}
		case e.Kind == File:
			if u.want[e.Pack] == nil {
				u.want[e.Pack] = map[[32]byte][]Entry{}
			}
			u.want[e.Pack][e.Content] = append(u.want[e.Pack][e.Content], e)
		}
	}
	return nil
}

// links makes the links, and gives the directories their attributes.
func (u *unpacker) links(tree *Tree) error {
	for _, kind := range []Kind{Link, Symlink} {
		for _, e := range tree.Entries {
			var err error
			switch {
			case e.Kind != kind:
			case kind == Link:
				err = u.link(e)
			default:
				err = u.symlink(e)
			}
			if err != nil {
				return err
			}
		}
	}
	return u.finish()
}

// pack makes the files whose contents are wanted of a pack, until it has them all.
func (u *unpacker) pack(ctx context.Context, blobs cache.Blobs, pack Pack, want map[[32]byte][]Entry) error {
	r, err := blobs.Open(ctx, pack.Blob)
	if err != nil {
		return err
	}
	defer r.Close()
	z, err := zstd.NewReader(r, zstd.WithDecoderMaxWindow(maxWindow))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	defer z.Close()
	// What nobody wants is skipped, but not for ever.
	tr := tar.NewReader(io.LimitReader(z, pack.Plain+2*perEntry*maxEntries))
	for len(want) > 0 {
		hdr, err := tr.Next()
		if err == io.EOF {
			return fmt.Errorf("%w: %d contents are missing", ErrDamaged, len(want))
		}
		if err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return fmt.Errorf("read pack %s: %w", pack.Blob.Digest, err)
		}
		var content [32]byte
		if n, err := hex.Decode(content[:], []byte(trimTo(hdr.Name, 2*len(content)))); err != nil || n != len(content) || hdr.Typeflag != tar.TypeReg {
			continue
		}
		if files := want[content]; files != nil {
			if err := u.content(ctx, files, content, hdr.Size, tr); err != nil {
				return err
			}
			delete(want, content)
		}
	}
	return nil
}

// trimTo is s if it is not longer than n bytes.
func trimTo(s string, n int) string {
	if len(s) > n {
		return ""
	}
	return s
}

// content makes the files that have this content.
func (u *unpacker) content(ctx context.Context, files []Entry, content [32]byte, size int64, r io.Reader) error {
	check := &verifier{r: r, h: sha256.New()}
	for _, e := range files {
		if e.Size != size {
			return fmt.Errorf("%w: %s has %d bytes, want %d", ErrDamaged, e.Path, size, e.Size)
		}
	}
	if err := u.file(ctx, files[0], check); err != nil {
		return err
	}
	if [32]byte(check.h.Sum(nil)) != content {
		return fmt.Errorf("%w: %s is not what its digest says", ErrDamaged, files[0].Path)
	}
	for _, e := range files[1:] {
		if err := u.again(ctx, files[0], e); err != nil {
			return err
		}
	}
	return nil
}

// verifier hashes what is read through it.
type verifier struct {
	r io.Reader
	h hash.Hash
}

func (v *verifier) Read(b []byte) (int, error) {
	n, err := v.r.Read(b)
	v.h.Write(b[:n])
	return n, err
}
