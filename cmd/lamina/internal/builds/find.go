package builds

import (
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"

	"lamina/cache/registry"
)

// latestRef is the latest build's other name.
const latestRef = "latest"

// Find returns the ID of the build that ref names, which may be damaged:
//
//	latest, or nothing    the latest
//	^1, ^2 …              the one before, the one before that …
//	576jvxwq, 576jvx      an ID, or the beginning of no other
//	app:1.0               the latest that made an image of this name, or was to
//	sha256:3f0c…, 3f0c    the latest that made the image with this digest or ID
//
// A name without a tag is that of any. An unknown ref is a *NotFoundError.
func (s *Store) Find(ref string) (string, error) {
	ids, err := s.IDs()
	if err != nil {
		return "", err
	}
	if ref == "" {
		ref = latestRef
	}
	if ref == latestRef || strings.HasPrefix(ref, "^") {
		return nthBefore(ids, ref)
	}
	lower := strings.ToLower(ref)
	var found []string
	for _, id := range ids {
		if strings.HasPrefix(id, lower) {
			found = append(found, id)
		}
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		slices.Reverse(found)
		return "", &AmbiguousError{ref, found}
	}
	for _, id := range ids {
		if b, err := s.Get(id); err == nil && b.isOf(ref) {
			return id, nil
		}
	}
	return "", &NotFoundError{ref}
}

// nthBefore is the build that ref, "latest" or "^N", stands for.
func nthBefore(ids []string, ref string) (string, error) {
	n := 0
	if digits, ok := strings.CutPrefix(ref, "^"); ok {
		var err error
		if n, err = strconv.Atoi(digits); err != nil || n < 0 {
			return "", fmt.Errorf("%s is no build: behind ^ stands how many builds before the latest it was", ref)
		}
	}
	if n >= len(ids) {
		return "", &NotFoundError{ref}
	}
	return ids[n], nil
}

// isOf tells whether b is of an image with that name, or made the one with that
// digest or ID, of which at least minDigits are given.
func (b *Build) isOf(ref string) bool {
	names := slices.Clone(b.Names)
	var digests []digest.Digest
	for _, i := range b.Images {
		names = append(names, i.Names...)
		digests = append(digests, i.Digest, i.ID)
	}
	if slices.ContainsFunc(names, func(name string) bool { return isNamed(name, ref) }) {
		return true
	}
	const minDigits = 4
	digits := strings.TrimPrefix(strings.ToLower(ref), "sha256:")
	return len(digits) >= minDigits && slices.ContainsFunc(digests, func(d digest.Digest) bool {
		_, hex, _ := strings.Cut(d.String(), ":")
		return strings.HasPrefix(hex, digits)
	})
}

// isNamed tells whether ref stands for the name of an image.
func isNamed(name, ref string) bool {
	have, err := registry.ParseName(name)
	if err != nil {
		return false
	}
	want, err := registry.ParseName(ref)
	if err != nil {
		return false
	}
	tagged := strings.LastIndexByte(ref, ':') > strings.LastIndexByte(ref, '/')
	return want.Origin() == have.Origin() && (!tagged || want.Tag == have.Tag)
}

// NotFoundError says that no such build is remembered. It is an fs.ErrNotExist.
type NotFoundError struct{ Ref string }

func (e *NotFoundError) Error() string {
	if e.Ref == latestRef {
		return "no build is remembered"
	}
	return "no such build: " + e.Ref
}

// Is makes the error an fs.ErrNotExist.
func (e *NotFoundError) Is(target error) bool { return target == fs.ErrNotExist }

// Hint says what can be done.
func (e *NotFoundError) Hint() string {
	if e.Ref == latestRef {
		return ""
	}
	return "'lamina builds ls' lists those that are remembered"
}

// AmbiguousError says that several builds have IDs that begin so.
type AmbiguousError struct {
	Ref string
	IDs []string
}

func (e *AmbiguousError) Error() string {
	return fmt.Sprintf("%d builds have an ID that begins with %s", len(e.IDs), e.Ref)
}

// Hint says which they are, the latest last.
func (e *AmbiguousError) Hint() string {
	const enough = 5
	list := strings.Join(e.IDs[max(0, len(e.IDs)-enough):], ", ")
	if len(e.IDs) > enough {
		list = "…, " + list
	}
	return "give more of it: " + list
}

// FindStep returns the position of the step that ref names: a number as "builds
// show" has it ("7"), a line of the Dockerfile (":12"), what is in the brackets of its
// name ("build 3/7", "3/7"), or any part of the name that no other has.
func (b *Build) FindStep(ref string) (int, error) {
	if n, err := strconv.Atoi(ref); err == nil {
		if n < 1 || n > len(b.Steps) {
			return 0, &noStepError{b.ID, ref}
		}
		return n - 1, nil
	}
	line := 0
	if _, digits, ok := strings.Cut(ref, ":"); ok {
		line, _ = strconv.Atoi(digits)
	}
	for _, is := range []func(s *Step) bool{
		func(s *Step) bool { return line > 0 && s.Pos.First <= line && line <= s.Pos.Last && s.isWork() },
		func(s *Step) bool { return s.bracket() == strings.Trim(ref, "[]") },
		func(s *Step) bool { return s.fraction() == ref },
		func(s *Step) bool { return strings.Contains(strings.ToLower(s.Name), strings.ToLower(ref)) },
	} {
		var found []int
		for i := range b.Steps {
			if is(&b.Steps[i]) {
				found = append(found, i)
			}
		}
		switch {
		case len(found) == 1:
			return found[0], nil
		case len(found) > 1:
			return 0, &ambiguousStepError{b, ref, found}
		}
	}
	return 0, &noStepError{b.ID, ref}
}

// bracket is what stands in brackets before the step's name: "build 3/7".
func (s *Step) bracket() string {
	text, _, ok := strings.Cut(strings.TrimPrefix(s.Name, "["), "]")
	if !ok || !strings.HasPrefix(s.Name, "[") {
		return ""
	}
	return strings.Join(strings.Fields(text), " ") // numbers are aligned
}

// fraction is the last word of that: "3/7".
func (s *Step) fraction() string {
	words := strings.Fields(s.bracket())
	if len(words) == 0 {
		return ""
	}
	return words[len(words)-1]
}

type noStepError struct{ id, ref string }

func (e *noStepError) Error() string { return fmt.Sprintf("build %s has no step %s", e.id, e.ref) }
func (e *noStepError) Hint() string {
	return fmt.Sprintf("'lamina builds show %s' lists its steps with their numbers", e.id)
}

type ambiguousStepError struct {
	build *Build
	ref   string
	found []int
}

func (e *ambiguousStepError) Error() string {
	return fmt.Sprintf("%s may be any of %d steps of build %s", e.ref, len(e.found), e.build.ID)
}

func (e *ambiguousStepError) Hint() string {
	var list []string
	for _, i := range e.found {
		list = append(list, fmt.Sprintf("%d is %s", i+1, e.build.Steps[i].Name))
	}
	return "give its number: " + strings.Join(list, "; ")
}
