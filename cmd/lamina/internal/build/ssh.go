package build

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"lamina/cmd/lamina/internal/sshagent"
	"lamina/solver/local"
)

// parseSSH parses the values of --ssh and returns what looks agents up.
func parseSSH(flags []string, getenv func(string) string) (func(id string) (local.SSHAgent, error), error) {
	agents := map[string]*sshagent.Agent{}
	for _, s := range flags {
		id, given, _ := strings.Cut(s, "=")
		if id == "" {
			id = "default"
		}
		if _, twice := agents[id]; twice {
			return nil, fmt.Errorf("--ssh=%s: %s was given before", s, id)
		}
		a, err := parseAgent(given, getenv)
		if err != nil {
			return nil, fmt.Errorf("--ssh=%s: %w", s, err)
		}
		agents[id] = a
	}
	return func(id string) (local.SSHAgent, error) {
		if a, ok := agents[id]; ok {
			return a, nil
		}
		return nil, fs.ErrNotExist
	}, nil
}

// parseAgent parses "SOCKET[,raw=true]" or "KEY[,KEY…]"; the empty string is the
// user's own agent.
func parseAgent(s string, getenv func(string) string) (*sshagent.Agent, error) {
	var paths []string
	raw := false
	for _, f := range strings.Split(s, ",") {
		value, is := strings.CutPrefix(f, "raw=")
		if !is {
			paths = append(paths, f)
			continue
		}
		var err error
		if raw, err = strconv.ParseBool(value); err != nil {
			return nil, fmt.Errorf("raw=%s: want true or false", value)
		}
	}
	if len(paths) == 1 && paths[0] == "" || len(paths) == 0 {
		own := getenv("SSH_AUTH_SOCK")
		if own == "" {
			return nil, errors.New("no ssh agent is running: SSH_AUTH_SOCK is not set; start one, or name a key file: --ssh default=FILE")
		}
		paths = []string{own}
	}
	sockets := 0
	for _, p := range paths {
		if info, err := os.Stat(p); err == nil && info.Mode()&os.ModeSocket != 0 {
			sockets++
		}
	}
	switch {
	case raw && len(paths) == 1:
		return sshagent.Raw(paths[0])
	case raw:
		return nil, errors.New("raw=true wants exactly one socket")
	case sockets == 1 && len(paths) == 1:
		return sshagent.Socket(paths[0])
	case sockets > 0:
		return nil, errors.New("want one socket, or key files, not both")
	}
	return sshagent.Keys(paths...)
}
