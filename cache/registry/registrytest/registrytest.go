// Package registrytest runs a registry inside a test, and makes it fail.
//
//	srv := registrytest.New(t)
//	srv.RequireToken("me", "secret")
//	srv.Inject("GET /blobs/", 1, registrytest.Drop(1000))
//	… push to and pull from srv.Host …
package registrytest

import (
	"context"
	"encoding/pem"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"
)

// Server is a registry in memory, with blobs that belong to repositories and can
// be mounted from one into another. It is safe for concurrent use.
type Server struct {
	// Host is its address, "127.0.0.1:port": what names begin with.
	Host string

	http  *httptest.Server
	store http.Handler
	stop  context.CancelFunc // ends the requests in progress

	mu       sync.Mutex
	requests []string
	received int64
	sent     int64
	faults   []*injection
	blobs    map[string]bool // "repository@digest"
	login    login
	tokens   map[string][]string // scopes that a token was issued for
}

type injection struct {
	match string
	left  int // how often it strikes; negative for always
	fault Fault
}

// New starts a server that speaks plain HTTP, until the test ends.
func New(t testing.TB) *Server {
	s := Start()
	t.Cleanup(s.Close)
	return s
}

// NewTLS starts a server that speaks HTTPS, with a certificate that nobody
// trusts, until the test ends.
func NewTLS(t testing.TB) *Server {
	s := newServer()
	s.http.StartTLS()
	s.Host = s.http.Listener.Addr().String()
	t.Cleanup(s.Close)
	return s
}

// Start starts a server that speaks plain HTTP, until it is closed.
func Start() *Server {
	s := newServer()
	s.http.Start()
	s.Host = s.http.Listener.Addr().String()
	return s
}

func newServer() *Server {
	s := &Server{
		store:  registry.New(registry.Logger(log.New(io.Discard, "", 0))),
		blobs:  map[string]bool{},
		tokens: map[string][]string{},
	}
	s.http = httptest.NewUnstartedServer(http.HandlerFunc(s.serve))
	s.http.Config.ErrorLog = log.New(io.Discard, "", 0)
	ctx, stop := context.WithCancel(context.Background())
	s.stop = stop
	s.http.Config.BaseContext = func(net.Listener) context.Context { return ctx }
	return s
}

// Close stops the server and breaks its connections.
func (s *Server) Close() {
	s.stop()
	s.http.CloseClientConnections()
	s.http.Close()
}

// Certificate is the PEM form of the certificate of a server made by [NewTLS].
func (s *Server) Certificate() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.http.Certificate().Raw})
}

// Inject makes the fault strike the next requests that match, times of them or,
// if times is negative, all. A match is a method and a part of the path with its
// query, such as "GET /blobs/"; an empty one matches everything. Of several
// faults that match, the first that is left strikes.
func (s *Server) Inject(match string, times int, f Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, &injection{match, times, f})
}

// Requests returns the requests so far that match, as "GET /v2/app/blobs/…".
func (s *Server) Requests(match string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var found []string
	for _, r := range s.requests {
		if matches(r, match) {
			found = append(found, r)
		}
	}
	return found
}

// Traffic returns how many bytes of bodies were received and sent so far.
func (s *Server) Traffic() (received, sent int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.received, s.sent
}

// Forget makes the server forget the requests and the traffic so far.
func (s *Server) Forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests, s.received, s.sent = nil, 0, 0
}

func matches(request, match string) bool {
	method, part, _ := strings.Cut(match, " ")
	return match == "" || strings.HasPrefix(request, method+" ") && strings.Contains(request, part)
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	request := r.Method + " " + r.URL.RequestURI()
	s.mu.Lock()
	s.requests = append(s.requests, request)
	var next http.Handler = http.HandlerFunc(s.answer)
	if i := slices.IndexFunc(s.faults, func(i *injection) bool { return i.left != 0 && matches(request, i.match) }); i >= 0 {
		s.faults[i].left--
		fault, sound := s.faults[i].fault, next
		next = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fault(w, r, sound) })
	}
	s.mu.Unlock()
	body := &countingBody{ReadCloser: r.Body}
	r.Body = body
	counted := &countingWriter{ResponseWriter: w}
	defer func() { // also of a connection that breaks
		s.mu.Lock()
		defer s.mu.Unlock()
		s.received += body.n.Load()
		s.sent += counted.n
	}()
	next.ServeHTTP(counted, r)
}

// countingBody counts what is read of a request's body. net/http may read the rest
// of it after the answer.
type countingBody struct {
	io.ReadCloser
	n atomic.Int64
}

func (b *countingBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.n.Add(int64(n))
	return n, err
}

// countingWriter counts what is written of an answer's body.
type countingWriter struct {
	http.ResponseWriter
	n int64
}

func (w *countingWriter) Write(p []byte) (int, error) {
	n, err := w.ResponseWriter.Write(p)
	w.n += int64(n)
	return n, err
}

// Unwrap is for [http.ResponseController].
func (w *countingWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// answer is what a healthy registry does.
func (s *Server) answer(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/token" {
		s.serveToken(w, r)
		return
	}
	if !s.allowed(w, r) {
		return
	}
	repository, digest, isBlob := blobOf(r)
	switch {
	case isBlob && !s.has(repository, digest):
		fail(w, http.StatusNotFound, "BLOB_UNKNOWN", "blob unknown to registry")
		return
	case r.Method == http.MethodPost && s.has(r.FormValue("from"), r.FormValue("mount")):
		repository, _, _ = strings.Cut(strings.TrimPrefix(r.URL.Path, "/v2/"), "/blobs/")
		s.add(repository, r.FormValue("mount"))
		w.Header().Set("Location", "/v2/"+repository+"/blobs/"+r.FormValue("mount"))
		w.WriteHeader(http.StatusCreated)
		return
	}
	status := &statusWriter{ResponseWriter: w}
	s.store.ServeHTTP(status, r)
	if repository, _, ok := strings.Cut(strings.TrimPrefix(r.URL.Path, "/v2/"), "/blobs/uploads/"); ok && status.code == http.StatusCreated {
		s.add(repository, r.URL.Query().Get("digest"))
	}
}

// blobOf takes apart the path of a blob that exists or not.
func blobOf(r *http.Request) (repository, digest string, ok bool) {
	repository, digest, ok = strings.Cut(strings.TrimPrefix(r.URL.Path, "/v2/"), "/blobs/")
	return repository, digest, ok && !strings.HasPrefix(digest, "uploads")
}

func (s *Server) has(repository, digest string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.blobs[repository+"@"+digest]
}

func (s *Server) add(repository, digest string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.blobs[repository+"@"+digest] = true
}

type statusWriter struct {
	http.ResponseWriter
	code int
}

func (w *statusWriter) WriteHeader(code int) {
	w.code = code
	w.ResponseWriter.WriteHeader(code)
}
