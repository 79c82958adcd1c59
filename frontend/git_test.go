package frontend

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"lamina/solver"
)

func TestParseGit(t *testing.T) {
	yes, no := true, false
	for s, want := range map[string]GitRef{
		"https://example.com/a/b.git":               {Git: solver.Git{Remote: "https://example.com/a/b.git"}},
		"http://example.com:8080/b.git#v1":          {Git: solver.Git{Remote: "http://example.com:8080/b.git", Ref: "v1"}},
		"https://example.com/b.git#v1:sub/dir":      {Git: solver.Git{Remote: "https://example.com/b.git", Ref: "v1", Subdir: "sub/dir"}},
		"https://example.com/b.git#:sub":            {Git: solver.Git{Remote: "https://example.com/b.git", Subdir: "sub"}},
		"https://example.com/b.git#v1:/../x/./y":    {Git: solver.Git{Remote: "https://example.com/b.git", Ref: "v1", Subdir: "x/y"}},
		"https://example.com/b.git#feature/x:a":     {Git: solver.Git{Remote: "https://example.com/b.git", Ref: "feature/x", Subdir: "a"}},
		"https://me:pw@example.com/b.git":           {Git: solver.Git{Remote: "https://me:pw@example.com/b.git"}},
		"HTTPS://example.com/b.git":                 {Git: solver.Git{Remote: "https://example.com/b.git"}},
		"git://example.com/b":                       {Git: solver.Git{Remote: "git://example.com/b"}},
		"ssh://git@example.com:22/b":                {Git: solver.Git{Remote: "ssh://git@example.com:22/b"}},
		"git@example.com:a/b":                       {Git: solver.Git{Remote: "git@example.com:a/b"}},
		"git@example.com:a/b.git#main:d":            {Git: solver.Git{Remote: "git@example.com:a/b.git", Ref: "main", Subdir: "d"}},
		"me@example.com:b?branch=x&subdir=d":        {Git: solver.Git{Remote: "me@example.com:b", Ref: "refs/heads/x", Subdir: "d"}},
		"github.com/a/b":                            {Git: solver.Git{Remote: "https://github.com/a/b"}, MaybePath: true},
		"github.com/a/b#v1":                         {Git: solver.Git{Remote: "https://github.com/a/b", Ref: "v1"}, MaybePath: true},
		"https://example.com/b.git?ref=v1#v1":       {Git: solver.Git{Remote: "https://example.com/b.git", Ref: "v1"}},
		"https://example.com/b.git?tag=v1":          {Git: solver.Git{Remote: "https://example.com/b.git", Ref: "refs/tags/v1"}},
		"https://example.com/b.git?tag=refs/tags/1": {Git: solver.Git{Remote: "https://example.com/b.git", Ref: "refs/tags/1"}},
		"https://example.com/b.git?commit=12ab":     {Git: solver.Git{Remote: "https://example.com/b.git", Checksum: "12ab"}},
		"https://example.com/b.git?checksum=12ab":   {Git: solver.Git{Remote: "https://example.com/b.git", Checksum: "12ab"}},
		"https://example.com/b.git?keep-git-dir":    {Git: solver.Git{Remote: "https://example.com/b.git"}, KeepDir: &yes},
		"https://example.com/b.git?keep-git-dir=0":  {Git: solver.Git{Remote: "https://example.com/b.git"}, KeepDir: &no},
		"https://example.com/b.git?submodules=0":    {Git: solver.Git{Remote: "https://example.com/b.git", SkipSubmodules: true}},
		"https://example.com/b.git?submodules":      {Git: solver.Git{Remote: "https://example.com/b.git"}},
		"https://example.com/b.git?mtime=commit":    {Git: solver.Git{Remote: "https://example.com/b.git", CommitTime: true}},
		"https://example.com/b.git?fetch-by-commit": {Git: solver.Git{Remote: "https://example.com/b.git", ByCommit: true}},
	} {
		got, ok, err := ParseGit(s)
		if err != nil || !ok {
			t.Errorf("%s: %t, %v", s, ok, err)
		} else if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", s, diff)
		}
	}
}

func TestParseGitKnowsOtherNames(t *testing.T) {
	for _, s := range []string{
		"", "a.git", "./git@host:x", "../github.com/a/b", "dir/b.git", "https://example.com/b", "https://example.com/b.git/x",
		"https://example.com/b?x=.git", "ftp://example.com/b.git", "file:///b.git", "docker-image://a/b", "https://%zz/b.git",
	} {
		if got, ok, err := ParseGit(s); ok || err != nil {
			t.Errorf("%s: %+v, %v", s, got, err)
		}
	}
}

func TestParseGitSaysWhatIsWrong(t *testing.T) {
	for query, want := range map[string]string{
		"?tga=v1":                     `unknown key "tga"`,
		"?tag=v1&tag=v2":              "several values of tag",
		"?tag=":                       "no value of tag",
		"?tag=v1&branch=b":            "both a branch and a tag",
		"?tag=v1#v2":                  "two things for ref: v2 and refs/tags/v1",
		"?ref=v1#v2":                  "two things for ref: v2 and v1",
		"?subdir=a#v1:b":              "two things for subdir: b and a",
		"?commit=12&checksum=34":      "two things for commit: 34 and 12",
		"?keep-git-dir=maybe":         `invalid value "maybe" of keep-git-dir`,
		"?mtime=now":                  `invalid value "now" of mtime`,
		"?subdir=%zz":                 "invalid query",
		"?fetch-by-commit=x&mtime=no": `invalid value "x" of fetch-by-commit`,
	} {
		_, ok, err := ParseGit("https://me:secret@example.com/b.git" + query)
		if !ok || err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %t, %v; want %q", query, ok, err, want)
		}
	}
}
