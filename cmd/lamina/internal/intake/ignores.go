package intake

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"

	"lamina/snapshot"
	"lamina/snapshot/fileset"
)

const (
	dockerignore    = ".dockerignore"
	containerignore = ".containerignore"
	// maxUnread is how many are told.
	maxUnread = 20
)

// ignores notices files that look like ignore files but are not read as such.
type ignores struct {
	*survey
	hidden string // the excluded directory that the walk is in
	found  []Unread
}

// see looks at one file of the context. What is in an excluded directory, like those
// of somebody's packages, is nobody's mistake.
func (g *ignores) see(f fileset.Found) {
	if g.hidden != "" && strings.HasPrefix(f.Name, g.hidden+"/") {
		return
	}
	g.hidden = ""
	if f.Entry.Kind == snapshot.Dir {
		if f.Ruling.Excluded {
			g.hidden = f.Name
		}
		return
	}
	if f.Name == g.IgnorePath && g.IgnorePath != "" || len(g.found) == maxUnread {
		return
	}
	if why := g.why(f.Name); why != "" {
		g.found = append(g.found, Unread{Path: f.Name, Why: why})
	}
}

// why says why the file name is not read, and nothing if nobody would think it is.
func (g *ignores) why(name string) string {
	dir, base := path.Split(name)
	switch {
	case base == dockerignore || base == containerignore:
		return g.whyNamed(dir, base)
	case strings.HasSuffix(base, dockerignore):
		return g.whyOwn(name)
	case dir != "" || g.Remote:
		return ""
	case misspelt(base):
		return "it would have to be called " + dockerignore
	case base == ".gitignore" && g.IgnoreFile == "":
		return "it is for Git, and there is no " + dockerignore
	}
	return ""
}

// whyNamed is why for one with the usual name, in the directory dir.
func (g *ignores) whyNamed(dir, base string) string {
	switch {
	case g.Remote:
		return "no ignore file counts in a context that is not a directory of this machine"
	case dir == "":
		return g.IgnoreFile + " is read instead"
	case g.Label == "" && g.request.Inside != "" && path.Dir(g.request.Inside)+"/" == dir:
		return "it counts in the root of the context only; beside the Dockerfile it would have to be called " +
			path.Base(g.request.Inside) + dockerignore
	}
	return "it counts in the root of the context only"
}

// whyOwn is why for one with the name of a Dockerfile.
func (g *ignores) whyOwn(name string) string {
	file := strings.TrimSuffix(name, dockerignore)
	if g.Label != "" || g.Remote {
		return "it counts for a build of this directory only"
	}
	if e, err := g.Tree.Lstat(file); err != nil || e.Kind == snapshot.Dir {
		return fmt.Sprintf("there is no %s beside it", path.Base(file))
	}
	return "it is for builds with --file " + file
}

// misspelt tells whether base is meant to be an ignore file's name.
func misspelt(base string) bool {
	switch name := strings.ToLower(base); name {
	case dockerignore, "dockerignore", dockerignore + ".txt", ".dockerignores", ".docker-ignore", ".dockeringore":
		return base != dockerignore
	}
	return false
}

// unread are those that were found, and one beside a Dockerfile that lies elsewhere.
func (g *ignores) unread() []Unread {
	if g.Beside == "" {
		return g.found
	}
	for _, base := range []string{containerignore, dockerignore} {
		name := filepath.Join(g.Beside, base)
		if _, err := os.Stat(name); err != nil {
			continue
		}
		g.found = append(g.found, Unread{Path: name, Why: "the context is another directory: it would have to be there, or to be called " +
			filepath.Base(g.request.Dockerfile) + dockerignore})
	}
	return g.found
}
