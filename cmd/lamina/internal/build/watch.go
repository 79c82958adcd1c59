package build

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"time"

	"lamina/cmd/lamina/internal/cli"
	"lamina/snapshot"
)

// watcher tells when something that a build reads has changed. It looks, again and
// again, at what a build would see: the Dockerfile, and the context without what
// the ignore file hides. That works on every filesystem, network mounts and
// directories shared with another machine included, where notifications do not.
type watcher struct {
	build *build
	skip  []string // what the build itself writes
}

// Looking takes at most one part in lookShare of the time, and is not done more
// often than each lookInterval.
const (
	lookInterval = 250 * time.Millisecond
	lookShare    = 20
)

// watchBuild builds, and again after each change, until ctx ends. A build that
// fails is told, and waits for the change that mends it.
func watchBuild(ctx context.Context, e *cli.Env, req *request) error {
	if st, err := os.Stat(req.context); err != nil || !st.IsDir() || req.opt.file == "-" {
		return errors.New("--watch needs a directory to watch, and a Dockerfile that is a file")
	}
	w, err := newWatcher(e, req)
	if err != nil {
		return err
	}
	for {
		before := w.state(ctx)
		if err := runBuild(ctx, e, req); ctx.Err() != nil {
			return err
		} else if err != nil {
			cli.Report(ctx, e.Stderr, err)
		}
		fmt.Fprintf(e.Stderr, "watching %s for changes\n", req.context)
		if err := w.wait(ctx, before); err != nil {
			return err
		}
	}
}

func newWatcher(e *cli.Env, req *request) (*watcher, error) {
	w := &watcher{build: &build{Env: e, request: req}}
	written := []string{req.opt.iidFile, req.opt.metadataFile}
	for _, out := range req.outputs {
		written = append(written, out.dest)
	}
	for _, to := range req.caches.to {
		written = append(written, to.Dir)
	}
	for _, name := range written {
		if name == "" || name == "-" {
			continue
		}
		abs, err := filepath.Abs(name)
		if err != nil {
			return nil, err
		}
		w.skip = append(w.skip, abs)
	}
	return w, nil
}

// wait returns when the state is no longer before; an error is that of ctx.
func (w *watcher) wait(ctx context.Context, before string) error {
	for {
		start := time.Now()
		if w.state(ctx) != before {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(max(lookInterval, lookShare*time.Since(start))):
		}
	}
}

// state is a digest of all that a build can see of its sources but the contents of
// the context's files, for which their sizes and times stand. What cannot be
// read is in it as the error that it is.
func (w *watcher) state(ctx context.Context) string {
	h := sha256.New()
	in, err := w.build.openInput(ctx, w.build.context)
	if err != nil {
		fmt.Fprintln(h, err)
		return string(h.Sum(nil))
	}
	defer in.Close()
	fmt.Fprintf(h, "%s %q\n", in.name, in.source)
	root, err := filepath.Abs(w.build.context)
	if err != nil {
		fmt.Fprintln(h, err)
	}
	w.add(h, in.tree, root, ".")
	for _, name := range slices.Sorted(maps.Keys(in.named)) {
		fmt.Fprintf(h, "%q\n", name)
		w.add(h, in.named[name], "", ".")
	}
	return string(h.Sum(nil))
}

// add adds what is in the directory dir of t, which is at root.
func (w *watcher) add(h hash.Hash, t snapshot.Tree, root, dir string) {
	entries, err := t.ReadDir(dir)
	if err != nil {
		fmt.Fprintln(h, err)
	}
	for _, e := range entries {
		name := path.Join(dir, e.Name)
		if slices.Contains(w.skip, filepath.Join(root, name)) {
			continue
		}
		if e.Kind == snapshot.Dir { // its times change with what is skipped in it
			fmt.Fprintf(h, "%q %d %o %d:%d\n", name, e.Kind, e.Mode, e.UID, e.GID)
			w.add(h, t, root, name)
			continue
		}
		fmt.Fprintf(h, "%q %d %o %d:%d %d %d %q\n", name, e.Kind, e.Mode, e.UID, e.GID, e.Size, e.ModTime.UnixNano(), e.Link)
	}
}
