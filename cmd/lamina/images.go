package main

import (
	"cmp"
	"context"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"

	"lamina/cache/registry"
	"lamina/cmd/lamina/internal/cli"
	"lamina/cmd/lamina/internal/human"
)

// none stands where there is nothing to show.
const none = "<none>"

type imagesOptions struct {
	all, quiet, noTrunc, digests bool
	format                       string
	match                        string // a name or a pattern; empty for all
}

// imageRow has the fields of docker's images, in the order of its JSON.
type imageRow struct {
	Containers, CreatedAt, CreatedSince, Digest, ID, Repository, SharedSize, Size, Tag, UniqueSize string
}

func newImages(e *cli.Env) *cobra.Command {
	var opts imagesOptions
	cmd := &cobra.Command{
		Use:     "images [OPTIONS] [REPOSITORY[:TAG]]",
		Short:   "List images",
		GroupID: cli.GroupCommon,
		Long: `List images, the latest first.

IMAGE ID is the beginning of the digest of the image's configuration, or of the
index of an image for several platforms. SIZE is that of its layers: uncompressed
where they are unpacked on this machine, compressed where they are not.`,
		Args:              cli.MaxArgs(1),
		ValidArgsFunction: completeImages(e, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				opts.match = args[0]
			}
			return runImages(cmd.Context(), e, opts)
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&opts.all, "all", "a", false, "Show all images (default hides those without a name)")
	f.BoolVar(&opts.digests, "digests", false, "Show digests")
	f.StringVar(&opts.format, "format", "", cli.FormatUsage)
	f.BoolVar(&opts.noTrunc, "no-trunc", false, "Don't truncate output")
	f.BoolVarP(&opts.quiet, "quiet", "q", false, "Only show image IDs")
	return cmd
}

func runImages(ctx context.Context, e *cli.Env, opts imagesOptions) error {
	store, err := e.OpenStore()
	if err != nil {
		return err
	}
	defer store.Close()
	c, err := openCatalog(store)
	if err != nil {
		return err
	}
	images, err := c.list(ctx, func(i storedImage, err error) {
		e.Logger().Warn("image cannot be read", "digest", i.Root.Digest, "error", err)
	})
	if err != nil {
		return err
	}
	slices.SortStableFunc(images, func(a, b storedImage) int { return b.Created().Compare(a.Created()) })
	list := cli.Rows[imageRow]{
		Table: "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}",
		Headings: imageRow{
			Containers: "CONTAINERS", CreatedAt: "CREATED AT", CreatedSince: "CREATED", Digest: "DIGEST", ID: "IMAGE ID",
			Repository: "REPOSITORY", SharedSize: "SHARED SIZE", Size: "SIZE", Tag: "TAG", UniqueSize: "UNIQUE SIZE",
		},
	}
	if opts.digests {
		list.Table = strings.Replace(list.Table, "{{.ID}}", "{{.Digest}}\t{{.ID}}", 1)
	}
	for _, i := range images {
		size, err := c.size(&i)
		if err != nil {
			return err
		}
		list.Items = append(list.Items, opts.rows(&i, size)...)
	}
	if opts.quiet && opts.format == "" {
		return writeIDs(e, list.Items)
	}
	return list.Write(e.Stdout, opts.format)
}

// writeIDs writes each ID once.
func writeIDs(e *cli.Env, items []imageRow) error {
	var ids []string
	for _, r := range items {
		if !slices.Contains(ids, r.ID) {
			ids = append(ids, r.ID)
		}
	}
	for _, id := range ids {
		if _, err := fmt.Fprintln(e.Stdout, id); err != nil {
			return err
		}
	}
	return nil
}

// rows are the lines for one image: one for each name that is asked for.
func (opts imagesOptions) rows(i *storedImage, size int64) []imageRow {
	row := imageRow{
		Containers: "N/A", SharedSize: "N/A", UniqueSize: "N/A",
		ID: opts.id(i.ID()), Digest: i.Root.Digest.String(), Size: human.Size(size),
		CreatedAt: createdAt(i.Created()), CreatedSince: human.Ago(i.Created(), time.Now()),
		Repository: none, Tag: none,
	}
	if len(i.Names) == 0 {
		if opts.all && opts.match == "" {
			return []imageRow{row}
		}
		return nil
	}
	var out []imageRow
	for _, n := range i.Names {
		if opts.match != "" && !matchesName(opts.match, n) {
			continue
		}
		row.Repository, row.Tag = n.FamiliarRepository(), cmp.Or(n.Tag, none)
		out = append(out, row)
	}
	return out
}

func (opts imagesOptions) id(d digest.Digest) string {
	if opts.noTrunc {
		return d.String()
	}
	return shortID(d)
}

// createdAt is t as docker writes it.
func createdAt(t time.Time) string {
	if t.IsZero() {
		return "N/A"
	}
	return t.Local().Format("2006-01-02 15:04:05 -0700 MST")
}

// matchesName tells whether a name is the one that pattern gives, or matches it
// as a pattern (of path.Match) for the repository, with or without the tag, in
// its short or its full form.
func matchesName(pattern string, n registry.Name) bool {
	if want, err := registry.ParseName(pattern); err == nil {
		hasTag := strings.LastIndexByte(pattern, ':') > strings.LastIndexByte(pattern, '/')
		if want.Origin() == n.Origin() && (!hasTag || want.Tag == n.Tag) {
			return true
		}
	}
	for _, full := range []string{n.Familiar(), n.String(), n.FamiliarRepository(), n.Origin()} {
		if ok, err := path.Match(pattern, full); err == nil && ok {
			return true
		}
	}
	return false
}
