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
	changes  []change // otherwise, in order
}

// change is one step of a symbolic mode: to set or clear bits, or to copy the
// permissions of one class to others.
type change struct {
	op   byte   // '+', '-', 'X' (set if executable), or of a copy also '='
	bits uint32 // those that are touched
	from byte   // of a copy: 'u', 'g' or 'o'; 0 otherwise
}

// ParseMode reads the operand of --chmod: an octal mode of 0 to 07777, or
// symbolic changes as chmod(1) has them, with an umask of 0. Where chmods differ, in
// odd ones like "=rt", it is as BSD's.
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
		changes, err := parseClause(part)
		if err != nil {
			return ModeChange{}, fmt.Errorf("invalid mode %q: %w", s, err)
		}
		m.changes = append(m.changes, changes...)
	}
	return m, nil
}

// parseClause reads "go=u-w": who, then operators with their permissions.
func parseClause(s string) ([]change, error) {
	var who uint32
	i := 0
	for ; i < len(s) && strings.IndexByte("ugoa", s[i]) >= 0; i++ {
		who |= whoBits(s[i])
	}
	if i == len(s) {
		return nil, fmt.Errorf("%q lacks one of + - =", s)
	}
	var out []change
	for i < len(s) {
		op := s[i]
		if op != '+' && op != '-' && op != '=' {
			return nil, fmt.Errorf("%q is not one of + - = or r w x X s t u g o", s[i:i+1])
		}
		end := i + 1
		for end < len(s) && strings.IndexByte("+-=", s[end]) < 0 {
			end++
		}
		p := permissions{who: who, op: op}
		if err := p.parse(s[i+1 : end]); err != nil {
			return nil, err
		}
		out = append(out, p.out...)
		i = end
	}
	return out, nil
}

// permissions are what follows one operator. What was read of them becomes changes
// when a copy comes, and at the end.
type permissions struct {
	who      uint32 // the bits that may be touched; 0 if nobody was named
	op       byte
	bits     uint32 // read so far, as for everybody
	x        bool   // X was
	assigned bool   // "=" has cleared what it has to
	out      []change
}

func (p *permissions) parse(s string) error {
	for i := range len(s) {
		onlyOthers := p.who != 0 && p.who&^0o007 == 0
		switch c := s[i]; c {
		case 'r':
			p.bits |= 0o444
		case 'w':
			p.bits |= 0o222
		case 'x':
			p.bits |= 0o111
		case 'X':
			if p.op == '-' {
				p.bits |= 0o111
			} else {
				p.x = true
			}
		case 's':
			if !onlyOthers {
				p.bits |= setUID | setGID
			}
		case 't':
			if !onlyOthers {
				p.bits |= sticky
				p.who |= sticky
			}
		case 'u', 'g', 'o':
			p.flush(p.bits != 0)
			classes := uint32(0o777)
			if p.who != 0 {
				classes &= p.who
			}
			p.out = append(p.out, change{op: p.op, bits: classes, from: c})
			p.assigned = true
		default:
			return fmt.Errorf("%q is not one of + - = or r w x X s t u g o", s[i:i+1])
		}
	}
	p.flush(p.bits != 0 || p.op == '=' && !p.assigned)
	return nil
}

// flush makes changes of X and, if set says so, of the bits that were read.
func (p *permissions) flush(set bool) {
	who := p.who
	if who == 0 {
		who = whoBits('a') | sticky
	}
	if set {
		op := p.op
		if op == '=' {
			op = '+'
			p.assigned = true
			p.out = append(p.out, change{op: '-', bits: who})
			if p.who == 0 {
				p.out[len(p.out)-1].bits = whoBits('a')
			}
		}
		p.out = append(p.out, change{op: op, bits: p.bits & who})
		p.bits = 0
	}
	if p.x {
		p.out = append(p.out, change{op: 'X', bits: 0o111 & who})
		p.x = false
	}
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
	for _, c := range m.changes {
		mode = c.apply(mode, executable)
	}
	return mode
}

func (c change) apply(mode uint32, executable bool) uint32 {
	bits := c.bits
	switch c.from {
	case 'u':
		bits &= mode >> 6 & 7 * 0o111
	case 'g':
		bits &= mode >> 3 & 7 * 0o111
	case 'o':
		bits &= mode & 7 * 0o111
	}
	switch {
	case c.op == '=':
		return mode&^c.bits | bits
	case c.op == '-':
		return mode &^ bits
	case c.op == '+', executable:
		return mode | bits
	}
	return mode
}

// newDir returns the mode of a directory that has to be made for files that get this
// change: an octal mode without its special bits, and 0755 otherwise.
func (m ModeChange) newDir() uint32 {
	if m.absolute {
		return m.value & 0o777
	}
	return 0o755
}
