package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lamina/cache"
)

// Docker's own forms of OCI's index and manifest.
const (
	dockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	dockerIndex    = "application/vnd.docker.distribution.manifest.list.v2+json"
)

// maxManifest is the largest manifest that is handled. Registries need not take
// more than 4 MiB (distribution-spec, "Pushing Manifests").
const maxManifest = 8 << 20

func manifestTypes() []string {
	return []string{ocispec.MediaTypeImageIndex, ocispec.MediaTypeImageManifest, dockerIndex, dockerManifest}
}

// isManifest tells what registries keep among the manifests.
func isManifest(mediaType string) bool { return slices.Contains(manifestTypes(), mediaType) }

// readManifest reads and verifies all of a manifest.
func readManifest(r io.Reader, d ocispec.Descriptor) ([]byte, error) {
	if d.Size > maxManifest {
		return nil, fmt.Errorf("a manifest of %d bytes is too large", d.Size)
	}
	return io.ReadAll(cache.Verify(io.NopCloser(r), d))
}

func (r *Repository) putManifest(ctx context.Context, c *call, d ocispec.Descriptor, data []byte) error {
	c.header = http.Header{"Content-Type": {d.MediaType}}
	c.body = newBytes(data)
	resp, err := r.host.do(ctx, c, http.StatusCreated, http.StatusOK, http.StatusAccepted)
	if err != nil {
		return err
	}
	discard(resp.Body)
	if got := resp.Header.Get("Docker-Content-Digest"); got != "" && got != d.Digest.String() {
		return &Error{
			Kind: Server, Registry: r.name.Registry, Subject: c.subject,
			Text: fmt.Sprintf("%s stored it as %s instead of %s", r.name.Registry, got, d.Digest),
		}
	}
	r.remember(d.Digest, data)
	return nil
}

// describe makes a descriptor of the headers of an answer, if they say enough.
func describe(resp *http.Response) (ocispec.Descriptor, bool) {
	d := ocispec.Descriptor{
		MediaType: mediaType(resp),
		Digest:    digest.Digest(resp.Header.Get("Docker-Content-Digest")),
		Size:      resp.ContentLength,
	}
	return d, isManifest(d.MediaType) && d.Digest.Validate() == nil && d.Size > 0
}

func mediaType(resp *http.Response) string {
	t, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if err != nil {
		return ""
	}
	return t
}

// readNamed resolves a tag or digest by reading what it stands for.
func (r *Repository) readNamed(ctx context.Context, ref string) (ocispec.Descriptor, error) {
	c, err := r.callNamed(http.MethodGet, ref)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	var (
		resp *http.Response
		data []byte
	)
	for try := 1; ; try++ {
		resp, data, err = r.readOnce(ctx, c)
		if err == nil {
			break
		}
		if err := r.host.client.policy.pause(ctx, try, err); err != nil {
			return ocispec.Descriptor{}, err
		}
	}
	d := ocispec.Descriptor{MediaType: mediaType(resp), Digest: digest.FromBytes(data), Size: int64(len(data))}
	if want := digest.Digest(ref); want.Validate() == nil {
		d.Digest = want
		if _, err := readManifest(bytes.NewReader(data), d); err != nil {
			return ocispec.Descriptor{}, r.corrupt(c.subject, err)
		}
	}
	if !isManifest(d.MediaType) {
		d.MediaType = sniff(data)
	}
	if d.MediaType == "" {
		return ocispec.Descriptor{}, &Error{
			Kind: Server, Registry: r.name.Registry, Subject: c.subject,
			Text: fmt.Sprintf("%s has no image under this name, but %q", r.name.Registry, printable(resp.Header.Get("Content-Type"))),
		}
	}
	r.remember(d.Digest, data)
	return d, nil
}

// readOnce reads the whole answer to c, a manifest.
func (r *Repository) readOnce(ctx context.Context, c *call) (*http.Response, []byte, error) {
	resp, err := r.host.do(ctx, c, http.StatusOK)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxManifest+1))
	switch {
	case ctx.Err() != nil:
		return nil, nil, fmt.Errorf("%s: %w", c.subject, context.Cause(ctx))
	case err != nil:
		return nil, nil, broken(r.name.Registry, c.subject, int64(len(data)), resp.ContentLength, err)
	case len(data) > maxManifest:
		return nil, nil, &Error{
			Kind: Server, Registry: r.name.Registry, Subject: c.subject,
			Text: fmt.Sprintf("%s has a manifest of more than %d bytes under this name", r.name.Registry, maxManifest),
		}
	}
	return resp, data, nil
}

// sniff finds the media type of a manifest that came without one.
func sniff(data []byte) string {
	var m struct {
		MediaType string          `json:"mediaType"`
		Version   int             `json:"schemaVersion"`
		Manifests json.RawMessage `json:"manifests"`
		Layers    json.RawMessage `json:"layers"`
	}
	if json.Unmarshal(data, &m) != nil || m.Version != 2 {
		return ""
	}
	switch {
	case isManifest(m.MediaType):
		return m.MediaType
	case m.MediaType != "":
		return ""
	case m.Manifests != nil:
		return ocispec.MediaTypeImageIndex
	case m.Layers != nil:
		return ocispec.MediaTypeImageManifest
	}
	return ""
}
