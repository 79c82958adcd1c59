package local

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"lamina/cache/mounts"
	"lamina/runner"
	"lamina/snapshot"
	"lamina/snapshot/fileset"
	"lamina/snapshot/layer"
	"lamina/solver"
)

// claimCaches decides on the directories of all caches of a step. Locks are taken in
// one order by everybody: two steps that want the same two never wait for each
// other.
func (p *prepared) claimCaches(ctx context.Context, t solver.Task, all []solver.RunMount, out solver.Output) error {
	type claim struct{ name, sharing, id string }
	var claims []claim
	for _, m := range all {
		if m.Type == solver.MountCache {
			claims = append(claims, claim{cacheSpec(t, m).Name(), m.Sharing, m.CacheID})
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
		own, err := p.claim(ctx, c.name, c.id, c.sharing, out)
		if err != nil {
			return fmt.Errorf("cache %s: %w", c.id, err)
		}
		p.caches[c.name] = own
	}
	return nil
}

// claim returns the name of the directory to use and, as sharing says, keeps others
// away.
func (p *prepared) claim(ctx context.Context, name, id, sharing string, out solver.Output) (string, error) {
	store := p.worker.Store
	keep := func(unlock func()) {
		p.closers = append(p.closers, func() error { unlock(); return nil })
	}
	switch sharing {
	case "", "shared":
		return name, nil
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
		return name, nil
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
				return own, nil
			}
		}
	}
	return "", fmt.Errorf("unknown sharing %q", sharing)
}

// cache mounts a cache, which is fetched or made if this is its first use.
func (p *prepared) cache(ctx context.Context, t solver.Task, m solver.RunMount, out solver.Output) error {
	spec := cacheSpec(t, m)
	own := p.caches[spec.Name()]
	if own == spec.Name() && p.worker.Caches != nil {
		if err := p.worker.restore(ctx, spec, out); err != nil {
			return fmt.Errorf("restore cache %s: %w", m.CacheID, err)
		}
	}
	all := mounts.In(p.worker.Store)
	release, err := all.Use(ctx, own)
	for ; errors.Is(err, fs.ErrNotExist); release, err = all.Use(ctx, own) { // again, if somebody removes it at once
		err := all.Make(own, spec, func(data string) error { return p.firstContent(ctx, t, m, data, out) })
		if err != nil {
			return fmt.Errorf("make cache %s: %w", m.CacheID, err)
		}
	}
	if err != nil {
		return fmt.Errorf("cache %s: %w", m.CacheID, err)
	}
	p.closers = append(p.closers, func() error { release(); return nil })
	all.Used(own, spec, t.Node.Name, cmp.Or(m.Sharing, "shared"))
	if m.Input == 0 && m.Source != "" {
		return p.partOfCache(m, all.Data(own))
	}
	mount := snapshot.Mount{Type: "bind", Source: all.Data(own), Target: m.Target}
	if m.ReadOnly {
		mount.Options = append(mount.Options, "ro")
	}
	p.spec.Mounts = append(p.spec.Mounts, mount)
	return nil
}

// restore makes a cache of what other machines left of it, if that is better than
// what is here. That it cannot be had is no reason to fail.
func (w *Worker) restore(ctx context.Context, spec mounts.Spec, out solver.Output) error {
	offers := w.Caches(spec)
	for i, o := range offers {
		offers[i].Blobs = shown{o.Blobs, newMeter(o, "cache "+spec.ID, out)}
	}
	return mounts.In(w.Store).Restore(ctx, spec, offers, mounts.RestoreOptions{
		Begin: func(o mounts.Offer) {
			fmt.Fprintf(out, "cache %s comes from %s: %d files, %.1f MB\n", spec.ID, o.Place, o.Version.Files, float64(o.Version.Size)/1e6)
		},
		Failed: func(o mounts.Offer, err error) {
			fmt.Fprintf(out, "cache %s cannot be had from %s: %v\n", spec.ID, o.Place, err)
		},
	})
}

// MountCaches adds the caches among all to a container, as a RUN has them: the same
// directories, with the same locks. who is said to use them; release gives them back
// once the container has ended.
func (w *Worker) MountCaches(ctx context.Context, spec *runner.Spec, all []solver.RunMount, who string, out solver.Output) (release func() error, err error) {
	p := &prepared{worker: w, spec: *spec}
	t := solver.Task{Node: solver.Node{Name: who}}
	if err := p.claimCaches(ctx, t, all, out); err != nil {
		return nil, errors.Join(err, p.close())
	}
	for _, m := range all {
		if m.Type != solver.MountCache {
			continue
		}
		if err := p.cache(ctx, t, m, out); err != nil {
			return nil, errors.Join(fmt.Errorf("mount on %s: %w", m.Target, err), p.close())
		}
	}
	*spec = p.spec
	return p.close, nil
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

// cacheSpec says which cache m is.
func cacheSpec(t solver.Task, m solver.RunMount) mounts.Spec {
	from := ""
	if m.Input != 0 {
		from = t.Inputs[m.Input].ID.String()
	}
	return specOf(m, from)
}

// specOf says which cache m is, if it starts from what has this identity.
func specOf(m solver.RunMount, from string) mounts.Spec {
	s := mounts.Spec{ID: m.CacheID}
	if m.Input != 0 {
		s.From, s.Source = from, m.Source
	}
	if m.Mode != nil || m.UID != nil || m.GID != nil {
		s.Attrs = &mounts.Attrs{Mode: or(m.Mode, 0o755), UID: or(m.UID, 0), GID: or(m.GID, 0)}
	}
	return s
}

// CachesOf returns which caches the step of a record mounts: of a RUN, and those
// whose origin is recorded.
func CachesOf(r *solver.Record) []mounts.Spec {
	var op solver.Run
	if r.Kind != "run" || json.Unmarshal(r.Op, &op) != nil {
		return nil
	}
	var all []mounts.Spec
	for _, m := range op.Mounts {
		if m.Type != solver.MountCache || m.Input < 0 || m.Input >= len(r.Inputs) {
			continue
		}
		from := ""
		if m.Input != 0 {
			if from = r.Inputs[m.Input].ID.String(); from == "" {
				continue
			}
		}
		all = append(all, specOf(m, from))
	}
	return all
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
