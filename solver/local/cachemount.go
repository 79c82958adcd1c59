package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/opencontainers/go-digest"

	"lamina/cache"
	"lamina/snapshot"
	"lamina/snapshot/fileset"
	"lamina/snapshot/layer"
	"lamina/solver"
)

// Cache mounts are plain directories that outlive builds:
//
//	mounts/<name>/id      what the Dockerfile calls it, for people
//	mounts/<name>/data/   what is mounted
//
// The name is a digest of the id and of what a new one starts from. A "private"
// cache whose directory is taken gets another, <name>-1, <name>-2, …

// cache mounts a cache directory, which is made if this is its first use.
func (p *prepared) cache(ctx context.Context, t solver.Task, m solver.RunMount, out solver.Output) error {
	name := cacheName(t, m)
	dir, err := p.claim(ctx, name, m.Sharing)
	if err != nil {
		return err
	}
	data := filepath.Join(dir, "data")
	if _, err := os.Lstat(data); errors.Is(err, fs.ErrNotExist) {
		if err := p.newCache(ctx, t, m, dir, out); err != nil {
			return fmt.Errorf("make cache %s: %w", m.CacheID, err)
		}
	} else if err != nil {
		return err
	}
	used := time.Now()
	os.Chtimes(dir, used, used) // what is not used can be pruned; that it fails is no loss
	mount := snapshot.Mount{Type: "bind", Source: data, Target: m.Target}
	if m.ReadOnly {
		mount.Options = append(mount.Options, "ro")
	}
	p.spec.Mounts = append(p.spec.Mounts, mount)
	return nil
}

// cacheName tells caches apart: the same id with another owner, mode or origin
// is another cache, as its first content would be another.
func cacheName(t solver.Task, m solver.RunMount) string {
	from := ""
	if m.Input != 0 {
		from = t.Inputs[m.Input].ID.String()
	}
	d := digest.FromString(fmt.Sprintf("%q %o %d %d %q %q",
		m.CacheID, or(m.Mode, 0o755), or(m.UID, 0), or(m.GID, 0), from, m.Source))
	return d.Encoded()[:32]
}

// claim returns the directory to use and, as sharing says, keeps others away.
func (p *prepared) claim(ctx context.Context, name, sharing string) (string, error) {
	store := p.worker.Store
	switch sharing {
	case "", "shared":
		return store.Path("mounts", name), nil
	case "locked":
		unlock, err := store.Lock(ctx, "mount "+name)
		if err != nil {
			return "", err
		}
		p.closers = append(p.closers, func() error { unlock(); return nil })
		return store.Path("mounts", name), nil
	case "private":
		for n := 0; ; n++ {
			own := name
			if n > 0 {
				own = fmt.Sprintf("%s-%d", name, n)
			}
			unlock, ok, err := store.TryLock("mount " + own)
			if err != nil {
				return "", err
			}
			if ok {
				p.closers = append(p.closers, func() error { unlock(); return nil })
				return store.Path("mounts", own), nil
			}
		}
	}
	return "", fmt.Errorf("unknown sharing %q", sharing)
}

// newCache makes the directory of a cache with its first content. It is made
// beside and renamed: of two who make the same, one wins, and nobody sees half.
func (p *prepared) newCache(ctx context.Context, t solver.Task, m solver.RunMount, dir string, out solver.Output) error {
	tmp, err := p.worker.Store.Temp()
	if err != nil {
		return err
	}
	made, err := os.MkdirTemp(tmp, "mount-")
	if err != nil {
		return err
	}
	defer cache.RemoveAll(made) // a no-op once it is renamed
	if err := os.WriteFile(filepath.Join(made, "id"), []byte(m.CacheID+"\n"), 0o600); err != nil {
		return err
	}
	if err := p.firstContent(ctx, t, m, filepath.Join(made, "data"), out); err != nil {
		return err
	}
	err = os.Rename(made, dir)
	if errors.Is(err, fs.ErrExist) || err != nil && isThere(filepath.Join(dir, "data")) {
		return nil
	}
	return err
}

func isThere(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// firstContent makes the directory data: empty, or a copy of what the mount's
// from and source name.
func (p *prepared) firstContent(ctx context.Context, t solver.Task, m solver.RunMount, data string, out solver.Output) error {
	if m.Input == 0 {
		return makeDir(data, m)
	}
	tree, err := p.worker.tree(ctx, t.Inputs[m.Input], out)
	if err != nil {
		return err
	}
	sel, err := fileset.Select(ctx, tree, fileset.Query{Paths: []string{literal(m.Source)}})
	if err != nil {
		return err
	}
	draft, err := p.worker.Pool.Draft()
	if err != nil {
		return err
	}
	defer draft.Close()
	empty, err := p.worker.Pool.Stack(nil)
	if err != nil {
		return err
	}
	opt := fileset.CopyOptions{Dest: "/data/", Now: now()}
	if err := fileset.Copy(ctx, draft, empty, []fileset.From{{Selection: sel}}, opt); err != nil {
		return err
	}
	if err := imitate(draft, "data", tree, m.Source); err != nil {
		return err
	}
	id := newID()
	if err := draft.Commit(id); err != nil {
		return err
	}
	defer p.worker.Pool.Remove(id)
	made, err := p.worker.Pool.Open(id)
	if err != nil {
		return err
	}
	return os.Rename(filepath.Join(made.Path(), "data"), data)
}

// imitate gives the directory name of a draft the attributes that source has.
func imitate(draft *layer.Draft, name string, tree snapshot.Tree, source string) error {
	source, err := snapshot.Resolve(tree, relative(source), true)
	if err != nil {
		return err
	}
	e, err := tree.Lstat(source)
	if err != nil {
		return err
	}
	xattrs, err := tree.Xattrs(source)
	if err != nil {
		return err
	}
	return draft.SetAttrs(name, e, xattrs)
}

func makeDir(data string, m solver.RunMount) error {
	if err := os.Mkdir(data, 0o700); err != nil {
		return err
	}
	if os.Geteuid() == 0 { // an ordinary user can give nothing away
		if err := os.Chown(data, or(m.UID, 0), or(m.GID, 0)); err != nil {
			return err
		}
	}
	return os.Chmod(data, fs.FileMode(or(m.Mode, 0o755)&0o777))
}
