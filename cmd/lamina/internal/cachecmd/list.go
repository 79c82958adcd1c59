package cachecmd

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"lamina/cache/mounts"
	"lamina/cmd/lamina/internal/cli"
	"lamina/cmd/lamina/internal/human"
)

// row is a mount as it is shown. Bytes and DiskBytes are what Size and Disk are for
// people.
type row struct {
	ID, Name, Attrs, Sharing        string
	Files, Size, Bytes              string
	Disk, DiskBytes                 string
	CreatedAt, CreatedSince         string
	UsedAt, UsedSince, UsedBy       string
	InUse, FromCache, PrivateNumber string
}

var headings = row{
	ID: "ID", Name: "NAME", Attrs: "ATTRIBUTES", Sharing: "SHARING", Files: "FILES", Size: "SIZE", Bytes: "BYTES",
	Disk: "DISK", DiskBytes: "DISK BYTES", CreatedAt: "CREATED AT", CreatedSince: "CREATED",
	UsedAt: "LAST USED AT", UsedSince: "LAST USED", UsedBy: "LAST USED BY", InUse: "IN USE", FromCache: "FROM CACHE",
	PrivateNumber: "PRIVATE NUMBER",
}

func newList(e *cli.Env) *cobra.Command {
	var format string
	var quiet, noTrunc bool
	cmd := &cobra.Command{
		Use:     "ls [OPTIONS]",
		Aliases: []string{"list"},
		Short:   "List cache mounts",
		Long: `List cache mounts, the most recently used first.

IN USE is "yes" while a step or a container has the mount. ATTRIBUTES are the mode
and owner of its directory, or what it started as a copy of.`,
		Args: cli.MaxArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			all, err := list(cmd.Context(), e)
			if err != nil {
				return err
			}
			if quiet && format == "" {
				for _, i := range all {
					if err := e.Say("%s\n", i.Name); err != nil {
						return err
					}
				}
				return nil
			}
			rows := rowsOf(all, noTrunc || format == "json")
			rows.Table = "{{.ID}}\t{{.Name}}\t{{.Size}}\t{{.Files}}\t{{.Attrs}}\t{{.CreatedSince}}\t{{.UsedSince}}\t{{.InUse}}\t{{.UsedBy}}"
			return rows.Write(e.Stdout, format)
		},
	}
	f := cmd.Flags()
	f.StringVar(&format, "format", "", cli.FormatUsage)
	f.BoolVar(&noTrunc, "no-trunc", false, "Don't truncate output")
	f.BoolVarP(&quiet, "quiet", "q", false, "Only show names")
	return cmd
}

func newUsage(e *cli.Env) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "du [OPTIONS]",
		Short: "Show the disk space of cache mounts",
		Long: `Show the disk space of cache mounts, the largest first, and of all of them.

DISK is what their files take on this disk, SIZE how long they are.`,
		Args: cli.MaxArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			all, err := list(cmd.Context(), e)
			if err != nil {
				return err
			}
			slices.SortStableFunc(all, func(a, b mounts.Info) int { return cmp.Compare(b.Disk, a.Disk) })
			rows := rowsOf(all, format == "json")
			rows.Table = "{{.Disk}}\t{{.Size}}\t{{.Files}}\t{{.ID}}\t{{.Name}}"
			if err := rows.Write(e.Stdout, format); err != nil || format != "" && format != "table" {
				return err
			}
			var sum int64
			for _, i := range all {
				sum += i.Disk
			}
			return e.Say("Total:    %s\n", human.Size(sum))
		},
	}
	cmd.Flags().StringVar(&format, "format", "", cli.FormatUsage)
	return cmd
}

func list(ctx context.Context, e *cli.Env) ([]mounts.Info, error) {
	all, done, err := open(ctx, e, false)
	if err != nil {
		return nil, err
	}
	defer done()
	return all.List(ctx)
}

// rowsOf shows mounts, whole or shortened for a screen.
func rowsOf(all []mounts.Info, whole bool) cli.Rows[row] {
	rows := cli.Rows[row]{Headings: headings}
	now := time.Now()
	for _, i := range all {
		r := row{
			ID: printable(i.Spec.ID), Name: i.Name, Attrs: describe(i.Spec), Sharing: cmp.Or(i.Sharing, "N/A"),
			Files: strconv.Itoa(i.Files), Size: human.Size(i.Size), Bytes: strconv.FormatInt(i.Size, 10),
			Disk: human.Size(i.Disk), DiskBytes: strconv.FormatInt(i.Disk, 10),
			CreatedAt: "N/A", CreatedSince: "N/A",
			UsedAt: i.Used.UTC().Format(time.RFC3339), UsedSince: human.Ago(i.Used, now), UsedBy: printable(i.Step),
			InUse: yes(i.InUse), FromCache: yes(i.Version),
		}
		if !i.Created.IsZero() {
			r.CreatedAt, r.CreatedSince = i.Created.UTC().Format(time.RFC3339), human.Ago(i.Created, now)
		}
		_, r.PrivateNumber, _ = strings.Cut(i.Name, "-")
		if !whole {
			r.Name, r.UsedBy = short(r.Name), shorten(r.UsedBy)
		}
		rows.Items = append(rows.Items, r)
	}
	return rows
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// shorten is the beginning of a step.
func shorten(step string) string {
	if r := []rune(step); len(r) > stepRunes {
		return string(r[:stepRunes-1]) + "…"
	}
	return step
}

// describe says what tells mounts with one id apart.
func describe(s mounts.Spec) string {
	switch {
	case s.Attrs != nil:
		return fmt.Sprintf("mode %04o, owner %d:%d", s.Attrs.Mode, s.Attrs.UID, s.Attrs.GID)
	case s.From != "":
		return fmt.Sprintf("copy of %s in %.19s", cmp.Or(printable(s.Source), "/"), printable(s.From))
	}
	return "-"
}

// printable keeps what somebody wrote from doing more to a terminal than to be read.
func printable(s string) string {
	if strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.Quote(s)
	}
	return s
}
