package fsck

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// blobs reads every blob and compares it with its name.
func (c *checker) blobs(ctx context.Context) error {
	entries, err := os.ReadDir(c.store.Path("blobs", "sha256"))
	if err != nil {
		return err
	}
	begin := len(c.report.Findings)
	var todo []digest.Digest
	var total, done int64
	for _, e := range entries {
		d := digest.NewDigestFromEncoded(digest.SHA256, e.Name())
		path := "blobs/sha256/" + e.Name()
		if d.Validate() != nil || !e.Type().IsRegular() {
			c.note(Finding{Part: Blobs, Path: path, Problem: "is no blob: it was not lamina that put it there", Remedy: "remove it by hand, if nobody needs it"}, nil)
			continue
		}
		c.report.Blobs++
		if c.only != nil && !c.only[path] {
			continue
		}
		if info, err := e.Info(); err == nil {
			total += info.Size()
			todo = append(todo, d)
		}
	}
	c.report.Bytes += total
	var mu sync.Mutex
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	for _, d := range todo {
		group.Go(func() error {
			what, err := c.blob(ctx, d, func(n int) {
				c.progress(Blobs, atomic.AddInt64(&done, int64(n)), total)
			})
			if what == "" || err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			c.badBlob(d, what)
			return nil
		})
	}
	err = group.Wait()
	sortFindings(c.report.Findings[begin:])
	return err
}

// blob tells what is wrong with a blob, if anything is.
func (c *checker) blob(ctx context.Context, d digest.Digest, read func(int)) (what string, err error) {
	f, err := os.Open(c.blobPath(d))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil // removed meanwhile
	}
	if err != nil {
		return unreadable(err)
	}
	defer f.Close()
	v := d.Algorithm().Digester()
	buf := make([]byte, 256<<10)
	for {
		if err := ctx.Err(); err != nil {
			return "", err
		}
		n, err := f.Read(buf)
		v.Hash().Write(buf[:n])
		read(n)
		if err == io.EOF {
			break
		}
		if err != nil {
			return unreadable(err)
		}
	}
	if v.Digest() != d {
		return "its content is not what its name says", nil
	}
	return "", nil
}

// unreadable turns errors that mean that something is damaged into words.
func unreadable(err error) (what string, _ error) {
	for _, e := range []error{unix.EIO, unix.EUCLEAN, fs.ErrPermission, fs.ErrNotExist, unix.ENOTDIR, unix.EISDIR, unix.ELOOP} {
		if errors.Is(err, e) {
			return fmt.Sprintf("it cannot be read: %v", err), nil
		}
	}
	return "", err
}

func (c *checker) blobPath(d digest.Digest) string {
	return c.store.Path("blobs", "sha256", d.Encoded())
}

func (c *checker) badBlob(d digest.Digest, what string) {
	c.badBlobs[d] = true
	f := Finding{Part: Blobs, Path: "blobs/sha256/" + d.Encoded(), Problem: what, Remedy: "it is removed"}
	if len(c.store.Origins(d)) > 0 {
		f.Effects = append(f.Effects, "it is fetched again when somebody needs it")
	}
	c.damage(f, func(context.Context) error { return os.Remove(c.blobPath(d)) })
}

// has tells whether a good blob is here that has this size.
func (c *checker) has(d digest.Digest, size int64) bool {
	if c.badBlobs[d] || d.Validate() != nil {
		return false
	}
	st, err := os.Stat(c.blobPath(d))
	return err == nil && (st.Size() == size || size < 0)
}

// elsewhere tells whether the blob is known to be in a registry or a directory.
func (c *checker) elsewhere(d digest.Digest) bool {
	return d.Validate() == nil && len(c.store.Origins(d)) > 0
}
