package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"lamina/cache"
	"lamina/cmd/lamina/internal/collect"
	"lamina/cmd/lamina/internal/engine"
	"lamina/cmd/lamina/internal/human"
)

// SizeCap is the value of --max-size: a number of bytes as [ByteSize] reads it, "0"
// or "none" for no cap, and nothing for what the disk suggests.
type SizeCap struct {
	bytes ByteSize
	set   bool
}

func (c *SizeCap) String() string { return c.bytes.String() }

func (c *SizeCap) Set(s string) error {
	c.set, c.bytes = true, 0
	if s == "none" {
		return nil
	}
	return c.bytes.Set(s)
}

// Type names the kind of value in help texts.
func (*SizeCap) Type() string { return "bytes" }

// AgeLimit is the value of --max-age: a duration as [collect.ParseAge] reads it, "0" or "none"
// for no limit.
type AgeLimit time.Duration

func (a *AgeLimit) String() string {
	if *a == 0 {
		return "none"
	}
	return fmt.Sprintf("%gd", time.Duration(*a).Hours()/24)
}

func (a *AgeLimit) Set(s string) error {
	if s == "none" || s == "0" {
		*a = 0
		return nil
	}
	d, err := collect.ParseAge(s)
	*a = AgeLimit(d)
	return err
}

// Type names the kind of value in help texts.
func (*AgeLimit) Type() string { return "duration" }

// defaultAge is how long what is not used is kept; BuildKit's.
const defaultAge = AgeLimit(60 * 24 * time.Hour)

// Limits are those of the store: what --max-size and --max-age say.
func (e *Env) Limits() collect.Limits {
	l := collect.Limits{Size: int64(e.MaxSize.bytes), Age: time.Duration(e.MaxAge)}
	if !e.MaxSize.set {
		l.Size = defaultSize(e.Root)
	}
	return l
}

// defaultSize is the cap of a store that nobody gave one: a fifth of its disk, but 10 GB
// if that is more, and half of the disk at most. It is 0, none, if the disk does not say.
func defaultSize(root string) int64 {
	var st unix.Statfs_t
	if err := unix.Statfs(root, &st); err != nil {
		return 0
	}
	const least = 10_000_000_000
	disk := int64(st.Blocks) * st.Bsize
	return min(max(disk/5, least), disk/2)
}

// CloseEngine gives back what OpenEngine took, and brings the store back within its
// limits if nobody else uses it. That this cannot be done is no failure of the command.
func (e *Env) CloseEngine(ctx context.Context, eng *engine.Engine) error {
	err := eng.Close()
	if ctx.Err() != nil {
		return err // whoever interrupts wants an end; the next command collects
	}
	limits := e.Limits()
	report, cerr := collect.After(ctx, eng.Store, limits)
	err = errors.Join(err, eng.Store.Close()) // what collecting took
	switch {
	case errors.Is(cerr, cache.ErrInUse): // is left to whoever uses it
	case cerr != nil && ctx.Err() == nil:
		e.Logger().Warn("the store could not be kept within its limits", "error", cerr)
	case report.Bytes > 0:
		e.Logger().Info("what was least recently used was removed", "freed", human.Size(report.Bytes), "left", human.Size(report.Left))
	}
	if report.Stuck {
		fmt.Fprintf(e.Stderr, "WARNING: the store takes %s, more than the %s that --max-size lets it: what is left has a name or is in use ('lamina du' lists it). Remove images that you do not need ('lamina rmi'), or raise the limit (LAMINA_MAX_SIZE).\n",
			human.Size(report.Left), human.Size(limits.Size))
	}
	return err
}
