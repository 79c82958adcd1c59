package collect

import (
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// disk adds up what files take on the disk, as du(1) does: by their blocks, and
// each once however many names it has. What vanishes meanwhile takes nothing.
type disk struct {
	seen map[inode]bool // files with several names
	// own leaves out files that have several names.
	own bool
}

type inode struct{ dev, ino uint64 }

// statBlock is the unit of st_blocks, whatever the blocks of the filesystem are.
const statBlock = 512

// tree returns the bytes that path and everything below it take, and path's own
// modification time. A directory that may not be read counts as empty.
func (d *disk) tree(path string) (bytes int64, changed time.Time, err error) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return 0, time.Time{}, pathError("stat", path, gone(err))
	}
	bytes = d.count(&st)
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		n, err := d.below(unix.AT_FDCWD, path)
		if err != nil {
			return 0, time.Time{}, pathError("read", path, err)
		}
		bytes += n
	}
	return bytes, modified(&st), nil
}

// file is what path takes without what is in it, and its modification time.
func (d *disk) file(path string) (bytes int64, changed time.Time, err error) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return 0, time.Time{}, pathError("stat", path, gone(err))
	}
	return d.count(&st), modified(&st), nil
}

// below is what is in the directory name.
func (d *disk) below(at int, name string) (sum int64, err error) {
	fd, err := unix.Openat(at, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		if errors.Is(err, unix.EACCES) {
			return 0, nil
		}
		return 0, gone(err)
	}
	dir := os.NewFile(uintptr(fd), name)
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return 0, gone(err)
	}
	for _, name := range names {
		var st unix.Stat_t
		if err := unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			if err := gone(err); err != nil && !errors.Is(err, unix.EACCES) {
				return 0, err
			}
			continue
		}
		sum += d.count(&st)
		if st.Mode&unix.S_IFMT == unix.S_IFDIR {
			n, err := d.below(fd, name)
			if err != nil {
				return 0, err
			}
			sum += n
		}
	}
	return sum, nil
}

// count is what one file takes.
func (d *disk) count(st *unix.Stat_t) int64 {
	if st.Nlink > 1 && st.Mode&unix.S_IFMT != unix.S_IFDIR {
		if d.own {
			return 0
		}
		i := inode{st.Dev, st.Ino}
		if d.seen[i] {
			return 0
		}
		if d.seen == nil {
			d.seen = map[inode]bool{}
		}
		d.seen[i] = true
	}
	return st.Blocks * statBlock
}

func modified(st *unix.Stat_t) time.Time { return time.Unix(st.Mtim.Unix()) }

// gone is err, unless that says that a file is not there any more.
func gone(err error) error {
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return nil
	}
	return err
}

func pathError(op, path string, err error) error {
	if err == nil {
		return nil
	}
	return &os.PathError{Op: op, Path: path, Err: err}
}
