package gitsource

import (
	"strings"
	"testing"

	"lamina/solver"
)

func TestUnreachable(t *testing.T) {
	// Ports look like statuses.
	const remote = "http://127.0.0.1:38403/app.git"
	for text, want := range map[string]string{
		"repository '" + remote + "/' not found":                                          "there is no Git repository " + remote + ": repository",
		"unable to access '" + remote + "/': The requested URL returned error: 403":       "the repository " + remote + " wants a login, or there is none",
		"unable to access '" + remote + "/': The requested URL returned error: 401":       "the repository " + remote + " wants a login, or there is none",
		"could not read Username for 'http://127.0.0.1:38403': terminal prompts disabled": "the repository " + remote + " wants a login, or there is none",
		"unable to access '" + remote + "/': Failed to connect to 127.0.0.1 port 38403":   "cannot read the repository " + remote + ": unable to access",
		"git@host: Permission denied (publickey).":                                        "cannot read the repository " + remote + ": git@host",
	} {
		err := unreachable(solver.Git{Remote: remote}, &failure{text: text})
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s:\ngot  %v\nwant %s…", text, err, want)
		}
	}
}
