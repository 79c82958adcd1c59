package gitsource

import (
	"cmp"
	"context"
	"strings"

	"lamina/solver"
)

// Resolve finds the commit that src means: in one request to the server, or in
// none if src has the commit's digits. A name is looked for as it is, then among
// the branches, then among the tags; no name is the branch that the server
// prefers.
func (c *Client) Resolve(ctx context.Context, src solver.Git) (Commit, error) {
	if src.Checksum != "" && !isHex(src.Checksum) {
		return Commit{}, wrong("write the digits of a commit", "invalid checksum %q of %s: a commit has hexadecimal digits", src.Checksum, describe(src))
	}
	if strings.HasPrefix(src.Ref, "-") {
		return Commit{}, wrong("", "invalid name %q of a branch or tag", src.Ref)
	}
	if isID(src.Ref) {
		return Commit{ID: src.Ref, Object: src.Ref}, matches(src, src.Ref)
	}
	if src.ByCommit {
		return pinned(src)
	}
	p, err := c.program(ctx, src.Remote)
	if err != nil {
		return Commit{}, err
	}
	defer p.close()
	args := []string{"ls-remote", "--", src.Remote, src.Ref, src.Ref + "^{}"}
	if src.Ref == "" {
		args = []string{"ls-remote", "--symref", "--", src.Remote, "HEAD"}
	}
	out, err := p.git(ctx, args...)
	if err != nil {
		return Commit{}, unreachable(src, err)
	}
	found, ok := parseRefs(out).find(src.Ref)
	if !ok {
		return Commit{}, unknown(src)
	}
	return found, matches(src, found.Object, found.ID)
}

// pinned is the commit that src has the digits of beside a name, which is not
// looked up.
func pinned(src solver.Git) (Commit, error) {
	if !isID(src.Checksum) {
		return Commit{}, wrong("write all digits of the commit: ?checksum=…",
			"fetch-by-commit needs the whole commit, and %q is not one", src.Checksum)
	}
	return Commit{ID: src.Checksum, Object: src.Checksum}, nil
}

func unknown(src solver.Git) error {
	if src.Ref == "" {
		return wrong("name a branch, a tag or a commit behind #", "the repository %s has no default branch", Redact(src.Remote))
	}
	advice := "name a branch, a tag, or all 40 digits of a commit"
	if isHex(src.Ref) {
		advice = "a commit is named by all 40 digits"
	}
	return wrong(advice, "the repository %s has no branch or tag %s", Redact(src.Remote), src.Ref)
}

// unreachable says of a failure which repository it was about.
func unreachable(src solver.Git, err error) error {
	remote := Redact(src.Remote)
	switch {
	case said(err, "could not read Username", "Authentication failed", "returned error: 401", "returned error: 403"):
		return wrong("pass a token: --secret id=GIT_AUTH_TOKEN,env=VARIABLE",
			"the repository %s wants a login, or there is none: %v", remote, err)
	case said(err, "Permission denied (publickey"):
		return wrong("pass an agent that has a key for it: --ssh default", "cannot read the repository %s: %v", remote, err)
	case said(err, "not found", "does not exist", "does not appear to be a git repository"):
		return wrong("", "there is no Git repository %s: %v", remote, err)
	}
	if _, ok := err.(*failure); ok {
		return wrong("", "cannot read the repository %s: %v", remote, err)
	}
	return err
}

// refs are the objects that names of a repository stand for, by full name;
// "NAME^{}" is the commit of an annotated tag, and "HEAD" may be a link.
type refs struct {
	objects map[string]string
	head    string // what HEAD links to
}

// parseRefs reads the output of git ls-remote.
func parseRefs(out string) refs {
	r := refs{objects: map[string]string{}}
	for line := range strings.Lines(out) {
		what, name, ok := strings.Cut(strings.TrimRight(line, "\n"), "\t")
		if !ok {
			continue
		}
		if to, link := strings.CutPrefix(what, "ref: "); link {
			if name == "HEAD" {
				r.head = to
			}
		} else if isID(what) {
			r.objects[name] = what
		}
	}
	return r
}

// find returns what name stands for; the empty name is HEAD.
func (r refs) find(name string) (Commit, bool) {
	if name == "" {
		id, ok := r.objects["HEAD"]
		return Commit{ID: id, Object: id, Name: cmp.Or(r.head, "HEAD")}, ok
	}
	for _, full := range []string{
		"refs/" + strings.TrimPrefix(name, "refs/"),
		"refs/heads/" + strings.TrimPrefix(name, "refs/heads/"),
		"refs/tags/" + strings.TrimPrefix(name, "refs/tags/"),
	} {
		id, ok := r.objects[full]
		if !ok {
			continue
		}
		found := Commit{ID: id, Object: id, Name: full}
		if commit, annotated := r.objects[full+"^{}"]; annotated {
			found.ID = commit
		}
		return found, true
	}
	return Commit{}, false
}
