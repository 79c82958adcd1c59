package layer

import (
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// maxDirFDs is how many directories a draft keeps open. Archives go through a
// tree depth first, so few are enough.
const maxDirFDs = 128

// dirFDs opens directories beneath a root and keeps them open, so that a file is
// made by one call that names it relative to its directory. A cached descriptor
// is as good as a new one, because only its owner changes the tree, and says so
// by forget. It is not safe for concurrent use.
type dirFDs struct {
	root  int
	open  map[string]*dirFD
	clock int
}

type dirFD struct {
	name string
	fd   int
	used int // clock of the last use
}

// get returns a descriptor of the directory name, good until the next call.
func (c *dirFDs) get(name string) (int, error) {
	if name == "." {
		return c.root, nil
	}
	c.clock++
	if d := c.open[name]; d != nil {
		d.used = c.clock
		return d.fd, nil
	}
	fd, err := openDirBeneath(c.root, name)
	if err != nil {
		return -1, err
	}
	if len(c.open) >= maxDirFDs {
		c.evict()
	}
	if c.open == nil {
		c.open = make(map[string]*dirFD, maxDirFDs)
	}
	c.open[name] = &dirFD{name, fd, c.clock}
	return fd, nil
}

// evict closes the half that was not used for longest.
func (c *dirFDs) evict() {
	all := make([]*dirFD, 0, len(c.open))
	for _, d := range c.open {
		all = append(all, d)
	}
	slices.SortFunc(all, func(a, b *dirFD) int { return a.used - b.used })
	for _, d := range all[:len(all)/2] {
		c.drop(d)
	}
}

// forget closes what is open of name and everything beneath it.
func (c *dirFDs) forget(name string) {
	for _, d := range c.open {
		if beneath(d.name, name) {
			c.drop(d)
		}
	}
}

func (c *dirFDs) drop(d *dirFD) {
	unix.Close(d.fd)
	delete(c.open, d.name)
}

// close closes everything, the root included.
func (c *dirFDs) close() {
	for _, d := range c.open {
		c.drop(d)
	}
	unix.Close(c.root)
	c.root = -1
}

// beneath tells whether name is dir or something in it.
func beneath(name, dir string) bool {
	rest, ok := strings.CutPrefix(name, dir)
	return dir == "." || ok && (rest == "" || rest[0] == '/')
}
