package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"lamina/cmd/lamina/internal/cli"
	"lamina/cmd/lamina/internal/collect"
	"lamina/cmd/lamina/internal/human"
)

type duOptions struct {
	filter  []string
	format  string
	verbose bool
	noTrunc bool
}

// duRow has the fields of buildx's du, and what else there is to say.
type duRow struct {
	ID, Type, Size, Bytes, Description, Why string
	Shared, Reclaimable, InUse              string
	CreatedAt, CreatedSince                 string
	LastUsedAt, LastUsedSince               string
}

func newDu(e *cli.Env) *cobra.Command {
	var opts duOptions
	cmd := &cobra.Command{
		Use:   "du [OPTIONS]",
		Short: "Show what the store takes on the disk, and why",
		Long: `Show what the store takes on the disk, the largest first: what it is, what needs
it, since when it is there, and when it was last used. The sizes add up to what
the disk says.`,
		Args: cli.MaxArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			filter, err := collect.ParseFilter(opts.filter)
			if err != nil {
				return &cli.UsageError{Cmd: cmd, Err: err}
			}
			return runDu(cmd.Context(), e, opts, filter)
		},
	}
	f := cmd.Flags()
	f.StringArrayVar(&opts.filter, "filter", nil, filterUsage)
	f.StringVar(&opts.format, "format", "", cli.FormatUsage)
	f.BoolVar(&opts.noTrunc, "no-trunc", false, "Don't truncate output")
	f.BoolVar(&opts.verbose, "verbose", false, "Show each blob, record and build, too")
	return cmd
}

const filterUsage = "Only what matches (\"until=24h\", \"type=mount\", \"id=ID\")"

func runDu(ctx context.Context, e *cli.Env, opts duOptions, filter collect.Filter) error {
	store, err := e.OpenStore()
	if err != nil {
		return err
	}
	defer store.Close()
	rows, err := collect.Usage(ctx, store, filter, opts.verbose)
	if err != nil {
		return err
	}
	list := cli.Rows[duRow]{
		Table: "{{.ID}}\t{{.Type}}\t{{.Size}}\t{{.LastUsedSince}}\t{{.Why}}",
		Headings: duRow{
			ID: "ID", Type: "TYPE", Size: "SIZE", Bytes: "BYTES", Description: "DESCRIPTION", Why: "KEPT FOR",
			Shared: "SHARED", Reclaimable: "RECLAIMABLE", InUse: "IN USE",
			CreatedAt: "CREATED AT", CreatedSince: "CREATED", LastUsedAt: "LAST USED AT", LastUsedSince: "LAST USED",
		},
	}
	var total, reclaimable int64
	now := time.Now()
	for _, r := range rows {
		total += r.Bytes
		if r.Reclaimable {
			reclaimable += r.Bytes
		}
		list.Items = append(list.Items, opts.row(r, now))
	}
	if err := list.Write(e.Stdout, opts.format); err != nil {
		return err
	}
	if opts.format != "" && opts.format != "table" {
		return nil
	}
	return e.Say("\nReclaimable:\t%s\nTotal:\t\t%s\n", human.Size(reclaimable), human.Size(total))
}

func (opts duOptions) row(r collect.Row, now time.Time) duRow {
	row := duRow{
		ID: r.ID, Type: string(r.Kind), Size: human.Size(r.Bytes), Bytes: strconv.FormatInt(r.Bytes, 10),
		Description: r.Title, Why: r.Why,
		Shared: fmt.Sprint(r.Shared), Reclaimable: fmt.Sprint(r.Reclaimable), InUse: fmt.Sprint(r.InUse),
		CreatedAt: createdAt(r.Made), CreatedSince: human.Ago(r.Made, now),
		LastUsedAt: createdAt(r.Used), LastUsedSince: human.Ago(r.Used, now),
	}
	if r.Title != "" && !strings.Contains(r.Why, r.Title) {
		row.Why = r.Title + " (" + r.Why + ")"
	}
	if !opts.noTrunc {
		row.ID = shortUnit(row.ID)
		row.Why = truncated(row.Why, 72)
	}
	return row
}

// shortUnit is the beginning of an ID that is only digits and letters, or ends with such.
func shortUnit(id string) string {
	id = strings.TrimPrefix(id, "sha256-")
	if len(id) > 26 {
		return id[:12]
	}
	return id
}

// truncated is at most n characters of s.
func truncated(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return s
}
