package layer

import (
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// The attribute that makes a directory opaque. The second is for overlays that
// are mounted in a user namespace, where nobody may set the first.
const (
	opaqueTrusted = "trusted.overlay.opaque"
	opaqueUser    = "user.overlay.opaque"
)

// belongs tells whether the extended attribute key is the image's. The others are
// overlay's own, or this machine's: its security policy, its integrity keys.
func belongs(key string) bool {
	switch key {
	case "security.selinux", "security.ima", "security.evm", "system.nfs4_acl":
		return false
	}
	return !strings.HasPrefix(key, "trusted.overlay.") && !strings.HasPrefix(key, "user.overlay.")
}

// procPath names an open file, or what is called base in an open directory, for
// system calls that know only paths. No directory on the way can be swapped.
func procPath(fd int, base string) string {
	p := "/proc/self/fd/" + strconv.Itoa(fd)
	if base == "" {
		return p
	}
	return p + "/" + base
}

// listXattrs lists the names of all extended attributes of procPath(fd, base).
// A filesystem without any has none.
func listXattrs(fd int, base string) ([]string, error) {
	list := unix.Llistxattr
	if base == "" {
		list = unix.Listxattr // the last component is proc's own link
	}
	p, buf := procPath(fd, base), make([]byte, 256)
	for {
		n, err := list(p, buf)
		switch err {
		case nil:
			if n == 0 {
				return nil, nil
			}
			return xattrNames(buf[:n]), nil
		case unix.ERANGE:
			buf = make([]byte, 2*len(buf))
		case unix.ENOTSUP:
			return nil, nil
		default:
			return nil, err
		}
	}
}

// getXattr returns one extended attribute of procPath(fd, base).
func getXattr(fd int, base, key string) (string, error) {
	get := unix.Lgetxattr
	if base == "" {
		get = unix.Getxattr
	}
	p, buf := procPath(fd, base), make([]byte, 256)
	for {
		n, err := get(p, key, buf)
		switch err {
		case nil:
			return string(buf[:n]), nil
		case unix.ERANGE:
			buf = make([]byte, 4*len(buf))
		default:
			return "", err
		}
	}
}

// imageXattrs returns the extended attributes of procPath(fd, base) that belong
// to the image; nil if there are none.
func imageXattrs(fd int, base string) (map[string]string, error) {
	keys, err := listXattrs(fd, base)
	if err != nil {
		return nil, err
	}
	var m map[string]string
	for _, k := range keys {
		if !belongs(k) {
			continue
		}
		v, err := getXattr(fd, base, k)
		if err == unix.ENODATA {
			continue
		}
		if err != nil {
			return nil, err
		}
		if m == nil {
			m = map[string]string{}
		}
		m[k] = v
	}
	return m, nil
}

// isOpaque tells whether overlay takes the directory procPath(fd, base) as opaque.
func isOpaque(fd int, base string) (bool, error) {
	keys, err := listXattrs(fd, base)
	if err != nil {
		return false, err
	}
	for _, k := range keys {
		if k != opaqueTrusted && k != opaqueUser {
			continue
		}
		if v, err := getXattr(fd, base, k); err != nil || v == "y" {
			return v == "y", err
		}
	}
	return false, nil
}

// fileXattrs is imageXattrs of an open file, which is not O_PATH. That most files
// have none, or only what this machine gives to all, costs one system call.
func fileXattrs(fd int) (map[string]string, error) {
	var buf [256]byte
	n, err := unix.Flistxattr(fd, buf[:])
	if err == unix.ENOTSUP || err == nil && n == 0 {
		return nil, nil
	}
	if err != nil && err != unix.ERANGE {
		return nil, err
	}
	if err == nil && !slices.ContainsFunc(xattrNames(buf[:n]), belongs) {
		return nil, nil
	}
	return imageXattrs(fd, "")
}

// xattrNames splits what listxattr(2) returns.
func xattrNames(list []byte) []string {
	return strings.Split(strings.TrimSuffix(string(list), "\x00"), "\x00")
}
