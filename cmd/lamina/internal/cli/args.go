package cli

import (
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/spf13/cobra"
)

// Groups of commands in the help text.
const (
	GroupCommon     = "common"
	GroupManagement = "management"
)

// ExactArgs wants n arguments, and says so in docker's words.
func ExactArgs(n int) cobra.PositionalArgs { return argCount(n, n) }

// MinArgs wants n arguments or more.
func MinArgs(n int) cobra.PositionalArgs { return argCount(n, -1) }

// MaxArgs wants no more than n arguments.
func MaxArgs(n int) cobra.PositionalArgs { return argCount(0, n) }

// argCount wants least to most arguments; most may be -1 for any number.
func argCount(least, most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) >= least && (most < 0 || len(args) <= most) {
			return nil
		}
		quantity, n := "", least
		switch {
		case most == 0:
			return &UsageError{cmd, fmt.Errorf("'%s' accepts no arguments", cmd.CommandPath())}
		case least != most && len(args) < least:
			quantity = "at least "
		case least != most:
			quantity, n = "at most ", most
		}
		word := "arguments"
		if n == 1 {
			word = "argument"
		}
		return &UsageError{cmd, fmt.Errorf("'%s' requires %s%d %s", cmd.CommandPath(), quantity, n, word)}
	}
}

// ValueError is err without the words of the functions that read numbers.
func ValueError(err error) error {
	var number *strconv.NumError
	switch {
	case !errors.As(err, &number):
		return err
	case number.Func == "ParseBool":
		return errors.New("want true or false")
	case errors.Is(err, strconv.ErrRange):
		return errors.New("this is too large a number")
	}
	return errors.New("want a number")
}

// OneOf tells whether s is one of all.
func OneOf(s string, all ...string) bool { return slices.Contains(all, s) }
