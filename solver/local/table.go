package local

import (
	"context"
	"errors"
	"io"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lamina/cache"
	"lamina/snapshot/fileset"
)

// table lists in the store what an identity was made of. It is a blob, so that
// records stay small, equal tables are one, and a damaged one is noticed.
type table struct {
	pipe *io.PipeWriter
	w    *fileset.TableWriter

	stored chan struct{} // closed when blob and err are there
	blob   ocispec.Descriptor
	err    error
}

var errAbandoned = errors.New("the table is not complete")

// newTable begins a table. The caller must close it.
func newTable(ctx context.Context, store cache.Ingester) (*table, error) {
	r, pipe := io.Pipe()
	w, err := fileset.NewTableWriter(pipe)
	if err != nil {
		return nil, err
	}
	t := &table{pipe: pipe, w: w, stored: make(chan struct{})}
	go func() {
		defer close(t.stored)
		t.blob, t.err = store.Ingest(ctx, fileset.TableType, r)
		r.CloseWithError(t.err) // lets add go if the store stopped reading
	}()
	return t, nil
}

func (t *table) add(s fileset.Sum) error { return t.w.Add(s) }

// commit stores the table and returns what refers to it.
func (t *table) commit() ([]ocispec.Descriptor, error) {
	t.pipe.CloseWithError(t.w.Close())
	<-t.stored
	if t.err != nil {
		return nil, t.err
	}
	return []ocispec.Descriptor{t.blob}, nil
}

// close abandons the table unless it was committed.
func (t *table) close() {
	t.pipe.CloseWithError(errAbandoned)
	<-t.stored
}
