package layer

import (
	"os"

	"lamina/snapshot"
)

// Dir is a published layer. It does not change, and is safe for concurrent use.
// Names are as in a [snapshot.Tree], and likewise no method follows a link.
type Dir struct {
	id   snapshot.ID
	path string
}

// ID returns the layer's name.
func (d *Dir) ID() snapshot.ID { return d.id }

// Path returns the directory with the layer's files, in overlay's form.
func (d *Dir) Path() string { panic("todo") }

// Info returns what is known of the layer: nothing, the zero Info, is no error.
func (d *Dir) Info() (Info, error) { panic("todo") }

// Sidecar tells whether a process that sees Path would see wrong owners, modes
// or kinds of files, because the disk could not hold the right ones.
func (d *Dir) Sidecar() (bool, error) { panic("todo") }

// Implied returns the names of the layer's implied directories, sorted, so that
// parents come first; "." among them if the layer says nothing of its root.
func (d *Dir) Implied() ([]string, error) { panic("todo") }

// Lstat describes name. A whiteout is an item, not fs.ErrNotExist.
func (d *Dir) Lstat(name string) (Item, error) { panic("todo") }

// ReadDir lists the directory name, whiteouts included, sorted by name.
func (d *Dir) ReadDir(name string) ([]Item, error) { panic("todo") }

// Walk calls fn for everything in the layer, the root included: a directory
// before what is in it, and in each directory whiteouts first, as the OCI
// image-spec (layer.md, "Whiteouts") asks for, and otherwise sorted by name.
// The first error of fn ends the walk and is returned.
func (d *Dir) Walk(fn func(name string, it Item) error) error { panic("todo") }

// Xattrs returns the extended attributes of name that belong to the image.
func (d *Dir) Xattrs(name string) (map[string]string, error) { panic("todo") }

// OpenFile opens the regular file name for reading. The caller must close it.
func (d *Dir) OpenFile(name string) (*os.File, error) { panic("todo") }
