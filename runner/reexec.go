package runner

import (
	"os"
	"runtime"

	"github.com/opencontainers/runc/libcontainer"
	_ "github.com/opencontainers/runc/libcontainer/nsenter" // joins the namespaces before the Go runtime starts
	"golang.org/x/sys/unix"
)

// Init must be the first call of main, and of TestMain where tests start
// containers: a process becomes a container by executing this very program again.
// It returns at once in any other process, with the main goroutine locked to the
// main thread: threads that enter the mount namespace of a container, ours and
// libcontainer's, must be able to end, and the main one cannot.
//
//	lamina                         lamina "init", stage 2           container
//	------                         ----------------------           ---------
//	locked thread, own mount ns
//	mounts Spec.Root
//	execs itself ----------------> C constructor of nsenter:
//	  makes the cgroups            stage 0 forks 1, 1 enters new
//	                               namespaces and forks 2 as our
//	                               own child; 0 and 1 end
//	                               Go starts; Init asks to die
//	                               with the locked thread
//	  configuration -------------> mounts, pivots, masks
//	  sets the limits <----------- "hooks", "ready"
//	                               seccomp, capabilities, user
//	starts the guard               waits on a fifo
//	opens the fifo --------------> exec ---------------------------> the command
//	waits; then closes the guard's pipe, undoes the mounts, ends the thread
//
// Init is also what Spec.Init puts in front of a command.
func Init() {
	if len(os.Args) > 1 && os.Args[0] == initPath && os.Getpid() == 1 {
		os.Exit(superviseCommand(os.Args[1:]))
	}
	runtime.LockOSThread()
	if len(os.Args) < 2 || os.Args[1] != "init" || os.Getenv("_LIBCONTAINER_INITPIPE") == "" {
		return
	}
	// libcontainer's own parent death signal reaches only stage 0: fork clears it.
	// This thread is the one that will exec.
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		os.Exit(255) // an init that nobody would kill must not live
	}
	refusal{}.inInit()
	libcontainer.Init() // does not return
}
