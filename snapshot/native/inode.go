package native

import (
	"context"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// inode is what tells whether a file was changed: equal values mean that it was
// not. The time of birth tells a file from a later one with the same number.
type inode struct {
	number              uint64
	mode                uint32
	uid, gid            uint32
	links               uint32
	rdev                uint64
	size                uint64
	birth, mtime, ctime unix.StatxTimestamp
}

// is tells whether both are the same file, changed or not.
func (i inode) is(other inode) bool {
	return i.number == other.number && i.birth == other.birth && i.kind() == other.kind()
}

func (i inode) kind() uint32 { return i.mode & unix.S_IFMT }

func (i inode) isDir() bool { return i.kind() == unix.S_IFDIR }

func (i inode) modTime() time.Time { return time.Unix(i.mtime.Sec, int64(i.mtime.Nsec)) }

// lstat describes the file name.
func lstat(name string) (inode, error) {
	var st unix.Statx_t
	mask := unix.STATX_BASIC_STATS | unix.STATX_BTIME
	if err := unix.Statx(unix.AT_FDCWD, name, unix.AT_SYMLINK_NOFOLLOW, mask, &st); err != nil {
		return inode{}, &os.PathError{Op: "statx", Path: name, Err: err}
	}
	i := inode{
		number: st.Ino, mode: uint32(st.Mode), uid: st.Uid, gid: st.Gid, links: st.Nlink,
		rdev: unix.Mkdev(st.Rdev_major, st.Rdev_minor), size: st.Size,
		birth: st.Btime, mtime: st.Mtime, ctime: st.Ctime,
	}
	if i.isDir() {
		i.size, i.links = 0, 0 // they say nothing that mtime does not
	}
	return i, nil
}

// nextTick waits until the clock that the kernel stamps files with, which moves
// in steps of milliseconds, is past the present.
func nextTick(ctx context.Context) error {
	var coarse unix.Timespec
	for now := time.Now().UnixNano(); coarse.Nano() <= now; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Millisecond):
		}
		if err := unix.ClockGettime(unix.CLOCK_REALTIME_COARSE, &coarse); err != nil {
			return os.NewSyscallError("clock_gettime", err)
		}
	}
	return nil
}
