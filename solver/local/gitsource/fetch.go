package gitsource

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/opencontainers/go-digest"

	"lamina/solver"
)

// bare is the repository in which what was fetched from a remote is kept.
type bare struct {
	*program
	dir string
}

// bare opens the repository for what src names, which the caller must have
// locked, and makes it if there is none. Repositories of SHA-1 and SHA-256 have
// nothing to do with each other.
func (c *Client) bare(ctx context.Context, p *program, src solver.Git, at Commit) (*bare, error) {
	b := &bare{p, filepath.Join(c.Dir, c.name(src, at)+".git")}
	if _, err := os.Stat(b.dir); err == nil {
		used := time.Now()
		os.Chtimes(b.dir, used, used) // what is not used can be pruned; that it fails is no loss
		// Whoever left these was killed: the repository is ours alone.
		return b, removeAll(filepath.Join(b.dir, "shallow.lock"), filepath.Join(b.dir, "config.lock"))
	}
	tmp, err := c.temp()
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(tmp)
	dir := filepath.Join(tmp, "bare")
	if err := p.init(ctx, dir, at, "--bare", "--template="); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, err
	}
	return b, os.Rename(dir, b.dir)
}

// init makes an empty repository in dir that can hold at.
func (p *program) init(ctx context.Context, dir string, at Commit, options ...string) error {
	_, err := p.git(ctx, append(append([]string{"init", "--quiet", "--object-format=" + format(at)}, options...), "--", dir)...)
	if err != nil {
		return fmt.Errorf("make a repository: %w", err)
	}
	return nil
}

func format(at Commit) string {
	if len(at.Object) == 64 {
		return "sha256"
	}
	return "sha1"
}

// name is that of the bare repository and of its lock.
func (c *Client) name(src solver.Git, at Commit) string {
	return digest.FromString(format(at) + " " + src.Remote).Encoded()[:32]
}

func (c *Client) temp() (string, error) {
	tmp, err := c.Temp()
	if err != nil {
		return "", err
	}
	return os.MkdirTemp(tmp, "git-")
}

func removeAll(names ...string) (err error) {
	for _, name := range names {
		err = errors.Join(err, os.RemoveAll(name))
	}
	return err
}

// fetch makes sure that b has at, by asking for as little as the server lets us:
// the one commit by its name or by its digits, or else everything.
func (b *bare) fetch(ctx context.Context, src solver.Git, at Commit) error {
	if b.has(ctx, at) {
		return nil
	}
	wants := []string{at.Object}
	if at.Name != "" {
		wants = []string{at.Name, at.Object}
	}
	var err error
	for _, want := range wants {
		if err = b.fetchOne(ctx, src, want, at); err == nil && b.has(ctx, at) {
			return nil
		}
		if err != nil && !said(err, "not our ref", "unadvertised object", "no such remote ref", "couldn't find remote ref") {
			return unreachable(src, err)
		}
	}
	if !src.ByCommit {
		err = b.fetchAll(ctx, src)
	}
	if err != nil && !said(err, "not our ref") {
		return unreachable(src, err)
	}
	if !b.has(ctx, at) {
		return wrong("is it on a branch, and was it pushed?", "the repository %s has no commit %s", Redact(src.Remote), at.Object)
	}
	return nil
}

// has tells whether b has the commit, whatever object stands for it.
func (b *bare) has(ctx context.Context, at Commit) bool {
	_, err := b.run(ctx, "cat-file", "-e", at.Object+"^{commit}")
	return err == nil
}

// fetchOne fetches want without its history, if the server can do that.
func (b *bare) fetchOne(ctx context.Context, src solver.Git, want string, at Commit) error {
	args := []string{"fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--force"}
	spec := "+" + want + ":refs/lamina/" + at.Object
	_, err := b.run(ctx, append(args, "--depth=1", "--", src.Remote, spec)...)
	if said(err, "shallow", "--depth") {
		_, err = b.run(ctx, append(args, "--", src.Remote, spec)...)
	}
	return err
}

// fetchAll fetches all branches and tags with their history.
func (b *bare) fetchAll(ctx context.Context, src solver.Git) error {
	args := []string{"fetch", "--quiet", "--no-write-fetch-head", "--force"}
	if _, err := os.Lstat(filepath.Join(b.dir, "shallow")); err == nil {
		args = append(args, "--unshallow")
	}
	_, err := b.run(ctx, append(args, "--", src.Remote, "+refs/heads/*:refs/lamina/heads/*", "+refs/tags/*:refs/lamina/tags/*")...)
	return err
}

// run runs git on b.
func (b *bare) run(ctx context.Context, args ...string) (string, error) {
	return b.git(ctx, append([]string{"--git-dir=" + b.dir}, args...)...)
}
