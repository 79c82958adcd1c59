package explain

import (
	"cmp"
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"lamina/cmd/lamina/internal/builds"
	"lamina/solver"
)

// difference is one thing in which a step is not what an earlier one was.
type difference struct {
	kind          Kind
	subject       string
	before, after string
}

// differences are those between the operations of two steps of the same kind, as far
// as the operations tell them.
func differences(before, after *builds.Step) []difference {
	if string(before.Op) == string(after.Op) {
		return nil
	}
	d := &differ{before: before, after: after}
	switch after.Kind {
	case "run":
		compareOps(d, d.run)
	case "copy":
		compareOps(d, d.copy)
	case "mkdir":
		compareOps(d, d.mkdir)
	case "inline":
		compareOps(d, d.inline)
	case "http":
		compareOps(d, d.http)
	case "git":
		compareOps(d, d.git)
	}
	if len(d.found) == 0 {
		d.note(Text, "", instruction(before.Name), instruction(after.Name))
	}
	return d.found
}

// differ collects differences of two steps.
type differ struct {
	before, after *builds.Step
	found         []difference
}

// compareOps decodes the operations of both. One that makes no sense has no fields.
func compareOps[T any](d *differ, compare func(before, after T)) {
	var a, b T
	_ = json.Unmarshal(d.before.Op, &a)
	_ = json.Unmarshal(d.after.Op, &b)
	compare(a, b)
}

// note notes a difference, if it is one.
func (d *differ) note(kind Kind, subject, before, after string) {
	if before != after {
		d.found = append(d.found, difference{kind, subject, before, after})
	}
}

func (d *differ) run(a, b solver.Run) {
	d.command(a, b)
	d.environment(a.Env, b.Env)
	d.note(Option, workdir, a.Dir, b.Dir)
	d.note(Option, "USER", a.User, b.User)
	d.mounts(a.Mounts, b.Mounts)
	d.note(Option, "--network", cmp.Or(a.Network, "default"), cmp.Or(b.Network, "default"))
	d.note(Option, "--security", cmp.Or(a.Security, "sandbox"), cmp.Or(b.Security, "sandbox"))
	d.note(Option, "--hostname", a.Hostname, b.Hostname)
	d.note(Option, "--add-host", strings.Join(a.Hosts, " "), strings.Join(b.Hosts, " "))
	d.note(Option, "--shm-size", size(a.ShmSize), size(b.ShmSize))
	d.note(Option, "--ulimit", strings.Join(a.Ulimits, " "), strings.Join(b.Ulimits, " "))
}

// workdir is the working directory, of whichever instruction.
const workdir = "WORKDIR"

// noteDir notes another working directory, by what it does to a path in it.
func (d *differ) noteDir(before, after string) {
	before, after = trimCommon(before, after)
	d.note(Option, workdir, before, after)
}

// trimCommon removes the components that two absolute paths have in common at their
// ends.
func trimCommon(a, b string) (string, string) {
	for path.Base(a) == path.Base(b) && a != "/" && b != "/" {
		a, b = path.Dir(path.Clean(a)), path.Dir(path.Clean(b))
	}
	return a, b
}

func size(n int64) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatInt(n, 10)
}

// command compares what two RUNs execute. The shell form is the last argument of a
// shell.
func (d *differ) command(a, b solver.Run) {
	textA, shellA := splitShell(a.Args)
	textB, shellB := splitShell(b.Args)
	if shellA != "" && shellB != "" && textA == textB {
		d.note(Option, "SHELL", shellA, shellB)
	} else if !slices.Equal(a.Args, b.Args) {
		d.note(Text, "", commandLine(a.Args, textA), commandLine(b.Args, textB))
	}
	if !slices.Equal(a.Files, b.Files) {
		d.documents(a.Files, b.Files)
	}
}

// splitShell returns the last of args and what is before it, if that is a shell.
func splitShell(args []string) (text, shell string) {
	if len(args) < 2 {
		return "", ""
	}
	return args[len(args)-1], strings.Join(args[:len(args)-1], " ")
}

// commandLine is what a RUN executes: its text, if it has the usual shell.
func commandLine(args []string, text string) string {
	if len(args) == 3 && args[0] == "/bin/sh" && args[1] == "-c" {
		return "RUN " + text
	}
	return fmt.Sprintf("RUN %q", args)
}

// documents compares here-documents by their names.
func (d *differ) documents(a, b []solver.InlineFile) {
	was := map[string]string{}
	for _, f := range a {
		was[f.Name] = f.Data
	}
	for _, f := range b {
		d.note(Text, "here-document "+f.Name, was[f.Name], f.Data)
		delete(was, f.Name)
	}
	for _, f := range a {
		if data, ok := was[f.Name]; ok {
			d.note(Text, "here-document "+f.Name, data, "")
		}
	}
}

// environment compares variables by their names. A difference of their order alone
// is one, too.
func (d *differ) environment(a, b []string) {
	found := len(d.found)
	was := map[string]string{}
	for _, kv := range a {
		key, value, _ := strings.Cut(kv, "=")
		was[key] = value
	}
	for _, kv := range b {
		key, value, _ := strings.Cut(kv, "=")
		old, ok := was[key]
		if !ok || old != value {
			d.found = append(d.found, difference{Env, key, old, value})
		}
		delete(was, key)
	}
	for _, kv := range a {
		key, _, _ := strings.Cut(kv, "=")
		if value, ok := was[key]; ok {
			d.found = append(d.found, difference{Env, key, value, ""})
		}
	}
	if len(d.found) == found && !slices.Equal(a, b) {
		d.note(Option, "order of the environment", strings.Join(names(a), " "), strings.Join(names(b), " "))
	}
}

func names(env []string) []string {
	all := make([]string, len(env))
	for i, kv := range env {
		all[i], _, _ = strings.Cut(kv, "=")
	}
	return all
}

func (d *differ) mkdir(a, b solver.Mkdir) {
	if instruction(d.before.Name) == instruction(d.after.Name) {
		d.noteDir(a.Path, b.Path)
	} else {
		d.note(Option, workdir, a.Path, b.Path)
	}
	d.note(Option, "USER", a.User, b.User)
	d.note(Option, "SOURCE_DATE_EPOCH", epoch(a.Epoch), epoch(b.Epoch))
}

func epoch(t *int64) string {
	if t == nil {
		return ""
	}
	return strconv.FormatInt(*t, 10)
}

func (d *differ) copy(a, b solver.Copy) {
	x, y := merged(a.Sources), merged(b.Sources)
	if !slices.Equal(x.Paths, y.Paths) || a.Dest != b.Dest {
		d.note(Text, "", instruction(d.before.Name), instruction(d.after.Name))
		if len(d.found) == 0 { // it looks the same
			d.noteDir(a.Dest, b.Dest)
		}
	}
	d.note(Option, "--chown", a.Owner, b.Owner)
	d.note(Option, "--chmod", a.Mode, b.Mode)
	d.note(Option, "--exclude", strings.Join(x.Exclude, " "), strings.Join(y.Exclude, " "))
	d.note(Option, "--parents", flag(x.Parents), flag(y.Parents))
	d.note(Option, "--unpack", flag(x.Unpack), flag(y.Unpack))
	d.note(Option, contextOwners, flag(!x.ResetOwner), flag(!y.ResetOwner))
}

// contextOwners says whether files belong to whom their context says, as those of an
// archive do.
const contextOwners = "owners of the context"

// merged is what all sources say together.
func merged(sources []solver.CopySource) (all solver.CopySource) {
	for _, s := range sources {
		all.Paths = append(all.Paths, s.Paths...)
		all.Exclude = append(all.Exclude, s.Exclude...)
		all.Parents = all.Parents || s.Parents
		all.Unpack = all.Unpack || s.Unpack
		all.ResetOwner = all.ResetOwner || s.ResetOwner
	}
	slices.Sort(all.Exclude)
	all.Exclude = slices.Compact(all.Exclude)
	return all
}

func flag(on bool) string {
	if on {
		return "true"
	}
	return "false"
}

func (d *differ) inline(a, b solver.Inline) { d.documents(a.Files, b.Files) }

func (d *differ) http(a, b solver.HTTP) {
	d.note(Text, "", a.URL, b.URL)
	d.note(Option, "--checksum", string(a.Checksum), string(b.Checksum))
}

func (d *differ) git(a, b solver.Git) {
	d.note(Text, "", gitName(a), gitName(b))
	d.note(Option, "--checksum", a.Checksum, b.Checksum)
	d.note(Option, "--keep-git-dir", flag(a.KeepGitDir), flag(b.KeepGitDir))
	d.note(Option, "submodules", flag(!a.SkipSubmodules), flag(!b.SkipSubmodules))
	d.note(Option, "mtime", flag(a.CommitTime), flag(b.CommitTime))
}

func gitName(op solver.Git) string {
	name := op.Remote
	if op.Ref != "" || op.Subdir != "" {
		name += "#" + op.Ref
	}
	if op.Subdir != "" {
		name += ":" + op.Subdir
	}
	return name
}
