package fsck

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lamina/cache"
	"lamina/snapshot"
	"lamina/solver"
)

// records reads every record, and looks for the layers of its result.
func (c *checker) records(ctx context.Context) error {
	shards, err := os.ReadDir(c.store.Path("index"))
	if err != nil {
		return err
	}
	for _, shard := range shards {
		files, err := os.ReadDir(c.store.Path("index", shard.Name()))
		if err != nil {
			c.note(Finding{Part: Records, Path: "index/" + shard.Name(), Problem: "is no part of the index: it was not lamina that put it there"}, nil)
			continue
		}
		for i, f := range files {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := c.recordFile(path.Join("index", shard.Name(), f.Name()), shard.Name(), f.Name()); err != nil {
				return err
			}
			c.progress(Records, int64(i+1), int64(len(files)))
		}
	}
	return nil
}

func (c *checker) recordFile(file, shard, name string) error {
	k := digest.NewDigestFromEncoded(digest.SHA256, name)
	if k.Validate() != nil || name[:2] != shard {
		c.note(Finding{Part: Records, Path: file, Problem: "is no record: it was not lamina that put it there"}, nil)
		return nil
	}
	data, err := os.ReadFile(c.store.Path(file))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // removed meanwhile
	}
	r := checkedRecord{file: file, key: k}
	if err != nil {
		if r.problem, err = unreadable(err); err != nil {
			return err
		}
	} else if body, ok := cache.DecodeRecord(data); !ok {
		r.problem = "its checksum is wrong"
		r.effects = []string{"what it remembers is not known: a step will be executed again, or something fetched"}
	} else if err := c.record(body, &r); err != nil {
		return err
	}
	c.report.Records++
	if r.problem == "" {
		return nil
	}
	c.damage(Finding{
		Part: Records, Path: file, Problem: r.problem, Effects: r.effects, Remedy: "it is removed", keys: append([]cache.Key{k}, r.keys...),
	}, func(context.Context) error { return removeIfThere(c.store.Path(file)) })
	return nil
}

// checkedRecord is what was found out about a record.
type checkedRecord struct {
	file    string
	key     cache.Key
	keys    []cache.Key // that it could be found by
	problem string
	effects []string
}

// record looks into a record. There are three kinds: results of steps, what was
// fetched, which has a result too, and what registries answered for names.
func (c *checker) record(body []byte, r *checkedRecord) error {
	var kind struct {
		Version *int           `json:"v"`
		Result  *solver.Result `json:"result"`
		Digest  digest.Digest  `json:"digest"`
	}
	if json.Unmarshal(body, &kind) != nil {
		r.problem = "it makes no sense"
		return nil
	}
	switch {
	case kind.Version == nil && kind.Result != nil:
		if c.missing(kind.Result.Layers, r) {
			r.effects = append(r.effects, "a file or repository will be fetched again")
		}
		return nil
	case kind.Version == nil:
		var d ocispec.Descriptor
		if json.Unmarshal(body, &d) != nil || d.Digest.Validate() != nil {
			r.problem = "it makes no sense"
		}
		return nil
	}
	step, err := solver.DecodeRecord(body)
	if err != nil {
		return nil // of another version of lamina, which it is good for
	}
	narrow, whole := step.Keys()
	r.keys = []cache.Key{narrow}
	if whole != "" {
		r.keys = append(r.keys, whole)
	}
	if step.Result.ID.Validate() != nil || step.Exact() && step.Identity() != step.Result.ID {
		r.problem = "its result is not that of the step that it tells"
		r.effects = []string{again(step)}
		return nil
	}
	if !step.Absent && c.missing(step.Result.Layers, r) {
		r.effects = append(r.effects, again(step))
	}
	return nil
}

// again says that a step will be executed again, by the name it has for people.
func again(r *solver.Record) string {
	name := r.Name
	if name == "" {
		name = r.Kind
	}
	if r.Pos.First > 0 {
		name = fmt.Sprintf("%s (%s:%d)", name, r.Pos.File, r.Pos.First)
	}
	return fmt.Sprintf("step %s will be executed again", name)
}

// missing tells whether one of the layers cannot be had.
func (c *checker) missing(layers []snapshot.Layer, r *checkedRecord) bool {
	for _, l := range layers {
		switch what := c.layerState(l); what {
		case "":
		default:
			r.problem = what
			return true
		}
	}
	return false
}

// layerState tells why a layer cannot be had, if so.
func (c *checker) layerState(l snapshot.Layer) string {
	if l.ID == "" && l.DiffID == "" {
		return "one of its layers has no name"
	}
	damaged := false
	ids := []snapshot.ID{l.ID}
	if l.DiffID != "" && l.DiffID.Validate() == nil {
		ids = append(ids, c.byDiffID(l.DiffID))
	}
	for _, id := range ids {
		if id == "" {
			continue
		}
		if c.badLayers[id] {
			damaged = true
		} else if _, err := c.pool.Peek(id); err == nil {
			return ""
		}
	}
	if b := l.Blob; b != nil {
		if c.has(b.Digest, b.Size) || c.elsewhere(b.Digest) {
			return ""
		}
		damaged = damaged || c.badBlobs[b.Digest]
		ids = []snapshot.ID{snapshot.ID(b.Digest)}
	}
	how := "gone"
	if damaged {
		how = "damaged"
	}
	return fmt.Sprintf("its layer %s is %s", ids[0], how)
}
