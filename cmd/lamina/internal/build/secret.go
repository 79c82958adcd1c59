package build

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"lamina/cmd/lamina/internal/cli"
)

// secretSource says where a secret's value is: a file or a variable.
type secretSource struct{ file, env string }

// parseSecrets parses the values of --secret and returns what looks secrets up.
// That a file is missing is told now; its content is read when a RUN needs it.
func parseSecrets(flags []string, lookup func(string) (string, bool)) (func(id string) ([]byte, error), error) {
	sources := map[string]secretSource{}
	for _, s := range flags {
		id, source, err := parseSecret(s, lookup)
		if err != nil {
			return nil, fmt.Errorf("--secret=%s: %w", s, err)
		}
		sources[id] = source
	}
	return func(id string) ([]byte, error) {
		source, ok := sources[id]
		if !ok {
			return nil, fs.ErrNotExist
		}
		if source.env != "" {
			value, _ := lookup(source.env)
			return []byte(value), nil
		}
		data, err := os.ReadFile(source.file)
		if errors.Is(err, fs.ErrNotExist) {
			// A secret that was given and cannot be had is never silently absent.
			return nil, errors.New(source.file + " has vanished")
		}
		return data, err
	}, nil
}

// parseSecret parses one "id=NAME[,type=file|env][,src=FILE|,env=VARIABLE]". With
// an id alone the secret is the variable of that name or, if there is none, the
// file, as docker has it.
func parseSecret(s string, lookup func(string) (string, bool)) (id string, source secretSource, err error) {
	fields, err := csvFields(s)
	if err != nil {
		return "", source, err
	}
	kind, src := "", ""
	for _, f := range fields {
		switch key := strings.ToLower(f.key); key {
		case "id":
			id = f.value
		case "type":
			kind = f.value
		case "src", "source":
			src = f.value
		case "env":
			source.env = f.value
		default:
			return "", source, fmt.Errorf("unknown key %q, want id, src, env or type", f.key)
		}
	}
	switch {
	case id == "":
		return "", source, errors.New("there is no id=")
	case !cli.OneOf(kind, "", "file", "env"):
		return "", source, fmt.Errorf("unknown type %q, want file or env", kind)
	case src != "" && source.env != "":
		return "", source, errors.New("src and env exclude each other")
	case kind == "env" && source.env == "":
		source.env = src
		if src == "" {
			source.env = id
		}
		return id, source, nil
	case source.env != "":
		return id, source, nil
	case src == "" && kind == "" && isSet(lookup, id):
		source.env = id
		return id, source, nil
	case src == "":
		src = id
	}
	st, err := os.Stat(src)
	if errors.Is(err, fs.ErrNotExist) {
		return "", source, fmt.Errorf("there is no file %s", src)
	}
	if err != nil {
		return "", source, err
	}
	if st.IsDir() {
		return "", source, fmt.Errorf("%s is a directory", src)
	}
	source.file = src
	return id, source, nil
}

func isSet(lookup func(string) (string, bool), name string) bool {
	_, ok := lookup(name)
	return ok
}

// field is one key=value of a flag that has many.
type field struct{ key, value string }

// csvFields splits a flag's "k=v,k=v", in which a field may be quoted as in CSV.
// A field without "=" has the key alone.
func csvFields(s string) ([]field, error) {
	r := csv.NewReader(bytes.NewReader([]byte(s)))
	record, err := r.Read()
	if err != nil {
		return nil, fmt.Errorf("not a list of key=value: %w", err)
	}
	var all []field
	for _, f := range record {
		k, v, _ := strings.Cut(f, "=")
		all = append(all, field{strings.TrimSpace(k), v})
	}
	return all, nil
}
