package builds

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"time"

	"lamina/cmd/lamina/internal/progress"
	"lamina/solver"
)

// Replay tells show what happened during a build as it was told then, but for bytes that
// were moved. With follow it goes on until the build ends.
func (s *Store) Replay(ctx context.Context, id string, follow bool, show func(progress.Event)) error {
	r := replay{store: s, id: id, show: show, told: map[moment]bool{}}
	defer r.close()
	for {
		over, err := r.round()
		if err != nil || over || !follow {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(lookInterval):
		}
	}
}

// lookInterval is how often it is looked whether a running build has gone on.
const lookInterval = 100 * time.Millisecond

// StepLog writes what a step printed. With follow it goes on until the step ends.
func (s *Store) StepLog(ctx context.Context, id string, step int, follow bool, w io.Writer) error {
	var log *logReader
	defer func() {
		if log != nil {
			log.Close()
		}
	}()
	for {
		b, err := s.Get(id)
		if err != nil {
			return err
		}
		if log == nil {
			if log, err = s.openLog(id); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
		if log != nil {
			if err := log.copyTo(w, step); err != nil {
				return err
			}
		}
		if !follow || !b.mayPrint(step) {
			return b.notWhole(log != nil, step)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(lookInterval):
		}
	}
}

// Executed finds the latest build before b that executed step number i of b, which
// was cached there, and printed something. It returns the build's ID, and the step's
// position in it.
func (s *Store) Executed(b *Build, i int) (id string, step int, ok bool) {
	if b.Steps[i].Verdict != solver.VerdictCached {
		return "", 0, false
	}
	ids, err := s.IDs()
	if err != nil {
		return "", 0, false
	}
	for _, id := range ids {
		if id >= b.ID {
			continue
		}
		other, err := s.Get(id)
		if err != nil {
			continue
		}
		step := slices.IndexFunc(other.Steps, func(o Step) bool {
			return o.ID == b.Steps[i].ID && o.Verdict == solver.VerdictExecuted && o.Log > 0
		})
		if step >= 0 {
			return id, step, true
		}
	}
	return "", 0, false
}

// copyTo writes what there is of a step's output and was not read yet.
func (r *logReader) copyTo(w io.Writer, step int) error {
	for {
		f, err := r.next(func(s int) bool { return s == step })
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if _, err := w.Write(f.data); err != nil {
			return err
		}
	}
}

// mayPrint tells whether a step may yet print something. It may not be known yet which
// steps there are.
func (b *Build) mayPrint(step int) bool {
	if b.Status != Running || step >= len(b.Steps) {
		return b.Status == Running
	}
	v := b.Steps[step].Verdict
	return v == Pending || v == Executing
}

// notWhole says why the log does not have all that a step printed, or any step if
// that is negative; nil if it has.
func (b *Build) notWhole(haveLog bool, step int) error {
	printed := int64(0)
	for i, s := range b.Steps {
		if step < 0 || i == step {
			printed += s.Log
		}
	}
	switch {
	case b.LogEnds != "":
		return fmt.Errorf("the log is not whole: %s", b.LogEnds)
	case printed > 0 && !haveLog:
		return errors.New("the log was removed, because the logs of later builds take the space that there is for logs")
	}
	return nil
}

// replay is a build whose events are told once each, in rounds: each looks what has
// become of the build since.
type replay struct {
	store *Store
	id    string
	show  func(progress.Event)
	log   *logReader
	told  map[moment]bool
}

// moment is something that happened: what began, said something or ended.
type moment struct {
	step string // of the display
	kind progress.Kind
	n    int // of what it said
}

// mark is a moment, and what is told of it.
type mark struct {
	moment
	progress.Event
}

func (r *replay) close() {
	if r.log != nil {
		r.log.Close()
	}
}

// round tells what is known and was not told yet. over is whether that is all that
// there will ever be.
func (r *replay) round() (over bool, err error) {
	b, err := r.store.Get(r.id) // before the log: of what has ended the log is all there
	if err != nil {
		return false, err
	}
	if r.log == nil {
		if r.log, err = r.store.openLog(r.id); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return false, err
		}
	}
	marks := b.marks()
	if r.log != nil {
		if marks, err = r.frames(b, marks); err != nil {
			r.show(progress.Event{Kind: progress.Warning, Log: []byte(err.Error())})
		}
	}
	r.tell(marks)
	if b.Status == Running {
		return false, nil
	}
	if why := b.notWhole(r.log != nil, -1); why != nil {
		r.show(progress.Event{Kind: progress.Warning, Log: []byte(why.Error())})
	}
	return true, nil
}

// frames tells what was printed, and of the marks those that come before; it returns
// the others.
func (r *replay) frames(b *Build, marks []mark) ([]mark, error) {
	for {
		before := r.log.offset
		f, err := r.log.next(func(int) bool { return true })
		if err == io.EOF {
			return marks, nil
		}
		if err != nil {
			return marks, err
		}
		if f.step >= len(b.Steps) && b.Status == Running {
			r.log.seek(before) // it is not known yet what that is
			return marks, nil
		}
		at := b.Started.Add(f.at)
		n, _ := slices.BinarySearchFunc(marks, at, func(m mark, t time.Time) int {
			return cmp.Or(m.Time.Compare(t), -1) // what happened at the same time comes first
		})
		r.tell(marks[:n])
		marks = marks[n:]
		name := stepName(f.step)
		r.tell([]mark{begins(name, b.nameOf(f.step), at)})
		r.show(progress.Event{Time: at, Step: name, Kind: progress.Log, Log: f.data})
	}
}

// tell tells what was not told yet.
func (r *replay) tell(marks []mark) {
	for _, m := range marks {
		if !r.told[m.moment] {
			r.told[m.moment] = true
			r.show(m.Event)
		}
	}
}

func stepName(i int) string { return fmt.Sprintf("step-%d", i) }

func (b *Build) nameOf(step int) string {
	if step < len(b.Steps) {
		return b.Steps[step].Name
	}
	return fmt.Sprintf("step %d", step+1) // of a build that was killed before it was saved
}

func begins(step, name string, at time.Time) mark {
	return mark{moment{step, progress.Start, 0}, progress.Event{Time: at, Step: step, Name: name, Kind: progress.Start}}
}

// marks are what happened besides printing, in order.
func (b *Build) marks() []mark {
	var all []mark
	for i, text := range b.Warnings {
		e := progress.Event{Time: b.Started, Kind: progress.Warning, Log: []byte(text)}
		all = append(all, mark{moment{"", progress.Warning, i}, e})
	}
	for i := range b.Phases {
		all = append(all, b.Phases[i].marks(fmt.Sprintf("phase-%d", i))...)
	}
	for i := range b.Steps {
		all = append(all, b.Steps[i].marks(stepName(i))...)
	}
	slices.SortStableFunc(all, func(x, y mark) int { return x.Time.Compare(y.Time) })
	return all
}

func (s *Step) marks(name string) []mark {
	if s.Started.IsZero() {
		return nil
	}
	if s.Verdict == solver.VerdictCached {
		e := progress.Event{Time: s.Started, Step: name, Name: s.Name, Kind: progress.Cached}
		return []mark{{moment{name, progress.Cached, 0}, e}}
	}
	all := []mark{begins(name, s.Name, s.Started)}
	kind, ended := map[solver.Verdict]progress.Kind{
		solver.VerdictExecuted: progress.Done, solver.VerdictSource: progress.Done,
		solver.VerdictFailed: progress.Failed, solver.VerdictCanceled: progress.Canceled,
	}[s.Verdict]
	if ended {
		all = append(all, ends(name, kind, s.Started.Add(s.Took), s.Error))
	}
	return all
}

func (p *Phase) marks(name string) []mark {
	all := []mark{begins(name, p.Name, p.Started)}
	end := p.Started.Add(p.Took)
	for i, line := range p.Said {
		e := progress.Event{Time: end, Step: name, Kind: progress.Log, Log: []byte(line + "\n")}
		all = append(all, mark{moment{name, progress.Log, i}, e})
	}
	kind, ended := map[Status]progress.Kind{
		Succeeded: progress.Done, Failed: progress.Failed, Canceled: progress.Canceled, Killed: progress.Canceled,
	}[p.Status]
	if ended {
		all = append(all, ends(name, kind, end, p.Error))
	}
	return all
}

func ends(step string, kind progress.Kind, at time.Time, failure string) mark {
	e := progress.Event{Time: at, Step: step, Kind: kind}
	if failure != "" {
		e.Err = errors.New(failure)
	}
	return mark{moment{step, kind, 0}, e}
}
