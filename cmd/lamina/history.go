package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"

	"lamina/cmd/lamina/internal/cli"
	"lamina/cmd/lamina/internal/human"
)

type historyOptions struct {
	human, noTrunc, quiet bool
	format, platform      string
}

// historyRow has the fields of docker's history, in the order of its JSON.
type historyRow struct {
	Comment, CreatedAt, CreatedBy, CreatedSince, ID, Size string
}

// maxCreatedBy is how much of a command is shown without --no-trunc.
const maxCreatedBy = 45

func newHistory(e *cli.Env) *cobra.Command {
	var opts historyOptions
	cmd := &cobra.Command{
		Use:               "history [OPTIONS] IMAGE",
		Short:             "Show the history of an image",
		Args:              cli.ExactArgs(1),
		ValidArgsFunction: completeImages(e, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runHistory(cmd.Context(), e, args[0], opts)
		},
	}
	f := cmd.Flags()
	f.StringVar(&opts.format, "format", "", cli.FormatUsage)
	f.BoolVarP(&opts.human, "human", "H", true, "Print sizes and dates in human readable format")
	f.BoolVar(&opts.noTrunc, "no-trunc", false, "Don't truncate output")
	f.StringVar(&opts.platform, "platform", "", cli.PlatformUsage)
	f.BoolVarP(&opts.quiet, "quiet", "q", false, "Only show image IDs")
	return cmd
}

func runHistory(ctx context.Context, e *cli.Env, ref string, opts historyOptions) error {
	store, err := e.OpenStore()
	if err != nil {
		return err
	}
	defer store.Close()
	c, err := openCatalog(store)
	if err != nil {
		return err
	}
	i, err := c.find(ctx, ref)
	if err != nil {
		return err
	}
	if err := c.choose(ctx, e, &i, opts.platform); err != nil {
		return err
	}
	sizes, err := c.layerSizes(&i)
	if err != nil {
		return err
	}
	list := cli.Rows[historyRow]{
		Table: "{{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}",
		Headings: historyRow{
			Comment: "COMMENT", CreatedAt: "CREATED AT", CreatedBy: "CREATED BY", CreatedSince: "CREATED", ID: "IMAGE", Size: "SIZE",
		},
		Items: opts.rows(&i, sizes),
	}
	if !opts.human {
		list.Table = strings.Replace(list.Table, "CreatedSince", "CreatedAt", 1)
	}
	if opts.quiet {
		opts.format = "{{.ID}}"
	}
	return list.Write(e.Stdout, opts.format)
}

// rows are the steps that made the image, the last one first.
func (opts historyOptions) rows(i *storedImage, sizes []int64) []historyRow {
	var out []historyRow
	for _, h := range i.Config.History {
		size := int64(0)
		if !h.EmptyLayer && len(sizes) > 0 {
			size, sizes = sizes[0], sizes[1:]
		}
		out = append(out, opts.row(h, size))
	}
	slices.Reverse(out)
	if len(out) > 0 { // only the last step's result is an image
		out[0].ID = imagesOptions{noTrunc: opts.noTrunc}.id(i.ID())
	}
	return out
}

func (opts historyOptions) row(h ocispec.History, size int64) historyRow {
	r := historyRow{
		Comment: h.Comment, CreatedBy: strings.ReplaceAll(h.CreatedBy, "\t", " "), ID: "<missing>",
		Size: strconv.FormatInt(size, 10),
	}
	var created time.Time
	if h.Created != nil {
		created = *h.Created
		r.CreatedAt = created.Local().Format(time.RFC3339)
	}
	r.CreatedSince = r.CreatedAt
	if opts.human {
		r.Size = human.Size(size)
		// Reproducible images carry a time that says nothing.
		if created.Before(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)) {
			created = time.Time{}
		}
		r.CreatedSince = human.Ago(created, time.Now())
	}
	if text := []rune(r.CreatedBy); !opts.noTrunc && len(text) > maxCreatedBy {
		r.CreatedBy = fmt.Sprintf("%s…", string(text[:maxCreatedBy-1]))
	}
	return r
}
