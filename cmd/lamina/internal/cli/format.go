package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"text/tabwriter"
	"text/template"
)

// FormatUsage describes --format of commands that list.
const FormatUsage = `Format output: "table", "table TEMPLATE", "json", or a Go template`

// Rows is a list of things to show, each a struct of strings whose fields have
// docker's names.
type Rows[T any] struct {
	Table    string // the template of the usual columns: "{{.Repository}}\t{{.Tag}}"
	Headings T      // what stands above each field
	Items    []T
}

// Write writes the rows as format says: a table if it is empty or "table", a
// table of that template after "table ", a line of JSON each for "json", and
// the template's result for anything else.
func (r Rows[T]) Write(w io.Writer, format string) error {
	head, rest, _ := strings.Cut(format, " ")
	switch {
	case format == "" || format == "table":
		return r.writeTable(w, r.Table)
	case head == "table":
		return r.writeTable(w, strings.TrimSpace(rest))
	case format == "json":
		format = "{{json .}}"
	}
	t, err := ParseFormat(format)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	if err := r.execute(&b, t); err != nil {
		return err
	}
	_, err = w.Write(b.Bytes())
	return err
}

func (r Rows[T]) writeTable(w io.Writer, columns string) error {
	t, err := ParseFormat(columns)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	tw := tabwriter.NewWriter(&b, 10, 1, 3, ' ', 0)
	head, err := t.Clone()
	if err != nil {
		return err
	}
	if err := head.Funcs(headingFuncs()).Execute(tw, r.Headings); err != nil {
		return FormatError(err)
	}
	fmt.Fprintln(tw)
	if err := r.execute(tw, t); err != nil {
		return err
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	_, err = w.Write(b.Bytes())
	return err
}

func (r Rows[T]) execute(w io.Writer, t *template.Template) error {
	for _, item := range r.Items {
		if err := t.Execute(w, item); err != nil {
			return fieldError(err, item)
		}
		if _, err := fmt.Fprintln(w); err != nil {
			return err
		}
	}
	return nil
}

// ParseFormat parses a template with the functions that docker gives to one.
func ParseFormat(format string) (*template.Template, error) {
	// On a command line \t and \n are two characters each.
	format = strings.NewReplacer(`\t`, "\t", `\n`, "\n").Replace(format)
	t, err := template.New("").Funcs(template.FuncMap{
		"json":  ToJSON,
		"join":  joinAny,
		"split": strings.Split,
		"lower": strings.ToLower,
		"upper": strings.ToUpper,
		"title": func(s string) string { return strings.ToUpper(s[:min(1, len(s))]) + s[min(1, len(s)):] },
		"pad": func(s string, left, right int) string {
			return strings.Repeat(" ", left) + s + strings.Repeat(" ", right)
		},
		"truncate": func(s string, n int) string { return s[:min(n, len(s))] },
	}).Parse(format)
	if err != nil {
		return nil, FormatError(err)
	}
	return t, nil
}

// headingFuncs leave a heading as it is.
func headingFuncs() template.FuncMap {
	same := func(s string, _ ...any) string { return s }
	return template.FuncMap{"json": same, "join": same, "split": same, "lower": same, "upper": same, "title": same, "truncate": same}
}

// FormatError leaves out where in the nameless template the error is.
func FormatError(err error) error {
	text := strings.TrimPrefix(err.Error(), "template: ")
	return fmt.Errorf("--format: %s", strings.TrimPrefix(text, ":"))
}

// fieldError is formatError for a template that was executed on a struct.
func fieldError(err error, item any) error {
	m := regexp.MustCompile(`can't evaluate field (\w+) in type`).FindStringSubmatch(err.Error())
	kind := reflect.TypeOf(item)
	if m == nil || kind.Kind() != reflect.Struct {
		return FormatError(err)
	}
	var names []string
	for _, f := range reflect.VisibleFields(kind) {
		names = append(names, "."+f.Name)
	}
	return WithHint(fmt.Errorf("--format: there is no field .%s", m[1]), "the fields are %s", strings.Join(names, ", "))
}

// ToJSON is v as JSON with <, > and & as they are, since no browser reads it.
func ToJSON(v any) (string, error) {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return strings.TrimSuffix(b.String(), "\n"), err
}

// joinAny joins the elements of a list, or the values of a map in a fixed order.
func joinAny(list any, separator string) (string, error) {
	v := reflect.ValueOf(list)
	var parts []string
	switch {
	case list == nil:
	case v.Kind() == reflect.Slice || v.Kind() == reflect.Array:
		for i := range v.Len() {
			parts = append(parts, fmt.Sprint(v.Index(i).Interface()))
		}
	case v.Kind() == reflect.Map:
		for _, k := range v.MapKeys() {
			parts = append(parts, fmt.Sprint(v.MapIndex(k).Interface()))
		}
		slices.Sort(parts)
	default:
		return "", errors.New("join needs a list")
	}
	return strings.Join(parts, separator), nil
}
