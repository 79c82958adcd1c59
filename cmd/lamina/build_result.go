package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// tell says what was made: to the files that ask for it, and on standard output
// if nothing else is to be said.
func (b *build) tell(m made) error {
	if m.root.Digest == "" {
		return nil
	}
	if b.opt.iidFile != "" {
		if err := replaceFile(b.opt.iidFile, []byte(m.id.String())); err != nil {
			return fmt.Errorf("--iidfile: %w", err)
		}
	}
	if b.opt.metadataFile != "" {
		if err := replaceFile(b.opt.metadataFile, metadata(m)); err != nil {
			return fmt.Errorf("--metadata-file: %w", err)
		}
	}
	if b.opt.quiet {
		fmt.Fprintln(b.stdout, m.id)
	}
	return nil
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

// replaceFile writes a file whole or not at all.
func replaceFile(name string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+"-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // a no-op once it is renamed
	_, err = f.Write(data)
	if err == nil {
		err = f.Chmod(0o644)
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}
