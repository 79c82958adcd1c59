package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

// tell says what was made: to the files that ask for it, and on standard output
// if nothing else is to be said.
func (b *build) tell(m made) error {
	if m.root.Digest == "" {
		return nil
	}
	if b.opt.iidFile != "" {
		if err := writeFile(b.opt.iidFile, content([]byte(m.id.String()))); err != nil {
			return fmt.Errorf("--iidfile: %w", err)
		}
	}
	if b.opt.metadataFile != "" {
		if err := writeFile(b.opt.metadataFile, content(metadata(m))); err != nil {
			return fmt.Errorf("--metadata-file: %w", err)
		}
	}
	if b.opt.quiet {
		return b.say("%s\n", m.id)
	}
	return nil
}

// content writes data.
func content(data []byte) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	}
}

// metadata describes the result with the keys that docker buildx uses.
func metadata(m made) []byte {
	all := map[string]any{
		"containerimage.digest":        m.root.Digest,
		"containerimage.config.digest": m.id,
		"containerimage.descriptor":    m.root,
	}
	if m.id == m.root.Digest { // an index has no configuration
		delete(all, "containerimage.config.digest")
	}
	if len(m.names) > 0 {
		all["image.name"] = strings.Join(m.names, ",")
	}
	data, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		panic("lamina: result cannot be encoded: " + err.Error())
	}
	return append(data, '\n')
}
