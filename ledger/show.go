package ledger

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"strings"

	"qstream/ledger/store"
)

// most is how many destinations, tenants and replies of a queue are shown.
const most = 10

// queue answers about one queue.
func (v *view) queue(ctx context.Context, r *http.Request) (any, error) {
	name := r.PathValue("name")
	fresh, err := v.fresh(ctx)
	if err != nil {
		return nil, err
	}
	out := Queue{Fresh: fresh, Queue: name, Known: v.deps.Directory.Snapshot().Queue(name) != nil, Replies: []Reply{}, Suspensions: []Suspension{}}
	only := store.Filter{Queue: name}
	total, _, err := v.group(ctx, only, 0, "queue")
	if err != nil {
		return nil, err
	}
	if len(total) == 0 && !out.Known {
		return nil, errUnknown
	}
	if out.Total = (Group{Keys: map[string]string{"queue": name}, Rates: &Rates{}}); len(total) > 0 {
		out.Total = total[0]
	}
	for _, part := range []struct {
		to    *[]Group
		by    string
		limit int
	}{{&out.Places, "place", 0}, {&out.Tenants, "tenant", most}, {&out.Destinations, "destination", most}} {
		if *part.to, _, err = v.group(ctx, only, part.limit, part.by); err != nil {
			return nil, err
		}
	}
	replies, err := v.store.Replies(ctx, only, most)
	if err != nil {
		return nil, err
	}
	for text, n := range replies {
		out.Replies = append(out.Replies, Reply{text, n})
	}
	slices.SortFunc(out.Replies, func(a, b Reply) int { return cmp.Or(-cmp.Compare(a.Legs, b.Legs), strings.Compare(a.Text, b.Text)) })
	out.Suspensions = append(out.Suspensions, v.suspensions(name, out.Tenants)...)
	return out, nil
}

// suspensions are those that cover the queue, or some of what passes it.
func (v *view) suspensions(name string, tenants []Group) []Suspension {
	var found []Suspension
	for _, s := range v.deps.Control.State().Suspensions() {
		if s.Scope.Queue != "" && s.Scope.Queue != name {
			continue
		}
		t := v.deps.Directory.Snapshot().Tenant(s.Scope.Tenant)
		here := s.Scope.Tenant == "" || s.Scope.Queue == name || t != nil && t.Queue == name ||
			slices.ContainsFunc(tenants, func(g Group) bool { return g.Keys["tenant"] == s.Scope.Tenant })
		if here {
			found = append(found, Suspension{s.Scope.Tenant, s.Scope.Queue, s.Scope.Destination, s.Since.UTC(), s.Actor, s.Reason})
		}
	}
	return found
}
