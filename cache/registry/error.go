package registry

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"lamina/cache"
)

// Kind says what went wrong, as far as it decides what to do about it.
type Kind int

const (
	Network     Kind = iota + 1 // the registry cannot be reached, or the connection breaks
	Auth                        // a login is needed, or was refused
	Denied                      // the login is good, but not for this
	NotFound                    // there is no such image or blob
	RateLimited                 // too many requests
	Corrupt                     // the bytes are not what their digest says
	Server                      // the registry's answer cannot be used
)

func (k Kind) String() string {
	names := [...]string{"unknown", "network", "auth", "denied", "not found", "rate limited", "corrupt", "server"}
	if k < 0 || int(k) >= len(names) {
		k = 0
	}
	return names[k]
}

// Error is what operations on a registry fail with, unless their context ended,
// a name was malformed or the caller's own reader failed. A [NotFound] is
// fs.ErrNotExist; an [Auth] or a [Denied] is fs.ErrPermission.
type Error struct {
	Kind     Kind
	Registry string // as names write it: "docker.io"
	Subject  string // what it was about: an image's name, or a blob and its repository
	Text     string // what happened
	Hint     string // what the user can do about it; may be empty
	Err      error  // the cause, if it was not an answer of the registry

	transient bool                  // worth another try
	after     time.Duration         // but not before so much time has passed
	status    int                   // of the answer, if there was one
	codes     []transport.ErrorCode // the registry's error codes in it
}

func (e *Error) Error() string { return e.Subject + ": " + e.Text }

func (e *Error) Unwrap() error { return e.Err }

// Is lets errors.Is see the kinds that the standard library has words for.
func (e *Error) Is(target error) bool {
	switch e.Kind {
	case NotFound:
		return target == fs.ErrNotExist
	case Auth, Denied:
		return target == fs.ErrPermission
	}
	return false
}

// errStalled is the cause when a request is given up because nothing moves.
var errStalled = errors.New("the connection stalled")

// unreachable is the error of a request to host that got no answer.
func unreachable(registry, subject string, err error) *Error {
	var inner *url.Error
	for errors.As(err, &inner) { // says the method and the URL, which is our business
		err = inner.Err
	}
	e := &Error{
		Kind: Network, Registry: registry, Subject: subject, Err: err, transient: true,
		Text: fmt.Sprintf("cannot reach %s: %v", registry, err),
		Hint: "check the network, and HTTPS_PROXY and NO_PROXY if there is a proxy",
	}
	var certificate *tls.CertificateVerificationError
	switch {
	case isNoTLS(err):
		e.transient = false
		e.Hint = "it speaks plain HTTP, which is trusted on this machine's loopback interface only: give it a certificate"
	case errors.As(err, &certificate):
		e.transient = false
		e.Hint = fmt.Sprintf("if you trust it, put its CA's certificate into /etc/docker/certs.d/%s/ca.crt", registry)
	case isNoSuchHost(err):
		e.Hint = "check the registry's name"
	}
	return e
}

// broken is the error of a transfer that began and cannot be finished.
func broken(registry, subject string, done, size int64, err error) *Error {
	return &Error{
		Kind: Network, Registry: registry, Subject: subject, Err: err, transient: true,
		Text: fmt.Sprintf("the connection to %s broke after %d of %d bytes: %v", registry, done, size, err),
		Hint: "check the network, and try again",
	}
}

// damaged is the error of content that is not what its descriptor says.
func damaged(registry, subject string, err *cache.CorruptError) *Error {
	text := fmt.Sprintf("%s sent content whose digest is %s", registry, err.Digest)
	if err.Size != err.Want.Size {
		text = fmt.Sprintf("%s sent %d bytes instead of %d", registry, err.Size, err.Want.Size)
	}
	return &Error{
		Kind: Corrupt, Registry: registry, Subject: subject, Err: err, Text: text,
		Hint: "the registry, or a proxy on the way, damages it: try again, and tell whoever runs it",
	}
}
