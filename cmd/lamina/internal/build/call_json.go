package build

import (
	"path/filepath"

	"lamina/frontend"
	"lamina/solver"
)

// The answers to --call for programs, field by field those of the reference's
// requests frontend.lint, frontend.outline and frontend.targets.

type jsonPosition struct {
	Line int `json:"line,omitempty"`
}

type jsonRange struct {
	Start jsonPosition `json:"start"`
	End   jsonPosition `json:"end"`
}

// jsonLocation has a range for each line.
type jsonLocation struct {
	Ranges []jsonRange `json:"ranges,omitempty"`
}

func locationJSON(pos solver.Pos) jsonLocation {
	var l jsonLocation
	for n := pos.First; n > 0 && n <= pos.Last; n++ {
		at := jsonPosition{n}
		l.Ranges = append(l.Ranges, jsonRange{at, at})
	}
	return l
}

type jsonWarning struct {
	RuleName    string       `json:"ruleName"`
	Description string       `json:"description,omitempty"`
	URL         string       `json:"url,omitempty"`
	Detail      string       `json:"detail,omitempty"`
	Location    jsonLocation `json:"location"`
}

type jsonSource struct {
	Filename string `json:"filename,omitempty"`
	Data     []byte `json:"data,omitempty"`
	Language string `json:"language,omitempty"`
}

type jsonBuildError struct {
	Message  string       `json:"message"`
	Location jsonLocation `json:"location"`
}

type jsonCheck struct {
	Warnings []jsonWarning   `json:"warnings"` // null if there are none
	Sources  []jsonSource    `json:"sources"`
	Error    *jsonBuildError `json:"buildError,omitempty"`
}

func checkJSON(in *input, warnings []frontend.Warning, failure *frontend.Error) jsonCheck {
	c := jsonCheck{Sources: []jsonSource{{Filename: in.base(), Data: in.source, Language: "Dockerfile"}}}
	for _, w := range warnings {
		c.Warnings = append(c.Warnings, jsonWarning{w.Rule, w.Description, w.URL, w.Text, locationJSON(w.Pos)})
	}
	if failure != nil {
		c.Error = &jsonBuildError{Message: failure.Text, Location: locationJSON(failure.Pos)}
		if failure.Err != nil {
			c.Error.Message = failure.Err.Error() // as the parser has it
		}
	}
	return c
}

// base is the Dockerfile's name without directories.
func (in *input) base() string {
	if in.name == "-" {
		return "Dockerfile"
	}
	return filepath.Base(in.name)
}

type jsonArg struct {
	Name        string       `json:"name"`
	Description string       `json:"description,omitempty"`
	Value       string       `json:"value,omitempty"`
	Location    jsonLocation `json:"location"`
}

type jsonMount struct {
	Name     string       `json:"name"`
	Required bool         `json:"required,omitempty"`
	Location jsonLocation `json:"location"`
}

type jsonOutline struct {
	Name        string      `json:"name,omitempty"`
	Description string      `json:"description,omitempty"`
	Args        []jsonArg   `json:"args,omitempty"`
	Secrets     []jsonMount `json:"secrets,omitempty"`
	SSH         []jsonMount `json:"ssh,omitempty"`
	Sources     [][]byte    `json:"sources"`
}

func outlineJSON(in *input, o *frontend.Outline) jsonOutline {
	j := jsonOutline{Name: o.Name, Description: o.Description, Sources: [][]byte{in.source}}
	for _, a := range o.Args {
		j.Args = append(j.Args, jsonArg{a.Name, a.Description, a.Value, locationJSON(a.Pos)})
	}
	j.Secrets, j.SSH = mountsJSON(o.Secrets), mountsJSON(o.SSH)
	return j
}

func mountsJSON(mounts []frontend.OutlineMount) []jsonMount {
	var all []jsonMount
	for _, m := range mounts {
		all = append(all, jsonMount{m.ID, m.Required, locationJSON(m.Pos)})
	}
	return all
}

type jsonTarget struct {
	Name        string       `json:"name,omitempty"`
	Default     bool         `json:"default,omitempty"`
	Description string       `json:"description,omitempty"`
	Base        string       `json:"base,omitempty"`
	Platform    string       `json:"platform,omitempty"`
	Location    jsonLocation `json:"location"`
}

type jsonTargets struct {
	Targets []jsonTarget `json:"targets"`
	Sources [][]byte     `json:"sources"`
}

func targetsJSON(in *input, list []frontend.TargetInfo) jsonTargets {
	j := jsonTargets{Sources: [][]byte{in.source}}
	for i, t := range list {
		j.Targets = append(j.Targets, jsonTarget{
			t.Name, i == len(list)-1, t.Description, t.Base, t.Platform, locationJSON(t.Pos),
		})
	}
	return j
}
