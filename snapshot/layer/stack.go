package layer

import (
	"io"

	"lamina/snapshot"
)

// Stack is layers seen as one tree, what a process sees on an overlay of them.
type Stack struct{ layers []*Dir }

var _ snapshot.Tree = (*Stack)(nil)

// Layers returns the layers, lowest first.
func (s *Stack) Layers() []*Dir { return s.layers }

// Lstat implements [snapshot.Tree].
func (s *Stack) Lstat(name string) (snapshot.Entry, error) { panic("todo") }

// ReadDir implements [snapshot.Tree].
func (s *Stack) ReadDir(name string) ([]snapshot.Entry, error) { panic("todo") }

// Open implements [snapshot.Tree].
func (s *Stack) Open(name string) (io.ReadCloser, error) { panic("todo") }

// Xattrs implements [snapshot.Tree].
func (s *Stack) Xattrs(name string) (map[string]string, error) { panic("todo") }
