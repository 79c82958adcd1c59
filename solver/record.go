package solver

import (
	"bytes"
	"context"
	"encoding/json"
	"time"

	"github.com/opencontainers/go-digest"

	"lamina/cache"
)

// Record is what the index remembers under a key: the result, and everything
// that went into the key by name, so that a later miss can be explained by
// comparing records.
type Record struct {
	Version int    `json:"v"`
	Result  Result `json:"result"`

	Kind string          `json:"kind"`
	Op   json.RawMessage `json:"op"`
	// Inputs has an entry for each of the node's inputs.
	Inputs []RecordedInput `json:"inputs,omitempty"`

	// Name and Pos are those of the node that was executed.
	Name string `json:"name"`
	Pos  Pos    `json:"pos,omitzero"`
	// Created is when the execution ended, Took how long it lasted.
	Created time.Time     `json:"created"`
	Took    time.Duration `json:"took"`
	// Salt is set if the operation was executed although it was remembered; it
	// tells Result.ID from that of the result before.
	Salt string `json:"salt,omitempty"`
	// Absent says that the layers of the result are not known, but only its identity.
	Absent bool `json:"absent,omitempty"`
}

// RecordedInput is one input of a recorded operation.
type RecordedInput struct {
	Name string        `json:"name,omitempty"` // of the input's node
	ID   digest.Digest `json:"id,omitempty"`   // its whole identity, unless it is live
	// Read is what the operation reads of it, if not everything.
	Read Identity `json:"read,omitzero"`
}

// Keys recomputes from what went into them the keys that r is recorded under: over
// what the operation read, and over its whole inputs, which is empty if one of them
// is live. Records that come from elsewhere are not believed to belong to a key,
// but have these.
func (r *Record) Keys() (narrow, whole cache.Key) {
	read, all := make([]digest.Digest, len(r.Inputs)), make([]digest.Digest, len(r.Inputs))
	live := false
	for i, in := range r.Inputs {
		read[i], all[i] = in.ID, in.ID
		if in.Read.Digest != "" {
			read[i] = in.Read.Digest
		}
		live = live || in.ID == ""
	}
	op := recordedOp{r.Op, r.Kind}
	if narrow = KeyOf(op, read); live {
		return narrow, ""
	}
	return narrow, KeyOf(op, all)
}

// Identity recomputes Result.ID.
func (r *Record) Identity() digest.Digest {
	narrow, _ := r.Keys()
	if r.Salt != "" {
		return salted(narrow, r.Salt)
	}
	return narrow
}

// Exact tells whether the recorded operation is, to the byte, the one that was
// executed. It is not if that had bytes that are not UTF-8, and then [Record.Keys]
// are not its keys.
func (r *Record) Exact() bool { return !bytes.Contains(r.Op, []byte(`\ufffd`)) }

// identity is r without the result.
func (r *Record) identity() *Record {
	absent := *r
	absent.Absent, absent.Result.Layers = true, nil
	return &absent
}

// recordedOp is an operation as a record has it.
type recordedOp struct {
	json.RawMessage
	name string
}

func (op recordedOp) kind() string { return op.name }

// NewRecord returns a record of an operation's result, without what is for people.
func NewRecord(kind string, op json.RawMessage) *Record {
	return &Record{Version: keyVersion, Kind: kind, Op: op}
}

// DecodeRecord reads a record. One of another version is an error.
func DecodeRecord(data []byte) (*Record, error) {
	var r Record
	if err := json.Unmarshal(data, &r); err != nil {
		return nil, err
	}
	if r.Version != keyVersion {
		return nil, errVersion
	}
	return &r, nil
}

// Records is where records can be looked up; see [cache.Index].
type Records interface {
	Get(ctx context.Context, k cache.Key) ([]byte, error)
}

// lookup returns the usable record under k, or nil: an unreadable record, and
// one whose layers are gone, were never there. What is only elsewhere is
// remembered here.
func (r *run) lookup(ctx context.Context, k cache.Key) *Record {
	if rec, usable := r.recall(ctx, k); usable {
		return rec
	}
	return nil
}

// recall is lookup, but returns a record that tells no more than an identity if
// there is no usable one, and nil if there is none at all.
func (r *run) recall(ctx context.Context, k cache.Key) (told *Record, usable bool) {
	for i := range len(r.opt.Imports) + 1 {
		var from Records = r.opt.Index
		if i > 0 {
			from = r.opt.Imports[i-1]
		}
		data, err := from.Get(ctx, k)
		if err != nil {
			continue
		}
		rec, err := DecodeRecord(data)
		if err != nil {
			continue
		}
		if rec.Absent || !r.worker.Has(ctx, rec.Result) {
			r.traced.Absent = r.traced.Absent || rec.Absent
			r.traced.Lost = r.traced.Lost || !rec.Absent
			if told == nil {
				told = rec.identity()
				if i > 0 {
					remember(ctx, r.opt.Index, k, told)
				}
			}
			continue
		}
		if i > 0 {
			remember(ctx, r.opt.Index, k, rec)
		}
		r.traced.From = i
		return rec, true
	}
	return told, false
}

// remember stores r under k. That it cannot be stored is no reason to fail a
// build whose result is there.
func remember(ctx context.Context, index cache.Index, k cache.Key, r *Record) {
	data, err := json.Marshal(r)
	if err != nil {
		panic("solver: record cannot be encoded: " + err.Error())
	}
	_ = index.Put(ctx, k, data)
}
