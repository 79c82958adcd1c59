package fileset

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"
)

// bigContext makes n files of about 1 KiB, 50 in a directory.
func bigContext(b *testing.B, n int) string {
	b.Helper()
	root := b.TempDir()
	data := make([]byte, 1024)
	for i := range n {
		dir := filepath.Join(root, fmt.Sprintf("module%03d/package%03d", i/5000, i/50%100))
		if i%50 == 0 {
			must(b, os.MkdirAll(dir, 0o755))
		}
		copy(data, fmt.Sprint(i))
		must(b, os.WriteFile(filepath.Join(dir, fmt.Sprintf("file%05d.txt", i)), data, 0o644))
	}
	return root
}

// cpu returns the processor time that this process has used.
func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkDigest identifies a context: "first" with an empty index, "again" with
// one that knows every file. The index is opened, and saved if need be, each time.
func BenchmarkDigest(b *testing.B) {
	for _, n := range []int{20_000, 200_000} {
		root := ""
		run := func(b *testing.B, index string) {
			// As if the files had been there for an hour.
			x, err := openIndex(index, func() time.Time { return time.Now().Add(time.Hour) })
			must(b, err)
			defer x.Close()
			h, err := Host(root)
			must(b, err)
			defer h.Close()
			tree, err := Ignore(h, rules(b, ".git", "**/*.log", "node_modules"))
			must(b, err)
			s, err := Select(b.Context(), tree, Query{Paths: []string{"."}})
			must(b, err)
			_, err = s.Digest(b.Context(), x, DigestOptions{ResetOwner: true})
			must(b, err)
			must(b, x.Save())
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			b.ReportMetric(float64(m.HeapAlloc)/(1<<20), "heap-MiB")
		}
		measure := func(b *testing.B, prepare func() string) {
			if root == "" {
				b.Skip("no context")
			}
			var spent time.Duration
			for b.Loop() {
				b.StopTimer()
				index := prepare()
				start := cpu()
				b.StartTimer()
				run(b, index)
				spent += cpu() - start
			}
			b.ReportMetric(float64(spent.Milliseconds())/float64(b.N), "cpu-ms/op")
		}
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			root = bigContext(b, n)
			index := filepath.Join(b.TempDir(), "index")
			b.Run("first", func(b *testing.B) {
				measure(b, func() string {
					if err := os.Remove(index); err != nil && !os.IsNotExist(err) {
						b.Fatal(err)
					}
					return index
				})
			})
			b.Run("again", func(b *testing.B) { measure(b, func() string { return index }) })
		})
	}
}

// BenchmarkCopy writes a layer of 5000 small files, checking every one.
func BenchmarkCopy(b *testing.B) {
	root := bigContext(b, 5000)
	h, err := Host(root)
	must(b, err)
	defer h.Close()
	s := selection(b, h, ".")
	id, err := s.Digest(b.Context(), Hash{}, DigestOptions{ResetOwner: true})
	must(b, err)
	p := newPool(b)
	var spent time.Duration
	for b.Loop() {
		start := cpu()
		d := newDraft(b, p)
		must(b, Copy(b.Context(), d, fakeTree{}, []From{{Selection: s, ResetOwner: true, Expect: &id}},
			CopyOptions{Dest: "/app", Now: now}))
		spent += cpu() - start
		b.StopTimer()
		must(b, d.Close())
		b.StartTimer()
	}
	b.ReportMetric(float64(spent.Milliseconds())/float64(b.N), "cpu-ms/op")
}
