package build

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"lamina/cmd/lamina/internal/cli"
	"lamina/exporter"
)

// tell says what was made: to the files that ask for it, and on standard output
// if nothing else is to be said.
func (b *build) tell(images []made) error {
	if b.opt.metadataFile != "" {
		if err := cli.WriteFile(b.opt.metadataFile, content(metadata(images))); err != nil {
			return fmt.Errorf("--metadata-file: %w", err)
		}
	}
	if len(images) == 0 {
		return nil
	}
	for _, f := range []struct{ flag, name, text string }{
		{"iidfile", b.opt.iidFile, ids(images, "")},
		{"iidfile-raw", b.opt.rawIIDFile, ids(images, "sha256:")},
		{"digest-file", b.opt.digestFile, digests(images)},
		{"image-name-with-digest-file", b.opt.nameFile, namesWithDigests(images, false)},
		{"image-name-tag-with-digest-file", b.opt.nameWithTagsFile, namesWithDigests(images, true)},
	} {
		if f.name == "" {
			continue
		}
		if err := cli.WriteFile(f.name, content([]byte(f.text))); err != nil {
			return fmt.Errorf("--%s: %w", f.flag, err)
		}
	}
	if b.opt.quiet {
		return b.Say("%s\n", ids(images, ""))
	}
	return nil
}

// ids are the images' IDs, a line for each, without what prefix is of them.
func ids(images []made, prefix string) string {
	var all []string
	for _, m := range images {
		all = append(all, strings.TrimPrefix(m.id.String(), prefix))
	}
	return strings.Join(all, "\n")
}

func digests(images []made) string {
	var all []string
	for _, m := range images {
		all = append(all, m.root.Digest.String())
	}
	return strings.Join(all, "\n")
}

// namesWithDigests is a line for each name of an image, as kaniko writes them.
func namesWithDigests(images []made, tags bool) string {
	var b strings.Builder
	for _, m := range images {
		for _, n := range m.names {
			name := n.Origin()
			if tags && n.Tag != "" {
				name += ":" + n.Tag
			}
			fmt.Fprintf(&b, "%s@%s\n", name, m.root.Digest)
		}
	}
	return b.String()
}

// content writes data.
func content(data []byte) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	}
}

// metadata describes the result with the keys that docker buildx uses. What
// several targets were made to is told by their names, as buildx bake does.
func metadata(images []made) []byte {
	all := map[string]any{}
	for _, m := range images {
		if len(images) == 1 {
			all = m.metadata()
		} else {
			all[m.target] = m.metadata()
		}
	}
	data, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		panic("lamina: result cannot be encoded: " + err.Error())
	}
	return append(data, '\n')
}

func (m made) metadata() map[string]any {
	all := map[string]any{
		"containerimage.digest":     m.root.Digest,
		"containerimage.descriptor": m.root,
	}
	for key, value := range m.more {
		all[key] = value
	}
	if !exporter.IsIndex(m.root.MediaType) { // which has no configuration
		all["containerimage.config.digest"] = m.id
	}
	var names []string
	for _, n := range m.names {
		names = append(names, n.String())
	}
	if len(names) > 0 {
		all["image.name"] = strings.Join(names, ",")
	}
	return all
}
