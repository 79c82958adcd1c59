package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"

	"lamina/cmd/lamina/internal/cli"
)

type inspectOptions struct {
	format, platform string
}

// imageDetails is what inspect shows of an image, by docker's names.
type imageDetails struct {
	ID           string `json:"Id"`
	RepoTags     []string
	RepoDigests  []string
	Comment      string
	Created      string
	Author       string
	Architecture string
	Variant      string `json:",omitempty"`
	Os           string
	OsVersion    string `json:",omitempty"`
	Size         int64
	Config       dockerspec.DockerOCIImageConfig
	RootFS       rootFS
	// Descriptor is what the image's names refer to, Manifest the image itself.
	Descriptor  ocispec.Descriptor
	Manifest    ocispec.Descriptor
	Annotations map[string]string `json:",omitempty"`
}

type rootFS struct {
	Type   string
	Layers []digest.Digest
}

func newInspect(e *cli.Env) *cobra.Command {
	var opts inspectOptions
	cmd := &cobra.Command{
		Use:               "inspect [OPTIONS] IMAGE [IMAGE...]",
		Short:             "Display detailed information on one or more images",
		Args:              cli.MinArgs(1),
		ValidArgsFunction: completeImages(e, -1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runInspect(cmd.Context(), e, args, opts)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&opts.format, "format", "f", "", `Format output: "json", or a Go template`)
	f.StringVar(&opts.platform, "platform", "", cli.PlatformUsage)
	return cmd
}

// runInspect shows what it finds of refs, and fails if that is not all of them.
func runInspect(ctx context.Context, e *cli.Env, refs []string, opts inspectOptions) error {
	store, err := e.OpenStore()
	if err != nil {
		return err
	}
	defer store.Close()
	c, err := openCatalog(store)
	if err != nil {
		return err
	}
	found := []*imageDetails{} // [] where nothing was found
	var errs []error
	for _, ref := range refs {
		d, err := c.details(ctx, e, ref, opts.platform)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		found = append(found, d)
	}
	return errors.Join(append([]error{opts.write(e.Stdout, found)}, errs...)...)
}

// write writes the images as one JSON array, or each as the format says.
func (opts inspectOptions) write(w io.Writer, found []*imageDetails) error {
	switch opts.format {
	case "":
		text, err := indentedJSON(found)
		if err == nil {
			_, err = w.Write(text)
		}
		return err
	case "json":
		text, err := cli.ToJSON(found)
		if err == nil {
			_, err = fmt.Fprintln(w, text)
		}
		return err
	}
	t, err := cli.ParseFormat(opts.format)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	for _, d := range found {
		if err := t.Execute(&b, d); err != nil {
			// Docker's templates may also use the names that the JSON has.
			if t.Execute(&b, asMap(d)) != nil {
				return cli.FormatError(err)
			}
		}
		b.WriteByte('\n')
	}
	_, err = w.Write(b.Bytes())
	return err
}

func indentedJSON(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "    ")
	err := enc.Encode(v)
	return b.Bytes(), err
}

// asMap is v as its JSON has it.
func asMap(v any) map[string]any {
	var m map[string]any
	if data, err := json.Marshal(v); err == nil {
		_ = json.Unmarshal(data, &m) // what was marshalled can be read
	}
	return m
}

// details finds an image and describes it.
func (c *catalog) details(ctx context.Context, e *cli.Env, ref, platform string) (*imageDetails, error) {
	i, err := c.find(ctx, ref)
	if err != nil {
		return nil, err
	}
	if err := c.choose(ctx, e, &i, platform); err != nil {
		return nil, err
	}
	size, err := c.size(&i)
	if err != nil {
		return nil, err
	}
	d := &imageDetails{
		ID: i.ID().String(), RepoTags: []string{}, RepoDigests: []string{},
		Author: i.Config.Author, Architecture: i.Config.Architecture, Variant: i.Config.Variant,
		Os: i.Config.OS, OsVersion: i.Config.OSVersion, Size: size,
		Config: i.Config.Config, RootFS: rootFS{i.Config.RootFS.Type, i.Config.RootFS.DiffIDs},
		Descriptor: i.Root, Manifest: i.Manifest, Annotations: i.Annotations,
	}
	if t := i.Created(); !t.IsZero() {
		d.Created = t.UTC().Format(time.RFC3339Nano)
	}
	if n := len(i.Config.History); n > 0 {
		d.Comment = i.Config.History[n-1].Comment
	}
	for _, n := range i.Names {
		if n.Digest == "" {
			d.RepoTags = append(d.RepoTags, n.Familiar())
		}
		if repo := n.FamiliarRepository() + "@" + i.Root.Digest.String(); !slices.Contains(d.RepoDigests, repo) {
			d.RepoDigests = append(d.RepoDigests, repo)
		}
	}
	return d, nil
}
