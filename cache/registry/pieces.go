package registry

import (
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
)

// A proxy before a registry may refuse large requests. Pieces begin with the
// largest size here and are made smaller until they pass.
const (
	largestPiece  = 64 << 20
	smallestPiece = 1 << 20
)

// pieceSize is the largest request that a registry is known to take; 0 is any.
type pieceSize struct{ atomic.Int64 }

// shrink makes the pieces smaller than size, 0 being all, of total bytes. It
// tells whether that is still sensible.
func (p *pieceSize) shrink(size, total int64) bool {
	next := int64(largestPiece)
	if size > 0 {
		next = size / 4
	}
	for next >= total && next > smallestPiece {
		next /= 4
	}
	if next < smallestPiece || next >= total {
		return false
	}
	p.Store(next)
	return true
}

// pieces is a [wire] that cuts uploads which are too large for the registry, or
// for a proxy on the way. What an upload asks in one piece is cut; what it asks
// for and gets here is
//
//	PATCH where                            413
//	PATCH where    Content-Range: 0-99     202  Location: where next
//	PATCH next     Content-Range: 100-149  202  Location: where last
//
// (distribution-spec, "Pushing a blob in chunks").
type pieces struct{ host *host }

func (t pieces) RoundTrip(req *http.Request) (*http.Response, error) {
	total := req.ContentLength
	if req.Method != http.MethodPatch || req.GetBody == nil || total <= smallestPiece {
		return wire{host: t.host}.RoundTrip(req)
	}
	for {
		var (
			resp *http.Response
			err  error
			size = t.host.piece.Load()
		)
		if size == 0 || size >= total {
			resp, err = wire{host: t.host}.RoundTrip(req)
		} else {
			resp, err = t.send(req, size)
		}
		if err != nil || resp.StatusCode != http.StatusRequestEntityTooLarge || !t.host.piece.shrink(size, total) {
			return resp, err
		}
		discard(resp.Body)
	}
}

// send sends the body of req in pieces, and returns the last answer.
func (t pieces) send(req *http.Request, size int64) (*http.Response, error) {
	if a := attemptOf(req.Context()); a != nil {
		size = max(size, a.smallest.Load())
	}
	req.Body.Close()
	body, err := req.GetBody()
	if err != nil {
		return nil, err
	}
	defer body.Close()
	where := req.URL
	for at := int64(0); ; at += size {
		n := min(size, req.ContentLength-at)
		piece := req.Clone(req.Context())
		piece.URL, piece.Host = where, where.Host
		if where.Host != req.URL.Host {
			piece.Header.Del("Authorization")
		}
		piece.Header.Set("Content-Range", fmt.Sprintf("%d-%d", at, at+n-1))
		src := newSource(io.LimitReader(body, n), n, nil)
		piece.ContentLength, piece.GetBody = n, nil
		if piece.Body, err = src.begin(); err != nil {
			return nil, err
		}
		resp, err := wire{host: t.host}.RoundTrip(piece)
		src.end()
		if err != nil || at+n >= req.ContentLength {
			return resp, err
		}
		if resp.StatusCode != http.StatusAccepted && resp.StatusCode != http.StatusNoContent {
			return resp, nil
		}
		discard(resp.Body)
		if where, err = resp.Location(); err != nil {
			return nil, fmt.Errorf("no place for the next piece: %w", err)
		}
	}
}

// discard reads the rest of a small body, so that its connection can be used
// again, and closes it.
func discard(body io.ReadCloser) {
	io.Copy(io.Discard, io.LimitReader(body, 64<<10))
	body.Close()
}
