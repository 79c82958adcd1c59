package registry

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"syscall"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
)

// op is one operation on a repository, which may take several requests. All of
// it is tried again.
type op struct {
	subject string // what it is about, for errors
	repo    name.Repository
	scopes  []string
	src     *source // of what it uploads; nil for nothing
}

// try performs o until it succeeds, waiting between attempts, where that can
// help. The library's own retries are not used: their waits know neither
// contexts nor Retry-After.
func (h *host) try(ctx context.Context, o *op, do func(context.Context, http.RoundTripper) error) error {
	for try := 1; ; try++ {
		a := &attempt{}
		err := h.attempt(context.WithValue(ctx, attemptKey{}, a), o, do)
		if err == nil {
			return nil
		}
		err = h.explain(ctx, o, a, err)
		if o.src != nil && !o.src.rewindable() {
			return settled(err)
		}
		if e := (*Error)(nil); errors.As(err, &e) && e.status == http.StatusUnauthorized {
			h.forget(ctx, o.scopes)
			if a.reused {
				try--
				continue
			}
		}
		if err := h.client.policy.pause(ctx, try, err); err != nil {
			return settled(err)
		}
		h.client.opt.Log.Debug("registry operation is tried again", "try", try+1, "error", err)
	}
}

func (h *host) attempt(ctx context.Context, o *op, do func(context.Context, http.RoundTripper) error) error {
	t, err := h.authorized(ctx, o)
	if err != nil {
		return err
	}
	return do(ctx, t)
}

// policy is how patient we are.
type policy struct {
	tries    int           // how often anything is tried, the first time included
	first    time.Duration // the wait after the first failure; it doubles from there
	longest  time.Duration // the longest wait that we choose
	patience time.Duration // the longest wait that a registry may ask for
	stall    time.Duration // a connection on which nothing moves for so long is given up
	perMiB   time.Duration // added to that for each MiB uploaded, which the registry has to check and move

	sleep   func(ctx context.Context, d time.Duration) error
	waiting func(err error, wait time.Duration) // nil if nobody wants to know
}

// defaultPolicy tries for about a minute, which is what load balancers and
// registries need to recover.
func defaultPolicy() policy {
	return policy{
		tries: 8, first: 500 * time.Millisecond, longest: 16 * time.Second, patience: 2 * time.Minute,
		stall: time.Minute, perMiB: time.Second,
		sleep: sleep,
	}
}

// pause waits before the next try after the try-th one failed with err. If there
// is not to be a next one, it returns err.
func (p policy) pause(ctx context.Context, try int, err error) error {
	var e *Error
	if !errors.As(err, &e) || !e.transient || e.after > p.patience || try >= p.triesFor(e) {
		return err
	}
	wait := min(p.first<<(try-1), p.longest)
	wait = wait/2 + rand.N(wait) // so that many clients do not come back at once
	wait = max(wait, e.after)
	if p.waiting != nil {
		p.waiting(e, wait)
	}
	if err := p.sleep(ctx, wait); err != nil {
		return fmt.Errorf("%s: %w", e.Subject, err)
	}
	return nil
}

// settled keeps whoever gets err from trying again what has been tried enough.
func settled(err error) error {
	if e := (*Error)(nil); errors.As(err, &e) {
		e.transient = false
	}
	return err
}

// triesFor is fewer tries for what is more often a mistake than a mishap.
func (p policy) triesFor(e *Error) int {
	var (
		op  *net.OpError
		dns *net.DNSError
	)
	if errors.As(e, &op) && op.Op == "dial" && (!errors.As(e, &dns) || dns.IsNotFound) {
		return min(p.tries, 4)
	}
	return p.tries
}

func isRefused(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) }

func isNoSuchHost(err error) bool {
	var dns *net.DNSError
	return errors.As(err, &dns) && dns.IsNotFound
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
