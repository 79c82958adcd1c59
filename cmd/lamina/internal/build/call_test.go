package build

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/rogpeppe/go-internal/txtar"

	"lamina/frontend"
)

// anyBase resolves "base" to an empty image for this platform, and nothing else.
type anyBase struct{}

func (anyBase) Resolve(_ context.Context, ref string, p ocispec.Platform) (frontend.Base, error) {
	if name, _, _ := strings.Cut(ref, ":"); name != "base" {
		return frontend.Base{}, fs.ErrNotExist
	}
	base := frontend.Base{Ref: ref}
	base.Config.Platform = p
	return base, nil
}

// TestOutline compares --call=outline and --call=targets for the Dockerfiles of
// testdata/outline with what the reference says of them: the sections outline and
// targets are its JSON, or "error" and its words where it refuses.
func TestOutline(t *testing.T) {
	names, err := filepath.Glob("../../../../testdata/outline/*.txtar")
	if err != nil || len(names) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, name := range names {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(name)
			if err != nil {
				t.Fatal(err)
			}
			files := map[string][]byte{}
			for _, f := range archive.Files {
				files[f.Name] = f.Data
			}
			in := &input{name: "Dockerfile", source: files["Dockerfile"]}
			opt := outlineOptions(t, strings.Fields(string(files["args"])))

			list, err := frontend.Targets(in.name, in.source)
			compareAnswer(t, files["targets"], targetsJSON(in, list), err)

			file, err := frontend.Parse(in.name, in.source)
			var o *frontend.Outline
			if err == nil {
				o, err = frontend.Describe(context.Background(), file, anyBase{}, opt)
			}
			if err == nil {
				sortArgs(o)
				compareAnswer(t, files["outline"], outlineJSON(in, o), nil)
			} else {
				compareAnswer(t, files["outline"], nil, err)
			}
		})
	}
}

func outlineOptions(t *testing.T, args []string) frontend.Options {
	opt := frontend.Options{
		BuildPlatform: ocispec.Platform{OS: "linux", Architecture: "amd64"}, BuildArgs: map[string]string{},
	}
	for i := 0; i+1 < len(args); i += 2 {
		switch args[i] {
		case "--target":
			opt.Targets = append(opt.Targets, args[i+1])
		case "--build-arg":
			k, v, _ := strings.Cut(args[i+1], "=")
			opt.BuildArgs[k] = v
		case "--platform":
			p, err := frontend.ParsePlatform(args[i+1])
			if err != nil {
				t.Fatal(err)
			}
			opt.Platforms = append(opt.Platforms, p)
		default:
			t.Fatalf("unknown option %s", args[i])
		}
	}
	return opt
}

// sortArgs sorts those of one line, which the reference has in any order.
func sortArgs(o *frontend.Outline) {
	slices.SortFunc(o.Args, func(a, b frontend.OutlineArg) int {
		return cmp.Or(cmp.Compare(a.Pos.First, b.Pos.First), cmp.Compare(a.Name, b.Name))
	})
}

// compareAnswer compares JSON without the sources, and the fact of an error.
func compareAnswer(t *testing.T, want []byte, got any, err error) {
	t.Helper()
	if strings.HasPrefix(string(want), "error ") {
		var list frontend.ErrorList
		if !errors.As(err, &list) {
			t.Errorf("error %v, want one like %s", err, want)
		}
		return
	}
	if err != nil {
		t.Error(err)
		return
	}
	var a, b map[string]any
	if err := json.Unmarshal(want, &a); err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &b); err != nil {
		t.Fatal(err)
	}
	delete(b, "sources")
	if args, ok := a["args"].([]any); ok {
		slices.SortStableFunc(args, func(x, y any) int {
			return cmp.Or(cmp.Compare(firstLine(x), firstLine(y)), cmp.Compare(x.(map[string]any)["name"].(string), y.(map[string]any)["name"].(string)))
		})
	}
	if diff := gocmp.Diff(a, b); diff != "" {
		t.Errorf("(-reference +ours):\n%s", diff)
	}
}

// firstLine is where something of an answer begins.
func firstLine(item any) float64 {
	for _, key := range []string{"location", "ranges"} {
		item = item.(map[string]any)[key]
	}
	start := item.([]any)[0].(map[string]any)["start"].(map[string]any)
	return start["line"].(float64)
}

func TestParseCall(t *testing.T) {
	for _, tc := range []struct {
		in   string
		want *call
		err  string
	}{
		{in: ""},
		{in: "build"},
		{in: "build,format=json"},
		{in: "check", want: &call{name: "check"}},
		{in: "lint", want: &call{name: "check"}},
		{in: "check,format=json", want: &call{name: "check", json: true}},
		{in: "format=json,outline", want: &call{name: "outline", json: true}},
		{in: "targets,format=text", want: &call{name: "targets"}},
		{in: "check,ignorestatus=true", want: &call{name: "check", ignoreStatus: true}},
		{in: "check,ignorestatus=maybe", err: "ignorestatus=maybe: want true or false"},
		{in: "check,format=xml", err: `unknown format "xml", want json or text`},
		{in: "check,outline", err: "it asks for both check and outline"},
		{in: "check,a=b", err: `unknown option "a", want format or ignorestatus`},
		{in: "chekc", err: `there is no method "chekc", want build, check, outline or targets`},
	} {
		got, err := parseCall(tc.in)
		if text := errorText(err); text != tc.err {
			t.Errorf("%q: error %q, want %q", tc.in, text, tc.err)
		}
		if diff := gocmp.Diff(tc.want, got, gocmp.AllowUnexported(call{})); err == nil && diff != "" {
			t.Errorf("%q (-want +got):\n%s", tc.in, diff)
		}
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
