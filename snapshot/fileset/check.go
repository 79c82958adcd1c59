package fileset

import "github.com/moby/patternmatcher"

// SourceCheck returns what tells of a source path, as a COPY or an ADD names it,
// whether the rules exclude it for certain. It is the condition of the reference's
// check CopyIgnoredFile: rules with a "!" exclude nothing for certain, wildcards
// in the source are taken literally, and of the context's root (".") only rules
// that exclude everything say so. Without rules it returns nil. It is not safe for
// concurrent use.
func (rs Rules) SourceCheck() func(source string) bool {
	m, err := patternmatcher.New(rs.Patterns())
	if err != nil || len(m.Patterns()) == 0 || m.Exclusions() {
		return nil
	}
	everything := false
	for _, p := range m.Patterns() {
		switch p.String() {
		case "*", "**", "**/*":
			everything = true
		}
	}
	return func(source string) bool {
		if (source == "." || source == "/") && !everything {
			return false
		}
		excluded, err := m.MatchesOrParentMatches(source)
		return err == nil && excluded
	}
}
