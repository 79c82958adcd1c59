package build

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"

	"lamina/solver"
)

// parseVolumes parses the values of --volume, as buildah has it.
func parseVolumes(all []string) ([]solver.RunMount, error) {
	var mounts []solver.RunMount
	for _, s := range all {
		m, err := parseVolume(s)
		if err != nil {
			return nil, fmt.Errorf("--volume=%s: %w", s, err)
		}
		mounts = append(mounts, m)
	}
	return mounts, nil
}

// parseVolume parses one SOURCE:TARGET[:OPTION[,OPTION…]].
func parseVolume(s string) (solver.RunMount, error) {
	m := solver.RunMount{Type: solver.MountVolume}
	parts := strings.Split(s, ":")
	if len(parts) < 2 || len(parts) > 3 || parts[0] == "" || !path.IsAbs(parts[1]) || path.Clean(parts[1]) == "/" {
		return m, errors.New("want SOURCE:TARGET[:OPTIONS] with an absolute TARGET, such as ./src:/src:ro")
	}
	source, err := filepath.Abs(parts[0])
	if err == nil {
		_, err = os.Stat(source)
	}
	if err != nil {
		return m, err
	}
	m.Source, m.Target = source, path.Clean(parts[1])
	if len(parts) < 3 {
		return m, nil
	}
	for _, opt := range strings.Split(parts[2], ",") {
		switch opt {
		case "ro":
			m.ReadOnly = true
		case "O":
			m.Discard = true
		case "rw", "z", "Z": // labels of SELinux are not touched
		default:
			return m, fmt.Errorf("unknown option %q, want ro, rw or O", opt)
		}
	}
	if m.ReadOnly && m.Discard {
		return m, errors.New("ro and O exclude each other")
	}
	return m, nil
}
