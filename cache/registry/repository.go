package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"slices"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lamina/cache"
)

// Repository is one repository of a registry, as a [cache.Repository]. The names
// that Resolve and Tag take are tags. It is safe for concurrent use.
type Repository struct {
	name     Name
	host     *host
	progress cache.Progress

	mu        sync.Mutex
	writes    bool                       // it is asked for the right to push, too
	sessions  map[digest.Digest]*url.URL // uploads that the registry has opened unasked
	manifests map[digest.Digest][]byte   // that were sent or read; see remember
	held      int                        // bytes in manifests
}

// maxHeld is how many bytes of manifests are kept, to save requests.
const maxHeld = 16 << 20

var _ cache.Repository = (*Repository)(nil)

// Name returns the repository's name, without tag and digest.
func (r *Repository) Name() Name { return r.name }

// Has tells whether the registry has the blob or manifest in this repository.
func (r *Repository) Has(ctx context.Context, d ocispec.Descriptor) (bool, error) {
	c, err := r.callFor(http.MethodHead, d)
	if err != nil {
		return false, err
	}
	asked := c.scopes
	resp, err := r.host.do(ctx, c, http.StatusOK)
	if login, _ := r.host.auth.known(r.name.Repository); errors.Is(err, fs.ErrPermission) && !login.empty() {
		// Only who may push may know that a repository does not exist yet.
		r.wantWrites()
		if c.scopes = r.scopes(); !slices.Equal(c.scopes, asked) {
			resp, err = r.host.do(ctx, c, http.StatusOK)
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	discard(resp.Body)
	return true, nil
}

// Open returns the content of a blob or manifest; see [cache.Blobs]. When the
// connection breaks, the reader goes on where it stopped. It can also seek, but
// only back to its beginning.
func (r *Repository) Open(ctx context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	c, err := r.callFor(http.MethodGet, d)
	if err != nil {
		return nil, err
	}
	if data := r.recall(d.Digest); int64(len(data)) == d.Size && data != nil {
		return nopCloser{bytes.NewReader(data)}, nil
	}
	return r.download(ctx, c, d)
}

// Put stores a blob or a manifest, which then has no name but its digest; see
// [cache.Blobs]. A blob whose reader cannot seek back to where it is now is sent
// only once, unless it is small.
func (r *Repository) Put(ctx context.Context, d ocispec.Descriptor, src io.Reader) error {
	r.wantWrites()
	c, err := r.callFor(http.MethodPut, d)
	if err != nil {
		return err
	}
	if !isManifest(d.MediaType) {
		return r.upload(ctx, d, src)
	}
	data, err := readManifest(src, d)
	if err != nil {
		return fmt.Errorf("%s: %w", c.subject, err)
	}
	return r.putManifest(ctx, c, d, data)
}

// Resolve returns the descriptor of what a tag, or a digest, stands for; see
// [cache.Repository].
func (r *Repository) Resolve(ctx context.Context, name string) (ocispec.Descriptor, error) {
	c, err := r.callNamed(http.MethodHead, name)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	resp, err := r.host.do(ctx, c, http.StatusOK)
	if e := (*Error)(nil); errors.As(err, &e) && e.Kind == Server && e.status < 500 {
		err = nil // it knows no HEAD
	}
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	if resp != nil {
		discard(resp.Body)
		if d, ok := describe(resp); ok {
			return d, nil
		}
	}
	return r.readNamed(ctx, name)
}

// Tag makes a tag stand for a manifest; see [cache.Repository].
func (r *Repository) Tag(ctx context.Context, name string, root ocispec.Descriptor) error {
	r.wantWrites()
	c, err := r.callNamed(http.MethodPut, name)
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
	return r.putManifest(ctx, c, root, data)
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
	return r.mount(ctx, d, other)
}

// callFor prepares a call about a blob or manifest.
func (r *Repository) callFor(method string, d ocispec.Descriptor) (*call, error) {
	if err := d.Digest.Validate(); err != nil {
		return nil, fmt.Errorf("%s: digest %q: %w", r.name.Origin(), d.Digest, err)
	}
	if d.Size < 0 {
		return nil, fmt.Errorf("%s: %s has the size %d", r.name.Origin(), d.Digest, d.Size)
	}
	kind := "blob"
	if isManifest(d.MediaType) {
		kind = "manifest"
	}
	c := r.call(method, kind+"s/"+d.Digest.String())
	c.subject = fmt.Sprintf("%s %s of %s", kind, short(d.Digest), r.name.Origin())
	if kind == "manifest" {
		c.header = http.Header{"Accept": {d.MediaType}}
	}
	return c, nil
}

// callNamed prepares a call about the manifest that a tag or digest stands for.
func (r *Repository) callNamed(method, ref string) (*call, error) {
	named := r.name
	if d := digest.Digest(ref); d.Validate() == nil {
		named.Digest = d
	} else if err := checkTag(ref); err != nil {
		return nil, fmt.Errorf("%s: %w", r.name.Origin(), err)
	} else {
		named.Tag = ref
	}
	c := r.call(method, "manifests/"+ref)
	c.subject = named.String()
	c.header = http.Header{"Accept": manifestTypes()}
	return c, nil
}

func (r *Repository) call(method, path string) *call {
	return &call{
		method:     method,
		path:       "/v2/" + r.name.Repository + "/" + path,
		subject:    r.name.Origin(),
		repository: r.name.Repository,
		scopes:     r.scopes(),
	}
}

// scopes are the rights that are asked for (distribution, "Token Scope
// Documentation").
func (r *Repository) scopes() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.writes {
		return []string{"repository:" + r.name.Repository + ":pull,push"}
	}
	return []string{"repository:" + r.name.Repository + ":pull"}
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
