package build

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"

	"lamina/snapshot/layertar"
)

// archiveHead is how many bytes tell an archive from a Dockerfile.
const archiveHead = 4 << 10

// isArchive tells whether r begins like a tar archive or a compressed file. It
// needs to see archiveHead bytes at most.
func isArchive(r *bufio.Reader) bool {
	head, _ := r.Peek(archiveHead) // what there is will do
	for _, magic := range []string{"\x1f\x8b", "BZh", "\xfd7zXZ\x00", "\x28\xb5\x2f\xfd"} {
		if bytes.HasPrefix(head, []byte(magic)) {
			return true
		}
	}
	const ustar = 257 // POSIX: the magic's place in a header
	if len(head) > ustar+5 && string(head[ustar:ustar+5]) == "ustar" {
		return true
	}
	// Older archives have no magic, but a checksum.
	_, err := tar.NewReader(bytes.NewReader(head)).Next()
	return err == nil
}

// fromArchive unpacks a context from r, which is called name, into a layer that is
// never published. Its owners are those of the archive.
func (b *build) fromArchive(ctx context.Context, in *input, r io.Reader, name string) error {
	plain, err := layertar.Decompress(r)
	if err != nil {
		return fmt.Errorf("read the context from %s: %w", name, err)
	}
	defer plain.Close()
	draft, err := b.engine.Pool.Draft()
	if err != nil {
		return err
	}
	in.closers = append(in.closers, draft.Close)
	if err := layertar.Apply(ctx, draft, plain); err != nil {
		return fmt.Errorf("read the context from %s: %w", name, err)
	}
	in.tree, in.remote, in.dated = draft, true, true
	b.lowering.ContextOwners = true
	return nil
}
