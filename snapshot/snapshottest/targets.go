package snapshottest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"lamina/snapshot"
	"lamina/snapshot/layer"
)

func fileTarget(name string) snapshot.Target { return snapshot.Target{Path: name} }
func dirTarget(name string) snapshot.Target  { return snapshot.Target{Path: name, Dir: true} }

// targets are about places that something is mounted on.
var targets = []test{
	{"TargetsExist", func(h *harness) {
		s := h.base(nil, files("etc/", "etc/hosts=x", "etc/resolv.conf -> ../run/resolv.conf", "run/", "var/", "var/run -> /run"))
		h.run(s, func(root string) error {
			var err error
			for name, dir := range map[string]bool{
				"etc/hosts": false, "run/resolv.conf": false, "run/secrets": true, "run/secrets/key": false,
				"a/b/c": true, "a/b/f": false, "run/cache": true,
			} {
				fi, serr := os.Lstat(filepath.Join(root, name))
				if serr == nil && fi.IsDir() != dir {
					serr = fmt.Errorf("%s is %v", name, fi.Mode())
				}
				err = errors.Join(err, serr)
			}
			return err
		}, fileTarget("/etc/hosts"), fileTarget("/etc/resolv.conf"), fileTarget("/run/secrets/key"),
			dirTarget("/a/b/c"), fileTarget("/a/b/f"), dirTarget("/var/run/cache"), dirTarget("/"))
	}},
	{"TargetsLeaveNoTrace", func(h *harness) {
		s := h.base(nil, files("etc/"))
		s = h.run(s, do(), fileTarget("/etc/hosts"), fileTarget("/run/secrets/key"), dirTarget("/cache"))
		h.holds(s)
		h.shows(s, "etc")
		equal(h, "the time of /etc", h.lstat(s, "etc").ModTime.Equal(then), true)
		equal(h, "the time of the root", h.lstat(s, ".").ModTime.Equal(then), true)
	}},
	{"TargetsAreKept", func(h *harness) {
		s := h.base(nil, files("there/", "etc/", "link -> etc/deep"))
		keep := func(name string) snapshot.Target { return snapshot.Target{Path: name, Dir: true, Keep: true} }
		s = h.run(s, write("x=y"), keep("/proc"), keep("/there"), keep("/etc/a/b"), keep("/link"), dirTarget("/gone"))
		h.holds(s, "/ etc", "/ etc/a", "/ etc/a/b", "/ etc/deep", "/ proc", "- x")
		equal(h, "the mode", h.lstat(s, "proc").Mode, 0o755)
	}},
	{"TargetsLeaveNoTraceWhereNothingWas", func(h *harness) {
		s := h.run(nil, do(), fileTarget("/etc/hosts"))
		h.holds(s)
	}},
	{"WhatIsMountedStaysOutside", func(h *harness) {
		s := h.base(nil, files("etc/"))
		outside := h.TempDir()
		tx, err := h.driver.Begin(h.Context(), s, []snapshot.Target{dirTarget("/cache"), fileTarget("/etc/hosts")})
		h.must(err)
		defer tx.Close()
		h.must(os.WriteFile(filepath.Join(outside, "hosts"), nil, 0o644))
		h.must(os.Mkdir(filepath.Join(outside, "cache"), 0o755))
		mounts := append(tx.Mounts(),
			snapshot.Mount{Type: "bind", Source: filepath.Join(outside, "cache"), Target: "/cache"},
			snapshot.Mount{Type: "bind", Source: filepath.Join(outside, "hosts"), Target: "/etc/hosts"})
		h.must(h.inside(mounts, do(write("cache/kept=x", "etc/hosts=y", "etc/new=z"))))
		h.must(tx.Commit(h.Context(), "outside"))
		s = append(s, "outside")
		h.check(s)
		h.holds(s, "/ etc", "- etc/new")
		kept, err := os.ReadFile(filepath.Join(outside, "cache/kept"))
		h.must(err)
		equal(h, "what was written to the mount", string(kept), "x")
	}},
	{"FilesBelowATargetAreKept", func(h *harness) {
		s := h.base(nil, files("etc/"))
		s = h.run(s, write("a/b/file=x"), dirTarget("/a/b/c"), fileTarget("/etc/hosts"))
		h.holds(s, "/ a", "/ a/b", "- a/b/file")
		h.contains(s, "a/b/file", "x")
		equal(h, "the time of /etc", h.lstat(s, "etc").ModTime.Equal(then), true)
		s = h.run(s, write("cache/file=y"), dirTarget("/cache"))
		h.holds(s, "/ cache", "- cache/file")
	}},
	{"FilesBesideATargetAreKept", func(h *harness) {
		s := h.base(nil, files("etc/"))
		s = h.run(s, write("etc/new=x"), fileTarget("/etc/hosts"))
		h.holds(s, "/ etc", "- etc/new")
		h.shows(s, "etc", "etc/new")
		if got := h.lstat(s, "etc").ModTime; time.Since(got) > time.Hour {
			h.Errorf("the time of /etc is %v after something was written there", got)
		}
	}},
	{"TargetsThatTheProcessChanged", func(h *harness) {
		s := h.base(nil, files("etc/"))
		s = h.run(s, do(write("etc/hosts=x"), chmod("cache", 0o700)), fileTarget("/etc/hosts"), dirTarget("/cache"))
		h.holds(s, "/ cache", "/ etc", "- etc/hosts")
		h.contains(s, "etc/hosts", "x")
		equal(h, "the mode", h.lstat(s, "cache").Mode, 0o700)
	}},
	{"TargetsThatTheProcessRemoved", func(h *harness) {
		s := h.base(nil, files("etc/", "etc/f=x"))
		s = h.run(s, remove("etc/hosts", "cache", "etc/f"), fileTarget("/etc/hosts"), dirTarget("/cache/a/b"))
		h.holds(s, "/ etc", "x etc/f")
		h.shows(s, "etc")
	}},
	{"TargetsThatTheProcessReplaced", func(h *harness) {
		s := h.base(nil, files("etc/"))
		s = h.run(s, do(remove("cache", "etc/hosts"), mkdir("cache", "etc/hosts"), write("cache/f=x")),
			fileTarget("/etc/hosts"), dirTarget("/cache/a"))
		h.holds(s, "/ cache", "- cache/f", "/ etc", "/ etc/hosts")
	}},
	{"DirectoriesAboveTargetsKeepAttributes", func(h *harness) {
		s := h.base(nil, func(d *layer.Draft) error {
			e := entry(0o2750)
			e.UID, e.GID = 7, 8
			return errors.Join(d.Mkdir("d", e), d.SetAttrs("d", e, map[string]string{"user.x": "1"}))
		})
		s = h.run(s, write("d/new=x"), dirTarget("/d/target"))
		e := h.lstat(s, "d")
		equal(h, "the mode", e.Mode, 0o2750)
		equal(h, "the owner", [2]int{e.UID, e.GID}, [2]int{7, 8})
		h.xattrs(s, "d", `user.x="1"`)
	}},
	{"TargetsOfTheWrongKind", func(h *harness) {
		s := h.base(nil, files("etc/", "etc/hosts=x"))
		for _, target := range []snapshot.Target{fileTarget("/etc"), dirTarget("/etc/hosts"), fileTarget("/etc/hosts/x"), fileTarget("/")} {
			tx, err := h.driver.Begin(h.Context(), s, []snapshot.Target{target})
			if err == nil {
				h.Errorf("Begin takes %+v", target)
				tx.Close()
				continue
			}
			if !strings.Contains(err.Error(), "mount target "+target.Path) {
				h.Errorf("the error does not name the target %s: %v", target.Path, err)
			}
		}
		h.leftovers()
	}},
}
