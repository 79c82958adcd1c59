package local

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"

	"lamina/snapshot"
	"lamina/snapshot/fileset"
	"lamina/solver"
)

// selected is what narrowCopy found, kept for copy: selecting twice would cost as
// much again.
type selected struct {
	selection *fileset.Selection
	identity  fileset.Identity
}

// narrowCopy identifies the files that op selects of each of its sources. The
// base is read as a whole: links in it decide where files go.
func (w *Worker) narrowCopy(ctx context.Context, t solver.Task, op solver.Copy) ([]solver.Identity, error) {
	read := make([]solver.Identity, len(t.Inputs))
	for i, src := range op.Sources {
		id, err := w.identify(ctx, t.Inputs[i+1], query(src), counted(op, src))
		if err != nil {
			return nil, err
		}
		read[i+1] = id
	}
	return read, nil
}

// counted says what of a source makes a difference to op.
func counted(op solver.Copy, src solver.CopySource) fileset.DigestOptions {
	return fileset.DigestOptions{ResetOwner: src.ResetOwner || op.Owner != "", Unpack: src.Unpack}
}

func query(src solver.CopySource) fileset.Query {
	return fileset.Query{Paths: src.Paths, Parents: src.Parents, Exclude: src.Exclude}
}

// identify selects q of in and identifies what they name.
func (w *Worker) identify(ctx context.Context, in solver.Result, q fileset.Query, opt fileset.DigestOptions) (solver.Identity, error) {
	tree, err := w.tree(ctx, in, nil)
	if err != nil {
		return solver.Identity{}, err
	}
	return identifyIn(ctx, tree, w.Sums, q, opt)
}

func identifyIn(ctx context.Context, tree snapshot.Tree, sums fileset.Sums, q fileset.Query, opt fileset.DigestOptions) (solver.Identity, error) {
	sel, err := fileset.Select(ctx, tree, q)
	if err != nil {
		return solver.Identity{}, err
	}
	id, err := sel.Digest(ctx, sums, opt)
	if err != nil {
		return solver.Identity{}, changed(err)
	}
	return solver.Identity{Digest: id.Digest, Memo: selected{sel, id}}, nil
}

// changed translates fileset's word for it into the solver's.
func changed(err error) error {
	if errors.Is(err, fileset.ErrChanged) {
		return fmt.Errorf("%w: %w", solver.ErrChanged, err)
	}
	return err
}

// copy writes the new layer straight from the sources: nothing is mounted.
func (w *Worker) copy(ctx context.Context, t solver.Task, op solver.Copy, read []solver.Identity, out solver.Output) ([]snapshot.Layer, error) {
	base, err := w.stack(ctx, t.Inputs[0], out)
	if err != nil {
		return nil, err
	}
	opt := fileset.CopyOptions{Dest: op.Dest, Mode: op.Mode, Now: now()}
	if op.Owner != "" {
		owner, err := fileset.LookupOwner(base, op.Owner)
		if err != nil {
			return nil, err
		}
		opt.Owner = &owner
	}
	var from []fileset.From
	tables := make([]*table, len(op.Sources))
	for i, src := range op.Sources {
		s, ok := read[i+1].Memo.(selected)
		if !ok {
			return nil, errors.New("copy without having identified its sources")
		}
		if tables[i], err = newTable(ctx, w.Store); err != nil {
			return nil, err
		}
		defer tables[i].close()
		from = append(from, fileset.From{
			Selection: s.selection, Expect: &s.identity, Table: tables[i].add,
			Unpack: src.Unpack, ResetOwner: src.ResetOwner,
		})
	}
	draft, err := w.Pool.Draft()
	if err != nil {
		return nil, err
	}
	defer draft.Close()
	if err := fileset.Copy(ctx, draft, base, from, opt); err != nil {
		return nil, changed(err)
	}
	for i, t := range tables {
		if read[i+1].Parts, err = t.commit(); err != nil {
			return nil, err
		}
	}
	if err := draft.Prune(base); err != nil {
		return nil, err
	}
	id := newID()
	if err := draft.Commit(id); err != nil {
		return nil, err
	}
	return onTop(t.Inputs[0], id), nil
}

// mkdir makes a directory, and a layer even if it is there already, as docker does.
func (w *Worker) mkdir(ctx context.Context, t solver.Task, op solver.Mkdir, out solver.Output) ([]snapshot.Layer, error) {
	base, err := w.stack(ctx, t.Inputs[0], out)
	if err != nil {
		return nil, err
	}
	owner, err := fileset.LookupOwner(base, op.User)
	if err != nil {
		return nil, err
	}
	when, present := now(), now()
	if epoch, ok := solver.ModTime(op.Epoch); ok {
		when = epoch
	}
	draft, err := w.Pool.Draft()
	if err != nil {
		return nil, err
	}
	defer draft.Close()
	if _, err := fileset.Mkdir(draft, base, op.Path, owner, when, present); err != nil {
		return nil, err
	}
	id := newID()
	if err := draft.Commit(id); err != nil {
		return nil, err
	}
	return onTop(t.Inputs[0], id), nil
}

// inlineTree is the files of op. They have no time of their own: Copy gives them
// the present.
func inlineTree(op solver.Inline) snapshot.Tree {
	files := make([]fileset.MemoryFile, len(op.Files))
	for i, f := range op.Files {
		files[i] = fileset.MemoryFile{Name: f.Name, Mode: 0o644, Data: []byte(f.Data)}
	}
	return fileset.Memory(files...)
}

// contentID identifies a downloaded file by all that a COPY of it would keep.
func contentID(name string, content digest.Digest, modified time.Time) digest.Digest {
	return digest.FromString(fmt.Sprintf("http %q %s %d", name, content, modified.Unix()))
}
