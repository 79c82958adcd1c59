package build

import (
	"context"
	"errors"
	"fmt"
	"time"

	"lamina/cmd/lamina/internal/cli"
)

// errTimeout ends a build that takes longer than --timeout.
var errTimeout = errors.New("timeout")

// within does something that may take as long as limit; 0 is for ever.
func within(ctx context.Context, limit time.Duration, do func(context.Context) error) error {
	if limit == 0 {
		return do(ctx)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, limit, errTimeout)
	defer cancel()
	err := do(ctx)
	if err != nil && errors.Is(context.Cause(ctx), errTimeout) {
		return &cli.ExitError{Code: cli.ExitTimeout, Err: errLate(limit)}
	}
	return err
}

// errLate says that a build took longer than it may.
func errLate(limit time.Duration) error {
	return fmt.Errorf("the build is not finished after %v, the limit of --timeout", limit)
}
