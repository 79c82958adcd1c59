package build

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"lamina/cache/mounts"
	"lamina/cmd/lamina/internal/engine"
)

func TestParseMounts(t *testing.T) {
	usual := mounts.Threshold{Share: minChangeShare, Bytes: minChangeBytes}
	for _, tc := range []struct {
		value string // of --cache-to, after type=local,dest=x
		want  mountChoice
		err   string
	}{
		{"", mountChoice{maxSize: maxMountSize, minChange: usual}, ""},
		{",mounts=true", mountChoice{all: true, maxSize: maxMountSize, minChange: usual}, ""},
		{",mounts=false", mountChoice{maxSize: maxMountSize, minChange: usual}, ""},
		{",mounts=/go/pkg/mod", mountChoice{ids: []string{"/go/pkg/mod"}, maxSize: maxMountSize, minChange: usual}, ""},
		{`,"mounts=a,b"`, mountChoice{ids: []string{"a", "b"}, maxSize: maxMountSize, minChange: usual}, ""},
		{",mounts=a;b", mountChoice{ids: []string{"a", "b"}, maxSize: maxMountSize, minChange: usual}, ""},
		{",mounts-max-size=1g", mountChoice{maxSize: 1 << 30, minChange: usual}, ""},
		{",mounts-min-change=5%", mountChoice{maxSize: maxMountSize, minChange: mounts.Threshold{Share: 0.05, Bytes: -1}}, ""},
		{",mounts-min-change=64m", mountChoice{maxSize: maxMountSize, minChange: mounts.Threshold{Share: -1, Bytes: 64 << 20}}, ""},
		{",mounts-min-change=0", mountChoice{maxSize: maxMountSize, minChange: mounts.Threshold{Share: -1}}, ""},
		{",mounts=", mountChoice{}, "mounts=: want true, false or ids of cache mounts"},
		{",mounts=;", mountChoice{}, "mounts=: want true, false or ids of cache mounts"},
		{",mounts-max-size=-1", mountChoice{}, "mounts-max-size=-1: want a size such as 2g"},
		{",mounts-max-size=0", mountChoice{}, "mounts-max-size=0: want a size such as 2g"},
		{",mounts-min-change=NaN%", mountChoice{}, "mounts-min-change=NaN%: want a share such as 5%, or a size"},
		{",mounts-min-change=some", mountChoice{}, "mounts-min-change=some: want a size such as 64m, or a share such as 5%"},
	} {
		to, err := parseCacheTo("type=local,dest=x" + tc.value)
		text := ""
		if err != nil {
			text = err.Error()
		}
		if text != tc.err {
			t.Errorf("%s: error is %q, want %q", tc.value, text, tc.err)
			continue
		}
		if err == nil {
			if diff := cmp.Diff(tc.want, to[0].mounts, cmp.AllowUnexported(mountChoice{}), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("%s:\n%s", tc.value, diff)
			}
		}
	}
	from, err := parseCacheFrom("type=local,src=x")
	if err != nil || !from[0].mounts.wants("anything") {
		t.Errorf("mounts are not taken from a cache unless that is asked for: %v", err)
	}
}

func TestSameRepository(t *testing.T) {
	place := func(value string) engine.Place {
		from, err := parseCacheFrom(value)
		if err != nil {
			t.Fatal(err)
		}
		return from[0].Place
	}
	for _, tc := range []struct {
		a, b string
		want bool
	}{
		{"r.io/app:one", "r.io/app:two", true},
		{"r.io/app:one", "r.io/other:one", false},
		{"type=local,src=a", "type=local,src=a,tag=x", true},
		{"type=local,src=a", "type=local,src=b", false},
		{"type=local,src=a", "r.io/app", false},
	} {
		if got := sameRepository(place(tc.a), place(tc.b)); got != tc.want {
			t.Errorf("%s and %s: %v", tc.a, tc.b, got)
		}
	}
}
