package frontend

import "lamina/solver"

// TargetInfo describes a stage, which is what can be a target.
type TargetInfo struct {
	Name string // in lower case; empty if it has none
	// Description is what a comment above says after the name.
	Description string
	// Base and Platform are as the FROM has them, variables and all.
	Base, Platform string
	Pos            solver.Pos
}

// Targets lists the stages of the Dockerfile src. A build makes the last one
// unless it is told to make another. It is the reference's request
// "frontend.targets". An error is an [ErrorList].
func Targets(name string, src []byte) ([]TargetInfo, error) {
	f, err := Parse(name, src)
	if err != nil {
		return nil, err
	}
	stages, _, err := f.instructions(silent())
	if err != nil {
		return nil, ErrorList{at(solver.Pos{File: name}, err)}
	}
	var all []TargetInfo
	for _, st := range stages {
		all = append(all, TargetInfo{
			Name: st.Name, Description: st.DocComment, Base: st.BaseName, Platform: st.Platform,
			Pos: position(name, st.Location),
		})
	}
	return all, nil
}
