package registry

import "net/http"

// counter is a fault that only counts the bytes of the answer.
type counter struct{ bytes int }

func (c *counter) fault(w http.ResponseWriter, r *http.Request, next http.Handler) {
	next.ServeHTTP(countingWriter{w, c}, r)
}

type countingWriter struct {
	http.ResponseWriter
	c *counter
}

func (w countingWriter) Write(p []byte) (int, error) {
	w.c.bytes += len(p)
	return w.ResponseWriter.Write(p)
}
