package local

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"

	"lamina/cache"
	"lamina/snapshot"
	"lamina/snapshot/fileset"
	"lamina/solver"
	"lamina/solver/local/gitsource"
)

// clone is what the index remembers of a commit, so that its files are fetched once.
type clone struct {
	Commit string        `json:"commit"`
	Result solver.Result `json:"result"`
}

// git gets the files of a commit into a layer of their own. If they are here
// already it costs the question which commit is meant, or nothing if op says that.
func (w *Worker) git(ctx context.Context, op solver.Git) (solver.Result, error) {
	client := w.gitClient()
	at, err := client.Resolve(ctx, op)
	if err != nil {
		return solver.Result{}, err
	}
	key := commitID(op, at)
	unlock, err := w.Store.Lock(ctx, key.String())
	if err != nil {
		return solver.Result{}, err
	}
	defer unlock()
	if known, ok := w.cloned(ctx, key); ok {
		return known, nil
	}
	dir, release, err := client.Checkout(ctx, op, at)
	defer release()
	if err != nil {
		return solver.Result{}, err
	}
	id, err := w.adopt(ctx, dir)
	if err != nil {
		return solver.Result{}, err
	}
	result := solver.Result{ID: key, Layers: []snapshot.Layer{{ID: id, Created: now()}}}
	w.note(ctx, key, clone{at.ID, result})
	return result, nil
}

func (w *Worker) gitClient() *gitsource.Client {
	return &gitsource.Client{
		Dir: w.Store.Path(GitDir), Lock: w.Store.Lock, Temp: w.Store.Temp, Secret: w.Secret,
		Agent: func(ctx context.Context) (string, func() error, error) { return w.sshSocket(ctx, "default") },
	}
}

// GitDir is where, in the store, repositories are kept that were fetched from.
const GitDir = "git"

// cloned is what is remembered under key, if it is still here.
func (w *Worker) cloned(ctx context.Context, key cache.Key) (solver.Result, bool) {
	var c clone
	if !w.noted(ctx, key, &c) || !w.Has(ctx, c.Result) {
		return solver.Result{}, false
	}
	return c.Result, true
}

// Commit is the commit whose files a result with this identity has, if index
// remembers that; otherwise it is empty.
func Commit(ctx context.Context, index cache.Index, id digest.Digest) string {
	var c clone
	if data, err := index.Get(ctx, id); err != nil || json.Unmarshal(data, &c) != nil {
		return ""
	}
	return c.Commit
}

// commitID identifies the files of a commit by all that decides what they are. A
// repository among them knows its own name and where it comes from.
func commitID(op solver.Git, at gitsource.Commit) digest.Digest {
	what := fmt.Sprintf("git %s %q %t %t", at.ID, gitsource.Subdir(op), !op.SkipSubmodules, op.CommitTime)
	if gitsource.KeepsDir(op) {
		what += fmt.Sprintf(" %s %q %q %q", at.Object, at.Name, op.Ref, gitsource.Redact(op.Remote))
	}
	return digest.FromString(what)
}

// adopt makes a layer of the files beneath dir, which belong to 0:0.
func (w *Worker) adopt(ctx context.Context, dir string) (snapshot.ID, error) {
	host, err := fileset.Host(dir)
	if err != nil {
		return "", err
	}
	defer host.Close()
	selection, err := fileset.Select(ctx, host, fileset.Query{Paths: []string{"."}})
	if err != nil {
		return "", err
	}
	draft, err := w.Pool.Draft()
	if err != nil {
		return "", err
	}
	defer draft.Close()
	from := []fileset.From{{Selection: selection, ResetOwner: true}}
	if err := fileset.Copy(ctx, draft, fileset.Memory(), from, fileset.CopyOptions{Dest: "/", Now: time.Now()}); err != nil {
		return "", err
	}
	id := newID()
	return id, draft.Commit(id)
}
