package solver

import (
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
}

// RecordedInput is one input of a recorded operation.
type RecordedInput struct {
	Name string        `json:"name,omitempty"` // of the input's node
	ID   digest.Digest `json:"id,omitempty"`   // its whole identity, unless it is live
	// Read is what the operation reads of it, if not everything.
	Read Identity `json:"read,omitzero"`
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

// lookup returns the usable record under k, or nil: an unreadable record, and
// one whose layers are gone, were never there.
func lookup(ctx context.Context, index cache.Index, w Worker, k cache.Key) *Record {
	data, err := index.Get(ctx, k)
	if err != nil {
		return nil
	}
	r, err := DecodeRecord(data)
	if err != nil || !w.Has(ctx, r.Result) {
		return nil
	}
	return r
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
