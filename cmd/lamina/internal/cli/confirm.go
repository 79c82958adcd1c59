package cli

import (
	"bufio"
	"context"
	"fmt"
	"strings"
)

// Confirm asks a question. Anything but a yes is a no, so is no answer at all.
func (e *Env) Confirm(ctx context.Context, question string) (bool, error) {
	fmt.Fprintf(e.Stderr, "%s [y/N] ", question)
	answer := make(chan string, 1)
	go func() { // cannot be interrupted, and ends with the process at the latest
		line, _ := bufio.NewReader(e.Stdin).ReadString('\n')
		answer <- line
	}()
	select {
	case line := <-answer:
		line = strings.ToLower(strings.TrimSpace(line))
		return line == "y" || line == "yes", nil
	case <-ctx.Done():
		fmt.Fprintln(e.Stderr)
		return false, ctx.Err()
	}
}
