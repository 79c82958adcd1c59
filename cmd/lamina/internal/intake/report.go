package intake

import (
	"errors"
	"fmt"

	"lamina/snapshot"
	"lamina/snapshot/fileset"
)

// Report is what a build takes from its contexts.
type Report struct {
	Dockerfile string `json:"dockerfile"`
	// Contexts has the build context first, and then the named ones.
	Contexts []Tree `json:"contexts"`
	// Notes say what could not be known.
	Notes []string `json:"notes,omitempty"`
}

// Err is what is wrong with the sources of copies, nil if nothing is.
func (r *Report) Err() error {
	var errs []error
	for _, t := range r.Contexts {
		for _, c := range t.Copies {
			if c.Error != "" {
				errs = append(errs, fmt.Errorf("%s:%d: %s: %s", r.Dockerfile, c.Line, c.Text, c.Error))
			}
		}
	}
	return errors.Join(errs...)
}

// Tree is what there is to say of one context.
type Tree struct {
	Name       string `json:"name,omitempty"` // of a named context
	Source     string `json:"source"`
	IgnoreFile string `json:"ignoreFile,omitempty"`

	Share

	Copies []Copy `json:"copies"`
	// Files and Directories are the largest that are not excluded.
	Files       []Large   `json:"largestFiles"`
	Directories []Large   `json:"largestDirectories"`
	Rules       []RuleUse `json:"rules,omitempty"`
	Unread      []Unread  `json:"unreadIgnoreFiles,omitempty"`
	// Unreadable are directories that could not be read.
	Unreadable []string `json:"unreadable,omitempty"`
	Paths      []Path   `json:"paths,omitempty"`
}

// Share says what becomes of files.
type Share struct {
	// Total is all of them, Excluded what the ignore file keeps away, and Unused what
	// it does not, but nobody takes either.
	Total    Amount `json:"total"`
	Excluded Amount `json:"excluded"`
	Unused   Amount `json:"unused"`
}

func (s *Share) add(f fileset.Found, takers []int) {
	s.Total.add(f.Entry)
	switch {
	case f.Ruling.Excluded:
		s.Excluded.add(f.Entry)
	case len(takers) == 0:
		s.Unused.add(f.Entry)
	}
}

// Amount counts what is not a directory.
type Amount struct {
	Files int64 `json:"files"`
	Bytes int64 `json:"bytes"`
}

func (a *Amount) add(e snapshot.Entry) { a.Files, a.Bytes = a.Files+1, a.Bytes+e.Size }

func amountOf(e snapshot.Entry) (a Amount) {
	a.add(e)
	return a
}

// Copy is an instruction that takes from the context.
type Copy struct {
	Line int    `json:"line"`
	Text string `json:"text"` // "COPY src /src"
	// Mount says that it is a bind mount of a RUN.
	Mount bool `json:"mount,omitempty"`
	Amount
	// Error is what is wrong with a source.
	Error string `json:"error,omitempty"`
}

// Large is a large file, or a directory with all that is in it.
type Large struct {
	Path string `json:"path"`
	Amount
	// Copies are the positions of those that take it, or something in it.
	Copies []int `json:"copies"`
}

// Rule is a line of an ignore file.
type Rule struct {
	File string `json:"file"`
	Line int    `json:"line"`
	Text string `json:"text"`
}

func ruleOf(r fileset.Rule) Rule { return Rule{r.File, r.Line, r.Text} }

// RuleUse is a rule, and what it decided about.
type RuleUse struct {
	Rule
	Amount
	// Unmatched says that it matches nothing in the context.
	Unmatched bool `json:"unmatched,omitempty"`
}

// Unread is a file that looks like an ignore file and is none in this build.
type Unread struct {
	Path string `json:"path"`
	Why  string `json:"why"`
}

func kindName(k snapshot.Kind) string {
	switch k {
	case snapshot.File:
		return "file"
	case snapshot.Dir:
		return "directory"
	case snapshot.Symlink:
		return "link"
	}
	return "special file"
}
