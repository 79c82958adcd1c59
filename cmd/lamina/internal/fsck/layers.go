package fsck

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"lamina/snapshot"
	"lamina/snapshot/layer"
)

// layers compares every unpacked layer with its list.
func (c *checker) layers(ctx context.Context) error {
	entries, err := os.ReadDir(c.store.Path("layers"))
	if err != nil {
		return err
	}
	begin := len(c.report.Findings)
	var todo []snapshot.ID
	for _, e := range entries {
		switch {
		case e.IsDir():
			todo = append(todo, snapshot.ID(e.Name()))
		case e.Type()&fs.ModeSymlink != 0:
			c.alias(snapshot.ID(e.Name()))
		default:
			c.note(Finding{Part: Layers, Path: "layers/" + e.Name(), Problem: "is no layer: it was not lamina that put it there", Remedy: "remove it by hand, if nobody needs it"}, nil)
		}
	}
	var mu sync.Mutex
	var done atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	for _, id := range todo {
		group.Go(func() error {
			l := checkedLayer{id: id, read: c.only == nil || c.only[layerPath(id)]}
			err := l.check(ctx, c)
			c.progress(Layers, done.Add(1), int64(len(todo)))
			if err != nil {
				return fmt.Errorf("layer %s: %w", id, err)
			}
			mu.Lock()
			defer mu.Unlock()
			c.layer(l)
			return nil
		})
	}
	err = group.Wait()
	sortFindings(c.report.Findings[begin:])
	return err
}

func layerPath(id snapshot.ID) string { return "layers/" + string(id) }

// alias checks a link that finds a layer by its diff ID.
func (c *checker) alias(id snapshot.ID) {
	path := c.store.Path("layers", string(id))
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return
	}
	c.damage(Finding{
		Part: Layers, Path: layerPath(id), Problem: "is a link to a layer that is gone", Remedy: "it is removed",
	}, func(context.Context) error { return removeIfThere(path) })
}

// dropAliases removes the links to layers that the repair has removed.
func (c *checker) dropAliases() error {
	entries, err := os.ReadDir(c.store.Path("layers"))
	if err != nil {
		return err
	}
	for _, e := range entries {
		path := c.store.Path("layers", e.Name())
		if _, err := os.Stat(path); e.Type()&fs.ModeSymlink == 0 || !errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err := removeIfThere(path); err != nil {
			return err
		}
	}
	return nil
}

func removeIfThere(path string) error {
	err := os.Remove(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// checkedLayer is what was found out about one layer.
type checkedLayer struct {
	id   snapshot.ID
	read bool // its files are to be read

	gone     bool   // removed meanwhile
	bad      string // what is wrong with it
	details  []string
	badInfo  bool
	badList  bool
	unlisted bool
	info     layer.Info
}

// maxDetails is how many differing files of a layer are named.
const maxDetails = 5

func (l *checkedLayer) check(ctx context.Context, c *checker) error {
	dir, err := c.pool.Peek(l.id)
	switch {
	case errors.Is(err, layer.ErrTorn):
		l.bad = "the power failed before it was on the disk"
		return nil
	case errors.Is(err, fs.ErrNotExist):
		_, err := os.Lstat(c.store.Path(layerPath(l.id)))
		if l.gone = errors.Is(err, fs.ErrNotExist); !l.gone {
			l.bad = "its files are gone"
		}
		return nil
	case err != nil:
		l.bad, err = unreadable(err)
		return err
	}
	l.badInfo = dir.CheckInfo() != nil
	if l.info, err = dir.Info(); err != nil {
		return err
	}
	if err := dir.CheckSidecar(); err != nil {
		l.bad = fmt.Sprintf("the attributes of its files are damaged: %v", err)
		return nil
	}
	if !l.read {
		return nil
	}
	differ := 0
	err = dir.Compare(ctx, func(d layer.Difference) error {
		if differ++; differ <= maxDetails {
			l.details = append(l.details, "/"+d.String())
		}
		return nil
	})
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, layer.ErrListDamaged):
		l.badList, l.details = true, nil
	case differ > 0:
		l.bad = "one of its files is not what it was"
		if differ > 1 {
			l.bad = fmt.Sprintf("%d of its files are not what they were", differ)
		}
		if differ > maxDetails {
			l.details = append(l.details, fmt.Sprintf("and %d more", differ-maxDetails))
		}
	case errors.Is(err, fs.ErrNotExist) && !dir.HasList():
		if _, err := os.Lstat(c.store.Path(layerPath(l.id))); errors.Is(err, fs.ErrNotExist) {
			l.gone = true
		}
		l.unlisted = true
	case err != nil:
		if _, lerr := os.Lstat(c.store.Path(layerPath(l.id))); errors.Is(lerr, fs.ErrNotExist) {
			l.gone = true
			return nil
		}
		l.bad, err = unreadable(err)
		return err
	}
	return nil
}

// layer reports what was found out about a layer.
func (c *checker) layer(l checkedLayer) {
	if l.gone {
		return
	}
	c.report.Layers++
	path := layerPath(l.id)
	if l.bad != "" {
		c.badLayers[l.id] = true
		c.damage(Finding{
			Part: Layers, Path: path, Problem: l.bad, Effects: l.details, Remedy: "it is removed",
		}, func(context.Context) error { return c.pool.Remove(l.id) })
		return
	}
	for form, p := range l.info.Packed {
		c.packed[p.Blob.Digest] = packing{l.id, form}
	}
	if l.badInfo {
		c.damage(Finding{
			Part: Layers, Path: path + "/info.json", Problem: "is damaged", Remedy: "it is removed",
			Effects: []string{"the layer is packed again when an image needs it"},
		}, func(context.Context) error { return c.pool.ForgetInfo(l.id) })
	}
	if l.badList {
		c.damage(Finding{
			Part: Layers, Path: path + "/list", Problem: "is damaged", Remedy: "it is removed",
			Effects: []string{"whether the layer's files are what they were cannot be told"},
		}, func(context.Context) error { return c.pool.DropList(l.id) })
	}
	if l.unlisted {
		c.report.Unlisted++
	}
	if l.unlisted || l.badList {
		c.unlisted = append(c.unlisted, l.id)
	}
}
