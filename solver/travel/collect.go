package travel

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lamina/exporter"
	"lamina/snapshot"
	"lamina/snapshot/layer"
	"lamina/solver"
)

// Collector takes note of the records that a build found or made. The zero
// Collector is ready to use.
type Collector struct {
	mu      sync.Mutex
	records map[solver.ID]*solver.Record
}

// Solved is for [solver.Options.Solved].
func (c *Collector) Solved(s solver.Solved) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.records == nil {
		c.records = map[solver.ID]*solver.Record{}
	}
	c.records[s.Node] = s.Record
}

// All returns the records of all steps of g, intermediate stages included, in the
// graph's order.
func (c *Collector) All(g *solver.Graph) []*solver.Record {
	return c.each(g, func(_ solver.ID, r *solver.Record) *solver.Record { return r })
}

// Own returns the records of the steps whose layers roots are made of, in the graph's
// order; of the other steps, such as those of stages that files were copied from,
// what it takes to find the former: identities that do not follow from what went in.
func (c *Collector) Own(g *solver.Graph, roots ...solver.ID) []*solver.Record {
	below := map[solver.ID]bool{}
	for _, root := range roots {
		chain(g, root, below)
	}
	return c.each(g, func(id solver.ID, r *solver.Record) *solver.Record {
		narrow, whole := r.Keys()
		switch {
		case below[id]:
			return r
		case whole == "" || narrow == whole && r.Salt == "":
			return nil
		}
		identity := *r
		identity.Absent, identity.Result.Layers = true, nil
		return &identity
	})
}

// Identities are the results of the steps at ends, a stage of linked copies being the
// result of each.
func (c *Collector) Identities(g *solver.Graph, ends []solver.ID) map[digest.Digest]bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := map[digest.Digest]bool{}
	var visit func(id solver.ID)
	visit = func(id solver.ID) {
		if r := c.records[id]; r != nil {
			all[r.Result.ID] = true
		} else if _, stacked := g.Nodes[id].Op.(solver.Merge); stacked {
			for _, in := range g.Nodes[id].Inputs {
				visit(in)
			}
		}
	}
	for _, id := range ends {
		visit(id)
	}
	return all
}

// each calls choose for each record, in order, and returns what it returns.
func (c *Collector) each(g *solver.Graph, choose func(solver.ID, *solver.Record) *solver.Record) []*solver.Record {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []*solver.Record
	for id := range g.Nodes {
		if r := c.records[solver.ID(id)]; r != nil {
			if r = choose(solver.ID(id), r); r != nil {
				all = append(all, r)
			}
		}
	}
	return all
}

// chain marks the nodes whose layers id is made of.
func chain(g *solver.Graph, id solver.ID, below map[solver.ID]bool) {
	below[id] = true
	inputs := g.Nodes[id].Inputs
	if _, stacked := g.Nodes[id].Op.(solver.Merge); !stacked && len(inputs) > 0 {
		inputs = inputs[:1]
	}
	for _, in := range inputs {
		chain(g, in, below)
	}
}

// Bases are the layers of g's base images, by the digests of their blobs.
func Bases(g *solver.Graph) map[digest.Digest]bool {
	all := map[digest.Digest]bool{}
	for _, n := range g.Nodes {
		if op, ok := n.Op.(solver.Image); ok {
			for _, l := range op.Layers {
				if l.Blob != nil {
					all[l.Blob.Digest] = true
				}
			}
		}
	}
	return all
}

// Pack makes a cache of records: their layers become blobs. Layers of base images
// (see [Bases]) do not travel: whoever looks a step up that stands on one has the
// image. A layer that is packed already, for an image or an earlier cache, is not
// packed again.
//
// The layers of results in copied travel with lists of their files, so that others can
// tell what a COPY from them reads without having them.
func Pack(ctx context.Context, records []*solver.Record, bases, copied map[digest.Digest]bool, pool *layer.Pool, blobs exporter.Store, opt exporter.PackOptions) (*Cache, error) {
	var layers []snapshot.Layer
	for _, r := range records {
		layers = append(layers, r.Result.Layers...)
	}
	packed, err := exporter.PackLayers(ctx, layers, pool, blobs, opt)
	if err != nil {
		return nil, fmt.Errorf("pack cache: %w", err)
	}
	c, used := newCache(), time.Now().UTC().Truncate(time.Second)
	for _, r := range records {
		mine := packed[:len(r.Result.Layers)]
		packed = packed[len(mine):]
		if !r.Exact() || len(mine) == 0 && !r.Absent {
			continue
		}
		own := *r
		own.Result.Layers = nil
		for i, l := range r.Result.Layers {
			own.Result.Layers = append(own.Result.Layers, withBlob(l, mine[i].DiffID, mine[i].Blob))
			if l.Blob == nil || !bases[l.Blob.Digest] || mine[i].Blob.Digest != l.Blob.Digest {
				c.held[mine[i].Blob.Digest] = mine[i].Blob
			}
		}
		for i, l := range r.Result.Layers {
			if l.List != nil {
				c.lists[mine[i].DiffID] = *l.List
			} else if copied[r.Result.ID] {
				c.list(l, mine[i].DiffID, pool, l.Blob == nil || !bases[l.Blob.Digest])
			}
		}
		s := newStep(&own, used)
		for _, d := range c.smalls(s) {
			if slot, ok := slotOf(blobs, d.Digest); ok {
				c.slots[d.Digest] = slot
			}
		}
		c.add(s)
	}
	return c, nil
}

// list has the files of a layer listed when the cache is written, if it is here. Who
// copies files from a base image has that, so those need no digests.
func (c *Cache) list(l snapshot.Layer, diffID digest.Digest, pool *layer.Pool, digests bool) {
	id := l.ID
	if id == "" {
		var err error
		if id, err = pool.Find(l.DiffID); err != nil {
			return
		}
	}
	c.unlisted[diffID] = func(ctx context.Context) ([]byte, error) {
		var b bytes.Buffer
		err := pool.WriteInventory(ctx, id, digests, &b)
		return b.Bytes(), err
	}
}

func withBlob(l snapshot.Layer, diffID digest.Digest, blob ocispec.Descriptor) snapshot.Layer {
	return snapshot.Layer{DiffID: diffID, Blob: &blob, Created: l.Created}
}
