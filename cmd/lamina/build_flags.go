package main

import (
	"fmt"
	"net/netip"

	"github.com/docker/go-units"

	"lamina/cmd/lamina/internal/progress"

	"lamina/cmd/lamina/internal/engine"
)

// byteSize is a flag for a number of bytes: "512", "64k", "1.5g", as docker reads it.
type byteSize int64

func (b *byteSize) String() string {
	if *b == 0 {
		return ""
	}
	return units.BytesSize(float64(*b))
}

func (b *byteSize) Set(s string) error {
	n, err := units.RAMInBytes(s)
	if err != nil {
		return fmt.Errorf("%q is not a size such as 512m", s)
	}
	*b = byteSize(n)
	return nil
}

// Type names the kind of value in help texts.
func (*byteSize) Type() string { return "bytes" }

// progressFlag is --progress, the form of a display.
type progressFlag string

func (p *progressFlag) String() string { return string(*p) }

func (p *progressFlag) Set(s string) error {
	if err := progress.Mode(s).Check(); err != nil {
		return err
	}
	*p = progressFlag(s)
	return nil
}

// Type names the kind of value in help texts.
func (*progressFlag) Type() string { return "string" }

func isAddress(s string) bool {
	_, err := netip.ParseAddr(s)
	return err == nil
}

// pullPolicy is docker's --pull, which is true or false, and podman's, which says
// when. The zero value is engine.PullMissing.
type pullPolicy engine.Policy

func (p *pullPolicy) String() string { return string(*p) }

func (p *pullPolicy) Set(s string) error {
	switch policy := engine.Policy(s); policy {
	case engine.PullAlways, engine.PullMissing, engine.PullNever, engine.PullNewer:
		*p = pullPolicy(policy)
		return nil
	}
	switch s {
	case "true", "1":
		*p = pullPolicy(engine.PullAlways)
	case "false", "0":
		*p = pullPolicy(engine.PullMissing)
	default:
		return fmt.Errorf("%q is not always, missing, never or newer", s)
	}
	return nil
}

// Type names the kind of value in help texts.
func (*pullPolicy) Type() string { return "when" }
