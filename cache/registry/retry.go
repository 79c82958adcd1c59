package registry

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"syscall"
	"time"
)

// policy is how patient we are.
type policy struct {
	tries    int           // how often anything is tried, the first time included
	first    time.Duration // the wait after the first failure; it doubles from there
	longest  time.Duration // the longest wait that we choose
	patience time.Duration // the longest wait that a registry may ask for
	stall    time.Duration // a connection on which nothing moves for so long is given up
	perMiB   time.Duration // added to that for each MiB uploaded, which the registry has to check and move

	sleep func(ctx context.Context, d time.Duration) error
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
	if err := p.sleep(ctx, max(wait, e.after)); err != nil {
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
