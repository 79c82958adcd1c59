package gitsource

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"lamina/solver"
)

// Checkout fetches the commit at, if it is not here, and writes the files that
// src wants of it. They are in the directory dir until the caller calls release,
// which it must, whatever happened.
func (c *Client) Checkout(ctx context.Context, src solver.Git, at Commit) (dir string, release func(), err error) {
	tmp, err := c.temp()
	if err != nil {
		return "", func() {}, err
	}
	release = func() { os.RemoveAll(tmp) }
	p, err := c.program(ctx, src.Remote)
	if err != nil {
		return "", release, err
	}
	defer p.close()
	unlock, err := c.Lock(ctx, "git "+c.name(src, at))
	if err != nil {
		return "", release, err
	}
	defer unlock()
	b, err := c.bare(ctx, p, src, at)
	if err == nil {
		err = b.fetch(ctx, src, at)
	}
	if err == nil {
		w := worktree{bare: b, src: src, at: at, tmp: tmp, files: filepath.Join(tmp, "files")}
		dir, err = w.write(ctx)
	}
	return dir, release, err
}

// worktree is the files of a commit, with a repository of their own.
type worktree struct {
	*bare
	src   solver.Git
	at    Commit
	tmp   string
	files string
	repo  string // the repository, which may be among the files
}

func (w *worktree) write(ctx context.Context) (string, error) {
	if err := os.Mkdir(w.files, 0o755); err != nil {
		return "", err
	}
	if err := os.Chmod(w.files, 0o755); err != nil { // whatever this process's mask is
		return "", err
	}
	checkout := w.borrow
	if KeepsDir(w.src) {
		checkout = w.clone
	}
	if err := checkout(ctx); err != nil {
		return "", err
	}
	if !w.src.SkipSubmodules {
		if err := w.submodules(ctx); err != nil {
			return "", err
		}
	}
	dir, err := w.subdir()
	if err != nil {
		return "", err
	}
	if w.src.CommitTime {
		err = w.setTimes(ctx, dir)
	}
	return dir, err
}

// KeepsDir tells whether the files that src wants include the repository itself:
// a subdirectory never has one.
func KeepsDir(src solver.Git) bool { return src.KeepGitDir && Subdir(src) == "." }

// Subdir is the directory that src wants, relative and clean.
func Subdir(src solver.Git) string {
	if dir := path.Join("/", src.Subdir); dir != "/" {
		return dir[1:]
	}
	return "."
}

// in runs git on the files.
func (w *worktree) in(ctx context.Context, args ...string) (string, error) {
	return w.bare.in(ctx, w.files, nil, append([]string{"--git-dir=" + w.repo, "--work-tree=" + w.files}, args...)...)
}

// borrow writes the files by way of a repository that has nothing of its own:
// its objects are those of the bare one.
func (w *worktree) borrow(ctx context.Context) error {
	w.repo = filepath.Join(w.tmp, "repo")
	if err := w.init(ctx, w.repo, w.at, "--bare", "--template="); err != nil {
		return err
	}
	objects := filepath.Join(w.bare.dir, "objects") + "\n"
	if err := os.WriteFile(filepath.Join(w.repo, "objects", "info", "alternates"), []byte(objects), 0o600); err != nil {
		return err
	}
	shallow, err := os.ReadFile(filepath.Join(w.bare.dir, "shallow"))
	if err == nil {
		err = os.WriteFile(filepath.Join(w.repo, "shallow"), shallow, 0o600)
	} else if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err != nil {
		return err
	}
	for _, args := range [][]string{
		{"config", "core.bare", "false"},
		{"config", "remote.origin.url", w.src.Remote}, // what submodules' URLs are relative to
		{"update-ref", "--no-deref", "HEAD", w.at.Object + "^{commit}"},
		{"reset", "--quiet", "--hard"},
	} {
		if _, err := w.in(ctx, args...); err != nil {
			return fmt.Errorf("check out %s: %w", w.at.ID, err)
		}
	}
	return nil
}

// clone writes the files with a repository that has this one commit, its name and
// the remote, and that knows nothing of the machine it was made on.
func (w *worktree) clone(ctx context.Context) error {
	w.repo = filepath.Join(w.files, ".git")
	if err := w.init(ctx, w.files, w.at); err != nil {
		return err
	}
	// A server gives only what has a name.
	name := "refs/lamina/" + w.at.Object
	if _, err := w.run(ctx, "update-ref", name, w.at.Object); err != nil {
		return err
	}
	spec := name
	if local := w.at.Name; local != "" && local != "HEAD" {
		spec += ":" + local
	}
	for _, args := range [][]string{
		{"remote", "add", "origin", Redact(w.src.Remote)},
		{"-c", noLogs, "fetch", "--quiet", "--update-head-ok", "--depth=1", "--no-tags", "--", "file://" + w.bare.dir, spec},
		{"-c", noLogs, "checkout", "--quiet", "FETCH_HEAD"},
	} {
		if _, err := w.in(ctx, args...); err != nil {
			return fmt.Errorf("check out %s: %w", w.at.ID, err)
		}
	}
	return removeAll(filepath.Join(w.repo, "FETCH_HEAD"))
}

// noLogs keeps git from noting who did what in which minute.
const noLogs = "core.logAllRefUpdates=false"

// submodules writes the files of the submodules, and theirs.
func (w *worktree) submodules(ctx context.Context) error {
	entries, err := w.in(ctx, "ls-files", "--stage")
	if err != nil {
		return err
	}
	const link = "160000 " // the mode of a submodule
	if !strings.HasPrefix(entries, link) && !strings.Contains(entries, "\n"+link) {
		return nil
	}
	_, err = w.in(ctx, "-c", noLogs, "submodule", "--quiet", "update", "--init", "--recursive", "--depth=1")
	if err != nil {
		return wrong("?submodules=false leaves them out", "cannot get the submodules of %s: %v", describe(w.src), err)
	}
	if KeepsDir(w.src) {
		return nil
	}
	// Each has a file .git that says where its repository is, which does not stay.
	return filepath.WalkDir(w.files, func(name string, e fs.DirEntry, err error) error {
		if err == nil && e.Name() == ".git" {
			err = os.Remove(name)
		}
		return err
	})
}

// subdir returns the directory that is wanted, to which no link may lead.
func (w *worktree) subdir() (string, error) {
	root, err := os.OpenRoot(w.files)
	if err != nil {
		return "", err
	}
	defer root.Close()
	sub := Subdir(w.src)
	name := "."
	for part := range strings.SplitSeq(sub, "/") {
		name = path.Join(name, part)
		st, err := root.Lstat(name)
		if errors.Is(err, fs.ErrNotExist) {
			return "", wrong("", "there is no directory %s in %s", name, describe(w.src))
		}
		if err != nil {
			return "", err
		}
		if !st.IsDir() {
			return "", wrong("", "%s in %s is not a directory", name, describe(w.src))
		}
	}
	return filepath.Join(w.files, sub), nil
}

// setTimes gives everything beneath dir the time of the commit.
func (w *worktree) setTimes(ctx context.Context, dir string) error {
	out, err := w.run(ctx, "log", "-1", "--format=%ct", w.at.Object+"^{commit}")
	if err != nil {
		return err
	}
	sec, err := strconv.ParseInt(strings.TrimSpace(out), 10, 64)
	if err != nil {
		return fmt.Errorf("time of commit %s: %w", w.at.ID, err)
	}
	ts, err := unix.TimeToTimespec(time.Unix(sec, 0))
	if err != nil {
		return fmt.Errorf("time of commit %s: %w", w.at.ID, err)
	}
	return filepath.WalkDir(dir, func(name string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return unix.UtimesNanoAt(unix.AT_FDCWD, name, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW)
	})
}
