package frontend

import (
	"maps"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"

	"lamina/solver"
)

// GitRef is what a name of a Git repository says: where it is, and what of it is
// wanted.
type GitRef struct {
	solver.Git
	// KeepDir is whether the name says that the repository itself is wanted.
	KeepDir *bool
	// MaybePath tells that the name could be that of a file: "github.com/o/r" is a
	// repository only where a build context is expected.
	MaybePath bool
}

// ParseGit reads the name of a Git repository, in one of the forms
//
//	https://host/path.git   ssh://git@host/path   git://host/path   git@host:path
//
// with "?key=value&…" or "#ref:directory" behind it; ok is false if s is the name
// of something else. The keys are ref, branch, tag, checksum or commit, subdir,
// keep-git-dir, submodules, mtime and fetch-by-commit.
func ParseGit(s string) (ref GitRef, ok bool, err error) {
	remote, query, fragment, ok := splitGit(s)
	if !ok {
		return ref, false, nil
	}
	ref.Remote = remote
	ref.MaybePath = strings.HasPrefix(s, "github.com/")
	name, dir, _ := strings.Cut(fragment, ":")
	ref.Ref, ref.Subdir = name, strings.TrimPrefix(path.Join("/", dir), "/")
	values, err := url.ParseQuery(query)
	if err != nil {
		return ref, true, wrong("", "invalid query of the Git repository %s: %v", hidePassword(remote), err)
	}
	q := gitQuery{GitRef: &ref, name: hidePassword(remote)}
	if err := q.read(values); err != nil {
		return ref, true, err
	}
	return ref, true, nil
}

// scpStyle is git@github.com:owner/repository?query#fragment.
var scpStyle = pattern(`^([a-zA-Z0-9-_]+@[a-zA-Z0-9-.]+:.*?)(?:\?(.*?))?(?:#(.*))?$`)

// scheme begins a URL.
var scheme = pattern(`^[a-zA-Z0-9]+://`)

// splitGit tells a Git repository from a file and from another URL: of an HTTP
// URL it is the ".git" at the end of the path that does.
func splitGit(s string) (remote, query, fragment string, ok bool) {
	if strings.HasPrefix(s, "./") || strings.HasPrefix(s, "../") {
		return "", "", "", false
	}
	short := strings.HasPrefix(s, "github.com/")
	if short {
		s = "https://" + s
	}
	if !scheme().MatchString(s) {
		m := scpStyle().FindStringSubmatch(s)
		if m == nil {
			return "", "", "", false
		}
		return m[1], m[2], m[3], true
	}
	u, err := url.Parse(s)
	if err != nil || !slices.Contains([]string{"http", "https", "ssh", "git"}, u.Scheme) {
		return "", "", "", false
	}
	if strings.HasPrefix(u.Scheme, "http") && !short && !strings.HasSuffix(u.Path, ".git") {
		return "", "", "", false
	}
	query, fragment = u.RawQuery, u.Fragment
	u.RawQuery, u.ForceQuery, u.Fragment, u.RawFragment = "", false, "", ""
	return u.String(), query, fragment, true
}

// gitQuery reads the query of a repository's name.
type gitQuery struct {
	*GitRef
	name        string // of the repository, for people
	branch, tag string
}

func (q *gitQuery) read(values url.Values) error {
	for _, key := range slices.Sorted(maps.Keys(values)) {
		all := values[key]
		if len(all) > 1 {
			return wrong("", "the query of %s has several values of %s", q.name, key)
		}
		if err := q.set(key, all[0]); err != nil {
			return err
		}
	}
	if q.tag != "" && q.branch != "" {
		return wrong("name one of them", "the query of %s has both a branch and a tag", q.name)
	}
	if q.tag != "" {
		return q.agree("ref", &q.Ref, qualified("refs/tags/", q.tag))
	}
	if q.branch != "" {
		return q.agree("ref", &q.Ref, qualified("refs/heads/", q.branch))
	}
	return nil
}

func qualified(prefix, name string) string { return prefix + strings.TrimPrefix(name, prefix) }

// set takes note of one key.
func (q *gitQuery) set(key, value string) error {
	flag := func(to *bool) (err error) {
		if *to = true; value != "" {
			if *to, err = strconv.ParseBool(value); err != nil {
				return wrong("write true or false", "invalid value %q of %s in the query of %s", value, key, q.name)
			}
		}
		return nil
	}
	switch key {
	case "keep-git-dir":
		q.KeepDir = new(bool)
		return flag(q.KeepDir)
	case "submodules":
		var with bool
		err := flag(&with)
		q.SkipSubmodules = !with
		return err
	case "fetch-by-commit":
		return flag(&q.ByCommit)
	}
	if value == "" {
		return wrong("", "the query of %s has no value of %s", q.name, key)
	}
	switch key {
	case "ref":
		return q.agree(key, &q.Ref, value)
	case "branch":
		q.branch = value
	case "tag":
		q.tag = value
	case "subdir":
		return q.agree(key, &q.Subdir, value)
	case "checksum", "commit":
		return q.agree(key, &q.Checksum, value)
	case "mtime":
		if value != "checkout" && value != "commit" {
			return wrong("write checkout or commit", "invalid value %q of mtime in the query of %s", value, q.name)
		}
		q.CommitTime = value == "commit"
	default:
		known := []string{"branch", "checksum", "commit", "fetch-by-commit", "keep-git-dir", "mtime", "ref", "subdir", "submodules", "tag"}
		hint := didYouMean(key, known, false)
		if hint == "" {
			hint = "the keys are " + strings.Join(known, ", ")
		}
		return wrong(hint, "unknown key %q in the query of %s", key, q.name)
	}
	return nil
}

// agree sets *to to value, which must be what it is already.
func (q *gitQuery) agree(key string, to *string, value string) error {
	if *to != "" && *to != value {
		return wrong("say it once", "%s says two things for %s: %s and %s", q.name, key, *to, value)
	}
	*to = value
	return nil
}

// isGit tells whether src, a source of an ADD, is a Git repository.
func isGit(src string) bool {
	ref, ok, _ := ParseGit(src)
	return ok && !ref.MaybePath
}

// clone returns the node of the Git repository src, which t reads.
func (s *stage) clone(src string, t transfer, name string, st step) (solver.ID, error) {
	ref, _, err := ParseGit(src)
	if err != nil {
		return 0, err
	}
	op, err := gitSource(ref, t.keepGit, t.checksum)
	if err != nil {
		return 0, err
	}
	return s.l.graph.Add(solver.Node{Op: op, Name: name, Pos: s.l.pos(st.Location())}), nil
}

// gitSource is the source of an ADD with these flags: keep is that of
// --keep-git-dir and checksum that of --checksum.
func gitSource(ref GitRef, keep *bool, checksum string) (solver.Git, error) {
	src := ref.Git
	if keep != nil && ref.KeepDir != nil && *keep != *ref.KeepDir {
		return src, wrong("say it once", "--keep-git-dir=%t, but the URL says %t", *keep, *ref.KeepDir)
	}
	for _, k := range []*bool{keep, ref.KeepDir} {
		src.KeepGitDir = src.KeepGitDir || k != nil && *k
	}
	if checksum != "" && src.Checksum != "" && checksum != src.Checksum {
		return src, wrong("say it once", "--checksum=%s, but the URL says %s", checksum, src.Checksum)
	}
	if checksum != "" {
		src.Checksum = checksum
	}
	src.CommitTime = false // the reference minds it of contexts only
	return src, nil
}

// hidePassword replaces the password of a URL in text about it.
func hidePassword(text string) string {
	return urlPassword().ReplaceAllString(text, "$1:***@")
}

// urlPassword is the password in a URL.
var urlPassword = pattern(`([a-zA-Z0-9+.-]+://[^/@:\s]*):[^/@\s]*@`)
