package collect

import (
	"time"
)

// Item is a thing in the store, with all that goes when it goes.
type Item struct {
	Kind  Kind      `json:"kind"`
	ID    string    `json:"id"`
	Title string    `json:"title"`
	Bytes int64     `json:"bytes"`
	Used  time.Time `json:"used,omitzero"`
	Why   Reason    `json:"why,omitempty"`
}

// report says what a plan removes.
func (inv *inventory) report(p plan) Report {
	r := Report{Bytes: p.bytes, Left: inv.total - p.bytes}
	goes := map[*unit]bool{}
	for _, u := range p.units {
		goes[u] = true
		switch u.kind {
		case Layer:
			r.Layers++
		case Blob:
			r.Blobs++
		case Record:
			r.Records++
		}
	}
	for _, h := range p.holders {
		i := Item{Kind: h.kind, ID: h.id, Title: h.title, Used: h.used, Why: h.why}
		for _, u := range h.units {
			if goes[u] {
				i.Bytes += u.bytes
				delete(goes, u)
			}
		}
		if h.root != "" {
			r.Images = append(r.Images, h.root)
		}
		r.Items = append(r.Items, i)
	}
	for _, u := range p.units {
		if goes[u] {
			r.Items = append(r.Items, Item{Kind: u.kind, ID: u.name, Bytes: u.bytes, Used: u.made})
		}
	}
	return r
}
