package fileset

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"strings"

	"github.com/moby/sys/user"

	"lamina/snapshot"
)

// maxUserFile limits how much of an image's /etc/passwd or /etc/group is read, in
// bytes: the image is not trusted with this process's memory.
const maxUserFile = 10 << 20

// Owner is who a file belongs to.
type Owner struct{ UID, GID int }

// User is who a process runs as.
type User struct {
	UID, GID int
	// Groups are the supplementary groups.
	Groups []int
	// Name and Home are as in /etc/passwd; empty if it does not know UID.
	Name, Home string
}

// LookupUser finds whom USER means by "user", "user:group", or numbers in place
// of either, in the /etc/passwd and /etc/group of t. The empty spec is 0.
//
// A number needs no entry; without a group it has 0, or what its entry says. The
// supplementary groups are those that list the user's name, but a group in spec
// stands alone. "root" is 0 even where there is no /etc/passwd.
func LookupUser(t snapshot.Tree, spec string) (User, error) {
	name, group, hasGroup := strings.Cut(spec, ":")
	id, isNumber := parseID(name)
	passwd, err := readPasswd(t, func(u user.User) bool {
		return u.Uid == id && isNumber || u.Name == name && !isNumber
	})
	if err != nil {
		return User{}, err
	}
	u := User{UID: id}
	switch {
	case passwd != nil:
		u = User{UID: passwd.Uid, GID: passwd.Gid, Name: passwd.Name, Home: passwd.Home}
	case !isNumber:
		return User{}, unknownUser(name)
	}
	if hasGroup && group != "" {
		u.GID, err = lookupGroup(t, group)
		return u, err
	}
	if u.Name == "" {
		return u, nil
	}
	groups, err := readGroups(t, func(g user.Group) bool {
		for _, member := range g.List {
			if member == u.Name {
				return true
			}
		}
		return false
	})
	for _, g := range groups {
		u.Groups = append(u.Groups, g.Gid)
	}
	return u, err
}

// LookupOwner finds whom --chown means by "user" or "user:group", and to whom a
// directory belongs that WORKDIR makes. It is as [LookupUser], except that
// numbers are not looked up, one that stands alone is the group too, and a name
// that is unknown is 0, or a group the one that there would be without it: so it
// is in docker. Only where there are no files at all is it an error. The empty
// spec is 0:0.
func LookupOwner(t snapshot.Tree, spec string) (Owner, error) {
	name, group, hasGroup := strings.Cut(spec, ":")
	id, isNumber := parseOwnerID(name)
	o := Owner{UID: id, GID: id}
	if !isNumber {
		o = Owner{}
		u, err := readPasswd(t, func(u user.User) bool { return u.Name == name })
		if err != nil {
			return Owner{}, err
		}
		if u != nil {
			o = Owner{UID: u.Uid, GID: u.Gid}
		} else if name != "" && isEmpty(t) {
			return Owner{}, unknownUser(name)
		}
	}
	if !hasGroup {
		return o, nil
	}
	if gid, ok := parseOwnerID(group); ok {
		o.GID = gid
		return o, nil
	}
	groups, err := readGroups(t, func(g user.Group) bool { return g.Name == group })
	switch {
	case err != nil:
		return Owner{}, err
	case len(groups) > 0:
		o.GID = groups[0].Gid
	case isEmpty(t):
		return Owner{}, unknownGroup(group)
	}
	return o, nil
}

func isEmpty(t snapshot.Tree) bool {
	entries, err := t.ReadDir(".")
	return err == nil && len(entries) == 0
}

func unknownUser(name string) error {
	return fmt.Errorf("no user %q in /etc/passwd", name)
}

func unknownGroup(name string) error {
	return fmt.Errorf("no group %q in /etc/group", name)
}

func lookupGroup(t snapshot.Tree, name string) (int, error) {
	if id, ok := parseID(name); ok {
		return id, nil
	}
	groups, err := readGroups(t, func(g user.Group) bool { return g.Name == name })
	if err != nil {
		return 0, err
	}
	if len(groups) == 0 {
		return 0, unknownGroup(name)
	}
	return groups[0].Gid, nil
}

// parseID reads a numeric user or group. "root" and nothing at all are 0.
func parseID(s string) (int, bool) {
	if s == "" || s == "root" {
		return 0, true
	}
	id, err := strconv.ParseUint(s, 10, 31)
	return int(id), err == nil
}

// parseOwnerID is parseID for --chown, where numbers have 32 bits and a sign. To
// chown(2) -1 means no change, which for something new is 0.
func parseOwnerID(s string) (int, bool) {
	if s == "" || s == "root" {
		return 0, true
	}
	id, err := strconv.ParseInt(s, 10, 32)
	if id == -1 {
		id = 0
	}
	return int(uint32(id)), err == nil
}

// readPasswd returns the first entry of t's /etc/passwd that match accepts, or nil.
func readPasswd(t snapshot.Tree, match func(user.User) bool) (*user.User, error) {
	var found []user.User
	err := readUserFile(t, "/etc/passwd", func(r io.Reader) (err error) {
		found, err = user.ParsePasswdFilter(r, match)
		return err
	})
	if err != nil || len(found) == 0 {
		return nil, err
	}
	return &found[0], nil
}

// readGroups returns the entries of t's /etc/group that match accepts.
func readGroups(t snapshot.Tree, match func(user.Group) bool) (found []user.Group, err error) {
	err = readUserFile(t, "/etc/group", func(r io.Reader) (err error) {
		found, err = user.ParseGroupFilter(r, match)
		return err
	})
	return found, err
}

// readUserFile calls parse with t's file name, and with nothing if there is none.
func readUserFile(t snapshot.Tree, name string, parse func(io.Reader) error) error {
	resolved, err := snapshot.Resolve(t, name, true)
	if err != nil {
		return err
	}
	f, err := t.Open(resolved)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	r := &io.LimitedReader{R: f, N: maxUserFile + 1}
	if err := parse(r); err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	if r.N == 0 {
		return fmt.Errorf("read %s: it is larger than %d bytes", name, maxUserFile)
	}
	return nil
}
