package collect

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"lamina/solver"
)

// entry is what is read of a record. There are four kinds: results of steps; downloads and
// commits, which have a result too; and the descriptors that registries answered
// for base images.
type entry struct {
	Version *int           `json:"v"`
	Result  *solver.Result `json:"result"`
	Name    string         `json:"name"`
	Created time.Time      `json:"created"`
	Took    time.Duration  `json:"took"`
	Inputs  []struct {
		ID digest.Digest `json:"id"`
	} `json:"inputs"`
	Commit string `json:"commit"`

	MediaType string        `json:"mediaType"`
	Digest    digest.Digest `json:"digest"`
	Size      int64         `json:"size"`
}

// kept is a record's file and what was read of it.
type kept struct {
	unit  *unit
	entry entry
	// mentions are the digits of all digests in the record.
	mentions []string
	broken   bool
}

// listRecords lists the records. Those of one result are one holder: they are of
// use as long as any of them is.
func (inv *inventory) listRecords(ctx context.Context) error {
	shards, err := inv.addDir("index")
	if err != nil {
		return err
	}
	var all []*kept
	for _, shard := range shards {
		dir := filepath.Join("index", shard.Name())
		files, err := inv.addDir(dir)
		if err != nil {
			return err
		}
		for _, f := range files {
			u, err := inv.add(Record, f.Name(), filepath.Join(dir, f.Name()))
			if err != nil {
				return err
			}
			if digest.NewDigestFromEncoded(digest.SHA256, f.Name()).Validate() != nil {
				u.kind, u.fixed, u.pinned = Other, true, true
				continue
			}
			all = append(all, &kept{unit: u})
		}
	}
	if err := inv.readRecords(ctx, all); err != nil {
		return err
	}
	same := map[digest.Digest]*holder{}
	for _, k := range all {
		if k.broken {
			inv.broken = append(inv.broken, k.unit)
			k.unit.lost = true
			continue
		}
		inv.addRecord(ctx, k, same)
	}
	return nil
}

// readRecords reads what the records say, without using them.
func (inv *inventory) readRecords(ctx context.Context, all []*kept) error {
	eg, ctx := errgroup.WithContext(ctx)
	workers := runtime.GOMAXPROCS(0)
	for w := range workers {
		eg.Go(func() error {
			for i := w; i < len(all); i += workers {
				if err := ctx.Err(); err != nil {
					return err
				}
				if err := all[i].read(inv); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return eg.Wait()
}

func (k *kept) read(inv *inventory) error {
	data, err := inv.store.Peek(digest.NewDigestFromEncoded(digest.SHA256, k.unit.name))
	if errors.Is(err, fs.ErrNotExist) {
		k.broken = true // or gone meanwhile
		return nil
	}
	if err != nil {
		return err
	}
	k.mentions = mentioned(data)
	if err := json.Unmarshal(data, &k.entry); err != nil {
		k.entry = entry{} // of somebody who knows what it means
		return nil
	}
	k.broken = k.entry.Version != nil && *k.entry.Version != solver.NewRecord("", nil).Version
	return nil
}

// addRecord adds a record to the holder of its result.
func (inv *inventory) addRecord(ctx context.Context, k *kept, same map[digest.Digest]*holder) {
	e, key := k.entry, digest.NewDigestFromEncoded(digest.SHA256, k.unit.name)
	h := &holder{kind: Record, id: key.Encoded(), title: e.Name, made: e.Created, took: e.Took, used: k.unit.made}
	switch {
	case e.Result == nil && e.Digest != "":
		h.kind = Base
	case e.Result == nil:
	case e.Version == nil && e.Commit != "":
		h.kind, h.result = Git, e.Result.ID
	case e.Version == nil:
		h.kind, h.result = Download, e.Result.ID
	default:
		h.kind, h.result = Step, e.Result.ID
	}
	for _, in := range e.Inputs {
		h.inputs = append(h.inputs, in.ID)
	}
	if twin := same[h.result]; twin != nil && h.result != "" && twin.kind == h.kind {
		h, twin.used = twin, latest(twin.used, h.used)
	} else {
		inv.hold(h)
		same[h.result] = h
	}
	h.keys = append(h.keys, key)
	h.needs(k.unit)
	if e.Result != nil {
		for _, l := range e.Result.Layers {
			h.needs(inv.layers[string(l.ID)])
		}
	}
	if h.kind == Base {
		root := ocispec.Descriptor{MediaType: e.MediaType, Digest: e.Digest, Size: e.Size}
		// Of an image that cannot be read nothing can be used.
		_ = inv.addImage(ctx, h, root)
	}
	inv.mention(h, k.mentions)
}

// mention makes h need what these digests stand for: blobs, where they can be had,
// and layers by diff ID. A digest of something else stands for nothing.
func (inv *inventory) mention(h *holder, digits []string) {
	for _, d := range digits {
		h.needs(inv.blobs[d])
		inv.canBeHad(h, d)
		h.needs(inv.diffIDs[diffIDPrefix+d])
	}
}

// mentioned returns the digits of each digest in data.
func mentioned(data []byte) (all []string) {
	const prefix, digits = "sha256:", 64
	for {
		_, rest, ok := bytes.Cut(data, []byte(prefix))
		if !ok {
			return all
		}
		data = rest
		if len(data) < digits {
			return all
		}
		if d := string(data[:digits]); strings.Trim(d, "0123456789abcdef") == "" {
			all = append(all, d)
		}
	}
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
