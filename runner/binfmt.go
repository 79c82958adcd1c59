package runner

import (
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// format is an entry of binfmt_misc: programs that begin in a certain way are
// given to an interpreter.
type format struct {
	interpreter string
	// fixed tells that the kernel opened the interpreter when it was registered
	// (flag F), so that it need not be where the program runs.
	fixed       bool
	offset      int
	magic, mask []byte // mask is as long as magic
}

// readFormats returns the entries in force of the directory dir, of which one goes
// by the beginnings of programs. It is an error if binfmt_misc is not mounted there.
func readFormats(dir string) ([]format, error) {
	status, err := os.ReadFile(filepath.Join(dir, "status"))
	if err != nil {
		return nil, err
	}
	if strings.TrimSpace(string(status)) != "enabled" {
		return nil, nil
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var all []format
	for _, file := range files {
		if file.Name() == "status" || file.Name() == "register" {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, file.Name()))
		if errors.Is(err, fs.ErrNotExist) { // it was unregistered meanwhile
			continue
		}
		if err != nil {
			return nil, err
		}
		if f, ok := parseFormat(string(text)); ok {
			all = append(all, f)
		}
	}
	return all, nil
}

// parseFormat reads an entry. It is not ok if it is disabled, or goes by names.
func parseFormat(text string) (f format, ok bool) {
	enabled := false
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		var err error
		switch key {
		case "enabled":
			enabled = true
		case "interpreter":
			f.interpreter = value
		case "flags:":
			f.fixed = strings.Contains(value, "F")
		case "offset":
			f.offset, err = strconv.Atoi(value)
		case "magic":
			f.magic, err = hex.DecodeString(value)
		case "mask":
			f.mask, err = hex.DecodeString(value)
		}
		if err != nil {
			return format{}, false
		}
	}
	ok = enabled && len(f.magic) > 0 && (f.mask == nil || len(f.mask) == len(f.magic))
	return f, ok
}

// matches tells whether a program that begins with head is for f's interpreter.
func (f format) matches(head []byte) bool {
	if f.offset < 0 || len(head) < f.offset+len(f.magic) {
		return false
	}
	for i, want := range f.magic {
		mask := byte(0xff)
		if f.mask != nil {
			mask = f.mask[i]
		}
		if (head[f.offset+i]^want)&mask != 0 {
			return false
		}
	}
	return true
}
