package solver

import (
	"time"

	"github.com/opencontainers/go-digest"

	"lamina/snapshot"
)

// Op is one layer operation, a plain value. The set is closed: Image, Local,
// HTTP, Git, Inline, Mkdir, Copy, Merge and Run. Whatever can change an operation's result
// is in its exported fields, and nothing else is.
type Op interface{ kind() string }

// Image is a filesystem that exists already: the layers of a resolved image. It
// has no inputs, costs nothing and pulls nothing. The zero Image is scratch.
type Image struct {
	// Digest is that of the image's manifest; empty for scratch.
	Digest digest.Digest `json:"digest,omitempty"`
	// Layers are the image's, lowest first.
	Layers []snapshot.Layer `json:"layers,omitempty"`
}

// Local is a directory of this machine, by the name that the worker knows it
// under ("context", "dockerfile" or that of a named context). It is live: it is
// never looked up, and its readers are identified by the files they select.
type Local struct {
	Name string `json:"name"`
}

// HTTP is a file fetched from a URL: a tree with one regular file in it.
type HTTP struct {
	URL string `json:"url"`
	// Name is the file's name in the tree.
	Name string `json:"name"`
	// Checksum, if set, is what the content must be.
	Checksum digest.Digest `json:"checksum,omitempty"`
}

// Git is the files of a commit in a Git repository. Its result is identified by
// the commit and by what is wanted of it, wherever the repository is.
type Git struct {
	// Remote is a URL, or "user@host:path". A password in it may be shown to nobody.
	Remote string `json:"remote"`
	// Ref is a branch, a tag, a full name ("refs/pull/1/head") or all digits of a
	// commit; empty is the default branch.
	Ref string `json:"ref,omitempty"`
	// Checksum, if set, is what the commit's digits must begin with.
	Checksum string `json:"checksum,omitempty"`
	// Subdir is the directory whose files are wanted; empty is all of them.
	Subdir string `json:"subdir,omitempty"`
	// KeepGitDir adds the repository itself, as .git, unless there is a Subdir.
	KeepGitDir bool `json:"keepGitDir,omitempty"`
	// SkipSubmodules leaves the directories of submodules empty.
	SkipSubmodules bool `json:"skipSubmodules,omitempty"`
	// CommitTime gives all files the time of the commit, not that of the checkout.
	CommitTime bool `json:"commitTime,omitempty"`
	// ByCommit trusts Checksum, a whole commit, and does not ask what Ref stands for.
	ByCommit bool `json:"byCommit,omitempty"`
}

// Inline is a tree of files written in the Dockerfile itself (here-documents).
type Inline struct {
	Files []InlineFile `json:"files"`
}

// InlineFile is one file of an [Inline] tree, of mode 0644.
type InlineFile struct {
	Name string `json:"name"`
	Data string `json:"data"`
}

// Mkdir makes a directory and its parents on its one input (WORKDIR). What
// exists stays as it is; if nothing had to be made, no layer is made either.
type Mkdir struct {
	Path string `json:"path"` // absolute
	// User owns what is made: "name", "uid", "name:group" …; empty is 0:0. Only
	// the last directory belongs to User; parents that had to be made do too.
	User string `json:"user,omitempty"`
	// Epoch, if set, is the modification time of what is made, in Unix seconds.
	Epoch *int64 `json:"epoch,omitempty"`
}

// Copy copies files onto its first input. Sources[i] reads from Inputs[i+1].
type Copy struct {
	Sources []CopySource `json:"sources"`
	// Dest is absolute and cleaned, but keeps a trailing slash, which means that
	// it is a directory.
	Dest string `json:"dest"`
	// Owner is "user[:group]" by name or number, looked up in the first input;
	// empty is 0:0 for files of a context and the files' own otherwise.
	Owner string `json:"owner,omitempty"`
	// Mode is an octal or symbolic mode; empty keeps the source's.
	Mode string `json:"mode,omitempty"`
}

// CopySource selects files from one tree.
type CopySource struct {
	// Paths are names or patterns (with * ? [ ]; a backslash makes the next
	// character literal), relative to the tree's root, which is ".".
	Paths []string `json:"paths"`
	// Parents keeps the directories above what Paths name, those after the first
	// "/./" of a path or all; what stands there is a pattern as in an ignore file.
	Parents bool `json:"parents,omitempty"`
	// Exclude are patterns, as in an ignore file and relative to each directory that
	// Paths name, of what in it is left out.
	Exclude []string `json:"exclude,omitempty"`
	// Unpack extracts a source that is a tar archive, compressed or not (ADD).
	Unpack bool `json:"unpack,omitempty"`
	// ResetOwner makes everything belong to 0:0 unless Owner says otherwise: the source is a
	// build context, whose owners mean nothing in an image.
	ResetOwner bool `json:"resetOwner,omitempty"`
}

// Merge is its inputs' layers, one input above the other (COPY --link). It costs
// nothing, and a layer that was made without the ones below it stays what it is
// when they change.
type Merge struct{}

// Run executes a process on its first input; its other inputs are what its bind
// and cache mounts start from.
type Run struct {
	Args    []string   `json:"args"`
	Env     []string   `json:"env,omitempty"` // "key=value"
	Dir     string     `json:"dir,omitempty"`
	User    string     `json:"user,omitempty"`
	Mounts  []RunMount `json:"mounts,omitempty"`
	Network string     `json:"network,omitempty"` // "", "none" or "host"
	// Security is "insecure" for a process with all of root's powers, or empty.
	Security string   `json:"security,omitempty"`
	Hostname string   `json:"hostname,omitempty"`
	Hosts    []string `json:"hosts,omitempty"` // "name=address", for /etc/hosts
	ShmSize  int64    `json:"shmSize,omitempty"`
	Ulimits  []string `json:"ulimits,omitempty"`
	// Files are here-documents, offered to the command as /dev/pipes/<name>, read-only
	// and of mode 0755: they are programs that name their interpreter.
	Files []InlineFile `json:"files,omitempty"`

	// ProxyEnv reaches the process but never a key: predefined proxy arguments.
	ProxyEnv []string `json:"-"`
}

// MountType is the kind of a [RunMount].
type MountType string

// The kinds of mounts.
const (
	MountBind   MountType = "bind"
	MountCache  MountType = "cache"
	MountTmpfs  MountType = "tmpfs"
	MountSecret MountType = "secret"
	MountSSH    MountType = "ssh"
	MountVolume MountType = "volume" // a directory of this machine; its content is in no key
)

// RunMount is a mount that exists while a [Run] does.
type RunMount struct {
	Type   MountType `json:"type"`
	Target string    `json:"target,omitempty"` // absolute
	// Input is the index in the node's Inputs of the tree that a bind shows, or
	// that a new cache starts from; 0 means none.
	Input int `json:"input,omitempty"`
	// Source is a path on this machine for a volume, and else a path in that input, or in the cache if it starts from none; empty
	// is the root. A new cache that starts from an input but has a Mode or an owner
	// starts empty.
	Source   string `json:"source,omitempty"`
	ReadOnly bool   `json:"readOnly,omitempty"`
	// Discard keeps what is written to a volume from it.
	Discard bool `json:"discard,omitempty"`
	// CacheID and Sharing ("shared", "private", "locked") are a cache's.
	CacheID string `json:"cacheID,omitempty"`
	Sharing string `json:"sharing,omitempty"`
	// SecretID is the id of a secret; its value never comes near an Op.
	SecretID string `json:"secretID,omitempty"`
	// EnvName, if set, is the variable that holds the secret.
	EnvName string `json:"envName,omitempty"`
	// SSHID is the id of an ssh agent, "default" usually.
	SSHID    string `json:"sshID,omitempty"`
	Required bool   `json:"required,omitempty"`
	// Mode, UID and GID are those of a cache's directory, a secret's file or an
	// agent's socket; nil is the default: 0:0, and 0755, 0400 and 0600.
	Mode *uint32 `json:"mode,omitempty"`
	UID  *int    `json:"uid,omitempty"`
	GID  *int    `json:"gid,omitempty"`
	// Size limits a tmpfs, in bytes; 0 is no limit.
	Size int64 `json:"size,omitempty"`
}

func (Image) kind() string  { return "image" }
func (Local) kind() string  { return "local" }
func (HTTP) kind() string   { return "http" }
func (Git) kind() string    { return "git" }
func (Inline) kind() string { return "inline" }
func (Mkdir) kind() string  { return "mkdir" }
func (Copy) kind() string   { return "copy" }
func (Merge) kind() string  { return "merge" }
func (Run) kind() string    { return "run" }

// KindOf names what op does, as records have it: "run", "copy" …
func KindOf(op Op) string { return op.kind() }

// ModTime is the time that e stands for, if any.
func ModTime(epoch *int64) (time.Time, bool) {
	if epoch == nil {
		return time.Time{}, false
	}
	return time.Unix(*epoch, 0).UTC(), true
}
