package layer

import "golang.org/x/sys/unix"

// privileges are what this process may do to files it owns, beyond what every
// process may.
type privileges struct {
	override bool // read and search whatever the mode says
	setgid   bool // make set-group-ID files of groups it is not in
}

func readPrivileges() privileges {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if unix.Capget(&hdr, &data[0]) != nil {
		return privileges{}
	}
	has := func(c uint) bool { return data[c/32].Effective&(1<<(c%32)) != 0 }
	return privileges{override: has(unix.CAP_DAC_OVERRIDE), setgid: has(unix.CAP_FSETID)}
}
