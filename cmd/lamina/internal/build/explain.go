package build

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"

	"lamina/cmd/lamina/internal/builds"
	"lamina/cmd/lamina/internal/cli"
	"lamina/cmd/lamina/internal/explain"
	"lamina/solver"
	"lamina/solver/travel"
)

// The values of --explain.
const (
	explainText = "text"
	explainJSON = "json"
)

// explainFlag is --explain.
type explainFlag string

func (f *explainFlag) String() string { return string(*f) }
func (f *explainFlag) Type() string   { return "string" }

func (f *explainFlag) Set(s string) error {
	switch s {
	case explainText, "true":
		*f = explainText
	case explainJSON:
		*f = explainJSON
	case "false":
		*f = ""
	default:
		return fmt.Errorf("want %s or %s", explainText, explainJSON)
	}
	return nil
}

// explain says why steps of the build were executed, if that was asked for and it came
// so far.
func (b *build) explain(ctx context.Context) error {
	if b.opt.explain == "" || b.plan == nil {
		return nil
	}
	b.display.Close()
	done, err := builds.In(b.engine.Store).Get(b.recording.ID())
	if errors.Is(err, fs.ErrNotExist) {
		return errors.New("the build cannot be explained: it was not remembered")
	}
	if err != nil {
		return err
	}
	history, err := explain.Stored(context.WithoutCancel(ctx), b.engine.Store, b.engine.Blobs, done.ID)
	if err != nil {
		return err
	}
	report, err := explain.Build(done, history)
	if err != nil {
		return err
	}
	if b.opt.explain == explainJSON {
		text, err := cli.ToJSON(report)
		if err == nil {
			_, err = fmt.Fprintln(b.Stderr, text)
		}
		return err
	}
	return report.WriteText(b.Stderr)
}

// rememberNearest remembers of the caches that were looked into what came nearest to
// the steps that were executed.
func (b *build) rememberNearest(imports []solver.Records) {
	var caches []explain.Cache
	for i, from := range imports {
		if index, ok := from.(*travel.Index); ok {
			caches = append(caches, explain.Cache{
				Number: b.travelling.positions[i], Records: recordsOf(index.Cache()), Learn: index.Learn,
			})
		}
	}
	if len(caches) > 0 {
		b.recording.Describe(func(r *builds.Build) { r.Imported = explain.Imported(r, caches) })
	}
}

func recordsOf(c *travel.Cache) iter.Seq[*solver.Record] {
	return func(yield func(*solver.Record) bool) {
		for r := range c.All() {
			if !yield(r) {
				return
			}
		}
	}
}
