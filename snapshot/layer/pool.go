package layer

import (
	"github.com/opencontainers/go-digest"

	"lamina/snapshot"
)

// Pool is a directory of layers. Any number of goroutines and processes may use
// one at the same time.
type Pool struct {
	dir string
	tmp func() (string, error)
}

// OpenPool opens the pool in dir, which is made if it does not exist. tmp returns
// a directory on the same filesystem for what is not yet published; it is asked
// for when it is first needed, and whoever owns it removes what is left in it
// after this process has died.
func OpenPool(dir string, tmp func() (string, error)) (*Pool, error) { panic("todo") }

// Open returns the published layer id. One that is missing, or may have been
// damaged by a power failure, is fs.ErrNotExist.
func (p *Pool) Open(id snapshot.ID) (*Dir, error) { panic("todo") }

// Find returns the layer whose diff ID is diffID, or fs.ErrNotExist.
func (p *Pool) Find(diffID digest.Digest) (snapshot.ID, error) { panic("todo") }

// Draft starts a new layer. The caller must close it.
func (p *Pool) Draft() (*Draft, error) { panic("todo") }

// Adopt publishes the directory fsdir, which was the upper directory of an
// overlay on the pool's filesystem and is nobody's any more, as layer id. It is
// moved, not copied; if the layer is published already, that one wins and fsdir
// is removed. The directories named implied (see [Draft.Implied]) count as such.
func (p *Pool) Adopt(fsdir string, id snapshot.ID, implied ...string) error { panic("todo") }

// List returns the IDs of all published layers, sorted.
func (p *Pool) List() ([]snapshot.ID, error) { panic("todo") }

// Remove removes a layer; a missing one is no error. Nobody may be using it.
func (p *Pool) Remove(id snapshot.ID) error { panic("todo") }

// Sync makes every layer that this process published or opened survive a power
// failure. Until then a layer is only known to survive the death of processes.
func (p *Pool) Sync() error { panic("todo") }

// SetInfo replaces what is known of the layer id, atomically, and lets [Pool.Find]
// find it by info.DiffID.
func (p *Pool) SetInfo(id snapshot.ID, info Info) error { panic("todo") }

// Stack returns the layers ids, lowest first, as one tree. It reads nothing but
// what it is asked for. A missing layer is fs.ErrNotExist.
func (p *Pool) Stack(ids []snapshot.ID) (*Stack, error) { panic("todo") }
