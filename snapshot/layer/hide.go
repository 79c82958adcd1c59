package layer

import (
	"io/fs"

	"golang.org/x/sys/unix"

	"lamina/snapshot"
)

// Whiteout hides what the layers below have by the name. It does not touch what
// this layer has by it (OCI image-spec, layer.md, "Whiteouts"), before or after:
// a directory becomes opaque, and anything else hides what is below by itself.
func (d *Draft) Whiteout(name string) error {
	if name == "." {
		return &fs.PathError{Op: "whiteout", Path: name, Err: fs.ErrInvalid}
	}
	if d.hidden(name) {
		return nil
	}
	return d.change("whiteout", name, func(at int, base string) error {
		err := makeWhiteout(d, at, base, name)
		if err != unix.EEXIST {
			return err
		}
		kind, err := d.kind(at, base, name)
		if err != nil || kind != dirKind {
			return err
		}
		if dir := d.dirs[name]; dir != nil && dir.implied {
			bare, err := d.bare(name)
			if err != nil {
				return err
			}
			if bare {
				if err := d.removeAt(at, base, name); err != nil {
					return err
				}
				return makeWhiteout(d, at, base, name)
			}
			dir.implied = false // what is below is gone, with its attributes
		}
		return d.setOpaque(at, base, name)
	})
}

func makeWhiteout(d *Draft, at int, base, name string) error {
	err := unix.Mknodat(at, base, unix.S_IFCHR, 0)
	switch err {
	case nil:
		// Refused to an ordinary user, who cannot mount the layer as it is anyway.
		_ = unix.Lsetxattr(procPath(at, "."), originTrusted, nil, 0)
	case unix.EPERM: // an old kernel, or a filter
		if err := makeEmpty(at, base); err != nil {
			return err
		}
		d.recordOf(name).Whiteout = true
	default:
		return err
	}
	return d.journal.put(NewListed(name, Item{Entry: snapshot.Entry{Name: base}, Whiteout: true}, nil))
}

// originTrusted on a directory tells the kernel that it was copied up, from where
// is not known if it is empty. It looks for whiteouts in such a directory even if
// no other lies below, and otherwise lists them as files that nobody can remove.
const originTrusted = "trusted.overlay.origin"

// hidden tells whether name is in a directory that the draft says is gone.
func (d *Draft) hidden(name string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	for name != "." {
		name, _ = split(name)
		if _, err := d.fds.get(name); err == nil {
			return false
		}
		if it, err := d.files().lstat(name); err == nil {
			return it.Whiteout
		}
	}
	return false
}

// bare tells whether the implied directory name holds nothing but whiteouts,
// perhaps in further implied directories.
func (d *Draft) bare(name string) (bool, error) {
	items, err := d.files().list(name)
	if err != nil {
		return false, err
	}
	for _, it := range items {
		if it.Whiteout {
			continue
		}
		if !it.Implied {
			return false, nil
		}
		if bare, err := d.bare(join(name, it.Name)); err != nil || !bare {
			return false, err
		}
	}
	return true, nil
}

// Opaque hides what the directories below this one contain.
func (d *Draft) Opaque(dir string) error {
	if err := d.Implied(dir); err != nil {
		return err
	}
	return d.change("opaque", dir, func(at int, base string) error {
		return d.setOpaque(at, base, dir)
	})
}

func (d *Draft) setOpaque(at int, base, name string) error {
	p := procPath(at, base)
	err := unix.Lsetxattr(p, opaqueTrusted, []byte("y"), 0)
	if err != nil {
		err = unix.Lsetxattr(p, opaqueUser, []byte("y"), 0)
	}
	if err != nil && refusedXattr(err) {
		d.recordOf(name).Opaque = true
		return nil
	}
	return err
}

// Implied makes the directory name, if the draft does not have it, as one that
// means whatever the layers below say of it.
func (d *Draft) Implied(name string) error {
	return d.change("mkdir", name, func(at int, base string) error {
		_, err := d.imply(name)
		return err
	})
}
