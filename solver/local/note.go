package local

import (
	"context"
	"encoding/json"

	"lamina/cache"
)

// note remembers v, what was fetched from elsewhere, under key. At worst it is
// fetched again.
func (w *Worker) note(ctx context.Context, key cache.Key, v any) {
	if data, err := json.Marshal(v); err == nil {
		_ = w.Store.Index().Put(ctx, key, data)
	}
}

// noted reads into v what was remembered under key, and tells whether it could.
func (w *Worker) noted(ctx context.Context, key cache.Key, v any) bool {
	data, err := w.Store.Index().Get(ctx, key)
	return err == nil && json.Unmarshal(data, v) == nil
}
