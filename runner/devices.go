package runner

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	devices "github.com/opencontainers/cgroups/devices/config"
	"golang.org/x/sys/unix"
)

// Device is a device file that a container has.
type Device struct {
	Path string // in the container, absolute
	// Block tells a block device from a character device.
	Block        bool
	Major, Minor int64
	Mode         fs.FileMode // permission bits; 0 is 0666
	UID, GID     uint32
	// Access is what the container may do, of "rwm"; empty is all.
	Access string
}

// config translates d for libcontainer.
func (d Device) config() *devices.Device {
	kind := devices.CharDevice
	if d.Block {
		kind = devices.BlockDevice
	}
	if d.Mode == 0 {
		d.Mode = 0o666
	}
	if d.Access == "" {
		d.Access = "rwm"
	}
	return &devices.Device{
		Rule: devices.Rule{
			Type: kind, Major: d.Major, Minor: d.Minor,
			Permissions: devices.Permissions(d.Access), Allow: true,
		},
		Path: d.Path, FileMode: d.Mode.Perm(), Uid: d.UID, Gid: d.GID,
	}
}

// HostDevice is the device file name of this machine.
func HostDevice(name string) (Device, error) {
	var st unix.Stat_t
	if err := unix.Stat(name, &st); err != nil {
		return Device{}, &fs.PathError{Op: "stat", Path: name, Err: err}
	}
	kind := st.Mode & unix.S_IFMT
	if kind != unix.S_IFCHR && kind != unix.S_IFBLK {
		return Device{}, &fs.PathError{Op: "open device", Path: name, Err: errors.New("it is no device")}
	}
	return Device{
		Path: name, Block: kind == unix.S_IFBLK,
		Major: int64(unix.Major(st.Rdev)), Minor: int64(unix.Minor(st.Rdev)),
		Mode: fs.FileMode(st.Mode & 0o777), UID: st.Uid, GID: st.Gid,
	}, nil
}

// hostDevices are the device files of this machine, but terminals, which belong
// to somebody.
func hostDevices() ([]Device, error) {
	var found []Device
	err := filepath.WalkDir("/dev", func(name string, e fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil // devices come and go
		case err != nil:
			return err
		case e.IsDir() && (name == "/dev/pts" || name == "/dev/shm" || name == "/dev/mqueue"):
			return fs.SkipDir
		case e.Type()&fs.ModeDevice == 0 || name == "/dev/console" || name == "/dev/ptmx":
			return nil
		}
		if d, err := HostDevice(name); err == nil {
			found = append(found, d)
		}
		return nil
	})
	return found, err
}

// spareLoops is how many loop devices there are beyond the ones in use.
const spareLoops = 8

// BuildDevices are what RUN --security=insecure has in BuildKit: what mounts
// images and filesystems of processes, runs virtual machines and reads the
// kernel's log.
func BuildDevices() []Device {
	list := []Device{
		{Path: "/dev/kmsg", Major: 1, Minor: 11},
		{Path: "/dev/cuse", Major: 10, Minor: 203},
		{Path: "/dev/fuse", Major: 10, Minor: 229},
		{Path: "/dev/kvm", Major: 10, Minor: 232},
		{Path: "/dev/net/tun", Major: 10, Minor: 200},
		{Path: "/dev/loop-control", Major: 10, Minor: 237},
	}
	for i := range int64(freeLoop() + spareLoops) {
		list = append(list, Device{Path: "/dev/loop" + strconv.FormatInt(i, 10), Block: true, Major: 7, Minor: i})
	}
	return list
}

// freeLoop is the number of a loop device that nobody uses, and 0 where none can
// be had.
func freeLoop() int {
	f, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return 0
	}
	defer f.Close()
	n := 0
	if control(f, func(fd int) error {
		n, err = unix.IoctlRetInt(fd, unix.LOOP_CTL_GET_FREE)
		return err
	}) != nil {
		return 0
	}
	return n
}
