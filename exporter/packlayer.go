package exporter

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"runtime"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"lamina/snapshot"
	"lamina/snapshot/layer"
	"lamina/snapshot/layertar"
)

// maxPackJobs is how many layers are packed at once, at most: one of them can
// keep all cores busy, and each needs its buffers.
const maxPackJobs = 4

// PackLayers is the part of [Pack] that packs layers, for what is no image: it
// returns the compressed form of each of them, in the same order.
func PackLayers(ctx context.Context, layers []snapshot.Layer, pool *layer.Pool, blobs Store, opt PackOptions) ([]layer.Packed, error) {
	enc, err := newEncoder(opt.Compression, opt.Level)
	if err != nil {
		return nil, err
	}
	p := &packer{pool: pool, blobs: blobs, enc: enc, opt: opt}
	packed, err := p.layers(ctx, []Output{{Layers: layers}})
	if err != nil {
		return nil, err
	}
	all := make([]layer.Packed, len(layers))
	for i, l := range layers {
		all[i] = packed[keyOf(l)]
		all[i].Blob = p.layerDescriptor(all[i].Blob)
	}
	return all, nil
}

// layerKey tells layers of several outputs apart.
type layerKey struct {
	id   snapshot.ID
	diff digest.Digest
	blob digest.Digest
}

func keyOf(l snapshot.Layer) layerKey {
	k := layerKey{id: l.ID, diff: l.DiffID}
	if l.Blob != nil {
		k.blob = l.Blob.Digest
	}
	return k
}

// layers packs the layers of all outputs, each once.
func (p *packer) layers(ctx context.Context, outs []Output) (map[layerKey]layer.Packed, error) {
	var todo []snapshot.Layer
	seen := map[layerKey]int{}
	for _, out := range outs {
		for _, l := range out.Layers {
			if _, ok := seen[keyOf(l)]; !ok {
				seen[keyOf(l)] = len(todo)
				todo = append(todo, l)
			}
		}
	}
	jobs := p.opt.Jobs
	if jobs <= 0 {
		jobs = min(runtime.GOMAXPROCS(0), maxPackJobs)
	}
	done := make([]layer.Packed, len(todo))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(jobs)
	for i, l := range todo {
		group.Go(func() (err error) {
			done[i], err = p.layer(ctx, l)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	all := map[layerKey]layer.Packed{}
	for key, i := range seen {
		all[key] = done[i]
	}
	return all, nil
}

// layer returns the compressed form of one layer, and makes it if it must.
func (p *packer) layer(ctx context.Context, l snapshot.Layer) (layer.Packed, error) {
	if l.Blob == nil {
		return p.own(ctx, l)
	}
	if l.DiffID == "" {
		return layer.Packed{}, fmt.Errorf("pack layer %s: its diff ID is unknown", l.Blob.Digest)
	}
	if !p.opt.Force || p.enc.made(l.Blob.MediaType) || isForeign(l.Blob.MediaType) {
		return layer.Packed{DiffID: l.DiffID, Blob: *l.Blob}, nil
	}
	return p.recompressed(ctx, l)
}

// own packs a layer of the pool.
func (p *packer) own(ctx context.Context, l snapshot.Layer) (layer.Packed, error) {
	id, err := p.find(l)
	if err != nil {
		return layer.Packed{}, fmt.Errorf("pack layer: %w", err)
	}
	dir, err := p.pool.Open(id)
	if err != nil {
		return layer.Packed{}, fmt.Errorf("pack layer: %w", err)
	}
	form := p.enc.form(p.opt.Epoch, p.opt.AllTimes)
	if packed, ok, err := p.recall(ctx, dir, form); err != nil || ok {
		return packed, err
	}
	opt := layertar.Options{Epoch: p.opt.Epoch, All: p.opt.AllTimes}
	var packed layer.Packed
	var size int64
	pack := func() error {
		packed, size, err = p.stream(ctx, id, func(w io.Writer) error { return layertar.Write(ctx, w, dir, opt) })
		return err
	}
	if dir.HasList() {
		err = pack()
	} else {
		err = p.list(id, func(list func(*layer.Listed) error) error {
			opt.List = list
			return pack()
		})
	}
	if err != nil {
		return layer.Packed{}, fmt.Errorf("pack layer %s: %w", id, err)
	}
	return packed, p.remember(dir, form, packed, size)
}

// list lists a layer while pack reads it. What cannot be listed is packed all the same.
func (p *packer) list(id snapshot.ID, pack func(list func(*layer.Listed) error) error) error {
	var packErr error
	err := p.pool.SetList(id, func(w *layer.ListWriter) error {
		var listErr error
		packErr = pack(func(l *layer.Listed) error {
			if listErr == nil {
				listErr = w.Add(l)
			}
			return nil
		})
		return errors.Join(packErr, listErr)
	})
	if packErr == nil && errors.Is(err, layer.ErrUnlistable) {
		return nil
	}
	return err
}

// recompressed packs a layer that came from an image in another way. It does so
// from the blob, since only that gives the archive's exact bytes.
func (p *packer) recompressed(ctx context.Context, l snapshot.Layer) (layer.Packed, error) {
	form := p.enc.form(nil, false)
	var dir *layer.Dir // for the memo; the layer need not be unpacked here
	id, err := p.find(l)
	if err == nil {
		dir, err = p.pool.Open(id)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return layer.Packed{}, err
	}
	if dir != nil {
		if packed, ok, err := p.recall(ctx, dir, form); err != nil || ok {
			return packed, err
		}
	} else {
		id = layer.DiffIDName(l.DiffID)
	}
	packed, size, err := p.stream(ctx, id, func(w io.Writer) error { return p.unpack(ctx, w, l) })
	if err == nil && packed.DiffID != l.DiffID {
		err = fmt.Errorf("its content is %s, not %s as its image says", packed.DiffID, l.DiffID)
	}
	if err != nil {
		return layer.Packed{}, fmt.Errorf("compress layer %s anew: %w", l.Blob.Digest, err)
	}
	if dir == nil {
		return packed, nil
	}
	return packed, p.remember(dir, form, packed, size)
}

// unpack writes the archive that l.Blob compresses.
func (p *packer) unpack(ctx context.Context, w io.Writer, l snapshot.Layer) error {
	blob, err := p.blobs.Open(ctx, *l.Blob)
	if err != nil {
		return err
	}
	defer blob.Close()
	r, err := layertar.Decompress(blob)
	if err != nil {
		return err
	}
	defer r.Close()
	if _, err := io.Copy(w, r); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, blob) // what verifies it comes with its end
	return err
}

// find returns the pool's name of l.
func (p *packer) find(l snapshot.Layer) (snapshot.ID, error) {
	if l.ID != "" {
		return l.ID, nil
	}
	if l.DiffID == "" {
		return "", errors.New("it has neither an ID nor a diff ID")
	}
	return p.pool.Find(l.DiffID)
}

// recall returns the remembered form of a layer if its blob is still stored.
func (p *packer) recall(ctx context.Context, dir *layer.Dir, form string) (layer.Packed, bool, error) {
	info, err := dir.Info()
	if err != nil {
		return layer.Packed{}, false, err
	}
	packed, ok := info.Packed[form]
	if !ok {
		return layer.Packed{}, false, nil
	}
	ok, err = p.blobs.Has(ctx, packed.Blob)
	return packed, ok, err
}

// remember notes how the layer was packed. Of two processes that do so at once
// one may be forgotten; then the work is done once more, to the same result.
func (p *packer) remember(dir *layer.Dir, form string, packed layer.Packed, size int64) error {
	info, err := dir.Info()
	if err != nil {
		return err
	}
	forms := map[string]layer.Packed{}
	maps.Copy(forms, info.Packed)
	forms[form] = packed
	info.Packed = forms
	if info.DiffID == "" && p.opt.Epoch == nil {
		info.DiffID, info.Size = packed.DiffID, size
	}
	return p.pool.SetInfo(dir.ID(), info)
}

// stream stores what write writes, compressed, and returns it with the length of
// the archive in bytes. Nothing is held but the compressor's buffers:
//
//	write -> sha256 (diff ID) -> compressor -> pipe -> the store (digest)
func (p *packer) stream(ctx context.Context, id snapshot.ID, write func(io.Writer) error) (layer.Packed, int64, error) {
	pr, pw := io.Pipe()
	stop := context.AfterFunc(ctx, func() { pw.CloseWithError(ctx.Err()) })
	defer stop()
	archive := &countingWriter{id: id, progress: p.opt.Progress}
	hash := sha256.New()
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		z, err := p.enc.writer(pw)
		if err == nil {
			err = write(io.MultiWriter(hash, z, archive))
			if err != nil {
				// Before the compressor's end, lest that look like the archive's.
				pw.CloseWithError(err)
			}
			if cerr := z.Close(); err == nil {
				err = cerr
			}
		}
		pw.CloseWithError(err)
	}()
	blob, err := p.blobs.Ingest(ctx, p.enc.mediaType(), pr)
	pr.Close() // lets the writer go if the store stopped reading
	<-finished
	if err != nil {
		return layer.Packed{}, 0, err
	}
	return layer.Packed{DiffID: digest.NewDigest(digest.SHA256, hash), Blob: blob}, archive.n, nil
}

// countingWriter counts the bytes of an archive.
type countingWriter struct {
	id       snapshot.ID
	progress func(snapshot.ID, int64)
	n        int64
}

func (c *countingWriter) Write(b []byte) (int, error) {
	c.n += int64(len(b))
	if c.progress != nil {
		c.progress(c.id, c.n)
	}
	return len(b), nil
}
