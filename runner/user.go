package runner

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/moby/sys/user"
	"golang.org/x/sys/unix"
)

// maxUserFile bounds /etc/passwd and /etc/group: they come out of images.
const maxUserFile = 10 << 20

// lookupUser finds who spec means in the root filesystem at root, by docker's
// rules: the group of a number that no name belongs to is 0, only a user without
// an explicit group has supplementary ones, and the own group is among them.
func lookupUser(root, spec string) (*user.ExecUser, error) {
	passwd, err := readIn(root, "/etc/passwd")
	if err != nil {
		return nil, err
	}
	group, err := readIn(root, "/etc/group")
	if err != nil {
		return nil, err
	}
	u, err := user.GetExecUser(spec, &user.ExecUser{Home: "/"}, strings.NewReader(passwd), strings.NewReader(group))
	switch {
	case errors.Is(err, user.ErrNoPasswdEntries):
		name, _, _ := strings.Cut(spec, ":")
		return nil, fmt.Errorf("unable to find user %s: no matching entries in passwd file", name)
	case errors.Is(err, user.ErrNoGroupEntries):
		_, name, _ := strings.Cut(spec, ":")
		return nil, fmt.Errorf("unable to find group %s: no matching entries in group file", name)
	case err != nil:
		return nil, fmt.Errorf("user %q: %w", spec, err)
	}
	if !slices.Contains(u.Sgids, u.Gid) {
		u.Sgids = append([]int{u.Gid}, u.Sgids...)
	}
	return u, nil
}

// readIn reads the regular file name, following links inside root only. What is
// missing, or is no file, is empty.
func readIn(root, name string) (string, error) {
	dir, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", &os.PathError{Op: "open", Path: root, Err: err}
	}
	defer unix.Close(dir)
	fd, err := openInRoot(dir, name, unix.O_RDONLY|unix.O_NONBLOCK) // a fifo must not block us
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return "", nil
	}
	if err != nil {
		return "", &os.PathError{Op: "open", Path: name, Err: err}
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return "", err
	}
	text, err := io.ReadAll(io.LimitReader(f, maxUserFile+1))
	if err == nil && len(text) > maxUserFile {
		err = fmt.Errorf("%s of the image is larger than %d bytes", name, maxUserFile)
	}
	return string(text), err
}

// openInRoot opens name as a process would whose root is the directory root.
func openInRoot(root int, name string, flags uint64) (int, error) {
	how := unix.OpenHow{
		Flags:   flags | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	}
	for try := 0; ; try++ {
		fd, err := unix.Openat2(root, name, &how)
		if err == unix.EINTR || (err == unix.EAGAIN && try < 100) { // somebody renamed directories meanwhile
			continue
		}
		return fd, err
	}
}

// environment is env with a PATH, if it has none at all. libcontainer adds HOME.
func environment(env []string) []string {
	if !slices.ContainsFunc(env, func(kv string) bool { return strings.HasPrefix(kv, "PATH=") }) {
		env = append(slices.Clip(env), defaultPath)
	}
	return env
}
