package registry

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"
)

const (
	// maxErrorBody is how much is read of an answer that says what went wrong,
	// and maxDetail how much of it is shown.
	maxErrorBody = 64 << 10
	maxDetail    = 300
)

// refusal turns an answer that is not the hoped-for one into an error. It closes
// the body.
func refusal(registry, subject string, login credential, resp *http.Response) *Error {
	defer resp.Body.Close()
	codes, detail := readErrors(resp.Body)
	e := &Error{Registry: registry, Subject: subject, status: resp.StatusCode, codes: codes}
	switch resp.StatusCode {
	case http.StatusUnauthorized:
		e.unauthorized(login, detail)
	case http.StatusForbidden:
		e.denied(login, detail)
	case http.StatusNotFound:
		e.Kind = NotFound
		e.Text = with("not found in "+registry, detail)
		e.Hint = "check the name and the tag"
	case http.StatusTooManyRequests:
		e.Kind, e.transient, e.after = RateLimited, true, retryAfter(resp)
		e.Text = with(registry+" limits requests", detail)
		e.Hint = "wait a while"
		if login.empty() {
			e.Hint = "wait a while, or log in: a login has a higher limit"
		}
	case http.StatusRequestTimeout, http.StatusInternalServerError, http.StatusBadGateway,
		http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		e.transient, e.after = true, retryAfter(resp)
		e.server(resp, detail)
		e.Hint = "the registry has a problem: try again later"
	default:
		e.server(resp, detail)
	}
	return e
}

// unauthorized tells apart a missing login, a refused one and one that does not
// reach so far. Registries also answer so for a repository that does not exist.
func (e *Error) unauthorized(login credential, detail string) {
	if e.says("DENIED") {
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

func (e *Error) server(resp *http.Response, detail string) {
	e.Kind = Server
	e.Text = with(strings.TrimSpace(fmt.Sprintf("%s answered %d %s", e.Registry, resp.StatusCode, http.StatusText(resp.StatusCode))), detail)
}

func with(text, detail string) string {
	if detail == "" {
		return text
	}
	return text + ": " + detail
}

// readErrors reads the body of an error (distribution-spec, "Error Codes"). What
// is not of that form, such as a proxy's HTML page, has no detail worth showing.
func readErrors(r io.Reader) (codes []string, detail string) {
	body, err := io.ReadAll(io.LimitReader(r, maxErrorBody))
	if err != nil {
		return nil, ""
	}
	var answer struct {
		Errors []struct{ Code, Message string }
		// Token servers have ideas of their own.
		Details, Message string
		Description      string `json:"error_description"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, ""
	}
	var words []string
	for _, e := range answer.Errors {
		codes = append(codes, e.Code)
		if e.Message == "" {
			e.Message = strings.ToLower(strings.ReplaceAll(e.Code, "_", " "))
		}
		words = append(words, e.Message)
	}
	for _, s := range []string{answer.Details, answer.Message, answer.Description} {
		if s != "" && len(words) == 0 {
			words = append(words, s)
		}
	}
	return codes, printable(strings.Join(words, "; "))
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

// retryAfter is how long the answer asks to wait: seconds or a date (RFC 9110,
// section 10.2.3), 0 if it does not.
func retryAfter(resp *http.Response) time.Duration {
	value := resp.Header.Get("Retry-After")
	if seconds, err := strconv.Atoi(value); err == nil {
		return time.Duration(max(seconds, 0)) * time.Second
	}
	if at, err := http.ParseTime(value); err == nil {
		return max(time.Until(at), 0)
	}
	return 0
}
