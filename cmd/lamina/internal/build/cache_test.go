package build

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"lamina/cmd/lamina/internal/cli"
)

func TestParseCaches(t *testing.T) {
	for _, tc := range []struct {
		name     string
		from, to []string
		args     map[string]string
		want     string // places read; places written, with what is said of them
		err      string // with its hint
	}{
		{name: "nothing", want: ";"},
		{name: "short forms", from: []string{"app", "one,two:x"}, to: []string{"app:cache"}, want: "app:latest one:latest two:x;app:cache"},
		{name: "registry", from: []string{"type=registry,ref=r.io/app"}, to: []string{"type=registry,ref=r.io/app,mode=max,ignore-error=true"}, want: "r.io/app:latest;r.io/app:latest(max,ignore)"},
		{name: "a digest to read", from: []string{"type=registry,ref=app@sha256:" + strings.Repeat("0", 64)}, want: "app@sha256:" + strings.Repeat("0", 64) + ";"},
		{name: "compression", to: []string{"type=registry,ref=app,compression=zstd,compression-level=5,force-compression=true,oci-mediatypes=false"}, want: ";app:latest(zstd-5,force,docker)"},
		{name: "image-manifest", to: []string{"type=registry,ref=app,image-manifest=false"}, want: ";app:latest(note)"},
		{name: "keys in any case", from: []string{"Type=local,SRC=/tmp/c"}, want: "/tmp/c;"},
		{name: "local", from: []string{"type=local,src=c,tag=x"}, to: []string{"type=local,dest=c,mode=min"}, want: "c;c"},
		{name: "inline", to: []string{"type=inline"}, want: ";(inline)"},
		{name: "inline by argument", args: map[string]string{"BUILDKIT_INLINE_CACHE": "1"}, want: ";(inline)"},
		{name: "inline twice", to: []string{"type=inline"}, args: map[string]string{"BUILDKIT_INLINE_CACHE": "true"}, want: ";(inline)"},
		{name: "inline refused", args: map[string]string{"BUILDKIT_INLINE_CACHE": "0"}, want: ";"},

		{name: "no type", to: []string{"ref=app"}, err: `--cache-to=ref=app: there is no type=; write type=registry,ref=IMAGE, type=local or type=inline`},
		{name: "unknown type", from: []string{"type=redis"}, err: `--cache-from=type=redis: unknown type "redis", want registry, local or inline`},
		{name: "gha", to: []string{"type=gha,mode=max"}, err: "--cache-to=type=gha,mode=max: type=gha, the cache service of GitHub Actions, is not supported; use type=registry,ref=ghcr.io/OWNER/NAME:cache, or type=local with the action that caches directories"},
		{name: "s3", from: []string{"type=s3,bucket=b"}, err: "--cache-from=type=s3,bucket=b: type=s3 is not supported; use type=registry; or type=local, and copy the directory to the storage and back"},
		{name: "azblob", from: []string{"type=azblob"}, err: "--cache-from=type=azblob: type=azblob is not supported; use type=registry; or type=local, and copy the directory to the storage and back"},
		{name: "unknown key", to: []string{"type=registry,ref=app,mod=max"}, err: `--cache-to=type=registry,ref=app,mod=max: unknown key "mod"; did you mean mode?`},
		{name: "a key like no other", from: []string{"type=registry,ref=app,bandwidth=1"}, err: `--cache-from=type=registry,ref=app,bandwidth=1: unknown key "bandwidth"; the keys are ref, src, tag, digest, ignore-error, mounts, mounts-max-size, type`},
		{name: "a key of the other flag", from: []string{"type=local,dest=x"}, err: `--cache-from=type=local,dest=x: unknown key "dest"; did you mean digest?`},
		{name: "no ref", to: []string{"type=registry"}, err: "--cache-to=type=registry: type=registry needs ref=IMAGE"},
		{name: "bad ref", from: []string{"type=registry,ref=A//b"}, err: `--cache-from=type=registry,ref=A//b: image name "A//b": bad repository component ""`},
		{name: "no src", from: []string{"type=local"}, err: "--cache-from=type=local: type=local needs src=DIRECTORY"},
		{name: "no dest", to: []string{"type=local"}, err: "--cache-to=type=local: type=local needs dest=DIRECTORY"},
		{name: "ref of a directory", to: []string{"type=local,ref=x,dest=y"}, err: "--cache-to=type=local,ref=x,dest=y: ref= is of type=registry; type=local has dest=DIRECTORY"},
		{name: "directory of a ref", from: []string{"type=registry,ref=x,src=y"}, err: "--cache-from=type=registry,ref=x,src=y: src= is of type=local; type=registry has ref=IMAGE"},
		{name: "bad digest", from: []string{"type=local,src=x,digest=y"}, err: "--cache-from=type=local,src=x,digest=y: digest=y: invalid checksum digest format"},
		{name: "a digest to write", to: []string{"app@sha256:" + strings.Repeat("0", 64)}, err: "--cache-to=app@sha256:" + strings.Repeat("0", 64) + ": a digest cannot be written to: give the cache a tag"},
		{name: "from inline", from: []string{"type=inline"}, err: "--cache-from=type=inline: a cache is in an image, so it is found by the image's name; write --cache-from IMAGE"},
		{name: "inline with options", to: []string{"type=inline,mode=max"}, err: "--cache-to=type=inline,mode=max: type=inline takes no options: it is the cache of the image's own layers, compressed as they are; use type=registry for more"},
		{name: "bad mode", to: []string{"type=registry,ref=x,mode=most"}, err: "--cache-to=type=registry,ref=x,mode=most: mode=most: want min or max"},
		{name: "bad compression", to: []string{"type=registry,ref=x,compression=estargz"}, err: `--cache-to=type=registry,ref=x,compression=estargz: compression estargz is not supported: gzip and zstd are what every registry and engine reads`},
		{name: "bad level", to: []string{"type=registry,ref=x,compression-level=x"}, err: "--cache-to=type=registry,ref=x,compression-level=x: compression-level=x: not a number"},
		{name: "level too high", to: []string{"type=registry,ref=x,compression-level=10"}, err: "--cache-to=type=registry,ref=x,compression-level=10: compression level 10 of gzip is not from 0 to 9"},
		{name: "neither true nor false", to: []string{"type=registry,ref=x,ignore-error=maybe"}, err: "--cache-to=type=registry,ref=x,ignore-error=maybe: ignore-error=maybe: want true or false"},
		{name: "not CSV", to: []string{`type=registry,"ref=x`}, err: "--cache-to=type=registry,\"ref=x: not a list of key=value: parse error on line 1, column 21: extraneous or missing \" in quoted-field"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, err := parseCaches(cacheOptions{cacheFrom: tc.from, cacheTo: tc.to}, tc.args)
			if text := withItsHint(err); text != tc.err {
				t.Fatalf("error is\n%s\nwant\n%s", text, tc.err)
			}
			if err != nil {
				return
			}
			if diff := cmp.Diff(tc.want, describeCaches(c)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func withItsHint(err error) string {
	if err == nil {
		return ""
	}
	if hint := cli.HintOf(err); hint != "" {
		return err.Error() + "; " + hint
	}
	return err.Error()
}

func describeCaches(c caches) string {
	var from, to []string
	for _, f := range c.from {
		from = append(from, f.String())
	}
	for _, x := range c.to {
		var more []string
		add := func(is bool, what string) {
			if is {
				more = append(more, what)
			}
		}
		add(x.inline, "inline")
		add(x.max, "max")
		add(x.ignoreError, "ignore")
		if x.chosen {
			level := ""
			if x.pack.Level != nil {
				level = "-" + string(rune('0'+*x.pack.Level))
			}
			more = append(more, string(x.pack.Compression)+level)
		}
		add(x.pack.Force, "force")
		add(x.pack.DockerTypes, "docker")
		add(x.note != "", "note")
		name := ""
		if !x.inline {
			name = x.String()
		}
		if len(more) > 0 {
			name += "(" + strings.Join(more, ",") + ")"
		}
		to = append(to, name)
	}
	return strings.Join(from, " ") + ";" + strings.Join(to, " ")
}
