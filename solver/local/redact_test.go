package local

import (
	"bytes"
	"testing"
)

type collected struct{ bytes.Buffer }

func (*collected) Progress(string, int64, int64) {}

func TestRedactor(t *testing.T) {
	secrets := [][]byte{[]byte("hunter22\n"), []byte("-----BEGIN-----\nabcdef\nxyz\n"), []byte("hunter")}
	for _, tc := range []struct{ in, want string }{
		{"nothing here", "nothing here"},
		{"password: hunter22!", "password: ***!"},
		{"hunter2", "***2"},
		{"hunthunter22", "hunt***"},
		{"abcdef and xyz", "*** and xyz"},
		{"ends like hunt", "ends like hunt"},
		{"hunter22hunter22", "******"},
		{"", ""},
	} {
		// However the output is cut, it comes out the same.
		for cut := range len(tc.in) + 1 {
			var out collected
			r := redacting(&out, secrets)
			for _, part := range []string{tc.in[:cut], tc.in[cut:]} {
				if n, err := r.Write([]byte(part)); err != nil || n != len(part) {
					t.Fatal(n, err)
				}
			}
			if err := r.flush(); err != nil {
				t.Fatal(err)
			}
			if out.String() != tc.want {
				t.Errorf("%q cut at %d: %q, want %q", tc.in, cut, out.String(), tc.want)
			}
		}
	}
}

func FuzzRedactor(f *testing.F) {
	f.Add([]byte("say secret loudly"), uint8(6))
	f.Fuzz(func(t *testing.T, in []byte, cut uint8) {
		var out collected
		r := redacting(&out, [][]byte{[]byte("secret"), []byte("etcrs")})
		n := min(int(cut), len(in))
		r.Write(in[:n])
		r.Write(in[n:])
		r.flush()
		if bytes.Contains(out.Bytes(), []byte("secret")) && !bytes.Contains(in, []byte("***")) {
			t.Errorf("%q shows it", out.Bytes())
		}
	})
}
