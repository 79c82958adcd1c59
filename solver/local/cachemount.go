package local

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
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
//	mounts/<name>/data    what is mounted: a directory, or what its source is
//
// The name is a digest of the id and of what a new one starts from. A "private"
// cache whose directory is taken gets another, <name>-1, <name>-2, …

// claimCaches finds the directories of all caches of a step. Locks are taken in
// one order by everybody: two steps that want the same two never wait for each
// other.
func (p *prepared) claimCaches(ctx context.Context, t solver.Task, mounts []solver.RunMount, out solver.Output) error {
	type claim struct{ name, sharing, id string }
	var claims []claim
	for _, m := range mounts {
		if m.Type == solver.MountCache {
			claims = append(claims, claim{cacheName(t, m), m.Sharing, m.CacheID})
		}
	}
	slices.SortFunc(claims, func(a, b claim) int {
		return cmp.Or(cmp.Compare(a.name, b.name), cmp.Compare(a.sharing, b.sharing))
	})
	p.caches = map[string]string{}
	for _, c := range claims {
		if _, twice := p.caches[c.name]; twice {
			continue // a step does not exclude itself
		}
		dir, err := p.claim(ctx, c.name, c.id, c.sharing, out)
		if err != nil {
			return fmt.Errorf("cache %s: %w", c.id, err)
		}
		p.caches[c.name] = dir
	}
	return nil
}

// claim returns the directory to use and, as sharing says, keeps others away.
func (p *prepared) claim(ctx context.Context, name, id, sharing string, out solver.Output) (string, error) {
	store := p.worker.Store
	keep := func(unlock func()) {
		p.closers = append(p.closers, func() error { unlock(); return nil })
	}
	switch sharing {
	case "", "shared":
		return store.Path("mounts", name), nil
	case "locked":
		unlock, ok, err := store.TryLock("mount " + name)
		if err == nil && !ok {
			fmt.Fprintf(out, "waiting for cache %s, which another step has locked\n", id)
			unlock, err = store.Lock(ctx, "mount "+name)
		}
		if err != nil {
			return "", err
		}
		keep(unlock)
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
				keep(unlock)
				return store.Path("mounts", own), nil
			}
		}
	}
	return "", fmt.Errorf("unknown sharing %q", sharing)
}

// cache mounts a cache, which is made if this is its first use.
func (p *prepared) cache(ctx context.Context, t solver.Task, m solver.RunMount, out solver.Output) error {
	dir := p.caches[cacheName(t, m)]
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
	if m.Input == 0 && m.Source != "" {
		return p.partOfCache(m, data)
	}
	mount := snapshot.Mount{Type: "bind", Source: data, Target: m.Target}
	if m.ReadOnly {
		mount.Options = append(mount.Options, "ro")
	}
	p.spec.Mounts = append(p.spec.Mounts, mount)
	return nil
}

// partOfCache mounts what earlier steps left at the source of m, of which links
// cannot lead out of the cache.
func (p *prepared) partOfCache(m solver.RunMount, data string) error {
	tree, err := fileset.Host(data)
	if err != nil {
		return err
	}
	defer tree.Close()
	sub, entry, err := find(tree, m.Source)
	if err != nil {
		return err
	}
	p.show(m, []snapshot.Mount{{Type: "bind", Source: data, Target: "/"}}, sub, entry)
	return nil
}

// startsEmpty tells whether the first content of a cache is nothing: it has a mode
// or an owner, or starts from nothing.
func startsEmpty(m solver.RunMount) bool {
	return m.Input == 0 || m.Mode != nil || m.UID != nil || m.GID != nil
}

// cacheName tells caches apart: the same id with another owner, mode or origin
// is another cache, as its first content would be another.
func cacheName(t solver.Task, m solver.RunMount) string {
	from, source, attrs := "", "", ""
	if m.Input != 0 {
		from, source = t.Inputs[m.Input].ID.String(), m.Source
	}
	if m.Mode != nil || m.UID != nil || m.GID != nil {
		attrs = fmt.Sprintf("%o %d %d", or(m.Mode, 0o755), or(m.UID, 0), or(m.GID, 0))
	}
	d := digest.FromString(fmt.Sprintf("%q %q %q %q", m.CacheID, attrs, from, source))
	return d.Encoded()[:32]
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
	if startsEmpty(m) {
		return makeDir(data, m)
	}
	tree, err := p.worker.tree(ctx, t.Inputs[m.Input], out)
	if err != nil {
		return err
	}
	sub, entry, err := find(tree, m.Source)
	if err != nil {
		return err
	}
	sel, err := fileset.Select(ctx, tree, fileset.Query{Paths: []string{literal(sub)}})
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
	opt := fileset.CopyOptions{Dest: "/data", Now: now()}
	if err := fileset.Copy(ctx, draft, empty, []fileset.From{{Selection: sel}}, opt); err != nil {
		return err
	}
	if entry.Kind == snapshot.Dir {
		if err := imitate(draft, "data", tree, sub, entry); err != nil {
			return err
		}
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

// imitate gives the directory name of a draft the attributes of source, which is e.
func imitate(draft *layer.Draft, name string, tree snapshot.Tree, source string, e snapshot.Entry) error {
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
