// Package cli is what the commands share: the world around them, flags and
// arguments, steps that are shown, tables, and errors that become text and exit codes.
package cli

import (
	"context"
	"encoding/json"
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

// Env is what a command knows of the world around it. No command
// touches the process's streams or environment.
type Env struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	LookupEnv      func(string) (string, bool)
	Version        string // lamina's

	Root  string // the store's directory: --root
	Debug bool   // --debug

	MaxSize SizeCap  // --max-size
	MaxAge  AgeLimit // --max-age
}

// Getenv is the value of a variable, empty if it is not set.
func (e *Env) Getenv(name string) string {
	value, _ := e.LookupEnv(name)
	return value
}

// envPrefix begins the variables that stand for global flags: LAMINA_ROOT is --root.
const envPrefix = "LAMINA_"

// GlobalFlags declares the flags that every command has.
func (e *Env) GlobalFlags(fs *pflag.FlagSet) {
	fs.StringVar(&e.Root, "root", e.defaultRoot(), "Directory of the store (default: /var/lib/lamina as\nroot, ~/.local/share/lamina otherwise)")
	fs.Lookup("root").DefValue = "" // help is the same for everyone
	fs.BoolVarP(&e.Debug, "debug", "D", false, "Say more about what is done")
	e.MaxAge = defaultAge
	fs.Var(&e.MaxSize, "max-size", "What the store may take on the disk (default: a fifth of\nthe disk, at least 10 GB)")
	fs.Var(&e.MaxAge, "max-age", "How long what is not used is kept")
}

// FromEnvironment sets those global flags from the environment that the command
// line does not mention.
func (e *Env) FromEnvironment(fs *pflag.FlagSet) error {
	var errs []error
	fs.VisitAll(func(f *pflag.Flag) {
		name := envPrefix + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		value := e.Getenv(name)
		if f.Changed || value == "" {
			return
		}
		if err := fs.Set(f.Name, value); err != nil {
			errs = append(errs, fmt.Errorf("%s=%s: %w", name, value, ValueError(errors.Unwrap(err))))
		}
	})
	return errors.Join(errs...)
}

// defaultRoot is where the store is unless --root or LAMINA_ROOT say otherwise;
// empty if the environment does not tell.
func (e *Env) defaultRoot() string {
	if os.Geteuid() == 0 {
		return "/var/lib/lamina"
	}
	// A relative XDG_DATA_HOME is to be ignored (XDG Base Directory Specification).
	if dir := e.Getenv("XDG_DATA_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "lamina")
	}
	if home := e.Getenv("HOME"); filepath.IsAbs(home) {
		return filepath.Join(home, ".local", "share", "lamina")
	}
	return ""
}

// OpenStore opens the store for who only looks at it; the caller must close it.
func (e *Env) OpenStore() (*cache.Store, error) {
	if e.Root == "" {
		return nil, errNoRoot()
	}
	store, err := cache.Open(e.Root)
	return store, e.storeError(err)
}

// OpenEngine opens the store with everything that works on it, and claims it, so
// that nobody removes what has no name yet; the caller must close it with CloseEngine. display,
// which may be nil, shows transfers and warnings.
// insecure are registries that may speak plain HTTP, or show any certificate.
func (e *Env) OpenEngine(ctx context.Context, display *Steps, insecure ...string) (*engine.Engine, error) {
	if e.Root == "" {
		return nil, errNoRoot()
	}
	opt := engine.Options{Root: e.Root, Getenv: e.Getenv, Log: e.Logger(), Insecure: insecure}
	if display != nil {
		opt.Progress, opt.Warn = display.transfer, display.Warn
	}
	eng, err := engine.Open(ctx, opt)
	return eng, e.storeError(err)
}

// storeError says what to do about a store that cannot be opened.
func (e *Env) storeError(err error) error {
	var file *fs.PathError
	if errors.As(err, &file) {
		return WithHint(err, "the store is to be in %s: set --root or LAMINA_ROOT to a directory that you can write to", e.Root)
	}
	return err
}

func errNoRoot() error {
	return WithHint(errors.New("no directory for the store: HOME is not set to one"), "set --root or LAMINA_ROOT")
}

// Say writes a result.
func (e *Env) Say(format string, args ...any) error {
	_, err := fmt.Fprintf(e.Stdout, format, args...)
	return err
}

// SayJSON writes a result for a program.
func (e *Env) SayJSON(v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return e.Say("%s\n", data)
}

// StdoutIsTerminal tells whether results go to a person's screen.
func (e *Env) StdoutIsTerminal() bool {
	f, ok := e.Stdout.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// Logger returns where diagnostics go: warnings to stderr, everything with --debug.
func (e *Env) Logger() *slog.Logger {
	level := slog.LevelWarn
	if e.Debug {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(e.Stderr, &slog.HandlerOptions{
		Level: level,
		ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
			if len(groups) == 0 && a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		},
	}))
}
