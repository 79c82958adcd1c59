package progress

import (
	"encoding/json"
	"io"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
)

// rawJSON writes one JSON object a line for each event, in the form of
// BuildKit's status records, so that what reads those reads these. Times are
// RFC 3339, bytes are base64, and a step is named by the digest of its identity.
type rawJSON struct {
	mu      sync.Mutex
	enc     *json.Encoder
	started map[string]time.Time // of steps, and of items as "step\x00item"
	names   map[string]string
	closed  bool
}

type rawStatus struct {
	Vertexes []rawVertex  `json:"vertexes,omitempty"`
	Statuses []rawBytes   `json:"statuses,omitempty"`
	Logs     []rawLog     `json:"logs,omitempty"`
	Warnings []rawWarning `json:"warnings,omitempty"`
}

type rawVertex struct {
	Digest    digest.Digest `json:"digest"`
	Name      string        `json:"name,omitempty"`
	Started   *time.Time    `json:"started,omitempty"`
	Completed *time.Time    `json:"completed,omitempty"`
	Cached    bool          `json:"cached,omitempty"`
	Error     string        `json:"error,omitempty"`
}

type rawBytes struct {
	ID        string        `json:"id"`
	Vertex    digest.Digest `json:"vertex,omitempty"`
	Name      string        `json:"name,omitempty"`
	Total     int64         `json:"total,omitempty"`
	Current   int64         `json:"current"`
	Timestamp time.Time     `json:"timestamp"`
	Started   *time.Time    `json:"started,omitempty"`
	Completed *time.Time    `json:"completed,omitempty"`
}

type rawLog struct {
	Vertex    digest.Digest `json:"vertex,omitempty"`
	Stream    int           `json:"stream,omitempty"`
	Data      []byte        `json:"data"`
	Timestamp time.Time     `json:"timestamp"`
}

type rawWarning struct {
	Vertex digest.Digest `json:"vertex,omitempty"`
	Level  int           `json:"level,omitempty"`
	Short  []byte        `json:"short,omitempty"`
}

// canceledText is how a reader of BuildKit's records knows a canceled step.
const canceledText = "context canceled"

func newRawJSON(w io.Writer) *rawJSON {
	return &rawJSON{enc: json.NewEncoder(w), started: map[string]time.Time{}, names: map[string]string{}}
}

func (r *rawJSON) Event(e Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return
	}
	r.enc.Encode(r.status(e))
}

func (r *rawJSON) Close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
}

func (r *rawJSON) status(e Event) rawStatus {
	at, id := e.at().UTC(), digest.Digest("")
	if e.Step != "" {
		id = digest.FromString(e.Step)
	}
	if e.Name != "" {
		r.names[e.Step] = e.Name
	}
	switch e.Kind {
	case Log:
		return rawStatus{Logs: []rawLog{{Vertex: id, Stream: 1, Data: e.Log, Timestamp: at}}}
	case Warning:
		return rawStatus{Warnings: []rawWarning{{Vertex: id, Level: 1, Short: e.Log}}}
	case Note:
		return rawStatus{Statuses: []rawBytes{{ID: string(e.Log), Vertex: id, Timestamp: at, Started: &at, Completed: &at}}}
	case Bytes:
		return rawStatus{Statuses: []rawBytes{r.bytes(e, id, at)}}
	}
	v := rawVertex{Digest: id, Name: r.names[e.Step], Started: r.since(e.Step, at), Cached: e.Kind == Cached}
	if e.Kind.ends() {
		v.Completed = &at
	}
	switch {
	case e.Kind == Canceled:
		v.Error = canceledText
	case e.Err != nil:
		v.Error = e.Err.Error()
	}
	return rawStatus{Vertexes: []rawVertex{v}}
}

func (r *rawJSON) bytes(e Event, id digest.Digest, at time.Time) rawBytes {
	b := rawBytes{
		ID: e.Item, Vertex: id, Total: e.Total, Current: e.Current,
		Timestamp: at, Started: r.since(e.Step+"\x00"+e.Item, at),
	}
	if e.Total > 0 && e.Current >= e.Total {
		b.Completed = &at
	}
	return b
}

// since returns when key was first heard of; now, if it was not.
func (r *rawJSON) since(key string, now time.Time) *time.Time {
	t, ok := r.started[key]
	if !ok {
		t = now
		r.started[key] = t
	}
	return &t
}
