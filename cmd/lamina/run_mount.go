package main

import (
	"encoding/csv"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"lamina/cmd/lamina/internal/cli"
	"lamina/snapshot"
	"lamina/solver"
)

// parseMounts reads the values of --mount: caches, which builds have too, and mounts
// of other kinds.
func parseMounts(values []string) (others []snapshot.Mount, caches []solver.RunMount, err error) {
	for _, v := range values {
		m, err := readMountFlag(v)
		if err != nil {
			return nil, nil, mountError(v, err)
		}
		if m.kind == "cache" {
			c, err := m.cache()
			if err != nil {
				return nil, nil, mountError(v, err)
			}
			caches = append(caches, c)
			continue
		}
		other, err := m.other()
		if err != nil {
			return nil, nil, mountError(v, err)
		}
		others = append(others, other)
	}
	return others, caches, nil
}

func mountError(value string, err error) error {
	hint := cli.HintOf(err)
	err = fmt.Errorf("--mount=%s: %w", value, err)
	if hint != "" {
		return cli.WithHint(err, "%s", hint)
	}
	return err
}

// mountFlag is one value of --mount, as docker and Dockerfiles write them.
type mountFlag struct {
	kind, source, target string
	readOnly             bool
	more                 map[string]string // what only some kinds know
}

// mountKeys are the keys that kinds of mounts have beside type, source, target and ro.
var mountKeys = map[string][]string{
	"bind":   {"bind-propagation", "consistency"},
	"tmpfs":  {"tmpfs-size", "tmpfs-mode"},
	"volume": {},
	"cache":  {"id", "sharing", "mode", "uid", "gid"},
}

func readMountFlag(s string) (m mountFlag, err error) {
	fields, err := csv.NewReader(strings.NewReader(s)).Read()
	if err != nil {
		return m, fmt.Errorf("not a list of key=value: %w", err)
	}
	m = mountFlag{kind: "volume", more: map[string]string{}}
	for _, f := range fields {
		key, value, valued := strings.Cut(f, "=")
		switch key = strings.ToLower(strings.TrimSpace(key)); key {
		case "type":
			m.kind = value
		case "source", "src":
			m.source = value
		case "target", "dst", "destination":
			m.target = value
		case "readonly", "ro":
			m.readOnly, err = isTrue(value, valued)
		case "readwrite", "rw":
			m.readOnly, err = isTrue(value, valued)
			m.readOnly = !m.readOnly
		default:
			m.more[key] = value
		}
		if err != nil {
			return m, fmt.Errorf("%s: want true or false", f)
		}
	}
	known, ok := mountKeys[m.kind]
	if !ok {
		return m, fmt.Errorf("unknown type %q, want bind, cache, tmpfs or volume", m.kind)
	}
	for key := range m.more {
		switch {
		case key == "from":
			return m, cli.WithHint(errors.New("a container's mounts come from this machine, not from an image"), "RUN --mount in a Dockerfile has from=")
		case !slices.Contains(known, key):
			return m, fmt.Errorf("unknown key %q of type=%s", key, m.kind)
		}
	}
	if !path.IsAbs(m.target) || path.Clean(m.target) == "/" {
		return m, fmt.Errorf("the target %q is not an absolute directory", m.target)
	}
	return m, nil
}

// isTrue reads the value of a switch, which is on without one.
func isTrue(value string, valued bool) (bool, error) {
	if !valued {
		return true, nil
	}
	return strconv.ParseBool(value)
}

// cache is the cache mount that a RUN with the same options has.
func (m mountFlag) cache() (solver.RunMount, error) {
	c := solver.RunMount{
		Type: solver.MountCache, Target: path.Clean(m.target), ReadOnly: m.readOnly,
		CacheID: m.more["id"], Sharing: m.more["sharing"],
	}
	if c.CacheID == "" {
		c.CacheID = c.Target
	}
	if c.Sharing == "" {
		c.Sharing = "shared"
	}
	if !cli.OneOf(c.Sharing, "shared", "private", "locked") {
		return c, fmt.Errorf("sharing=%s: want shared, private or locked", c.Sharing)
	}
	if source := path.Join("/", m.source); source != "/" {
		c.Source = source
		return c, nil // a part of something has its own mode and owner
	}
	if s, ok := m.more["mode"]; ok {
		n, err := strconv.ParseUint(s, 8, 32)
		if err != nil || n > 0o7777 {
			return c, fmt.Errorf("mode=%s: want an octal mode such as 0755", s)
		}
		mode := uint32(n)
		c.Mode = &mode
	}
	for key, to := range map[string]**int{"uid": &c.UID, "gid": &c.GID} {
		if s, ok := m.more[key]; ok {
			n, err := strconv.ParseUint(s, 10, 31)
			if err != nil {
				return c, fmt.Errorf("%s=%s: want a number", key, s)
			}
			id := int(n)
			*to = &id
		}
	}
	return c, nil
}

// other is a mount that is no cache.
func (m mountFlag) other() (snapshot.Mount, error) {
	options := []string{}
	if m.readOnly {
		options = append(options, "ro")
	}
	switch m.kind {
	case "tmpfs":
		if m.source != "" {
			return snapshot.Mount{}, errors.New("a tmpfs is empty: there is no source in it")
		}
		if size := m.more["tmpfs-size"]; size != "" {
			var bytes cli.ByteSize
			if err := bytes.Set(size); err != nil {
				return snapshot.Mount{}, fmt.Errorf("tmpfs-size: %w", err)
			}
			options = append(options, fmt.Sprintf("size=%d", int64(bytes)))
		}
		if mode := m.more["tmpfs-mode"]; mode != "" {
			options = append(options, "mode="+mode)
		}
		return tmpfsMount(m.target + ":" + strings.Join(options, ","))
	case "volume":
		if m.source != "" {
			return snapshot.Mount{}, cli.WithHint(errors.New("named volumes are not supported"), "use type=bind with a directory, or type=cache")
		}
		return anonymousVolume(path.Clean(m.target)), nil
	}
	if m.source == "" {
		return snapshot.Mount{}, errors.New("type=bind needs source=DIRECTORY")
	}
	source, err := filepath.Abs(m.source)
	if err == nil {
		_, err = os.Stat(source) // docker makes it for -v, but not for --mount
	}
	return snapshot.Mount{Type: "bind", Source: source, Target: path.Clean(m.target), Options: append([]string{"rbind"}, options...)}, err
}

// waitingFor shows what is said while caches are mounted, which is that others have
// them; usually that is nothing.
type waitingFor struct {
	display *cli.Steps
	step    *cli.Step
}

func (w *waitingFor) Write(b []byte) (int, error) {
	if w.step == nil {
		w.step = w.display.Begin("mounting caches")
	}
	w.step.Say(strings.TrimRight(string(b), "\n"))
	return len(b), nil
}

// Progress is of no interest here.
func (w *waitingFor) Progress(string, int64, int64) {}

func (w *waitingFor) end(err error) {
	if w.step != nil {
		w.step.End(err)
	}
}
