package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"lamina/cache"
	"lamina/runner"
	"lamina/snapshot"
	"lamina/solver"
)

// prepared is a RUN's specification, and what has to be given back after it.
type prepared struct {
	worker  *Worker
	driver  snapshot.Driver
	spec    runner.Spec
	secrets [][]byte          // values that must not be shown
	caches  map[string]string // the directories that were claimed for caches, by name
	closers []func() error
}

// close gives back what was taken, the last first.
func (p *prepared) close() error {
	var errs []error
	for i := len(p.closers) - 1; i >= 0; i-- {
		errs = append(errs, p.closers[i]())
	}
	return errors.Join(errs...)
}

// mount adds one mount of a RUN.
func (p *prepared) mount(ctx context.Context, t solver.Task, m solver.RunMount, out solver.Output) error {
	switch m.Type {
	case solver.MountBind:
		return p.bind(ctx, t, m, out)
	case solver.MountCache:
		return p.cache(ctx, t, m, out)
	case solver.MountTmpfs:
		return p.tmpfs(ctx, t, m, out)
	case solver.MountSecret:
		return p.secret(m)
	case solver.MountSSH:
		return p.ssh(ctx, m)
	case solver.MountVolume:
		return p.volume(m)
	}
	return fmt.Errorf("cannot mount a %s", m.Type)
}

// bind shows a part of another tree. What a RUN writes to it is gone afterwards.
func (p *prepared) bind(ctx context.Context, t solver.Task, m solver.RunMount, out solver.Output) error {
	stack, err := p.worker.stack(ctx, t.Inputs[m.Input], out)
	if err != nil {
		return err
	}
	sub, entry, err := find(stack, m.Source)
	if err != nil {
		return err
	}
	root, err := p.root(ctx, t.Inputs[m.Input], m.ReadOnly)
	if err != nil {
		return err
	}
	p.show(m, root, sub, entry)
	return nil
}

// find follows the links of source in tree, and says what is there.
func find(tree snapshot.Tree, source string) (string, snapshot.Entry, error) {
	sub, err := snapshot.Resolve(tree, relative(source), true)
	if err != nil {
		return "", snapshot.Entry{}, err
	}
	entry, err := tree.Lstat(sub)
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("there is no /%s in what it is mounted from", relative(source))
	}
	return sub, entry, err
}

// show mounts sub, which is entry, of a filesystem of its own.
func (p *prepared) show(m solver.RunMount, root []snapshot.Mount, sub string, entry snapshot.Entry) {
	name := "mount" + strconv.Itoa(len(p.spec.Roots))
	if p.spec.Roots == nil {
		p.spec.Roots = map[string][]snapshot.Mount{}
	}
	p.spec.Roots[name] = root
	bind := snapshot.Mount{Type: "bind", Source: name + ":/" + sub, Target: m.Target}
	if m.ReadOnly {
		bind.Options = append(bind.Options, "ro")
	}
	if entry.Kind != snapshot.Dir {
		bind.Options = append(bind.Options, "file")
	}
	p.spec.Mounts = append(p.spec.Mounts, bind)
}

// root makes a filesystem of in, which nothing keeps.
func (p *prepared) root(ctx context.Context, in solver.Result, readOnly bool) ([]snapshot.Mount, error) {
	ids, err := p.worker.Unpack(ctx, in.Layers, nil)
	if err != nil {
		return nil, err
	}
	if !readOnly {
		tx, err := p.driver.Begin(ctx, ids, nil)
		if err != nil {
			return nil, err
		}
		p.closers = append(p.closers, tx.Close)
		return tx.Mounts(), nil
	}
	view, err := p.driver.View(ctx, ids)
	if err != nil {
		return nil, err
	}
	p.closers = append(p.closers, view.Close)
	return view.Mounts(), nil
}

// tmpfs mounts an empty filesystem. It has the mode of the directory that it is
// mounted on, if there is one.
func (p *prepared) tmpfs(ctx context.Context, t solver.Task, m solver.RunMount, out solver.Output) error {
	mount := snapshot.Mount{Type: "tmpfs", Target: m.Target}
	there, err := p.worker.hasDir(ctx, t.Inputs[0], m.Target, out)
	if err != nil {
		return err
	}
	if !there {
		mount.Options = append(mount.Options, "mode=1777")
	}
	if m.Size > 0 {
		mount.Options = append(mount.Options, "size="+strconv.FormatInt(m.Size, 10))
	}
	if m.ReadOnly {
		mount.Options = append(mount.Options, "ro")
	}
	p.spec.Mounts = append(p.spec.Mounts, mount)
	return nil
}

// hasDir tells whether name is a directory of in, through links.
func (w *Worker) hasDir(ctx context.Context, in solver.Result, name string, out solver.Output) (bool, error) {
	tree, err := w.stack(ctx, in, out)
	if err != nil {
		return false, err
	}
	if name, err = snapshot.Resolve(tree, relative(name), true); err != nil {
		return false, err
	}
	e, err := tree.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && e.Kind == snapshot.Dir, err
}

// volume shows a file or directory of this machine.
func (p *prepared) volume(m solver.RunMount) error {
	mount := snapshot.Mount{Type: "bind", Source: m.Source, Target: m.Target, Options: []string{"rbind"}}
	if m.ReadOnly {
		mount.Options = append(mount.Options, "ro")
	}
	if m.Discard {
		tmp, err := p.worker.Store.Temp()
		if err != nil {
			return err
		}
		dir, err := os.MkdirTemp(tmp, "volume-")
		if err != nil {
			return err
		}
		p.closers = append(p.closers, func() error { return cache.RemoveAll(dir) })
		if mount, err = coverOf(m, dir); err != nil {
			return err
		}
	}
	p.spec.Mounts = append(p.spec.Mounts, mount)
	return nil
}

// coverOf shows the directory of a volume with all changes to it in dir.
func coverOf(m solver.RunMount, dir string) (snapshot.Mount, error) {
	var st unix.Stat_t
	if err := unix.Stat(m.Source, &st); err != nil {
		return snapshot.Mount{}, &fs.PathError{Op: "stat", Path: m.Source, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return snapshot.Mount{}, fmt.Errorf("%s is no directory, which is all that changes can be kept from", m.Source)
	}
	upper, work := filepath.Join(dir, "upper"), filepath.Join(dir, "work")
	err := errors.Join(os.Mkdir(upper, 0o700), os.Mkdir(work, 0o700),
		os.Chown(upper, int(st.Uid), int(st.Gid)), os.Chmod(upper, fs.FileMode(st.Mode&0o777)))
	return snapshot.Mount{Type: "overlay", Target: m.Target, Options: []string{
		"lowerdir+=" + m.Source, "upperdir=" + upper, "workdir=" + work, "volatile",
	}}, err
}

// or is what p points to, or otherwise.
func or[T any](p *T, otherwise T) T {
	if p == nil {
		return otherwise
	}
	return *p
}
