package fileset

import (
	"strings"
	"testing"

	"lamina/snapshot"
)

func TestModeChange(t *testing.T) {
	for _, tc := range []struct {
		change     string
		file, want uint32 // of a regular file
		dir        uint32 // of a directory that had file
	}{
		{"755", 0o600, 0o755, 0o755},
		{"0", 0o600, 0, 0},
		{"04755", 0o600, 0o4755, 0o4755},
		{"7777", 0o600, 0o7777, 0o7777},
		{"+x", 0o644, 0o755, 0o755},
		{"a+x", 0o644, 0o755, 0o755},
		{"u+x", 0o644, 0o744, 0o744},
		{"go-rwx", 0o777, 0o700, 0o700},
		{"u=rwX,go=rX", 0o600, 0o644, 0o755},
		{"u=rwX,go=rX", 0o700, 0o755, 0o755},
		{"+X", 0o644, 0o644, 0o755},
		{"+X", 0o645, 0o755, 0o755},
		{"-X", 0o755, 0o644, 0o644},
		{"g=u", 0o640, 0o660, 0o660},
		{"go=u-w", 0o755, 0o755, 0o755},
		{"go=u-w", 0o600, 0o644, 0o644},
		{"o+g", 0o750, 0o755, 0o755},
		{"=", 0o7777, 0o1000, 0o1000},
		{"=r", 0o6755, 0o444, 0o444},
		{"u=", 0o4755, 0o055, 0o055},
		{"u+s,g+s,+t", 0o755, 0o7755, 0o7755},
		{"o+s", 0o755, 0o755, 0o755},
		{"o+t", 0o755, 0o755, 0o755},
		{"u-s", 0o6755, 0o2755, 0o2755},
		{"u+r-w+x", 0o200, 0o500, 0o500},
		{"ug+rw,o=", 0o004, 0o660, 0o660},
		{"u=t", 0o755, 0o1055, 0o1055},
		{"g=u", 0o4750, 0o4770, 0o4770},
		{"+", 0o640, 0o640, 0o640},
		// The sticky bit is nobody's, and alone among the others.
		{"=t", 0o640, 0o1640, 0o1640},
		{"=rt", 0o640, 0o1640, 0o1640},
		{"a=rt", 0o640, 0o1444, 0o1444},
		// Copies come in their order: what follows one assigns again.
		{"u=gx", 0o750, 0o150, 0o150},
		{"u=xg", 0o770, 0o770, 0o770},
		{"g=uX", 0o6640, 0o6660, 0o6670},
		{"o=g,u-g", 0o750, 0o255, 0o255},
	} {
		m, err := ParseMode(tc.change)
		if err != nil {
			t.Errorf("ParseMode(%q): %v", tc.change, err)
			continue
		}
		if got := m.Apply(tc.file, snapshot.File); got != tc.want {
			t.Errorf("%q on a file of mode %04o makes %04o, want %04o", tc.change, tc.file, got, tc.want)
		}
		if got := m.Apply(tc.file, snapshot.Dir); got != tc.dir {
			t.Errorf("%q on a directory of mode %04o makes %04o, want %04o", tc.change, tc.file, got, tc.dir)
		}
		if got := m.Apply(0o777, snapshot.Symlink); got != 0o777 {
			t.Errorf("%q changes the mode of a link to %04o", tc.change, got)
		}
	}
}

func TestParseModeErrors(t *testing.T) {
	for _, tc := range []struct{ change, want string }{
		{"", `invalid mode "": it is empty`},
		{"10000", `invalid mode "10000": an octal mode is between 0 and 07777`},
		{"64a", `invalid mode "64a": an octal mode is between 0 and 07777`},
		{"888", `invalid mode "888": an octal mode is between 0 and 07777`},
		{"u", `invalid mode "u": "u" lacks one of + - =`},
		{"u+r,", `invalid mode "u+r,": "" lacks one of + - =`},
		{"q+r", `invalid mode "q+r": "q" is not one of + - = or r w x X s t u g o`},
		{"u+q", `invalid mode "u+q": "q" is not one of + - = or r w x X s t u g o`},
		{"-644", `invalid mode "-644": "6" is not one of + - = or r w x X s t u g o`},
	} {
		_, err := ParseMode(tc.change)
		if err == nil || err.Error() != tc.want {
			t.Errorf("ParseMode(%q) = %v, want %s", tc.change, err, tc.want)
		}
	}
}

func TestNewDirMode(t *testing.T) {
	for change, want := range map[string]uint32{"": 0o755, "700": 0o700, "4711": 0o711, "a=rwx": 0o755} {
		var m ModeChange
		if change != "" {
			var err error
			if m, err = ParseMode(change); err != nil {
				t.Fatal(err)
			}
		}
		if got := m.newDir(); got != want {
			t.Errorf("--chmod=%s makes directories of mode %04o, want %04o", change, got, want)
		}
	}
}

func FuzzParseMode(f *testing.F) {
	for _, s := range []string{"755", "u=rwX,go=rX", "g=u-w", "+t", "u+s", "10000", "a", ",", "=,+"} {
		f.Add(s, uint32(0o644))
	}
	f.Fuzz(func(t *testing.T, s string, mode uint32) {
		mode &= 0o7777
		m, err := ParseMode(s)
		if err != nil {
			return
		}
		once := m.Apply(mode, snapshot.File)
		if once > 0o7777 {
			t.Fatalf("%q makes %o of %o", s, once, mode)
		}
		if !strings.ContainsAny(s, "ugoX") && m.Apply(once, snapshot.File) != once {
			t.Fatalf("%q makes %o of %o, but not of itself", s, once, mode)
		}
	})
}
