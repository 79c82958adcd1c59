package registry

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// maxDetail is how much is shown of what a registry says about an error.
const maxDetail = 300

// explain names the reason why an attempt at o has failed.
func (h *host) explain(ctx context.Context, o *op, a *attempt, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w", o.subject, context.Cause(ctx))
	}
	if o.src != nil {
		if err := o.src.failure(); err != nil {
			return fmt.Errorf("%s: %w", o.subject, err)
		}
	}
	var (
		known  *Error
		answer *transport.Error
		failed *url.Error
		syntax *json.SyntaxError
	)
	switch {
	case errors.As(err, &known):
		if known.Subject == "" {
			known.Subject = o.subject
		}
		return known
	case errors.As(err, &answer):
		login, _ := h.known(o.repo)
		e := refusal(h.registry, o.subject, login, answer, time.Duration(a.after.Load()))
		// The registry may have lost or closed an upload behind our back.
		e.transient = e.transient || o.src != nil && lostUpload(answer, e)
		return e
	case errors.As(err, &failed) && !errors.As(err, &syntax):
		return unreachable(h.registry, o.subject, err)
	}
	return &Error{
		Kind: Server, Registry: h.registry, Subject: o.subject, Err: err,
		Text: fmt.Sprintf("the answer of %s cannot be used: %s", h.registry, printable(err.Error())),
	}
}

func lostUpload(answer *transport.Error, e *Error) bool {
	if e.says(transport.BlobUploadUnknownErrorCode, transport.BlobUploadInvalidErrorCode) {
		return true
	}
	sent := answer.Request != nil && (answer.Request.Method == http.MethodPatch || answer.Request.Method == http.MethodPut)
	return sent && (e.status == http.StatusNotFound || e.status == http.StatusRequestedRangeNotSatisfiable)
}

// refusal turns an answer that is not the hoped-for one into an error.
func refusal(registry, subject string, login credential, answer *transport.Error, after time.Duration) *Error {
	e := &Error{Registry: registry, Subject: subject, status: answer.StatusCode}
	detail := e.read(answer)
	switch e.status {
	case http.StatusUnauthorized:
		e.unauthorized(login, detail)
	case http.StatusForbidden:
		e.denied(login, detail)
	case http.StatusNotFound:
		e.Kind = NotFound
		e.Text = with("not found in "+registry, detail)
		e.Hint = "check the name and the tag"
	case http.StatusTooManyRequests:
		e.Kind, e.transient, e.after = RateLimited, true, after
		e.Text = with(registry+" limits requests", detail)
		e.Hint = "wait a while"
		if login.empty() {
			e.Hint = "wait a while, or log in: a login has a higher limit"
		}
	case http.StatusRequestTimeout, http.StatusInternalServerError, http.StatusBadGateway,
		http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		e.transient, e.after = true, after
		e.server(detail)
		e.Hint = "the registry has a problem: try again later"
	default:
		e.server(detail)
	}
	return e
}

// read takes the codes from an answer, and returns what it says to people.
func (e *Error) read(answer *transport.Error) (detail string) {
	var words []string
	for _, d := range answer.Errors {
		e.codes = append(e.codes, d.Code)
		if d.Message == "" {
			d.Message = strings.ToLower(strings.ReplaceAll(string(d.Code), "_", " "))
		}
		words = append(words, d.Message)
	}
	if len(words) > 0 {
		return printable(strings.Join(words, "; "))
	}
	// Token servers have ideas of their own; the library only has them in its text.
	// What is no JSON, such as a proxy's HTML page, has no detail worth showing.
	_, body, _ := strings.Cut(answer.Error(), fmt.Sprintf("unexpected status code %d %s: ", answer.StatusCode, http.StatusText(answer.StatusCode)))
	var said struct {
		Details, Message string
		Description      string `json:"error_description"`
	}
	if json.Unmarshal([]byte(body), &said) != nil {
		return ""
	}
	return printable(cmp.Or(said.Details, said.Message, said.Description))
}

// says tells whether the answer had one of these error codes (distribution-spec,
// "Error Codes").
func (e *Error) says(codes ...transport.ErrorCode) bool {
	return slices.ContainsFunc(codes, func(c transport.ErrorCode) bool { return slices.Contains(e.codes, c) })
}

// unauthorized tells apart a missing login, a refused one and one that does not
// reach so far. Registries also answer so for a repository that does not exist.
func (e *Error) unauthorized(login credential, detail string) {
	if e.says(transport.DeniedErrorCode) {
		e.denied(login, detail)
		return
	}
	e.Kind = Auth
	if detail == "authentication required" {
		detail = "" // that is what the text says
	}
	if login.empty() {
		// Whatever it said, it was about a login that nobody tried.
		e.Text = e.Registry + " wants a login"
		e.Hint = "check the name; if the repository is private, " + howToLogIn(e.Registry)
	} else {
		e.Text = with(fmt.Sprintf("%s refused the login of %s", e.Registry, login.who()), detail)
		e.Hint = fmt.Sprintf("that login is from %s; %s", login.source, howToLogIn(e.Registry))
	}
	if login.trouble != "" {
		e.Hint += " (" + login.trouble + ")"
	}
}

func (e *Error) denied(login credential, detail string) {
	e.Kind = Denied
	e.Text = with(fmt.Sprintf("%s denies access to %s", e.Registry, login.who()), detail)
	e.Hint = "check the name, and what this login may do in the repository"
	if login.empty() {
		e.Hint = "check the name; if the repository is private, " + howToLogIn(e.Registry)
	}
}

// howToLogIn names programs that write the files we read.
func howToLogIn(registry string) string {
	return fmt.Sprintf("log in with 'docker login %s' or 'podman login %[1]s'", registry)
}

func (e *Error) server(detail string) {
	e.Kind = Server
	e.Text = with(strings.TrimSpace(fmt.Sprintf("%s answered %d %s", e.Registry, e.status, http.StatusText(e.status))), detail)
}

func with(text, detail string) string {
	if detail == "" {
		return text
	}
	return text + ": " + detail
}

// printable makes what a server said fit for a terminal: one line, not too long,
// without escape sequences.
func printable(s string) string {
	s = strings.Join(strings.Fields(strings.Map(func(c rune) rune {
		if unicode.IsPrint(c) {
			return c
		}
		return ' '
	}, s)), " ")
	if runes := []rune(s); len(runes) > maxDetail {
		s = string(runes[:maxDetail]) + "…"
	}
	return s
}
