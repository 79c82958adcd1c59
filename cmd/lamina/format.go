package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"text/template"
)

// formatUsage describes --format.
const formatUsage = `Format output: "json", or a Go template over the fields`

// writeFormatted writes each item as format says: "json" for a line of JSON, a
// Go template otherwise. Fields have docker's names.
func writeFormatted[T any](w io.Writer, format string, items []T) error {
	if format == "json" {
		format = "{{json .}}"
	}
	t, err := parseFormat(format)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	for _, item := range items {
		if err := t.Execute(&b, item); err != nil {
			return fmt.Errorf("--format: %w", err)
		}
		b.WriteByte('\n')
	}
	_, err = w.Write(b.Bytes())
	return err
}

// parseFormat parses a template with the functions that docker gives to one.
func parseFormat(format string) (*template.Template, error) {
	// On a command line \t and \n are two characters each.
	format = strings.NewReplacer(`\t`, "\t", `\n`, "\n").Replace(format)
	t, err := template.New("").Funcs(template.FuncMap{
		"json":    toJSON,
		"join":    strings.Join,
		"split":   strings.Split,
		"lower":   strings.ToLower,
		"upper":   strings.ToUpper,
		"title":   func(s string) string { return strings.ToUpper(s[:min(1, len(s))]) + s[min(1, len(s)):] },
		"println": fmt.Sprintln,
		"pad": func(s string, left, right int) string {
			return strings.Repeat(" ", left) + s + strings.Repeat(" ", right)
		},
		"truncate": func(s string, n int) string { return s[:min(n, len(s))] },
	}).Parse(format)
	if err != nil {
		return nil, fmt.Errorf("--format: %w", err)
	}
	return t, nil
}

// toJSON is v as JSON with <, > and & as they are, since no browser reads it.
func toJSON(v any) (string, error) {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return strings.TrimSuffix(b.String(), "\n"), err
}

// writeTable writes rows in columns, the first of which is the heading.
func writeTable(w io.Writer, rows [][]string) error {
	tw := tabwriter.NewWriter(w, 10, 1, 3, ' ', 0)
	for _, row := range rows {
		fmt.Fprintln(tw, strings.Join(row, "\t"))
	}
	return tw.Flush()
}
