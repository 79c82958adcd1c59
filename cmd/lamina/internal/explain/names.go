package explain

import (
	"regexp"
	"slices"
	"strings"

	"lamina/cmd/lamina/internal/builds"
)

// label splits the name of a step, "[build 3/7] RUN make", into its stage and number
// and the rest.
func label(name string) (label, text string) {
	if rest, ok := strings.CutPrefix(name, "["); ok {
		if label, text, ok := strings.Cut(rest, "] "); ok {
			return label, text
		}
	}
	return "", name
}

// instruction is the name of a step without its label.
func instruction(name string) string {
	_, text := label(name)
	return text
}

// slot is the place of a step in its stage, whatever the stage's length is: its label
// without the total.
func slot(name string) string {
	label, _ := label(name)
	place, _, ok := strings.Cut(label, "/")
	if i := strings.LastIndexByte(label, '/'); ok {
		place = label[:i]
	}
	return strings.Join(strings.Fields(place), " ")
}

// stage is the label of a step without its number.
func stage(name string) string {
	s := slot(name)
	if i := strings.LastIndexByte(s, ' '); i >= 0 {
		return s[:i]
	}
	return ""
}

// number is the place of a step in its stage, "3".
func number(name string) string {
	s := slot(name)
	return s[strings.LastIndexByte(s, ' ')+1:]
}

// linked tells whether a step is an instruction with --link.
func linked(s *builds.Step) bool {
	return slices.Contains(strings.Fields(instruction(s.Name)), "--link")
}

// isInternal tells whether a step is no instruction, but what one needs.
func isInternal(s *builds.Step) bool {
	l, text := label(s.Name)
	return l == "internal" || strings.HasPrefix(text, "local source for ")
}

// isWork tells whether s is a step that can be executed, and so can be cached.
func isWork(s *builds.Step) bool {
	return (s.Kind == "run" || s.Kind == "copy" || s.Kind == "mkdir") && !isInternal(s)
}

// imageDigest ends the name of an image.
var imageDigest = regexp.MustCompile(`@sha256:[0-9a-f]{64}$`)

// imageName is the name of the image that a FROM is of.
func imageName(name string) string {
	_, ref, _ := strings.Cut(instruction(name), "FROM ")
	ref = strings.TrimPrefix(imageDigest.ReplaceAllString(ref, ""), "docker.io/")
	return strings.TrimPrefix(ref, "library/")
}

// step is how people know step number i of the build. One that is internal is known
// as the instruction that it is for.
func (e *explainer) step(i int) Step { return describe(e.build, i) }

func describe(b *builds.Build, i int) Step {
	s := &b.Steps[i]
	if isInternal(s) && s.Pos.First > 0 {
		for j := range b.Steps {
			if o := &b.Steps[j]; j != i && o.Pos == s.Pos && isWork(o) {
				return describe(b, j)
			}
		}
	}
	label, text := label(s.Name)
	return Step{Number: i + 1, Label: strings.Join(strings.Fields(label), " "), Text: text, Line: s.Pos.First}
}
