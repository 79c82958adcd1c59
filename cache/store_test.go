package cache_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lamina/cache"
	"lamina/cache/cachetest"
)

func openStore(t *testing.T, root string) *cache.Store {
	t.Helper()
	s, err := cache.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func ingest(t *testing.T, s *cache.Store, content string) ocispec.Descriptor {
	t.Helper()
	d, err := s.Ingest(t.Context(), ocispec.MediaTypeImageManifest, strings.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// Whoever clears up in a store by hand removes directories that must be there.
func TestOpenMakesWhatIsGone(t *testing.T) {
	ctx, root := t.Context(), t.TempDir()
	for _, gone := range []string{"nothing", "blobs", "index", "origins", "locks", "tmp", "index.json", "oci-layout"} {
		if err := os.RemoveAll(filepath.Join(root, gone)); err != nil {
			t.Fatal(err)
		}
		s, err := cache.Open(root)
		if err != nil {
			t.Fatal(err)
		}
		d, err := s.Ingest(ctx, "text/plain", strings.NewReader("blob"))
		if err := errors.Join(
			err, s.Use(ctx), s.Tag(ctx, "name", d), s.AddOrigin(d.Digest, "registry/repository"),
			s.Index().Put(ctx, d.Digest, []byte("record")), s.Close(),
		); err != nil {
			t.Errorf("without %s: %v", gone, err)
		}
	}
}

func TestStoreRejectsWrongContent(t *testing.T) {
	s := openStore(t, t.TempDir())
	d := ocispec.Descriptor{Digest: digest.FromString("right"), Size: 5}
	for _, content := range []string{"wrong", "righ", "rightt", ""} {
		err := s.Put(t.Context(), d, strings.NewReader(content))
		var corrupt *cache.CorruptError
		if !errors.As(err, &corrupt) {
			t.Errorf("Put of %q: %v, want a CorruptError", content, err)
		}
		if ok, _ := s.Has(t.Context(), d); ok {
			t.Errorf("Put of %q left a blob", content)
		}
	}
	broken := io.MultiReader(strings.NewReader("rig"), errReader{})
	if err := s.Put(t.Context(), d, broken); !errors.Is(err, errBroken) {
		t.Errorf("Put of a broken stream: %v", err)
	}
}

var errBroken = errors.New("broken")

type errReader struct{}

func (errReader) Read([]byte) (int, error) { return 0, errBroken }

// What the disk damaged is found when it is read, and is gone afterwards.
func TestStoreForgetsDamagedBlob(t *testing.T) {
	s := openStore(t, t.TempDir())
	d := ingest(t, s, "content")
	path := s.Path("blobs", "sha256", d.Digest.Encoded())
	if err := os.WriteFile(path, []byte("cOntent"), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := s.Open(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var corrupt *cache.CorruptError
	if _, err := io.ReadAll(r); !errors.As(err, &corrupt) {
		t.Errorf("reading damaged content: %v, want a CorruptError", err)
	}
	if ok, _ := s.Has(t.Context(), d); ok {
		t.Error("the damaged blob is still there")
	}
}

func TestStoreNames(t *testing.T) {
	s := openStore(t, t.TempDir())
	ctx := t.Context()
	one, two := ingest(t, s, "one"), ingest(t, s, "two")
	names := func() string {
		all, err := s.Names(ctx)
		if err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		for _, n := range all {
			fmt.Fprintf(&b, "%s=%s ", n.Name, map[digest.Digest]string{one.Digest: "one", two.Digest: "two"}[n.Root.Digest])
		}
		return strings.TrimSpace(b.String())
	}
	steps := []struct {
		do   func() error
		want string
	}{
		{func() error { return s.Hold(ctx, one) }, "=one"},
		{func() error { return s.Hold(ctx, one) }, "=one"},
		{func() error { return s.Tag(ctx, "a", one) }, "a=one"},
		{func() error { return s.Tag(ctx, "b", one) }, "a=one b=one"},
		{func() error { return s.Tag(ctx, "a", two) }, "b=one a=two"},
		{func() error { return s.Tag(ctx, "b", two) }, "a=two =one b=two"},
		{func() error { return s.Tag(ctx, "a", two) }, "a=two =one b=two"},
		{func() error { return s.Untag(ctx, "a") }, "=one b=two"},
		{func() error { return s.Untag(ctx, "b") }, "=one =two"},
		{func() error { return s.Forget(ctx, one.Digest) }, "=two"},
	}
	for i, step := range steps {
		if err := step.do(); err != nil {
			t.Fatalf("step %d: %v", i, err)
		}
		if diff := cmp.Diff(step.want, names()); diff != "" {
			t.Fatalf("step %d: %s", i, diff)
		}
	}
	for _, err := range []error{
		s.Untag(ctx, "gone"), s.Untag(ctx, ""), s.Forget(ctx, one.Digest),
		s.Tag(ctx, "x", ocispec.Descriptor{Digest: digest.FromString("absent"), Size: 1}),
	} {
		if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("error is %v, want fs.ErrNotExist", err)
		}
	}
}

func TestStoreNamesFromManyAtOnce(t *testing.T) {
	root := t.TempDir()
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			s, err := cache.Open(root)
			if err != nil {
				t.Error(err)
				return
			}
			defer s.Close()
			for j := range 4 {
				d, err := s.Ingest(t.Context(), "x/y", strings.NewReader(fmt.Sprint(i, j)))
				if err == nil {
					err = s.Tag(t.Context(), fmt.Sprintf("n%d-%d", i, j), d)
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	all, err := openStore(t, root).Names(t.Context())
	if err != nil || len(all) != 32 {
		t.Errorf("%d names, want 32: %v", len(all), err)
	}
}

func TestRecords(t *testing.T) {
	s := openStore(t, t.TempDir())
	index := s.Index()
	k := digest.FromString("key")
	if _, err := index.Get(t.Context(), k); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a miss is %v, want fs.ErrNotExist", err)
	}
	for _, record := range [][]byte{[]byte("one"), {}, bytes.Repeat([]byte("x"), 1<<20)} {
		if err := index.Put(t.Context(), k, record); err != nil {
			t.Fatal(err)
		}
		got, err := index.Get(t.Context(), k)
		if err != nil || !bytes.Equal(got, record) {
			t.Errorf("got %d bytes, want %d: %v", len(got), len(record), err)
		}
	}
}

// Every way of damaging a record makes it a miss.
func TestRecordsDamaged(t *testing.T) {
	s := openStore(t, t.TempDir())
	index := s.Index()
	k := digest.FromString("key")
	if err := index.Put(t.Context(), k, []byte("record")); err != nil {
		t.Fatal(err)
	}
	path := s.Path("index", k.Encoded()[:2], k.Encoded())
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range whole {
		flipped := bytes.Clone(whole)
		flipped[i] ^= 1
		for _, damaged := range [][]byte{flipped, whole[:i]} {
			if err := os.WriteFile(path, damaged, 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := index.Get(t.Context(), k); !errors.Is(err, fs.ErrNotExist) {
				t.Fatalf("damage at byte %d: %v, want fs.ErrNotExist", i, err)
			}
		}
	}
}

func TestLockExcludes(t *testing.T) {
	root := t.TempDir()
	held, worst := 0, 0
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			s, err := cache.Open(root)
			if err != nil {
				t.Error(err)
				return
			}
			defer s.Close()
			for range 20 {
				unlock, err := s.Lock(t.Context(), "key")
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				held++
				worst = max(worst, held)
				mu.Unlock()
				mu.Lock()
				held--
				mu.Unlock()
				unlock()
			}
		})
	}
	wg.Wait()
	if worst != 1 {
		t.Errorf("%d held the lock at once", worst)
	}
	if left, _ := os.ReadDir(filepath.Join(root, "locks")); len(left) != 0 {
		t.Errorf("%d lock files are left", len(left))
	}
}

func TestLockWaitIsCancelled(t *testing.T) {
	s := openStore(t, t.TempDir())
	unlock, err := s.Lock(t.Context(), "key")
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	if _, ok, err := s.TryLock("key"); ok || err != nil {
		t.Errorf("TryLock of a held lock: %v, %v", ok, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := s.Lock(ctx, "key"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error is %v, want the context's", err)
	}
}

func TestExclusive(t *testing.T) {
	root := t.TempDir()
	user, pruner := openStore(t, root), openStore(t, root)
	if err := user.Use(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := pruner.Exclusive(); !errors.Is(err, cache.ErrInUse) {
		t.Errorf("error is %v, want ErrInUse", err)
	}
	user.Close()
	unlock, err := pruner.Exclusive()
	if err != nil {
		t.Fatal(err)
	}
	unlock()
}

// The temporary directory of a killed process is removed by the next process,
// that of a living one is not.
func TestTempIsSwept(t *testing.T) {
	root := t.TempDir()
	if os.Getenv("LAMINA_TEST_VICTIM") != "" {
		s, err := cache.Open(os.Getenv("LAMINA_TEST_VICTIM"))
		if err == nil {
			_, err = s.Temp()
		}
		if err != nil {
			t.Fatal(err)
		}
		fmt.Println("ready")
		io.Copy(io.Discard, os.Stdin) // until we are killed
		return
	}
	living := openStore(t, root)
	mine, err := living.Temp()
	if err != nil {
		t.Fatal(err)
	}
	victim := exec.Command(os.Args[0], "-test.run=^TestTempIsSwept$")
	victim.Env = append(os.Environ(), "LAMINA_TEST_VICTIM="+root)
	stdin, err := victim.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	stdout, err := victim.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := victim.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(stdout, make([]byte, len("ready\n"))); err != nil {
		t.Fatal(err)
	}
	count := func() int {
		all, err := filepath.Glob(filepath.Join(root, "tmp", "*"))
		if err != nil {
			t.Fatal(err)
		}
		return len(all)
	}
	if n := count(); n != 4 { // two directories and their locks
		t.Fatalf("%d files in tmp, want 4", n)
	}
	victim.Process.Kill()
	victim.Wait()
	next := openStore(t, root)
	if _, err := next.Temp(); err != nil {
		t.Fatal(err)
	}
	if n := count(); n != 4 { // mine and next's
		t.Errorf("%d files in tmp, want 4", n)
	}
	if _, err := os.Stat(mine); err != nil {
		t.Errorf("a living process lost its directory: %v", err)
	}
}

func TestRemoveAllWithoutPermission(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("permissions do not bind root")
	}
	dir := filepath.Join(t.TempDir(), "a")
	if err := os.MkdirAll(filepath.Join(dir, "b", "c"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{"b/c", "b", "."} {
		if err := os.Chmod(filepath.Join(dir, d), 0o500); err != nil {
			t.Fatal(err)
		}
	}
	if err := cache.RemoveAll(dir); err != nil {
		t.Error(err)
	}
}

func TestOrigins(t *testing.T) {
	s := openStore(t, t.TempDir())
	d := digest.FromString("blob")
	for i := range 12 {
		if err := s.AddOrigin(d, fmt.Sprint("r/", i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.AddOrigin(d, "r/7"); err != nil {
		t.Fatal(err)
	}
	want := []string{"r/7", "r/11", "r/10", "r/9", "r/8", "r/6", "r/5", "r/4"}
	if diff := cmp.Diff(want, s.Origins(d)); diff != "" {
		t.Error(diff)
	}
}

func TestStoreConformance(t *testing.T) {
	cachetest.RunRepository(t, func() cache.Repository { return openStore(t, t.TempDir()) })
	cachetest.RunIndex(t, func() cache.Index { return openStore(t, t.TempDir()).Index() })
}
