package build

import (
	"errors"
	"fmt"
	"os"
	"strings"
)

// epochArg is the argument by which reproducible builds are told the time
// (reproducible-builds.org, SOURCE_DATE_EPOCH specification).
const epochArg = "SOURCE_DATE_EPOCH"

// buildArgs are the values for ARG: those of files, in their order, then those of
// flags, and at last the time that this process was told.
func buildArgs(o buildOptions, lookup func(string) (string, bool)) (map[string]string, error) {
	var all []string
	for _, name := range o.buildArgFiles {
		lines, err := readArgFile(name)
		if err != nil {
			return nil, fmt.Errorf("--build-arg-file: %w", err)
		}
		all = append(all, lines...)
	}
	args, err := keyValues("build-arg", append(all, o.buildArgs...), lookup)
	if err != nil {
		return nil, err
	}
	if o.epoch != "" {
		if _, err := parseEpoch(o.epoch); err != nil && o.epoch != "context" {
			return nil, fmt.Errorf("--source-date-epoch=%s: %w", o.epoch, err)
		}
		if given, ok := args[epochArg]; ok && given != o.epoch {
			return nil, errors.New("--source-date-epoch and --build-arg=" + epochArg + " say different things")
		}
		args[epochArg] = o.epoch
	}
	// As docker does: what reproducible builds set in the environment is meant.
	if epoch, _ := lookup(epochArg); epoch != "" && o.timestamp == "" {
		if _, given := args[epochArg]; !given {
			args[epochArg] = epoch
		}
	}
	return args, nil
}

// readArgFile reads a file of KEY=VALUE lines, with empty lines and comments that
// begin with #, as buildah has them.
func readArgFile(name string) ([]string, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := readAll(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	var all []string
	number := 0
	for line := range strings.Lines(string(data)) {
		number++
		line = strings.TrimRight(line, "\r\n")
		switch {
		case strings.TrimSpace(line) == "" || line[0] == '#':
			continue
		case line[0] == '=':
			return nil, fmt.Errorf("%s:%d: there is no name before the \"=\"", name, number)
		}
		all = append(all, line)
	}
	return all, nil
}
