// Guestbook serves a page that is written in Markdown, and who has called.
package main

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"log"
	"net/http"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"

	"github.com/google/uuid"
	"github.com/yuin/goldmark"
)

//go:embed page.md
var page []byte

const greeting = "Hello from a Go service"

func main() {
	var html bytes.Buffer
	if err := goldmark.Convert(page, &html); err != nil {
		log.Fatal(err)
	}
	instance := uuid.New()
	var calls atomic.Int64
	http.HandleFunc("GET /", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprintf(w, "<title>%s</title>\n%s<p>call %d of %s, as user %d</p>\n",
			greeting, html.Bytes(), calls.Add(1), instance, os.Getuid())
	})
	srv := &http.Server{Addr: os.Getenv("ADDRESS")}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, func() { srv.Shutdown(context.Background()) })
	if err := srv.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		log.Fatal(err)
	}
}
