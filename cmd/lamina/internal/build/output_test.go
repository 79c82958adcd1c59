package build

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lamina/cache/registry"
	"lamina/cmd/lamina/internal/cli"
	"lamina/exporter"
)

func TestParseOutput(t *testing.T) {
	nine, yes, epoch := 9, true, time.Unix(5, 0).UTC()
	for _, tc := range []struct {
		in   string
		want output
	}{
		{"dir", output{kind: "local", dest: "dir"}},
		{"-", output{kind: "tar", dest: "-"}},
		{"type=tar", output{kind: "tar", dest: "-"}},
		{"type=oci", output{kind: "oci", dest: "-"}},
		{"dest=x,type=oci,tar=false", output{kind: "oci", dest: "x", dir: true}},
		{"type=docker", output{kind: "image"}},
		{"type=docker,dest=x.tar", output{kind: "docker", dest: "x.tar"}},
		{"type=cacheonly", output{kind: "cacheonly"}},
		{`type=registry,"name=a:1,b:2"`, output{kind: "image", push: true, name: "a:1,b:2"}},
		{"type=image,name=a,push=true,push-by-digest", output{kind: "image", name: "a", push: true, byDigest: true}},
		{"type=image,store=false,registry.insecure=true", output{kind: "image", unstored: true, insecure: true}},
		{"type=image,dangling-name-prefix=p,danging-name-empty-only=", output{kind: "image", prefix: &registry.Name{Registry: "docker.io", Repository: "library/p", Tag: "latest"}, prefixAlone: true}},
		{"type=image,compression=gzip,compression-level=9,force-compression=true", output{
			kind: "image", pack: exporter.PackOptions{Compression: exporter.Gzip, Level: &nine, Force: true},
		}},
		{"type=oci,oci-mediatypes=false,rewrite-timestamp=true", output{kind: "oci", dest: "-", rewrite: true, pack: exporter.PackOptions{DockerTypes: true}}},
		{"type=oci,oci-artifact=false", output{kind: "oci", dest: "-", pack: exporter.PackOptions{ImageAttestations: true}}},
		{"type=local,dest=d,platform-split=true,mode=delete", output{kind: "local", dest: "d", split: &yes, remove: true}},
		{"type=tar,dest=d,source-date-epoch=5", output{kind: "tar", dest: "d", epoch: &epoch}},
		{"type=image,unpack=true,unpack=false", output{
			kind: "image", notes: []string{"--output: unpack has no effect: a build's layers are unpacked where they were made"},
		}},
		{"type=oci,annotation.a=b", output{kind: "oci", dest: "-", annotations: []annotation{{place: "manifest", key: "a", value: "b"}}}},
	} {
		got, err := parseOutput(tc.in)
		if diff := cmp.Diff(tc.want, got, cmp.AllowUnexported(output{}, annotation{}, imageName{})); diff != "" || err != nil {
			t.Errorf("%s: %v\n%s", tc.in, err, diff)
		}
	}
}

func TestParseOutputRefuses(t *testing.T) {
	for in, want := range map[string]string{
		"dest=x":                                         "there is no type=",
		"type=zip":                                       `unknown type "zip", want image, registry, oci, docker, tar, local or cacheonly`,
		"type=oci,compresion=zstd":                       `unknown option "compresion"; did you mean compression?`,
		"type=oci,zzz=1":                                 `unknown option "zzz"`,
		"type=local,dest=x,compression=zstd":             `type=local has no option "compression": it is of type=image, type=oci, type=docker`,
		"type=image,dest=x":                              `type=image has no option "dest": it is of type=oci, type=docker, type=tar, type=local`,
		"type=oci,push=true":                             `type=oci has no option "push": it is of type=image`,
		"type=oci,tar=maybe,dest=x":                      "tar=maybe: want true or false",
		"type=oci,tar=false":                             "a directory cannot go to standard output; give dest=PATH",
		"type=local":                                     "type=local needs dest=PATH",
		"type=local,dest=-":                              "type=local needs dest=PATH",
		"type=local,dest=x,mode=move":                    "mode=move: want copy or delete",
		"type=image,push-by-digest=true":                 "push-by-digest=true needs push=true",
		"type=oci,compression=estargz":                   "compression estargz is not supported: gzip and zstd are what every registry and engine reads",
		"type=oci,compression=lzma":                      `unknown compression "lzma": use gzip, zstd or uncompressed`,
		"type=oci,compression-level=x":                   "compression-level=x: not a valid value",
		"type=oci,compression-level=10":                  "compression level 10 of gzip is not from 0 to 9",
		"type=oci,compression=zstd,oci-mediatypes=false": "compression=zstd is OCI's alone: leave oci-mediatypes=false out",
		"type=oci,source-date-epoch=now":                 "source-date-epoch=now: want seconds since 1970, such as $(git log -1 --pretty=%ct)",
		"type=oci,annotation-page.a=b":                   `unknown kind of annotation "page", want manifest, manifest-descriptor, index, index-descriptor`,
		`type="x`:                                        "not a list of key=value: parse error on line 1, column 6: bare \" in non-quoted-field",
	} {
		_, err := parseOutput(in)
		if err == nil {
			t.Errorf("%s: no error, want %s", in, want)
			continue
		}
		got := err.Error()
		if hint := cli.HintOf(err); hint != "" {
			got += "; " + hint
		}
		if got != want {
			t.Errorf("%s:\n got %s\nwant %s", in, got, want)
		}
	}
}

func TestParseOutputs(t *testing.T) {
	for _, tc := range []struct {
		name string
		opt  resultOptions
		want []string
	}{
		{"nothing", resultOptions{}, []string{"image stored"}},
		{"push", resultOptions{push: true, tags: []string{"a"}}, []string{"image stored pushed"}},
		{"push beside an archive", resultOptions{push: true, tags: []string{"a"}, outputs: []string{"type=oci,dest=x"}}, []string{"oci", "image pushed"}},
		{"push of what is an image", resultOptions{push: true, tags: []string{"a"}, outputs: []string{"type=image"}}, []string{"image stored pushed"}},
		{"load beside a directory", resultOptions{load: true, outputs: []string{"out"}}, []string{"local", "image stored"}},
		{"load", resultOptions{load: true}, []string{"image stored"}},
		{"load of what is not stored", resultOptions{load: true, outputs: []string{"type=image,store=false"}}, []string{"image", "image stored"}},
		{"docker without a file", resultOptions{outputs: []string{"type=docker"}}, []string{"image stored"}},
	} {
		all, err := parseOutputs(buildOptions{resultOptions: tc.opt}, false)
		if err != nil {
			t.Errorf("%s: %v", tc.name, err)
		}
		var got []string
		for _, out := range all {
			s := out.kind
			if s == "image" && !out.unstored {
				s += " stored"
			}
			if out.push {
				s += " pushed"
			}
			got = append(got, s)
		}
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%s: %s", tc.name, diff)
		}
	}
}

// TestBelow tells directories beneath the current one from those that only look so.
func TestBelow(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	if err := os.Symlink(os.TempDir(), "link"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir("in", 0o755); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{
		"in": true, "new/deep": true, filepath.Join(dir, "in"): true, ".": false, "..": false, "in/../..": false,
		"link": false, "link/new": false, "../" + filepath.Base(dir) + "/in": true, "/": false,
	} {
		if got, err := below(name); got != want || err != nil {
			t.Errorf("below(%s) = %v, %v", name, got, err)
		}
	}
}

func TestParseAnnotations(t *testing.T) {
	arm := &ocispec.Platform{OS: "linux", Architecture: "arm64"}
	for _, tc := range []struct {
		flag, option string
		want         []annotation
	}{
		{"a=b=c", "annotation.a", []annotation{{place: "manifest", key: "a", value: "b=c"}}},
		{"org.example/a.b=", "annotation-manifest.org.example/a.b", []annotation{{place: "manifest", key: "org.example/a.b"}}},
		{"index:a=b", "annotation-index.a", []annotation{{place: "index", key: "a", value: "b"}}},
		{"manifest[linux/arm64]:a=b", "annotation[linux/arm64].a", []annotation{{place: "manifest", platform: arm, key: "a", value: "b"}}},
		{
			"manifest-descriptor[linux/arm64]:a=b", "annotation-manifest-descriptor[linux/arm64].a",
			[]annotation{{place: "manifest-descriptor", platform: arm, key: "a", value: "b"}},
		},
		{"index,index-descriptor:a=b", "", []annotation{{place: "index", key: "a", value: "b"}, {place: "index-descriptor", key: "a", value: "b"}}},
	} {
		got, err := parseAnnotations([]string{tc.flag})
		if diff := cmp.Diff(tc.want, got, cmp.AllowUnexported(annotation{})); diff != "" || err != nil {
			t.Errorf("%s: %v\n%s", tc.flag, err, diff)
		}
		if tc.option == "" {
			continue
		}
		a, err := parseAnnotationOption(tc.option, tc.want[0].value)
		if diff := cmp.Diff(tc.want[0], a, cmp.AllowUnexported(annotation{})); diff != "" || err != nil {
			t.Errorf("%s: %v\n%s", tc.option, err, diff)
		}
	}
	for _, s := range []string{"a", "=b", "page:a=b", "manifest[linux/arm64:a=b", "index[linux/arm64]:a=b", "manifest[x/y/z/w]:a=b", "manifest:=b", "a b=c"} {
		if _, err := parseAnnotations([]string{s}); err == nil || !strings.HasPrefix(err.Error(), "--annotation="+s+": ") {
			t.Errorf("%s: %v", s, err)
		}
	}
	for _, s := range []string{"annotation.", "annotation[linux/arm64.a", "annotationx", "annotation-index[linux/arm64].a"} {
		if _, err := parseAnnotationOption(s, ""); err == nil {
			t.Errorf("%s is no error", s)
		}
	}
}

func TestImageNames(t *testing.T) {
	for _, tc := range []struct {
		tags    []string
		more    string
		targets []string
		want    []string // of the first target
		err     string
	}{
		{tags: []string{"a", "b:2"}, more: "c,d:4", want: []string{"a:latest", "b:2", "c:latest", "d:4"}},
		{tags: []string{"one=a", "Two=b"}, targets: []string{"one", "two"}, want: []string{"a:latest"}},
		{tags: []string{"one=a"}, targets: []string{"ONE"}, want: []string{"a:latest"}},
		{tags: []string{"a"}, targets: []string{"one", "two"}, err: "--tag=a: this build has 2 targets, and the name does not say whose it is; write it as --tag=one=a"},
		{tags: []string{"three=a"}, targets: []string{"one", "two"}, err: "--tag=three=a: three is not a target of this build; add --target=three"},
		{tags: []string{"A"}, err: `image name "A": repository "A" is not a lower-case name`},
	} {
		all, err := imageNames(tc.tags, tc.more, tc.targets)
		if err != nil {
			got := err.Error()
			if hint := cli.HintOf(err); hint != "" {
				got += "; " + hint
			}
			if tc.err == "" || got != tc.err && !strings.HasPrefix(tc.err, "image name") {
				t.Errorf("%q: %s", tc.tags, got)
			}
			continue
		}
		first := ""
		if len(tc.targets) > 0 {
			first = tc.targets[0]
		}
		var got []string
		for _, n := range namesOf(all, first) {
			got = append(got, n.Familiar())
		}
		if diff := cmp.Diff(tc.want, got); diff != "" || tc.err != "" {
			t.Errorf("%q: want error %q\n%s", tc.tags, tc.err, diff)
		}
	}
	if _, err := registry.ParseName("a=b"); err == nil {
		t.Error("an image's name may have a \"=\" in it, which parts it from its target")
	}
}
