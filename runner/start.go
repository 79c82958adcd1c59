package runner

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/moby/sys/user"
	"github.com/opencontainers/runc/libcontainer"
	"golang.org/x/sys/unix"

	"lamina/snapshot"
	"lamina/snapshot/mount"
)

// onThread runs f on a new goroutine that is locked to a thread, which dies with
// it. Init keeps the main thread from being taken.
func onThread(f func()) {
	go func() {
		runtime.LockOSThread()
		f()
	}()
}

// start starts the container from the calling thread. After an error the caller
// releases what there is.
func (p *process) start(state string, want IO) (err error) {
	if err := privateMounts(); err != nil {
		return err
	}
	if p.bundle, err = newBundle(state, p.spec.ID, p.spec.Limits.CgroupParent); err != nil {
		return err
	}
	if err := p.mount(); err != nil {
		return err
	}
	if err := writeFiles(p.bundle, p.spec.Files); err != nil {
		return fmt.Errorf("files of the container: %w", err)
	}
	if err := writeNetworkFiles(p.bundle.dir, p.spec); err != nil {
		return fmt.Errorf("network files of the container: %w", err)
	}
	who, err := lookupUser(p.bundle.root, p.spec.User)
	if err != nil {
		return &specError{err}
	}
	if p.spec.OwnDir {
		if err := makeOwned(p.bundle.root, p.spec.Dir, who.Uid, who.Gid); err != nil {
			return &specError{fmt.Errorf("working directory: %w", err)}
		}
	}
	config, err := configure(p.spec, p.bundle)
	if err != nil {
		return err
	}
	if p.init, err = p.command(who); err != nil {
		return err
	}
	if p.stdio, err = newStdio(want, p.init); err != nil {
		return err
	}
	said, err := newRefusal()
	if err != nil {
		return err
	}
	defer said.close()
	p.init.ExtraFiles = []*os.File{said.to}
	if p.container, err = libcontainer.Create(p.bundle.run(), p.spec.ID, config); err != nil {
		return err
	}
	if err := p.container.Start(p.init); err != nil {
		return err
	}
	said.to.Close()
	if err := p.letGo(); err != nil {
		return err
	}
	if err = said.wait(); err != nil && p.foreign != nil {
		return p.foreign
	}
	return err
}

// letGo lets the started process, which waits for it, execute the command, once
// nothing can keep it from being killed with us.
func (p *process) letGo() (err error) {
	if p.pid, err = p.init.Pid(); err != nil {
		return err
	}
	fd, err := unix.PidfdOpen(p.pid, 0)
	if err != nil {
		return os.NewSyscallError("pidfd_open", err)
	}
	p.pidfd = os.NewFile(uintptr(fd), "pidfd")
	if p.guard, err = newGuard(p.pidfd); err != nil {
		return err
	}
	if err := p.stdio.started(); err != nil {
		return err
	}
	return p.container.Exec()
}

// command is the process that the container begins with, as u.
func (p *process) command(u *user.ExecUser) (*libcontainer.Process, error) {
	args, dir, env := p.spec.Args, p.spec.Dir, environment(p.spec.Env)
	if p.foreign = checkForeign(p.bundle.root, args[0], env); p.foreign != nil && !p.foreign.Unsure {
		return nil, p.foreign
	}
	if p.spec.Init {
		if err := checkInit(p.bundle.self); err != nil {
			return nil, err
		}
		args = append([]string{initPath}, args...)
	}
	if dir == "" {
		dir = "/"
	}
	return &libcontainer.Process{
		Args: args, Env: env, Cwd: dir,
		UID: u.Uid, GID: u.Gid, AdditionalGroups: u.Sgids,
		Init: true,
	}, nil
}

// mount performs the mounts of the root, and those that containerMounts binds
// into it.
func (p *process) mount() error {
	if err := mount.Do(p.bundle.root, p.spec.Root); err != nil {
		return fmt.Errorf("root filesystem: %w", err)
	}
	roots := map[string]string{"": p.bundle.root}
	for name, mounts := range p.spec.Roots {
		dir := filepath.Join(p.bundle.dir, "roots", fmt.Sprint(len(roots)))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		if err := mount.Do(dir, mounts); err != nil {
			return fmt.Errorf("filesystem %s: %w", name, err)
		}
		roots[name] = dir
	}
	for i, m := range p.spec.Mounts {
		if !staged(m) {
			continue
		}
		if err := stage(p.bundle.stage(i), m, roots); err != nil {
			return fmt.Errorf("mount on %s: %w", m.Target, err)
		}
	}
	return nil
}

// stage performs m at the path at, which it makes.
func stage(at string, m snapshot.Mount, roots map[string]string) error {
	if m.Type == "overlay" {
		if err := os.MkdirAll(at, 0o755); err != nil {
			return err
		}
		m.Target = "/"
		return mount.Do(at, []snapshot.Mount{m})
	}
	name, sub, ok := strings.Cut(m.Source, ":")
	root, known := roots[name]
	if !ok || !known {
		return fmt.Errorf("source %q is neither absolute nor in a known root", m.Source)
	}
	dir, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: root, Err: err}
	}
	defer unix.Close(dir)
	source, err := openInRoot(dir, sub, unix.O_PATH)
	if err != nil {
		return &fs.PathError{Op: "open", Path: sub, Err: err}
	}
	defer unix.Close(source)
	return bindFile(source, at)
}

// bindFile mounts the open file or directory source at the path at, which it makes.
func bindFile(source int, at string) error {
	var st unix.Stat_t
	if err := unix.Fstat(source, &st); err != nil {
		return os.NewSyscallError("fstat", err)
	}
	var err error
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		err = os.MkdirAll(at, 0o755)
	} else if err = os.MkdirAll(filepath.Dir(at), 0o755); err == nil {
		err = os.WriteFile(at, nil, 0o644)
	}
	if err != nil {
		return err
	}
	tree, err := unix.OpenTree(source, "", unix.AT_EMPTY_PATH|unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return os.NewSyscallError("open_tree", err)
	}
	defer unix.Close(tree)
	return os.NewSyscallError("move_mount", unix.MoveMount(tree, "", unix.AT_FDCWD, at, unix.MOVE_MOUNT_F_EMPTY_PATH))
}

// specError reports a Spec that the root filesystem does not fit: it needs no more
// words.
type specError struct{ error }

func (e *specError) Unwrap() error { return e.error }

// explain makes of libcontainer's errors, which are text, what a caller needs.
func explain(err error, s Spec) error {
	if foreign := (*ForeignError)(nil); errors.As(err, &foreign) {
		return &CommandError{Code: 126, Err: foreign}
	}
	var command *CommandError
	var spec *specError
	if errors.As(err, &command) || errors.As(err, &spec) {
		return err
	}
	text := err.Error()
	if _, reason, ok := strings.Cut(text, fmt.Sprintf("exec: %q: ", s.Args[0])); ok {
		reason, _, _ = strings.Cut(reason, "\n")
		for _, e := range []struct {
			code int
			text string
		}{
			{127, "executable file not found"},
			{127, "no such file or directory"},
			{127, "not a directory"},
			{126, "permission denied"},
			{126, "is a directory"},
		} {
			if strings.Contains(reason, e.text) {
				return &CommandError{Code: e.code, Err: fmt.Errorf("%s: %s", s.Args[0], e.text)}
			}
		}
	}
	for _, noise := range []string{
		"unable to start container process: ", "error during container init: ",
		" set in config.json", "unable to create new parent process: ",
	} {
		text = strings.ReplaceAll(text, noise, "")
	}
	if text != err.Error() {
		err = errors.New(text)
	}
	return fmt.Errorf("start the container: %w", err)
}

// privateMounts gives the calling thread a mount namespace of its own. Mounts of
// the machine that are undone disappear from it, but none leaves it.
func privateMounts() error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("make a mount namespace: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return fmt.Errorf("make a mount namespace private: %w", err)
	}
	return nil
}
