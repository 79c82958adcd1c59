package cli

import (
	"bytes"
	"io"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestRows(t *testing.T) {
	type row struct{ ID, Name string }
	list := Rows[row]{
		Table: "{{.ID}}\t{{.Name}}", Headings: row{"IMAGE ID", "NAME"},
		Items: []row{{"1", "a <b>"}, {"22", "c"}},
	}
	for _, tc := range []struct{ format, want string }{
		{"", "IMAGE ID   NAME\n1          a <b>\n22         c\n"},
		{"table", "IMAGE ID   NAME\n1          a <b>\n22         c\n"},
		{`table {{upper .Name}}\t{{.ID}}`, "NAME      IMAGE ID\nA <B>     1\nC         22\n"},
		{"table {{.Name}}", "NAME\na <b>\nc\n"},
		{"json", "{\"ID\":\"1\",\"Name\":\"a <b>\"}\n{\"ID\":\"22\",\"Name\":\"c\"}\n"},
		{`{{.ID}}\t{{pad .Name 1 1}}|`, "1\t a <b> |\n22\t c |\n"},
		{"{{truncate .Name 2}}{{title .Name}}", "a A <b>\ncC\n"},
		{"text", "text\ntext\n"},
		{"{{.Colour}}", "--format: there is no field .Colour"},
		{"{{", "--format: 1: unclosed action"},
	} {
		var out bytes.Buffer
		got := ""
		if err := list.Write(&out, tc.format); err != nil {
			got = err.Error()
		}
		got = out.String() + got
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("format %q (-want +got):\n%s", tc.format, diff)
		}
	}
}

func TestJoinAny(t *testing.T) {
	for _, tc := range []struct {
		list any
		want string
	}{
		{nil, ""},
		{[]string{"b", "a"}, "b,a"},
		{[2]int{2, 1}, "2,1"},
		{map[string]int{"x": 2, "y": 1}, "1,2"},
	} {
		if got, err := joinAny(tc.list, ","); err != nil || got != tc.want {
			t.Errorf("joinAny(%v) = %q, %v, want %q", tc.list, got, err, tc.want)
		}
	}
	if _, err := joinAny(7, ","); err == nil {
		t.Error("a number can be joined")
	}
}

// TestFormatField holds that a wrong field is told by docker's names, not by Go's.
func TestFormatField(t *testing.T) {
	type row struct{ ID, Name string }
	err := Rows[row]{Items: []row{{}}}.Write(io.Discard, "{{.Nmae}}")
	if err == nil || err.Error() != "--format: there is no field .Nmae" || HintOf(err) != "the fields are .ID, .Name" {
		t.Errorf("error %v, hint %q", err, HintOf(err))
	}
}
