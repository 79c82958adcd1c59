package registrytest

import (
	"encoding/json"
	"io"
	"net/http"
	"time"
)

// Fault answers a request wrongly; next would do it right.
type Fault func(w http.ResponseWriter, r *http.Request, next http.Handler)

// Status answers with an HTTP status and, in pairs, headers.
func Status(code int, header ...string) Fault {
	return func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(code)
	}
}

// Refuse answers with an HTTP status and an error in the registry's own form.
func Refuse(status int, code, message string) Fault {
	return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) { fail(w, status, code, message) }
}

// TooLarge refuses requests of more than limit bytes, as proxies do.
func TooLarge(limit int64) Fault {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if r.ContentLength > limit {
			w.WriteHeader(http.StatusRequestEntityTooLarge)
			return
		}
		next.ServeHTTP(w, r)
	}
}

// Drop breaks the connection after n bytes of the body: of the request's if it
// has one, or else of the answer's.
func Drop(n int64) Fault {
	return afterBody(n, func(*http.Request) { panic(http.ErrAbortHandler) })
}

// Stall lets nothing move any more after n bytes of the body, until the client
// gives up or the server is closed: of the request's if it has one, or else of the answer's.
func Stall(n int64) Fault {
	return afterBody(n, func(r *http.Request) {
		<-r.Context().Done()
		panic(http.ErrAbortHandler)
	})
}

func afterBody(n int64, strike func(*http.Request)) Fault {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if r.ContentLength != 0 {
			io.CopyN(io.Discard, r.Body, n)
			strike(r)
		}
		next.ServeHTTP(&cutWriter{ResponseWriter: w, left: n, cut: func() {
			http.NewResponseController(w).Flush()
			strike(r)
		}}, r)
	}
}

// Lose does what is asked, and breaks the connection instead of saying so.
func Lose() Fault {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		next.ServeHTTP(&cutWriter{ResponseWriter: discardWriter{w.Header()}, left: 1 << 62}, r)
		panic(http.ErrAbortHandler)
	}
}

// Truncate answers with the first n bytes of the body as if that were all.
func Truncate(n int64) Fault {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		next.ServeHTTP(&cutWriter{ResponseWriter: w, left: n, shorten: true}, r)
	}
}

// Flip changes the byte at an offset of the answer's body.
func Flip(at int64) Fault {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		next.ServeHTTP(&flipWriter{ResponseWriter: w, at: at}, r)
	}
}

// NoRange answers as a registry that knows no ranges.
func NoRange() Fault {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		r.Header.Del("Range")
		next.ServeHTTP(w, r)
	}
}

// Without answers without these headers.
func Without(names ...string) Fault {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		next.ServeHTTP(&headerWriter{ResponseWriter: w, drop: names}, r)
	}
}

// Delay answers after a while, unless the client gives up before.
func Delay(d time.Duration) Fault {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		select {
		case <-time.After(d):
			next.ServeHTTP(w, r)
		case <-r.Context().Done():
		}
	}
}

// Redirect sends the client to the same path on another host.
func Redirect(scheme, host string) Fault {
	return func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		http.Redirect(w, r, scheme+"://"+host+r.URL.RequestURI(), http.StatusTemporaryRedirect)
	}
}

func fail(w http.ResponseWriter, status int, code, message string) {
	type entry struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(map[string][]entry{"errors": {{code, message}}})
}

// cutWriter lets a number of bytes through.
type cutWriter struct {
	http.ResponseWriter
	left    int64
	cut     func() // called at the first byte too many
	shorten bool   // make it look complete
}

func (w *cutWriter) WriteHeader(code int) {
	if w.shorten {
		w.Header().Del("Content-Length")
	}
	w.ResponseWriter.WriteHeader(code)
}

func (w *cutWriter) Write(p []byte) (int, error) {
	n := min(int64(len(p)), w.left)
	w.left -= n
	if _, err := w.ResponseWriter.Write(p[:n]); err != nil {
		return 0, err
	}
	if n < int64(len(p)) && w.cut != nil {
		w.cut()
	}
	return len(p), nil
}

type discardWriter struct{ header http.Header }

func (w discardWriter) Header() http.Header         { return w.header }
func (w discardWriter) WriteHeader(int)             {}
func (w discardWriter) Write(p []byte) (int, error) { return len(p), nil }

type flipWriter struct {
	http.ResponseWriter
	at int64
}

func (w *flipWriter) Write(p []byte) (int, error) {
	if w.at >= 0 && w.at < int64(len(p)) {
		p = append([]byte(nil), p...)
		p[w.at] ^= 0xff
	}
	w.at -= int64(len(p))
	return w.ResponseWriter.Write(p)
}

type headerWriter struct {
	http.ResponseWriter
	drop []string
}

func (w *headerWriter) WriteHeader(code int) {
	for _, name := range w.drop {
		w.Header().Del(name)
	}
	w.ResponseWriter.WriteHeader(code)
}
