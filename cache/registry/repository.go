package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"slices"
	"sync"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lamina/cache"
)

// Repository is one repository of a registry, as a [cache.Repository]. The names
// that Resolve and Tag take are tags. It is safe for concurrent use.
type Repository struct {
	name     Name
	lib      name.Repository // as the library knows it
	host     *host
	progress cache.Progress

	mu        sync.Mutex
	writes    bool                     // it is asked for the right to push, too
	manifests map[digest.Digest][]byte // that were sent or read; see remember
	held      int                      // bytes in manifests
}

// maxHeld is how many bytes of manifests are kept, to save requests.
const maxHeld = 16 << 20

var _ cache.Repository = (*Repository)(nil)

// Name returns the repository's name, without tag and digest.
func (r *Repository) Name() Name { return r.name }

// Has tells whether the registry has the blob or manifest in this repository.
func (r *Repository) Has(ctx context.Context, d ocispec.Descriptor) (bool, error) {
	if err := r.check(d); err != nil {
		return false, err
	}
	o := r.opFor(d)
	err := r.look(ctx, o, d)
	if login, _ := r.host.known(r.lib); errors.Is(err, fs.ErrPermission) && !login.empty() {
		// Only who may push may know that a repository does not exist yet.
		r.wantWrites()
		if again := r.opFor(d); !slices.Equal(again.scopes, o.scopes) {
			err = r.look(ctx, again, d)
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// look asks for a blob or manifest without getting it.
func (r *Repository) look(ctx context.Context, o *op, d ocispec.Descriptor) error {
	ref := r.lib.Digest(d.Digest.String())
	if isManifest(d.MediaType) {
		_, err := r.resolve(ctx, o, ref)
		return err
	}
	return r.host.try(ctx, o, func(ctx context.Context, t http.RoundTripper) error {
		l, err := remote.Layer(ref, options(ctx, t)...)
		if err != nil {
			return err
		}
		_, err = l.Size() // a HEAD request
		return err
	})
}

// Open returns the content of a blob or manifest; see [cache.Blobs]. When the
// connection breaks, the reader goes on where it stopped. It can also seek, but
// only back to its beginning.
func (r *Repository) Open(ctx context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	if err := r.check(d); err != nil {
		return nil, err
	}
	if data := r.recall(d.Digest); int64(len(data)) == d.Size && data != nil {
		return nopCloser{bytes.NewReader(data)}, nil
	}
	return r.download(ctx, r.opFor(d), d)
}

// Put stores a blob or a manifest, which then has no name but its digest; see
// [cache.Blobs]. A blob whose reader cannot seek back to where it is now is sent
// only once, unless it is small.
func (r *Repository) Put(ctx context.Context, d ocispec.Descriptor, src io.Reader) error {
	if err := r.check(d); err != nil {
		return err
	}
	r.wantWrites()
	if !isManifest(d.MediaType) {
		return r.upload(ctx, d, src)
	}
	o := r.opFor(d)
	data, err := readManifest(src, d)
	if err != nil {
		return fmt.Errorf("%s: %w", o.subject, err)
	}
	return r.putManifest(ctx, o, r.lib.Digest(d.Digest.String()), d, data)
}

// Resolve returns the descriptor of what a tag, or a digest, stands for; see
// [cache.Repository].
func (r *Repository) Resolve(ctx context.Context, name string) (ocispec.Descriptor, error) {
	o, ref, err := r.opNamed(name)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	return r.resolve(ctx, o, ref)
}

// Tag makes a tag stand for a manifest; see [cache.Repository].
func (r *Repository) Tag(ctx context.Context, name string, root ocispec.Descriptor) error {
	r.wantWrites()
	o, ref, err := r.opNamed(name)
	if err != nil {
		return err
	}
	data := r.recall(root.Digest)
	if data == nil {
		blob, err := r.Open(ctx, root)
		if err != nil {
			return err
		}
		defer blob.Close()
		if data, err = readManifest(blob, root); err != nil {
			return err
		}
	}
	return r.putManifest(ctx, o, ref, root, data)
}

// PutNamed stores a manifest under a tag, in one request.
func (r *Repository) PutNamed(ctx context.Context, name string, d ocispec.Descriptor, data []byte) error {
	if err := r.check(d); err != nil {
		return err
	}
	r.wantWrites()
	o, ref, err := r.opNamed(name)
	if err != nil {
		return err
	}
	if data, err = readManifest(bytes.NewReader(data), d); err != nil {
		return fmt.Errorf("%s: %w", o.subject, err)
	}
	return r.putManifest(ctx, o, ref, d, data)
}

// Mount makes a blob of another repository of the same registry, in full
// ("docker.io/library/debian"), one of this repository too, without a transfer.
// It tells whether the registry did; if not, the blob has to be Put.
func (r *Repository) Mount(ctx context.Context, d ocispec.Descriptor, from string) (bool, error) {
	other, err := ParseName(from)
	if err != nil {
		return false, err
	}
	if other.Registry != r.name.Registry || other.Repository == r.name.Repository || isManifest(d.MediaType) {
		return false, nil
	}
	if err := r.check(d); err != nil {
		return false, err
	}
	r.wantWrites()
	return r.mount(ctx, d, r.host.address.Repo(other.Repository))
}

// check refuses descriptors that nothing can be asked for by.
func (r *Repository) check(d ocispec.Descriptor) error {
	if err := d.Digest.Validate(); err != nil {
		return fmt.Errorf("%s: digest %q: %w", r.name.Origin(), d.Digest, err)
	}
	if d.Size < 0 {
		return fmt.Errorf("%s: %s has the size %d", r.name.Origin(), d.Digest, d.Size)
	}
	return nil
}

// opFor prepares an operation on a blob or manifest.
func (r *Repository) opFor(d ocispec.Descriptor) *op {
	kind := "blob"
	if isManifest(d.MediaType) {
		kind = "manifest"
	}
	return r.op(fmt.Sprintf("%s %s of %s", kind, short(d.Digest), r.name.Origin()))
}

// opNamed prepares an operation on the manifest that a tag or digest stands for.
func (r *Repository) opNamed(ref string) (*op, name.Reference, error) {
	named := r.name
	if d := digest.Digest(ref); d.Validate() == nil {
		named.Digest = d
		return r.op(named.String()), r.lib.Digest(ref), nil
	}
	if err := checkTag(ref); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", r.name.Origin(), err)
	}
	named.Tag = ref
	return r.op(named.String()), r.lib.Tag(ref), nil
}

func (r *Repository) op(subject string) *op {
	r.mu.Lock()
	defer r.mu.Unlock()
	rights := transport.PullScope
	if r.writes {
		rights = transport.PushScope
	}
	return &op{subject: subject, repo: r.lib, scopes: []string{r.lib.Scope(rights)}}
}

// wantWrites has the right to push asked for from now on.
func (r *Repository) wantWrites() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.writes = true
}

// remember keeps a manifest that is in the registry, so that naming or reading
// it needs no further request.
func (r *Repository) remember(d digest.Digest, data []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.manifests[d]; ok || r.held+len(data) > maxHeld {
		return
	}
	r.manifests[d] = data
	r.held += len(data)
}

func (r *Repository) recall(d digest.Digest) []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.manifests[d]
}

// short is enough of a digest for people to recognise it.
func short(d digest.Digest) string {
	return d.Algorithm().String() + ":" + d.Encoded()[:12]
}

type nopCloser struct{ *bytes.Reader }

func (nopCloser) Close() error { return nil }
