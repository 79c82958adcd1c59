package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/rogpeppe/go-internal/txtar"
	"github.com/ulikunitz/xz"
	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"
)

// busybox is a static one, which bases are made of.
const busybox = "/bin/busybox"

// contextTime is the modification time of everything in a case's context.
var contextTime = time.Date(2001, 2, 3, 4, 5, 6, 0, time.UTC)

// A refCase is a file of testdata/reference: a Dockerfile with its context, and
// what BuildKit made of it. Its sections are
//
//	Dockerfile    in which $HTTP is a server of the files http/…, and $HOST its address
//	args          flags of the build, with $HTTP too
//	context       what is built instead of the directory: a URL of $HTTP
//	git/NAME      commands that make a Git repository, see (*refCase).serve
//	setup         commands about the context, see (*refCase).setup
//	want          what BuildKit made, see refImage
//	lamina        what we make, where that differs on purpose; the comment says why
//
// and everything else is a file of the context.
type refCase struct {
	name    string
	archive *txtar.Archive
	repos   string // a directory of Git repositories, once they are served
}

func readRefCase(file string) (*refCase, error) {
	a, err := txtar.ParseFile(file)
	if err != nil {
		return nil, err
	}
	return &refCase{name: strings.TrimSuffix(filepath.Base(file), ".txtar"), archive: a}, nil
}

// section returns the section called name, or "".
func (c *refCase) section(name string) string {
	for _, f := range c.archive.Files {
		if f.Name == name {
			return string(f.Data)
		}
	}
	return ""
}

// args are the flags of the build.
func (c *refCase) args() []string { return strings.Fields(c.section("args")) }

// served are the files of the server at $HTTP. Of NAME.spec it is the archive
// NAME that the lines of it describe.
func (c *refCase) served() map[string][]byte {
	files := map[string][]byte{}
	for _, f := range c.archive.Files {
		name, ok := strings.CutPrefix(f.Name, "http/")
		if !ok {
			continue
		}
		files[name] = f.Data
		if archive, ok := strings.CutSuffix(name, ".spec"); ok {
			data, err := makeTar(string(f.Data), filepath.Ext(archive))
			if err != nil {
				panic(f.Name + ": " + err.Error()) // a mistake in the case
			}
			files[archive] = data
		}
	}
	return files
}

// write makes the context in dir, and the Dockerfile in file.
func (c *refCase) write(dir, file, http string) error {
	for _, f := range c.archive.Files {
		switch {
		case slices.Contains([]string{"args", "context", "setup", "want", "lamina"}, f.Name),
			strings.HasPrefix(f.Name, "http/"), strings.HasPrefix(f.Name, "git/"):
			continue
		case f.Name == "Dockerfile":
			text, err := c.expand(string(f.Data), http)
			if err != nil {
				return err
			}
			if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
				return err
			}
			continue
		}
		name := filepath.Join(dir, f.Name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(name, f.Data, 0o644); err != nil {
			return err
		}
	}
	var last []func() error
	for line := range strings.Lines(c.section("setup")) {
		if words := strings.Fields(line); len(words) > 0 && words[0] == "mtime" {
			last = append(last, func() error { return c.setup(dir, words) })
		} else if err := c.setup(dir, words); err != nil {
			return fmt.Errorf("%s: %w", strings.TrimSpace(line), err)
		}
	}
	err := filepath.WalkDir(dir, func(name string, _ os.DirEntry, err error) error {
		return errors.Join(err, setTime(name, contextTime))
	})
	for _, f := range last {
		err = errors.Join(err, f())
	}
	return err
}

func setTime(name string, t time.Time) error {
	ts, err := unix.TimeToTimespec(t)
	if err != nil {
		return err
	}
	return unix.UtimesNanoAt(unix.AT_FDCWD, name, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW)
}

// setup does to the context what text files cannot say:
//
//	mkdir NAME…             chmod MODE NAME…        chown UID:GID NAME…
//	symlink TARGET NAME     link OLD NAME           xattr KEY VALUE NAME
//	mtime UNIX NAME…        fifo NAME               socket NAME
//	size BYTES NAME         (a hole of that size)   base64 FROM NAME
//	busybox NAME            sshkey NAME             (a private key)
//	tar SPEC NAME           (an archive, compressed as NAME says, of the members that the lines of SPEC describe)
func (c *refCase) setup(dir string, words []string) error {
	if len(words) == 0 || strings.HasPrefix(words[0], "#") {
		return nil
	}
	if len(words) < 2 {
		return errors.New("too few words")
	}
	first, last := words[1], filepath.Join(dir, words[len(words)-1])
	each := func(do func(string) error) (err error) {
		for _, name := range words[2:] {
			err = errors.Join(err, do(filepath.Join(dir, name)))
		}
		return err
	}
	switch words[0] {
	case "mkdir":
		return errors.Join(os.MkdirAll(filepath.Join(dir, first), 0o755),
			each(func(name string) error { return os.MkdirAll(name, 0o755) }))
	case "chmod":
		mode, err := strconv.ParseUint(first, 8, 32)
		return errors.Join(err, each(func(name string) error { return unix.Chmod(name, uint32(mode)) }))
	case "chown":
		var uid, gid int
		_, err := fmt.Sscanf(first, "%d:%d", &uid, &gid)
		return errors.Join(err, each(func(name string) error { return os.Lchown(name, uid, gid) }))
	case "mtime":
		n, err := strconv.ParseInt(first, 10, 64)
		return errors.Join(err, each(func(name string) error { return setTime(name, time.Unix(n, 0)) }))
	case "symlink":
		return os.Symlink(first, last)
	case "link":
		return os.Link(filepath.Join(dir, first), last)
	case "xattr":
		return unix.Lsetxattr(last, first, []byte(words[2]), 0)
	case "fifo":
		return unix.Mkfifo(last, 0o644)
	case "socket":
		return unix.Mknod(last, unix.S_IFSOCK|0o644, 0)
	case "size":
		n, err := strconv.ParseInt(first, 10, 64)
		return errors.Join(err, os.WriteFile(last, nil, 0o644), os.Truncate(last, n))
	case "base64":
		from := filepath.Join(dir, first)
		text, err := os.ReadFile(from)
		if err != nil {
			return err
		}
		data, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(string(text)), ""))
		return errors.Join(err, os.Remove(from), os.WriteFile(last, data, 0o644))
	case "busybox":
		return copyFile(last, busybox)
	case "sshkey":
		return writeKey(last)
	case "tar":
		from := filepath.Join(dir, first)
		spec, err := os.ReadFile(from)
		if err != nil {
			return err
		}
		data, err := makeTar(string(spec), filepath.Ext(last))
		return errors.Join(err, os.Remove(from), os.WriteFile(last, data, 0o644))
	}
	return errors.New("unknown command")
}

// writeKey makes a private key in the file name.
func writeKey(name string) error {
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		return err
	}
	block, err := ssh.MarshalPrivateKey(key, "")
	if err != nil {
		return err
	}
	return os.WriteFile(name, pem.EncodeToMemory(block), 0o600)
}

func copyFile(to, from string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, data, 0o755)
}

// makeTar makes an archive of the members that the lines of spec describe,
//
//	KIND MODE UID:GID UNIX NAME [CONTENT | -> TARGET | MAJOR,MINOR] [KEY=VALUE…]
//
// where in CONTENT "|" ends a line and "\s" is a space,
// with KIND one of f d l (symbolic link) h (hard link) c b p g (a global header).
func makeTar(spec, ext string) ([]byte, error) {
	var buf bytes.Buffer
	var w io.WriteCloser
	var err error
	switch ext {
	case ".gz", ".tgz":
		w = gzip.NewWriter(&buf)
	case ".xz":
		w, err = xz.NewWriter(&buf)
	case ".zst":
		w, err = zstd.NewWriter(&buf)
	default:
		w = nopCloser{&buf}
	}
	if err != nil {
		return nil, err
	}
	tw := tar.NewWriter(w)
	for line := range strings.Lines(spec) {
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		if err := addMember(tw, words); err != nil {
			return nil, fmt.Errorf("%s: %w", strings.TrimSpace(line), err)
		}
	}
	err = errors.Join(tw.Close(), w.Close())
	return buf.Bytes(), err
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }

func addMember(tw *tar.Writer, words []string) error {
	if words[0] == "g" {
		return tw.WriteHeader(&tar.Header{Typeflag: tar.TypeXGlobalHeader, Name: "g", PAXRecords: map[string]string{"comment": "x"}})
	}
	if len(words) < 5 {
		return errors.New("too few words")
	}
	kinds := map[string]byte{
		"f": tar.TypeReg, "d": tar.TypeDir, "l": tar.TypeSymlink, "h": tar.TypeLink,
		"c": tar.TypeChar, "b": tar.TypeBlock, "p": tar.TypeFifo,
	}
	h := &tar.Header{Typeflag: kinds[words[0]], Name: words[4], Format: tar.FormatPAX, PAXRecords: map[string]string{}}
	if _, err := fmt.Sscanf(words[1]+" "+words[2]+" "+words[3], "%o %d:%d", &h.Mode, &h.Uid, &h.Gid); err != nil {
		return err
	}
	sec, err := strconv.ParseInt(words[3], 10, 64)
	if err != nil {
		return err
	}
	h.ModTime = time.Unix(sec, 0)
	var content string
	for i := 5; i < len(words); i++ {
		key, value, attr := strings.Cut(words[i], "=")
		switch {
		case attr:
			h.PAXRecords["SCHILY.xattr."+key] = value
		case words[i] == "->":
			i++
			h.Linkname = words[i]
		case words[0] == "c" || words[0] == "b":
			if _, err := fmt.Sscanf(words[i], "%d,%d", &h.Devmajor, &h.Devminor); err != nil {
				return err
			}
		default:
			content = strings.NewReplacer("|", "\n", `\s`, " ").Replace(words[i])
		}
	}
	h.Size = int64(len(content))
	if err := tw.WriteHeader(h); err != nil {
		return err
	}
	_, err = io.WriteString(tw, content)
	return err
}
