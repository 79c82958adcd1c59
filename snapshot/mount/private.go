package mount

import (
	"errors"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// errUnfinished is returned if fn ends its goroutine instead of returning.
var errUnfinished = errors.New("mount: the function ended its goroutine")

// Private runs fn in a mount namespace of its own, on an operating system thread
// of its own: what fn mounts nobody else sees, and it is gone when fn returns or
// the process is killed. Goroutines that fn starts are not in that namespace;
// processes that it starts itself are. fn must not call runtime.UnlockOSThread
// or end its goroutine, as testing.T.FailNow does.
func Private(fn func() error) error {
	done := make(chan error, 1)
	go func() {
		// Never unlocked: a thread in a strange namespace must not run anything
		// else, and the runtime ends a thread whose goroutine ended locked.
		runtime.LockOSThread()
		result := errUnfinished
		defer func() { done <- result }()
		if err := unshare(); err != nil {
			result = err
			return
		}
		result = fn()
	}()
	return <-done
}

func unshare() error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return os.NewSyscallError("unshare", err)
	}
	// Otherwise mounts would spread to the namespace that this is a copy of.
	err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
	return os.NewSyscallError("make mounts private", err)
}
