package frontend

import (
	"fmt"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerfile/shell"

	"lamina/solver"
)

// scripts is where a command finds its here-documents.
const scripts = "/dev/pipes/"

func (s *stage) lowerRun(c *instructions.RunCommand, st step) error {
	if len(instructions.GetDevices(c)) > 0 {
		return wrong("remove it, or do this step outside the build", "RUN --device is not supported yet")
	}
	args, files, note, err := s.command(c)
	if err != nil {
		return err
	}
	opt := s.l.opt
	run := solver.Run{
		Args:     args,
		Env:      s.env,
		Dir:      s.workdir(),
		User:     s.image.Config.User,
		Network:  opt.Network,
		Hostname: opt.Hostname,
		Hosts:    opt.Hosts,
		ShmSize:  opt.ShmSize,
		Ulimits:  opt.Ulimits,
		Files:    files,
		ProxyEnv: proxyEnv(opt.BuildArgs),
	}
	if network := instructions.GetNetwork(c); network != instructions.NetworkDefault {
		run.Network = network
	}
	if security := instructions.GetSecurity(c); security != instructions.SecuritySandbox {
		run.Security = security
	}
	if err := s.allowed(run); err != nil {
		return err
	}
	inputs := []solver.ID{s.root}
	if run.Mounts, inputs, err = s.mounts(c, st, inputs); err != nil {
		return err
	}
	run.Env = s.settleAgents(s.env, run.Mounts)
	run.Mounts = append(run.Mounts, opt.Mounts...)
	nested(run.Mounts)

	lex := shell.NewLex(s.l.file.escape)
	lex.RawQuotes, lex.SkipUnsetEnv = true, true
	name := s.stepTitle(lex, st, c, note, maskSecrets(s.env, run.Mounts))
	s.add(solver.Node{Op: run, Inputs: inputs}, name, st)
	s.commit("RUN "+s.argsPrefix()+strings.Join(args, " ")+" # buildkit", s.root)
	return nil
}

// allowed reports powers that run asks for and nobody granted.
func (s *stage) allowed(run solver.Run) error {
	allow := s.l.opt.Allow
	switch {
	case run.Network == instructions.NetworkHost && !allow.NetworkHost:
		return wrong("build with --allow network.host", "this RUN asks for the network of the host, which was not allowed")
	case run.Security == instructions.SecurityInsecure && !allow.Insecure:
		return wrong("build with --allow security.insecure", "this RUN asks for all privileges, which were not allowed")
	}
	return nil
}

// command returns what c runs, the here-documents it finds as files, and a note
// on them for its name.
func (s *stage) command(c *instructions.RunCommand) (args []string, files []solver.InlineFile, note string, err error) {
	args = c.CmdLine
	if len(c.Files) > 0 {
		if len(args) != 1 || !c.PrependShell {
			return nil, nil, "", wrong("", "a here-document needs the shell form of RUN")
		}
		if parser.MustParseHeredoc(args[0]) != nil {
			note = " (" + firstLine(c.Files[0].Data) + ")"
			if args, files, err = s.script(c.Files[0]); err != nil {
				return nil, nil, "", err
			}
		} else {
			args = []string{withDocuments(args[0], c.Files)}
		}
	}
	if c.PrependShell {
		args = s.withShell(args)
	}
	if len(args) == 0 {
		return nil, nil, "", wrong("", "there is no command to run")
	}
	return args, files, note, nil
}

// script returns what runs a here-document that is the whole command: itself
// with the shell, or as a program if it names its interpreter.
func (s *stage) script(doc instructions.ShellInlineFile) ([]string, []solver.InlineFile, error) {
	data := doc.Data
	if doc.Chomp {
		data = parser.ChompHeredocContent(data)
	}
	if !strings.HasPrefix(data, "#!") || s.image.OS == "windows" {
		return []string{data}, nil, nil
	}
	if err := checkDocumentName(doc.Name); err != nil {
		return nil, nil, err
	}
	return []string{scripts + doc.Name}, []solver.InlineFile{{Name: doc.Name, Data: data}}, nil
}

// checkDocumentName refuses names that are no file names; a here-document is
// called like its delimiter.
func checkDocumentName(name string) error {
	if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00") {
		return wrong("use a delimiter such as EOF", "a here-document is a file called like its delimiter, which %q cannot be", name)
	}
	return nil
}

// withDocuments puts the here-documents of a command back behind it, for the
// shell to read.
func withDocuments(command string, files []instructions.ShellInlineFile) string {
	var b strings.Builder
	b.WriteString(command)
	for _, f := range files {
		b.WriteString("\n" + f.Data + f.Name)
	}
	return b.String()
}

func firstLine(doc string) string {
	line, _, more := strings.Cut(strings.ReplaceAll(strings.TrimSpace(doc), "\r\n", "\n"), "\n")
	if more {
		line += "..."
	}
	return line
}

// argsPrefix is how the history of a RUN shows the arguments in force,
// "|1 VERSION=2 ".
func (s *stage) argsPrefix() string {
	if len(s.args) == 0 {
		return ""
	}
	var b strings.Builder
	fmt.Fprintf(&b, "|%d ", len(s.args))
	for _, key := range s.args.Keys() {
		v, ok := s.env.Get(key)
		if !ok {
			v, _ = s.args.Get(key)
		}
		b.WriteString(key + "=" + v + " ")
	}
	return b.String()
}

// maskSecrets returns env with "****" for the variables that are secrets.
func maskSecrets(env environ, mounts []solver.RunMount) environ {
	for _, m := range mounts {
		if m.EnvName != "" {
			env = env.with(m.EnvName, "****")
		}
	}
	return env
}
