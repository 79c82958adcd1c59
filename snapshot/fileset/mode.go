package fileset

import (
	"fmt"
	"strconv"
	"strings"

	"lamina/snapshot"
)

// The bits that a mode has beside read, write and execute.
const (
	setUID = 0o4000
	setGID = 0o2000
	sticky = 0o1000
)

// ModeChange is what --chmod asks for: a mode, or changes to the mode that a file has.
// The zero ModeChange changes nothing.
type ModeChange struct {
	absolute bool
	value    uint32   // if absolute
	clauses  []clause // otherwise
}

// clause is one operation of a symbolic mode: who, an operator, permissions.
type clause struct {
	who  uint32 // the bits that may be touched, as a mode; 0 if none were named
	op   byte   // '+', '-' or '='
	bits uint32 // rwxst as for everybody
	x    bool   // X: execute, for directories and what is executable already
	from byte   // 'u', 'g' or 'o': copy that one's permissions; 0 otherwise
}

// ParseMode reads the operand of --chmod: an octal mode of 0 to 07777, or
// symbolic changes as chmod(1) has them, with an umask of 0.
func ParseMode(s string) (ModeChange, error) {
	if s == "" {
		return ModeChange{}, fmt.Errorf("invalid mode %q: it is empty", s)
	}
	if '0' <= s[0] && s[0] <= '9' {
		v, err := strconv.ParseUint(s, 8, 32)
		if err != nil || v > 0o7777 {
			return ModeChange{}, fmt.Errorf("invalid mode %q: an octal mode is between 0 and 07777", s)
		}
		return ModeChange{absolute: true, value: uint32(v)}, nil
	}
	var m ModeChange
	for part := range strings.SplitSeq(s, ",") {
		cs, err := parseClauses(part)
		if err != nil {
			return ModeChange{}, fmt.Errorf("invalid mode %q: %w", s, err)
		}
		m.clauses = append(m.clauses, cs...)
	}
	return m, nil
}

// parseClauses reads "go=u-w": who, then operators with their permissions.
func parseClauses(s string) ([]clause, error) {
	var who uint32
	i := 0
	for ; i < len(s) && strings.IndexByte("ugoa", s[i]) >= 0; i++ {
		who |= whoBits(s[i])
	}
	if i == len(s) {
		return nil, fmt.Errorf("%q lacks one of + - =", s)
	}
	var out []clause
	for i < len(s) {
		op := s[i]
		if op != '+' && op != '-' && op != '=' {
			return nil, fmt.Errorf("%q is not one of + - = or r w x X s t u g o", s[i:i+1])
		}
		end := i + 1
		for end < len(s) && strings.IndexByte("+-=", s[end]) < 0 {
			end++
		}
		perms, err := parsePerms(who, op, s[i+1:end])
		if err != nil {
			return nil, err
		}
		out = append(out, perms...)
		i = end
	}
	return out, nil
}

// parsePerms reads the permissions after an operator. Those copied from u, g
// or o are clauses of their own; "=" clears before the first of them only.
func parsePerms(who uint32, op byte, s string) ([]clause, error) {
	own := clause{who: who, op: op}
	var copies []clause
	for i := range len(s) {
		switch c := s[i]; c {
		case 'r':
			own.bits |= 0o444
		case 'w':
			own.bits |= 0o222
		case 'x':
			own.bits |= 0o111
		case 'X':
			own.x = true
		case 's':
			own.bits |= setUID | setGID
		case 't':
			own.bits |= sticky
		case 'u', 'g', 'o':
			copies = append(copies, clause{who: who, op: op, from: c})
		default:
			return nil, fmt.Errorf("%q is not one of + - = or r w x X s t u g o", s[i:i+1])
		}
	}
	if len(copies) == 0 {
		return []clause{own}, nil
	}
	if own.bits == 0 && !own.x {
		return copies, nil
	}
	if op == '=' {
		for i := range copies {
			copies[i].op = '+'
		}
	}
	return append([]clause{own}, copies...), nil
}

// whoBits are the bits of a mode that belong to one letter of u, g, o and a.
func whoBits(c byte) uint32 {
	switch c {
	case 'u':
		return setUID | 0o700
	case 'g':
		return setGID | 0o070
	case 'o':
		return 0o007
	}
	return setUID | setGID | 0o777
}

// Apply returns what a file of mode and kind k gets. The mode of a symbolic link
// cannot change.
func (m ModeChange) Apply(mode uint32, k snapshot.Kind) uint32 {
	switch {
	case k == snapshot.Symlink:
		return mode
	case m.absolute:
		return m.value
	}
	executable := k == snapshot.Dir || mode&0o111 != 0
	for _, c := range m.clauses {
		mode = c.apply(mode, executable)
	}
	return mode
}

func (c clause) apply(mode uint32, executable bool) uint32 {
	who := c.who
	if who == 0 {
		who = whoBits('a')
	}
	bits := c.bits
	if c.x && (executable || c.op == '-') {
		bits |= 0o111
	}
	switch c.from {
	case 'u':
		bits = mode >> 6 & 7 * 0o111
	case 'g':
		bits = mode >> 3 & 7 * 0o111
	case 'o':
		bits = mode & 7 * 0o111
	}
	// The sticky bit is nobody's: it counts unless only "others" are meant.
	if who&^0o007 != 0 {
		bits = bits & (who | sticky)
	} else {
		bits &= who
	}
	switch c.op {
	case '+':
		return mode | bits
	case '-':
		return mode &^ bits
	}
	clear := who
	if c.bits&sticky != 0 && who&^0o007 != 0 {
		clear |= sticky
	}
	if c.from != 0 {
		clear &= 0o777 // copying permissions leaves setuid and setgid alone
	}
	return mode&^clear | bits
}

// newDir returns the mode of a directory that has to be made for files that get this
// change: an octal mode without its special bits, and 0755 otherwise.
func (m ModeChange) newDir() uint32 {
	if m.absolute {
		return m.value & 0o777
	}
	return 0o755
}
