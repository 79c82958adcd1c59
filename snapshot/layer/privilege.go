package layer

import (
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// privileges are what this process may do to files it owns, beyond what every
// process may.
type privileges struct {
	override bool // read and search whatever the mode says
	setgid   bool // make set-group-ID files of groups it is not in
	umask    uint32
}

func readPrivileges() privileges {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	may := privileges{umask: readUmask()}
	if unix.Capget(&hdr, &data[0]) != nil {
		return may
	}
	has := func(c uint) bool { return data[c/32].Effective&(1<<(c%32)) != 0 }
	may.override, may.setgid = has(unix.CAP_DAC_OVERRIDE), has(unix.CAP_FSETID)
	return may
}

// readUmask returns the permissions that the kernel takes from what this process
// makes; all of them where the kernel does not say. (umask(2) cannot be asked
// without being changed, for all threads.)
func readUmask() uint32 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0o777
	}
	_, rest, found := strings.Cut(string(status), "\nUmask:")
	line, _, _ := strings.Cut(rest, "\n")
	mask, err := strconv.ParseUint(strings.TrimSpace(line), 8, 32)
	if !found || err != nil {
		return 0o777
	}
	return uint32(mask)
}
