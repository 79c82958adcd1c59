package frontend

import (
	"regexp"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/command"
)

// reworded is an error of the parser's libraries in words for people: without the
// names of Go's functions, and with what to do.
type reworded struct {
	pattern, text, hint string // text and hint may refer to groups of pattern
}

// rewordings are tried in their order; of each text the first that matches counts.
func rewordings() []reworded {
	return []reworded{
		{`^dockerfile line greater than max allowed size of (\d+)$`, "a line is longer than $1 bytes", "continue it on the next with a \\ at the end, or put the text in a file"},
		{`^file with no instructions$`, "there is no instruction in the file", "a Dockerfile begins with FROM"},
		{`^no build stage in current context$`, "an instruction stands before the first FROM", "begin with FROM: only ARG may stand before it"},
		{`^(only one .*) parser directive can be used$`, "$1 directive can be used", ""},
		{`strconv\.ParseBool: parsing ("[^"]*"): .*$`, "$1 is neither true nor false", ""},
		{`^strconv\.Parse(?:Int|Uint): parsing ("[^"]*"): value out of range$`, "$1 is too large a number", ""},
		{`^strconv\.Parse(?:Int|Uint): parsing ("[^"]*"): .*$`, "$1 is not a number", ""},
		{`^time: missing unit in duration ("[^"]*")$`, "the duration $1 has no unit", "write it as 30s, 5m or 1h30m"},
		{`^time: (?:invalid duration|unknown unit "[^"]*" in duration) ("[^"]*")$`, "$1 is not a duration", "write it as 30s, 5m or 1h30m"},
		{`^Interval "([\w-]+)" cannot be less than (\S+)$`, "--$1 cannot be less than $2", ""},
		{`^Missing command after HEALTHCHECK CMD$`, "HEALTHCHECK CMD has no command", ""},
		{`^Unknown type "([^"]*)" in HEALTHCHECK \(try CMD\)$`, "HEALTHCHECK $1 is neither CMD nor NONE", "write HEALTHCHECK CMD command, or HEALTHCHECK NONE"},
		{`^Chaining ONBUILD via .*$`, "ONBUILD cannot trigger another ONBUILD", ""},
		{`^(\w+) isn't allowed as an ONBUILD trigger$`, "ONBUILD cannot trigger $1", ""},
		{`^(ENV|LABEL) must have two arguments$`, "$1 needs a name and a value", "write $1 NAME=VALUE"},
		{`^Syntax error - can't find = in ("[^"]*")\. Must be of the form: name=value$`, `$1 has no "="`, "write NAME=VALUE, and quote a value that has spaces"},
		{`^(\w+) names can not be blank$`, "$1 has no name before the \"=\"", ""},
		{`^FROM requires either one or three arguments$`, "FROM takes one image", "write FROM IMAGE, or FROM IMAGE AS NAME"},
		{`^(COPY|ADD) requires at least two arguments, .*$`, "$1 needs a source and a destination", ""},
		{`^(\w+) cannot accept a heredoc as a destination$`, "the destination of $1 cannot be a here-document", ""},
		{`^unterminated heredoc$`, "a here-document has no end", "its last line has to be the delimiter and nothing else"},
		{`^SHELL requires the arguments to be in JSON form$`, "SHELL is not in JSON form", `write SHELL ["/bin/bash", "-c"]`},
		{`^VOLUME specified can not be an empty string$`, "the path of a VOLUME is empty", ""},
		{`^duplicate flag specified: (--\S+)$`, "$1 is given twice", ""},
		{`^missing a value on flag: (--\S+)$`, "$1 has no value", "write $1=VALUE"},
		{`^expecting boolean value for flag (--\S+), not: (.*)$`, "$1=$2: want true or false", ""},
		{`^unexpected key '([^']*)' in '[^']*'$`, `there is no mount option "$1"`, ""},
		{`^invalid field '([^']*)' must be a key=value pair$`, `the mount option "$1" has no value`, ""},
		{`^invalid secret mount\. one of source, target required$`, "a secret mount needs an id, a source or a target", ""},
		{`^unsupported modifier \((.*)\) in substitution$`, "there is no way $${NAME$1…} to expand a variable", ""},
		{`^unexpected end of statement while looking for matching double-quote$`, "a \" has no second one", ""},
		{`^unexpected end of statement while looking for matching single-quote$`, "a ' has no second one", ""},
		{`^invalid name for build stage: ("[^"]*"), .*$`, "the name of a stage cannot be $1", "begin with a letter, and use letters, digits, -, _ and ."},
		{`^invalid network mode ("[^"]*")$`, "there is no network $1", "the networks of RUN are default, none and host"},
		{`^security ("[^"]*") is not valid$`, "there is no --security=$1", "it is sandbox or insecure"},
		{`^invalid escape token '(.*)' does not match .*$`, "the escape character cannot be $1", "it is \\ or `"},
	}
}

// reword returns text and hint in better words, if there are any.
func reword(text, hint string) (string, string) {
	for _, r := range rewordings() {
		p := regexp.MustCompile(r.pattern) // an error is rare, and starting the program is not
		m := p.FindStringSubmatchIndex(text)
		if m == nil {
			continue
		}
		if hint == "" && r.hint != "" {
			hint = string(p.ExpandString(nil, r.hint, text, m))
		}
		return text[:m[0]] + string(p.ExpandString(nil, r.text, text, m)) + text[m[1]:], hint
	}
	return text, hint
}

// flags are those of each instruction that has any.
func flags() map[string][]string {
	return map[string][]string{
		command.Add:         {"--chmod", "--checksum", "--chown", "--exclude", "--keep-git-dir", "--link", "--unpack"},
		command.Copy:        {"--chmod", "--chown", "--exclude", "--from", "--link", "--parents"},
		command.From:        {"--platform"},
		command.Healthcheck: {"--interval", "--retries", "--start-interval", "--start-period", "--timeout"},
		command.Run:         {"--device", "--mount", "--network", "--security"},
	}
}

// flagHint is what to do about a flag that instruction does not have.
func flagHint(instruction, flag string) string {
	instruction = strings.ToLower(instruction)
	own := flags()[instruction]
	if hint := didYouMean(flag, own, true); hint != "" {
		return hint
	}
	for _, other := range []string{command.Copy, command.Add, command.Run, command.From, command.Healthcheck} {
		for _, f := range flags()[other] {
			if f == flag && other != instruction {
				return flag + " is a flag of " + strings.ToUpper(other)
			}
		}
	}
	if len(own) == 0 {
		return strings.ToUpper(instruction) + " has no flags"
	}
	return "the flags of " + strings.ToUpper(instruction) + " are " + strings.Join(own, ", ")
}
