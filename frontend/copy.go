package frontend

import (
	"net/url"
	"path"
	"strconv"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/opencontainers/go-digest"

	"lamina/solver"
)

// transfer is a COPY or an ADD.
type transfer struct {
	keyword  string
	files    instructions.SourcesAndDest
	chown    string
	chmod    string
	from     func() (solver.ID, error) // the tree of paths that are no URL
	source   solver.CopySource         // what is common to all such paths
	checksum string                    // of a URL
	keepGit  *bool                     // --keep-git-dir
	unpack   bool                      // URLs too
	link     bool                      // onto nothing, and merged
}

func (s *stage) lowerCopy(c *instructions.CopyCommand, st step) error {
	for _, src := range c.SourcePaths {
		if isGit(src) || isHTTP(src) {
			return wrong("use ADD for it", "COPY takes files of the build context or of a stage, not the URL %s", src)
		}
	}
	t := transfer{keyword: "COPY", files: c.SourcesAndDest, chown: c.Chown, chmod: c.Chmod, link: c.Link}
	t.from = func() (solver.ID, error) { return s.context(), nil }
	t.source = solver.CopySource{ResetOwner: !s.l.opt.ContextOwners, Parents: c.Parents, Exclude: c.ExcludePatterns}
	if len(st.sources) > 0 {
		from := st.sources[0]
		t.from = func() (solver.ID, error) {
			if from.live() && !from.failed && from.lowered {
				return from.files, nil
			}
			return s.readFrom(from, c.From)
		}
		t.source.ResetOwner = from.live()
	}
	return s.transfer(t, s.stepTitle(s.l.lex, st, c, "", s.env), st)
}

func (s *stage) lowerAdd(c *instructions.AddCommand, st step) error {
	if c.Checksum != "" && len(c.SourcePaths) != 1 {
		return wrong("write one ADD for each URL", "--checksum is for one source, and here are %d", len(c.SourcePaths))
	}
	if c.Checksum != "" && !isHTTP(c.SourcePaths[0]) && !isGit(c.SourcePaths[0]) {
		return wrong("remove it: files of the build context are checked anyway", "--checksum is for a URL, which %s is not", c.SourcePaths[0])
	}
	t := transfer{keyword: "ADD", files: c.SourcesAndDest, chown: c.Chown, chmod: c.Chmod, checksum: c.Checksum, link: c.Link, keepGit: c.KeepGitDir}
	t.from = func() (solver.ID, error) { return s.context(), nil }
	t.source = solver.CopySource{ResetOwner: !s.l.opt.ContextOwners, Unpack: true, Exclude: c.ExcludePatterns}
	if c.Unpack != nil {
		t.source.Unpack, t.unpack = *c.Unpack, *c.Unpack
	}
	return s.transfer(t, hidePassword(s.stepTitle(s.l.lex, st, c, "", s.env)), st)
}

// transfer adds the node of a COPY or ADD, and gives it its name.
func (s *stage) transfer(t transfer, name string, st step) error {
	if err := checkMode(t.chmod); err != nil {
		return err
	}
	op := solver.Copy{
		Dest:  destination(s.workdir(), t.files.DestPath),
		Owner: t.chown,
		Mode:  t.chmod,
	}
	inputs := []solver.ID{s.onto(t)}
	history := t.keyword
	if t.source.Parents {
		history += " --parents"
	}
	if t.chown != "" {
		history += " --chown=" + t.chown
	}
	if t.chmod != "" {
		history += " --chmod=" + t.chmod
	}
	read := func(tree solver.ID, src solver.CopySource) {
		op.Sources, inputs = append(op.Sources, src), append(inputs, tree)
	}
	last := -1 // the source that the next path of the same tree joins
	for _, src := range t.files.SourcePaths {
		history += " " + hidePassword(src)
		if isGit(src) || isHTTP(src) {
			tree, from, err := s.remote(src, t, name, st)
			if err != nil {
				return err
			}
			read(tree, from)
			last = -1
			continue
		}
		if len(st.sources) == 0 {
			s.checkSource(src, st)
		}
		if last < 0 {
			tree, err := t.from()
			if err != nil {
				return err
			}
			last = len(op.Sources)
			read(tree, t.source)
		}
		if !t.source.Parents {
			src = sourcePath(src)
		}
		op.Sources[last].Paths = append(op.Sources[last].Paths, src)
	}
	for _, doc := range t.files.SourceContents {
		history += " <<" + doc.Path
		if err := checkDocumentName(doc.Path); err != nil {
			return err
		}
		read(s.l.graph.Add(solver.Node{
			Op:   solver.Inline{Files: []solver.InlineFile{{Name: doc.Path, Data: doc.Data}}},
			Name: "[internal] preparing inline document",
			Pos:  s.l.pos(st.Location()),
		}), solver.CopySource{Paths: []string{literal(doc.Path)}})
	}
	base := s.root
	s.add(solver.Node{Op: op, Inputs: inputs}, name, st)
	if inputs[0] != base {
		s.root = s.l.graph.Add(solver.Node{
			Op: solver.Merge{}, Inputs: []solver.ID{base, s.root}, Name: name, Pos: s.l.pos(st.Location()),
		})
	}
	s.commit(history+" "+t.files.DestPath+" # buildkit", s.root)
	return nil
}

// onto is what t copies onto: what s has so far, or, with --link, nothing. As in the
// reference --link has no meaning beside --chmod.
func (s *stage) onto(t transfer) solver.ID {
	if !t.link || t.chmod != "" {
		return s.root
	}
	return s.nothing()
}

// remote returns the node of src, which is elsewhere, and what is copied of it.
func (s *stage) remote(src string, t transfer, name string, st step) (solver.ID, solver.CopySource, error) {
	if isGit(src) {
		tree, err := s.clone(src, t, name, st)
		return tree, solver.CopySource{Paths: []string{"."}, Exclude: t.source.Exclude}, err
	}
	tree, file, err := s.download(src, t.checksum, name, st)
	return tree, solver.CopySource{Paths: []string{literal(file)}, Unpack: t.unpack}, err
}

// download returns the node of a URL, and the name of the file in its tree.
func (s *stage) download(src, checksum, name string, st step) (solver.ID, string, error) {
	file := "__unnamed__"
	if u, err := url.Parse(src); err == nil {
		switch base := path.Base(u.Path); base {
		case ".", "/":
		case "..":
			file = "download" // as it happens in the reference
		default:
			file = base
		}
	}
	var sum digest.Digest
	if checksum != "" {
		var err error
		if sum, err = digest.Parse(checksum); err != nil {
			return 0, "", wrong("write it as sha256:<64 hex digits>", "invalid checksum %q: %v", checksum, err)
		}
	}
	return s.l.graph.Add(solver.Node{
		Op:      solver.HTTP{URL: src, Name: file, Checksum: sum},
		Name:    name,
		Pos:     s.l.pos(st.Location()),
		NoCache: s.noCache(),
	}), file, nil
}

// destination is the absolute path that p means in dir. It ends in a slash if it
// can only be a directory.
func destination(dir, p string) string {
	clean := path.Join("/", dir, p)
	if path.IsAbs(p) {
		clean = path.Clean(p)
	}
	if clean != "/" && (p == "" || p == "." || strings.HasSuffix(p, "/") || strings.HasSuffix(p, "/.")) {
		clean += "/"
	}
	return clean
}

// sourcePath makes a source relative to the root of its tree, out of which ".."
// does not lead.
func sourcePath(src string) string {
	if src = path.Join("/", src); src != "/" {
		return src[1:]
	}
	return "."
}

// special are the characters that mean something in a pattern.
var special = pattern(`[][*?\\]`)

// literal returns the pattern that matches only name.
func literal(name string) string { return special().ReplaceAllString(name, `\$0`) }

// symbolicMode is a mode as chmod(1) takes it, "u=rwX,go-w".
var symbolicMode = pattern(`^[ugoa]*([-+=][rwxXstugo]*)+(,[ugoa]*([-+=][rwxXstugo]*)+)*$`)

func checkMode(mode string) error {
	if mode == "" || symbolicMode().MatchString(mode) {
		return nil
	}
	if n, err := strconv.ParseUint(mode, 8, 32); err != nil || n > 0o7777 {
		return wrong("", "invalid --chmod %q: it should be octal, from 0 to 07777, or symbolic, like u=rwX,go=rX", mode)
	}
	return nil
}

func isHTTP(src string) bool {
	return (strings.HasPrefix(src, "http://") || strings.HasPrefix(src, "https://")) && !isGit(src)
}
