package gitsource

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
)

// ErrNoGit reports that the program git is not installed.
var ErrNoGit = errors.New("the program git is not installed")

// Check tells what git finds wrong with a repository of the store, the directory dir.
func Check(ctx context.Context, dir string) error {
	if _, err := exec.LookPath("git"); err != nil {
		return ErrNoGit
	}
	c := &Client{}
	p, err := c.program(ctx, "")
	if err != nil {
		return err
	}
	defer p.close()
	_, err = p.git(ctx, "--git-dir="+dir, "-c", "safe.directory=*", "fsck", "--full", "--no-dangling", "--no-progress")
	var said *failure
	if err != nil && !errors.As(err, &said) {
		return fmt.Errorf("check %s: %w", dir, err)
	}
	return err
}
