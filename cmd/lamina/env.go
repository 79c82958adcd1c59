package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/pflag"
	"golang.org/x/term"

	"lamina/cache"
	"lamina/cmd/lamina/internal/engine"
)

// env is what a command knows of the world around it. Nothing else in this
// package touches the process's streams or environment.
type env struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	lookupEnv      func(string) (string, bool)

	root  string // the store's directory: --root
	debug bool   // --debug
}

// getenv is the value of a variable, empty if it is not set.
func (e *env) getenv(name string) string {
	value, _ := e.lookupEnv(name)
	return value
}

// envPrefix begins the variables that stand for global flags: LAMINA_ROOT is --root.
const envPrefix = "LAMINA_"

// globalFlags declares the flags that every command has.
func (e *env) globalFlags(fs *pflag.FlagSet) {
	fs.StringVar(&e.root, "root", e.defaultRoot(), "Directory of the store (default: /var/lib/lamina as\nroot, ~/.local/share/lamina otherwise)")
	fs.Lookup("root").DefValue = "" // help is the same for everyone
	fs.BoolVarP(&e.debug, "debug", "D", false, "Say more about what is done")
}

// fromEnvironment sets those global flags from the environment that the command
// line does not mention.
func (e *env) fromEnvironment(fs *pflag.FlagSet) error {
	var errs []error
	fs.VisitAll(func(f *pflag.Flag) {
		name := envPrefix + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		value := e.getenv(name)
		if f.Changed || value == "" {
			return
		}
		if err := fs.Set(f.Name, value); err != nil {
			errs = append(errs, fmt.Errorf("%s=%s: %w", name, value, valueError(errors.Unwrap(err))))
		}
	})
	return errors.Join(errs...)
}

// defaultRoot is where the store is unless --root or LAMINA_ROOT say otherwise;
// empty if the environment does not tell.
func (e *env) defaultRoot() string {
	if os.Geteuid() == 0 {
		return "/var/lib/lamina"
	}
	// A relative XDG_DATA_HOME is to be ignored (XDG Base Directory Specification).
	if dir := e.getenv("XDG_DATA_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "lamina")
	}
	if home := e.getenv("HOME"); filepath.IsAbs(home) {
		return filepath.Join(home, ".local", "share", "lamina")
	}
	return ""
}

// openStore opens the store for who only looks at it; the caller must close it.
func (e *env) openStore() (*cache.Store, error) {
	if e.root == "" {
		return nil, errNoRoot()
	}
	store, err := cache.Open(e.root)
	return store, e.storeError(err)
}

// openEngine opens the store with everything that works on it, and claims it, so
// that nobody removes what has no name yet; the caller must close it. display,
// which may be nil, shows transfers and warnings.
// insecure are registries that may speak plain HTTP, or show any certificate.
func (e *env) openEngine(ctx context.Context, display *steps, insecure ...string) (*engine.Engine, error) {
	if e.root == "" {
		return nil, errNoRoot()
	}
	opt := engine.Options{Root: e.root, Getenv: e.getenv, Log: e.logger(), Insecure: insecure}
	if display != nil {
		opt.Progress, opt.Warn = display.transfer, display.warn
	}
	eng, err := engine.Open(ctx, opt)
	return eng, e.storeError(err)
}

// storeError says what to do about a store that cannot be opened.
func (e *env) storeError(err error) error {
	var file *fs.PathError
	if errors.As(err, &file) {
		return withHint(err, "the store is to be in %s: set --root or LAMINA_ROOT to a directory that you can write to", e.root)
	}
	return err
}

func errNoRoot() error {
	return withHint(errors.New("no directory for the store: HOME is not set to one"), "set --root or LAMINA_ROOT")
}

// say writes a result.
func (e *env) say(format string, args ...any) error {
	_, err := fmt.Fprintf(e.stdout, format, args...)
	return err
}

// stdoutIsTerminal tells whether results go to a person's screen.
func (e *env) stdoutIsTerminal() bool {
	f, ok := e.stdout.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// logger returns where diagnostics go: warnings to stderr, everything with --debug.
func (e *env) logger() *slog.Logger {
	level := slog.LevelWarn
	if e.debug {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(e.stderr, &slog.HandlerOptions{
		Level: level,
		ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
			if len(groups) == 0 && a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		},
	}))
}
