package fsck

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"lamina/cmd/lamina/internal/builds"
	"lamina/cmd/lamina/internal/engine"
	"lamina/snapshot/fileset"
	"lamina/solver/local"
	"lamina/solver/local/gitsource"
)

// layout checks the file that tells other programs that the store is an OCI layout.
func (c *checker) layout(context.Context) error {
	if err := c.store.CheckLayout(); err != nil {
		c.damage(Finding{
			Part: Layout, Path: "oci-layout", Problem: fmt.Sprintf("is damaged: %v", err), Remedy: "it is written again",
			Effects: []string{"other programs do not recognise the store as an OCI image layout"},
		}, func(context.Context) error { return c.store.WriteLayout() })
	}
	return nil
}

// origins checks what is known of where blobs are. It is advice: a wrong place costs
// a question.
func (c *checker) origins(context.Context) error {
	entries, err := os.ReadDir(c.store.Path("origins"))
	if err != nil {
		return err
	}
	for _, e := range entries {
		path := "origins/" + e.Name()
		d := digest.NewDigestFromEncoded(digest.SHA256, e.Name())
		if d.Validate() != nil {
			c.note(Finding{Part: Origins, Path: path, Problem: "is not of a blob: it was not lamina that put it there"}, nil)
			continue
		}
		all := c.store.Origins(d)
		if len(all) > 0 && !slices.ContainsFunc(all, func(o string) bool { return !engine.IsOrigin(o) }) {
			continue
		}
		if _, err := os.Lstat(c.store.Path(path)); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		c.damage(Finding{
			Part: Origins, Path: path, Problem: "names no place that a blob could be in", Remedy: "what makes no sense of it is left out",
		}, func(context.Context) error {
			if err := c.store.DropOrigins(d); err != nil {
				return err
			}
			for _, o := range slices.Backward(all) {
				if !engine.IsOrigin(o) {
					continue
				}
				if err := c.store.AddOrigin(d, o); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return nil
}

// sums checks the stat index.
func (c *checker) sums(context.Context) error {
	file := c.store.Path(engine.SumsFile)
	damaged, err := fileset.CheckIndex(file)
	if err != nil || !damaged {
		return err
	}
	c.damage(Finding{
		Part: Sums, Path: engine.SumsFile, Problem: "is damaged", Remedy: "what is damaged of it is left out",
		Effects: []string{"some files of build contexts will be read once more"},
	}, func(context.Context) error { return fileset.RepairIndex(file) })
	return nil
}

// builds checks the builds that are remembered.
func (c *checker) builds(context.Context) error {
	store := builds.In(c.store)
	ids, err := store.IDs()
	if err != nil {
		return err
	}
	for _, id := range ids {
		_, err := store.Get(id)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		c.report.Builds++
		var damaged *builds.DamagedError
		if err != nil && !errors.As(err, &damaged) {
			return err
		}
		if damaged == nil {
			continue
		}
		c.damage(Finding{
			Part: Builds, Path: "builds/" + id, Problem: fmt.Sprintf("cannot be read: %v", damaged.Err), Remedy: "it is removed",
			Effects: []string{"'lamina builds' and 'lamina why' do not know this build any more"},
		}, func(context.Context) error { return store.Remove(id) })
	}
	return nil
}

// mounts checks that cache mounts are there. What is in them belongs to the programs
// that use them.
func (c *checker) mounts(context.Context) error {
	entries, err := os.ReadDir(c.store.Path("mounts"))
	if err != nil {
		return err
	}
	for _, e := range entries {
		c.report.Mounts++
		path := filepath.Join("mounts", e.Name())
		if _, err := os.Lstat(c.store.Path(path, "data")); !errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if _, err := os.Lstat(c.store.Path(path)); errors.Is(err, fs.ErrNotExist) {
			continue // removed meanwhile
		}
		c.damage(Finding{
			Part: Mounts, Path: path, Problem: "has no data", Remedy: "it is removed",
			Effects: []string{"a cache mount will start from its beginning"},
		}, func(context.Context) error { return os.RemoveAll(c.store.Path(path)) })
	}
	return nil
}

// git lets git check what was fetched from repositories.
func (c *checker) git(ctx context.Context) error {
	entries, err := os.ReadDir(c.store.Path(local.GitDir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		path := filepath.Join(local.GitDir, e.Name())
		if !strings.HasSuffix(path, ".git") {
			continue
		}
		err := gitsource.Check(ctx, c.store.Path(path))
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err == nil:
			continue
		case errors.Is(err, gitsource.ErrNoGit):
			c.note(Finding{Part: Git, Path: path, Problem: "was not checked: the program git is not installed"}, nil)
			continue
		}
		if _, err := os.Lstat(c.store.Path(path)); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		c.damage(Finding{
			Part: Git, Path: path, Problem: fmt.Sprintf("git finds it damaged: %v", err), Remedy: "it is removed",
			Effects: []string{"it is fetched again when a build needs it"},
		}, func(context.Context) error { return os.RemoveAll(c.store.Path(path)) })
	}
	return nil
}
