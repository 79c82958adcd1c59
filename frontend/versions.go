package frontend

import (
	"strconv"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/command"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// since is the minor version of docker/dockerfile 1.x that brought a flag, by
// instruction; flags that were always there are not in it.
func since(instruction, flag string) int {
	return map[string]map[string]int{
		command.Add: {
			"--keep-git-dir": 1, "--chmod": 2, "--link": 4, "--checksum": 6, "--unpack": 17, "--exclude": 19,
		},
		command.Copy: {"--chmod": 2, "--link": 4, "--exclude": 19, "--parents": 20},
		command.Run:  {"--mount": 2, "--network": 3, "--security": 20},
	}[strings.ToLower(instruction)][flag]
}

// tooNew returns an error if an instruction has a flag that the version of the
// language that "# syntax=" asks for does not know: other builders, which take that
// version, would refuse the file. The labs channel has flags before the others.
func (f *File) tooNew() error {
	syntax, _, lines, ok := parser.DetectSyntax(f.Source)
	m := syntaxName().FindStringSubmatch(syntax)
	if !ok || m == nil || m[1] == "" || strings.Contains(syntax, "-labs") || strings.Contains(syntax, "-experimental") {
		return nil
	}
	pinned, err := strconv.Atoi(m[1])
	if err != nil {
		return nil
	}
	for _, n := range f.tree.Children {
		for _, flag := range n.Flags {
			flag, _, _ = strings.Cut(flag, "=")
			if v := since(n.Value, flag); v > pinned {
				return at(position(f.Name, n.Location()), wrong("write # syntax=docker/dockerfile:1, which is the newest 1.x",
					"%s %s came with version 1.%d of the language, and line %d asks for 1.%d",
					strings.ToUpper(n.Value), flag, v, lines[0].Start.Line, pinned))
			}
		}
	}
	return nil
}
