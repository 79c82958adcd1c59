package main

import (
	"bytes"
	"net/http"
	"path"
	"strings"
	"time"
)

// serveCase serves files as of contextTime, with "/to/NAME" redirected to "/NAME",
// and "/named/X/NAME" is NAME that asks to be called X.
func serveCase(files map[string][]byte) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := strings.TrimPrefix(r.URL.Path, "/")
		if to, ok := strings.CutPrefix(name, "to/"); ok {
			http.Redirect(w, r, "/"+to, http.StatusFound)
			return
		}
		if rest, ok := strings.CutPrefix(name, "named/"); ok {
			as, to, _ := strings.Cut(rest, "/")
			w.Header().Set("Content-Disposition", `attachment; filename="`+as+`"`)
			name = to
		}
		when := contextTime
		if to, ok := strings.CutPrefix(name, "undated/"); ok {
			name, when = to, time.Time{}
		}
		data, ok := files[strings.TrimSuffix(name, "/")]
		if !ok {
			http.NotFound(w, r)
			return
		}
		http.ServeContent(w, r, path.Base(name), when, bytes.NewReader(data))
	})
}
