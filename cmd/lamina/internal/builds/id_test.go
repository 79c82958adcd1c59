package builds

import (
	"slices"
	"testing"
	"time"
)

func TestIDs(t *testing.T) {
	day := time.Date(2026, 11, 22, 15, 4, 5, 670e6, time.UTC)
	var ids []string
	for _, at := range []time.Time{
		time.Unix(0, 0), day, day.Add(idTick), day.Add(time.Hour), day.AddDate(250, 0, 0),
	} {
		id := nextID(at, nil)
		if len(id) != idLength {
			t.Errorf("the ID at %v is %q", at, id)
		}
		if got := timeOf(id); !got.Equal(at) {
			t.Errorf("the time of %s is %v, want %v", id, got, at)
		}
		ids = append(ids, id)
	}
	if !slices.IsSorted(ids) {
		t.Errorf("later builds do not have greater IDs: %v", ids)
	}
}

func TestNextIDIsTheGreatest(t *testing.T) {
	day := time.Date(2026, 11, 22, 15, 4, 5, 0, time.UTC)
	id := nextID(day, nil)
	for _, now := range []time.Time{day, day.Add(-time.Hour), day.Add(idTick)} {
		if next := nextID(now, []string{"not one", id}); next <= id || timeOf(next).Sub(day) != idTick {
			t.Errorf("the ID at %v after %s is %s", now, id, next)
		}
	}
}

func TestWhatIsNoID(t *testing.T) {
	for _, s := range []string{"", "576jvxw", "576jvxwqq", "576JVXWQ", "576jvxwu", "../../ab", "576jvx q"} {
		if _, ok := ticksOf(s); ok {
			t.Errorf("%q passes for an ID", s)
		}
	}
}

func TestNoIDComesAfterTheLast(t *testing.T) {
	day := time.Date(2026, 11, 22, 15, 4, 5, 0, time.UTC)
	if got, want := nextID(day, []string{"zzzzzzzz"}), nextID(day, nil); got != want {
		t.Errorf("after the last ID comes %s, want %s", got, want)
	}
}
