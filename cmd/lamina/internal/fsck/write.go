package fsck

import (
	"fmt"
	"io"
	"strings"
)

// Write writes the report for people. repair tells whether it is of a repair.
func (r *Report) Write(w io.Writer, repair bool) error {
	var b strings.Builder
	for _, f := range r.Findings {
		fmt.Fprintf(&b, "%s: %s\n", f.Path, f.Problem)
		for _, e := range f.Effects {
			fmt.Fprintf(&b, "    %s\n", e)
		}
		if f.Remedy != "" {
			fmt.Fprintf(&b, "    %s%s\n", f.State.word(), f.Remedy)
		}
	}
	fmt.Fprintf(&b, "checked: %s, %s, %s, %s, %s\n", count(r.Blobs, "blob"), count(r.Layers, "layer"),
		count(r.Records, "record"), count(r.Images, "image"), count(r.Builds, "build"))
	if r.Unlisted > 0 {
		fmt.Fprintf(&b, "the files of %s could not be checked: nobody noted what they were\n", count(r.Unlisted, "layer"))
	}
	found, repaired := 0, 0
	for _, f := range r.Findings {
		if !f.Damage {
			continue
		}
		if found++; f.State == Repaired {
			repaired++
		}
	}
	switch {
	case found == 0:
		b.WriteString("no damage found\n")
	case repair:
		fmt.Fprintf(&b, "damage found: %d, repaired: %d\n", found, repaired)
	default:
		fmt.Fprintf(&b, "damage found: %d\n", found)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// word begins what is said of a remedy.
func (s State) word() string {
	switch s {
	case Repaired:
		return "repaired: "
	case Found:
		return "with --repair "
	}
	return "left: "
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
