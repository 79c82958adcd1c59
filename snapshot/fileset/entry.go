package fileset

import (
	"time"

	"golang.org/x/sys/unix"

	"lamina/snapshot"
)

// entryOf translates what stat(2) says.
func entryOf(name string, st *unix.Stat_t) snapshot.Entry {
	e := snapshot.Entry{
		Name:       name,
		Kind:       kindOf(st.Mode),
		Mode:       st.Mode & 0o7777,
		UID:        int(st.Uid),
		GID:        int(st.Gid),
		ModTime:    time.Unix(st.Mtim.Unix()),
		ChangeTime: time.Unix(st.Ctim.Unix()),
		Dev:        uint64(st.Dev), //nolint:unconvert // 32 bits on some architectures
		Ino:        st.Ino,
		Nlink:      uint64(st.Nlink), //nolint:unconvert // 32 bits on some architectures
	}
	switch e.Kind {
	case snapshot.File:
		e.Size = st.Size
	case snapshot.CharDevice, snapshot.BlockDevice:
		e.Major, e.Minor = unix.Major(uint64(st.Rdev)), unix.Minor(uint64(st.Rdev)) //nolint:unconvert // as above
	}
	return e
}

func kindOf(mode uint32) snapshot.Kind {
	switch mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return snapshot.Dir
	case unix.S_IFLNK:
		return snapshot.Symlink
	case unix.S_IFCHR:
		return snapshot.CharDevice
	case unix.S_IFBLK:
		return snapshot.BlockDevice
	case unix.S_IFIFO:
		return snapshot.Fifo
	case unix.S_IFSOCK:
		return snapshot.Socket
	}
	return snapshot.File
}

// typeBits is the reverse of kindOf.
func typeBits(k snapshot.Kind) uint32 {
	switch k {
	case snapshot.Dir:
		return unix.S_IFDIR
	case snapshot.Symlink:
		return unix.S_IFLNK
	case snapshot.CharDevice:
		return unix.S_IFCHR
	case snapshot.BlockDevice:
		return unix.S_IFBLK
	case snapshot.Fifo:
		return unix.S_IFIFO
	case snapshot.Socket:
		return unix.S_IFSOCK
	}
	return unix.S_IFREG
}
