// Package gitsource gets the files of a commit out of a Git repository, with the
// git program.
//
// It asks before it fetches: [Client.Resolve] finds out which commit is meant, in
// one request and without fetching anything, and [Client.Checkout] writes the
// commit's files. In between somebody may know that they are here already.
//
// What is fetched is kept in one bare repository for each remote, shallow where
// the server allows that. These repositories are a cache: whoever wants the space
// may delete them while nobody holds their locks.
//
// No configuration of this machine or its user is read, nothing is asked of a
// terminal, no hook runs, and a repository's submodules cannot name files of this
// machine. Credentials come from secrets, and no error repeats them.
package gitsource

import (
	"context"
	"fmt"
	"strings"

	"lamina/solver"
)

// Client works with remote repositories. Its fields are not changed while it is used.
type Client struct {
	// Dir is where bare repositories are kept. It is made when it is needed.
	Dir string
	// Lock excludes others from what bears the name, in other processes too.
	Lock func(ctx context.Context, name string) (unlock func(), err error)
	// Temp returns a directory for half-made work.
	Temp func() (string, error)
	// Secret returns a secret's value, or fs.ErrNotExist. Those asked for are
	// GIT_AUTH_HEADER and GIT_AUTH_TOKEN, with ".HOST" behind them first.
	Secret func(id string) ([]byte, error)
	// Agent opens the socket of an SSH agent for remotes that are reached by SSH,
	// until stop is called. It is fs.ErrNotExist if there is none.
	Agent func(ctx context.Context) (socket string, stop func() error, err error)
}

// Commit is what a name in a repository stood for when it was resolved.
type Commit struct {
	// ID is the commit, in hexadecimal digits.
	ID string
	// Object is ID, or the annotated tag that stands for it.
	Object string
	// Name is the full name that was found, "refs/heads/main"; empty if the commit
	// was asked for by its digits.
	Name string
}

// Error is what is wrong with a repository or with what is wanted of it.
type Error struct {
	Text   string
	Advice string // what can be done about it; may be empty
}

func (e *Error) Error() string { return e.Text }

// Hint says what can be done about the error.
func (e *Error) Hint() string { return e.Advice }

func wrong(advice, format string, args ...any) error {
	return &Error{Text: fmt.Sprintf(format, args...), Advice: advice}
}

// isID tells whether s is the full ID of an object, of SHA-1 or SHA-256.
func isID(s string) bool {
	return (len(s) == 40 || len(s) == 64) && strings.Trim(s, "0123456789abcdef") == ""
}

// isHex tells whether s could be the beginning of an ID.
func isHex(s string) bool { return s != "" && strings.Trim(s, "0123456789abcdefABCDEF") == "" }

// matches fails unless one of ids begins with the checksum that src wants.
func matches(src solver.Git, ids ...string) error {
	if src.Checksum == "" {
		return nil
	}
	var not []string
	for _, id := range ids {
		if strings.HasPrefix(id, src.Checksum) {
			return nil
		}
		if id != "" && (len(not) == 0 || not[len(not)-1] != id) {
			not = append(not, id)
		}
	}
	return wrong("if the new commit is the one you want, change the checksum",
		"%s is commit %s, but the checksum says %s", describe(src), strings.Join(not, " or "), src.Checksum)
}

// describe names what src is, for people.
func describe(src solver.Git) string {
	text := Redact(src.Remote)
	if src.Ref != "" {
		text = src.Ref + " of " + text
	}
	return text
}
