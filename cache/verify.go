package cache

import (
	"fmt"
	"hash"
	"io"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// CorruptError reports content that is not what its descriptor says.
type CorruptError struct {
	Want   ocispec.Descriptor
	Digest digest.Digest // of what was read; empty if more bytes came than expected
	Size   int64         // bytes read
}

func (e *CorruptError) Error() string {
	if e.Size != e.Want.Size {
		return fmt.Sprintf("content of %s is damaged: %d bytes, want %d", e.Want.Digest, e.Size, e.Want.Size)
	}
	return fmt.Sprintf("content of %s is damaged: its digest is %s", e.Want.Digest, e.Digest)
}

// VerifyReader passes a stream through and fails at its end, with a
// *CorruptError, unless size and digest are the descriptor's.
type VerifyReader struct {
	r       io.ReadCloser
	want    ocispec.Descriptor
	hash    hash.Hash
	n       int64
	corrupt func()
}

// Verify wraps r, which Close closes. A digest of another algorithm than the
// ones that package digest knows panics; validate descriptors on the way in.
func Verify(r io.ReadCloser, want ocispec.Descriptor) *VerifyReader {
	return &VerifyReader{r: r, want: want, hash: want.Digest.Algorithm().Hash()}
}

func (v *VerifyReader) Read(p []byte) (int, error) {
	n, err := v.r.Read(p)
	v.hash.Write(p[:n])
	v.n += int64(n)
	if v.n > v.want.Size {
		return n, v.fail("")
	}
	if err != io.EOF {
		return n, err
	}
	if got := digest.NewDigest(v.want.Digest.Algorithm(), v.hash); v.n != v.want.Size || got != v.want.Digest {
		return n, v.fail(got)
	}
	return n, io.EOF
}

func (v *VerifyReader) fail(got digest.Digest) error {
	if v.corrupt != nil {
		v.corrupt()
		v.corrupt = nil
	}
	return &CorruptError{Want: v.want, Digest: got, Size: v.n}
}

// Close closes the underlying reader.
func (v *VerifyReader) Close() error { return v.r.Close() }
