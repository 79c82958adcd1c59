package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"lamina/cache"
	"lamina/snapshot"
	"lamina/solver"
)

// download is what the index remembers of a URL, so that the next build asks
// whether the file has changed instead of fetching it.
type download struct {
	ETag     string        `json:"etag,omitempty"`
	Modified string        `json:"modified,omitempty"` // the Last-Modified header
	Digest   digest.Digest `json:"digest"`
	Result   solver.Result `json:"result"`
}

// http fetches a file into a layer of its own. Its modification time is what the
// server says, or the beginning of Unix time. A file whose checksum is given and
// which is here already costs no request.
func (w *Worker) http(ctx context.Context, op solver.HTTP, out solver.Output) (solver.Result, error) {
	key := solver.KeyOf(op, nil)
	unlock, err := w.Store.Lock(ctx, key.String())
	if err != nil {
		return solver.Result{}, err
	}
	defer unlock()
	known := w.known(ctx, key)
	if known != nil && op.Checksum != "" {
		return known.Result, nil
	}
	resp, err := w.get(ctx, op.URL, known)
	if err != nil {
		return solver.Result{}, err
	}
	defer resp.Body.Close()
	if known != nil && resp.StatusCode == http.StatusNotModified {
		return known.Result, nil
	}
	d, err := w.keepDownload(op, resp, out)
	if err != nil {
		return solver.Result{}, err
	}
	w.note(ctx, key, d)
	return d.Result, nil
}

// known is what is remembered under key, if its file is still here.
func (w *Worker) known(ctx context.Context, key cache.Key) *download {
	var d download
	if !w.noted(ctx, key, &d) || !w.Has(ctx, d.Result) {
		return nil
	}
	return &d
}

// get asks for a URL, or whether what is known of it is still so.
func (w *Worker) get(ctx context.Context, address string, known *download) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	if known != nil {
		if known.ETag != "" {
			req.Header.Set("If-None-Match", known.ETag)
		}
		if known.Modified != "" {
			req.Header.Set("If-Modified-Since", known.Modified)
		}
	}
	if err := w.authorize(req); err != nil {
		return nil, err
	}
	resp, err := w.HTTP.Do(req)
	if err != nil {
		return nil, err
	}
	switch code := resp.StatusCode; {
	case code >= 200 && code < 300, code == http.StatusNotModified && known != nil:
		return resp, nil
	case code == http.StatusUnauthorized, code == http.StatusForbidden:
		err = fmt.Errorf("get %s: the server answered %s: if it wants a token, give it by --secret id=%s,env=VARIABLE",
			req.URL.Redacted(), resp.Status, tokenSecret+req.URL.Hostname())
	default:
		err = fmt.Errorf("get %s: the server answered %s", req.URL.Redacted(), resp.Status)
	}
	resp.Body.Close()
	return nil, err
}

// The secrets that, followed by the name of a host, log ADD in there: a whole
// Authorization header, or a token for one. They are the reference's.
const (
	headerSecret = "HTTP_AUTH_HEADER_"
	tokenSecret  = "HTTP_AUTH_TOKEN_"
)

// authorize puts the secret for the request's host into it, if there is one. Who is
// redirected elsewhere does not take it along.
func (w *Worker) authorize(req *http.Request) error {
	if w.Secret == nil {
		return nil
	}
	for _, s := range []struct{ id, prefix string }{{tokenSecret, "Bearer "}, {headerSecret, ""}} {
		id := s.id + req.URL.Hostname()
		value, err := w.Secret(id)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("secret %q: %w", id, err)
		}
		req.Header.Set("Authorization", s.prefix+strings.TrimSpace(string(value)))
		return nil
	}
	return nil
}

// keepDownload writes the response as a layer with one file.
func (w *Worker) keepDownload(op solver.HTTP, resp *http.Response, out solver.Output) (*download, error) {
	modified := time.Unix(0, 0).UTC()
	if t, err := http.ParseTime(resp.Header.Get("Last-Modified")); err == nil {
		modified = t.UTC()
	}
	draft, err := w.Pool.Draft()
	if err != nil {
		return nil, err
	}
	defer draft.Close()
	name := redacted(op.URL)
	hash, check := digest.SHA256.Digester(), digest.SHA256.Digester()
	if op.Checksum != "" {
		check = op.Checksum.Algorithm().Digester()
	}
	content := io.TeeReader(resp.Body, io.MultiWriter(hash.Hash(), check.Hash()))
	body := &downloading{r: content, name: name, total: resp.ContentLength, out: out}
	entry := snapshot.Entry{Name: op.Name, Kind: snapshot.File, Mode: 0o600, ModTime: modified}
	if err := draft.File(op.Name, entry, body); err != nil {
		return nil, fmt.Errorf("get %s: %w", name, err)
	}
	if got := check.Digest(); op.Checksum != "" && got != op.Checksum {
		return nil, fmt.Errorf("%s has the digest %s, but the checksum says %s", name, got, op.Checksum)
	}
	got := hash.Digest()
	id := newID()
	if err := draft.Commit(id); err != nil {
		return nil, err
	}
	return &download{
		ETag: resp.Header.Get("ETag"), Modified: resp.Header.Get("Last-Modified"), Digest: got,
		Result: solver.Result{
			ID:     contentID(op.Name, got, modified),
			Layers: []snapshot.Layer{{ID: id, Created: now()}},
		},
	}, nil
}

// redacted is a URL without its password.
func redacted(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return address
	}
	return u.Redacted()
}

// downloading reports how much of a file has arrived.
type downloading struct {
	r        io.Reader
	name     string
	n, total int64
	out      solver.Output
}

func (d *downloading) Read(p []byte) (int, error) {
	n, err := d.r.Read(p)
	d.n += int64(n)
	if n > 0 {
		d.out.Progress(d.name, d.n, max(d.total, 0))
	}
	return n, err
}
