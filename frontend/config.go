package frontend

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"lamina/solver"
)

// The instructions that only describe the image, and WORKDIR.

func (s *stage) lowerEnv(c *instructions.EnvCommand) error {
	text := "ENV"
	for _, kv := range c.Env {
		s.checkDelimiter(kv, c)
		s.checkSecret("ENV", kv.Key, c)
		s.env = s.env.with(kv.Key, kv.Value)
		s.setEnv(kv.Key, kv.Value, s.l.pos(c.Location()).First)
		s.image.Config.Env = inPlace(s.image.Config.Env, kv.Key, kv.Value)
		text += " " + kv.String()
	}
	s.commit(text, EmptyLayer)
	return nil
}

func (s *stage) lowerLabel(c *instructions.LabelCommand) error {
	if s.image.Config.Labels == nil {
		s.image.Config.Labels = map[string]string{}
	}
	text := "LABEL"
	for _, kv := range c.Labels {
		s.checkDelimiter(kv, c)
		s.image.Config.Labels[kv.Key] = kv.Value
		text += " " + kv.String()
	}
	s.commit(text, EmptyLayer)
	return nil
}

func (s *stage) lowerMaintainer(c *instructions.MaintainerCommand) error {
	s.image.Author = c.Maintainer
	s.commit("MAINTAINER "+c.Maintainer, EmptyLayer)
	return nil
}

// lowerOnbuild keeps an instruction for those who build on this image. It has no
// history of its own.
func (s *stage) lowerOnbuild(c *instructions.OnbuildCommand) error {
	s.image.Config.OnBuild = append(s.image.Config.OnBuild, c.Expression)
	return nil
}

func (s *stage) lowerCmd(c *instructions.CmdCommand) error {
	s.checkOnce(c)
	s.image.Config.Cmd = s.commandLine(c.ShellDependantCmdLine, c)
	//lint:ignore SA1019 deprecated, but the reference writes it, and images are compared
	s.image.Config.ArgsEscaped = true
	s.commit(fmt.Sprintf("CMD %q", s.image.Config.Cmd), EmptyLayer)
	return nil
}

// lowerEntrypoint also forgets the base's CMD, which was meant for another
// entrypoint, but not one of this stage.
func (s *stage) lowerEntrypoint(c *instructions.EntrypointCommand) error {
	s.checkOnce(c)
	s.image.Config.Entrypoint = s.commandLine(c.ShellDependantCmdLine, c)
	if s.once["cmd"] == nil {
		s.image.Config.Cmd = nil
	}
	s.commit(fmt.Sprintf("ENTRYPOINT %q", s.image.Config.Entrypoint), EmptyLayer)
	return nil
}

// commandLine is what CMD or ENTRYPOINT puts into the image.
func (s *stage) commandLine(line instructions.ShellDependantCmdLine, c instructions.Command) []string {
	if !line.PrependShell {
		return line.CmdLine
	}
	if len(s.image.Config.Shell) == 0 {
		s.lint.Run(&linter.RuleJSONArgsRecommended, c.Location(), linter.RuleJSONArgsRecommended.Format(c.Name()))
	}
	return s.withShell(line.CmdLine)
}

// withShell returns what runs args in the image's shell.
func (s *stage) withShell(args []string) []string {
	shell := s.image.Config.Shell
	if len(shell) == 0 && s.image.OS == "windows" {
		shell = []string{"cmd", "/S", "/C"}
	} else if len(shell) == 0 {
		shell = []string{"/bin/sh", "-c"}
	}
	return append(slices.Clone(shell), strings.Join(args, " "))
}

func (s *stage) lowerHealthcheck(c *instructions.HealthCheckCommand) error {
	s.checkOnce(c)
	health := dockerspec.HealthcheckConfig{
		Test:          c.Health.Test,
		Interval:      c.Health.Interval,
		Timeout:       c.Health.Timeout,
		StartPeriod:   c.Health.StartPeriod,
		StartInterval: c.Health.StartInterval,
		Retries:       c.Health.Retries,
	}
	s.image.Config.Healthcheck = &health
	s.commit(fmt.Sprintf("HEALTHCHECK %+v", health), EmptyLayer)
	return nil
}

func (s *stage) lowerUser(c *instructions.UserCommand) error {
	s.image.Config.User = c.User
	s.commit("USER "+c.User, EmptyLayer)
	return nil
}

func (s *stage) lowerVolume(c *instructions.VolumeCommand) error {
	if s.image.Config.Volumes == nil {
		s.image.Config.Volumes = map[string]struct{}{}
	}
	for _, v := range c.Volumes {
		if v == "" {
			return wrong("", "the path of a VOLUME is empty")
		}
		s.image.Config.Volumes[v] = struct{}{}
	}
	s.commit(fmt.Sprintf("VOLUME %v", c.Volumes), EmptyLayer)
	return nil
}

// signalAliases are names of signals that have another one, too.
func signalAliases() []string { return []string{"CLD", "IOT", "POLL"} }

// realtime are the signals that have no name of their own.
var realtime = pattern(`^RT(MIN|MIN\+([1-9]|1[0-5])|MAX|MAX-([1-9]|1[0-4]))$`)

func (s *stage) lowerStopSignal(c *instructions.StopSignalCommand) error {
	name := strings.TrimPrefix(strings.ToUpper(c.Signal), "SIG")
	number, err := strconv.Atoi(c.Signal)
	known := unix.SignalNum("SIG"+name) != 0 || realtime().MatchString(name) || slices.Contains(signalAliases(), name)
	if err != nil && !known || err == nil && number == 0 {
		return wrong("give a name such as SIGTERM, or a number", "invalid signal: %s", c.Signal)
	}
	s.image.Config.StopSignal = c.Signal
	s.commit("STOPSIGNAL "+c.Signal, EmptyLayer)
	return nil
}

func (s *stage) lowerShell(c *instructions.ShellCommand) error {
	s.image.Config.Shell = c.Shell
	s.commit(fmt.Sprintf("SHELL %v", c.Shell), EmptyLayer)
	return nil
}

// lowerWorkdir changes the directory and makes it, for the user of the moment,
// if it is not there.
func (s *stage) lowerWorkdir(c *instructions.WorkdirCommand, st step) error {
	s.checkWorkdir(c)
	dir, err := s.enter(c.Path)
	if err != nil {
		return err
	}
	if dir == "/" {
		s.counted++
		s.commit("WORKDIR "+dir, EmptyLayer)
		return nil
	}
	s.add(solver.Node{
		Op:     solver.Mkdir{Path: path.Clean(dir), User: s.image.Config.User, Epoch: s.l.epoch},
		Inputs: []solver.ID{s.root},
	}, s.stepTitle(s.l.lex, st, c, "", s.env), st)
	s.commit("WORKDIR "+dir, s.root)
	return nil
}
