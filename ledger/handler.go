package ledger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"qstream/ledger/audit"
	"qstream/ledger/fold"
	"qstream/ledger/store"
	"qstream/schemas"
)

// Bounds of answers.
const (
	defaultLimit = 50
	maxLimit     = 10_000
)

// Handler answers questions about the view, as JSON:
//
//	GET /v1/queue/groups?by=tenant&by=queue   Groups
//	GET /v1/queue/show/NAME                   Queue
//	GET /v1/queue/legs?sort=due               Legs
//	GET /v1/trace?id=...                      Trace
//	POST /v1/audit?tenant=...&since=...       audit.Report
//
// Legs are chosen by tenant, queue, destination, host, place, reason, reply and
// older (a Go duration); limit bounds an answer. 404 is a subject that is not
// known, 400 a question that makes no sense, 503 no view.
func (l *Ledger) Handler() http.Handler {
	mux := http.NewServeMux()
	for pattern, answer := range map[string]answer{
		"GET /v1/queue/groups":      (*view).groups,
		"GET /v1/queue/show/{name}": (*view).queue,
		"GET /v1/queue/legs":        (*view).legs,
		"GET /v1/trace":             (*view).trace,
	} {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) { l.serve(w, r, answer) })
	}
	mux.Handle("POST "+audit.Path, l.auditor.Handler())
	return mux
}

// answer makes the body of an answer.
type answer func(*view, context.Context, *http.Request) (any, error)

// wrong is a question that makes no sense.
type wrong struct{ error }

func wrongf(format string, args ...any) error { return wrong{fmt.Errorf(format, args...)} }

// errUnknown is a subject that is not known.
var errUnknown = errors.New("not known")

func (l *Ledger) serve(w http.ResponseWriter, r *http.Request, f answer) {
	v := l.view.Load()
	if v == nil {
		err := l.Ready()
		http.Error(w, fmt.Sprintf("no view: %v", err), http.StatusServiceUnavailable)
		return
	}
	body, err := f(v, r.Context(), r)
	switch {
	case err == nil:
		w.Header().Set("Content-Type", "application/json")
		enc := json.NewEncoder(w)
		enc.SetEscapeHTML(false)
		_ = enc.Encode(body) // who asked has gone
	case errors.As(err, &wrong{}):
		http.Error(w, err.Error(), http.StatusBadRequest)
	case errors.Is(err, errUnknown):
		http.Error(w, err.Error(), http.StatusNotFound)
	default:
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
	}
}

// fresh brings the view up to date, as far as time allows, and says how far it
// is.
func (v *view) fresh(ctx context.Context) (Fresh, error) {
	began := v.deps.Now()
	err := v.catchUp(ctx)
	if err == nil {
		return Fresh{At: began.UTC()}, nil
	}
	if !errors.Is(err, errBehind) {
		return Fresh{}, err
	}
	f := Fresh{Behind: 1}
	if at := v.written.Load(); at > 0 {
		f.At = time.UnixMilli(at).UTC()
	}
	ctx, cancel := context.WithTimeout(ctx, v.cfg.Wait)
	defer cancel()
	ends, err := v.deps.Bus.Ends(ctx, schemas.Events)
	if err != nil {
		return f, nil // the broker is away: what the view has is what there is
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	behind := int64(0)
	for p, end := range ends {
		behind += max(0, end-v.done.Next[p])
	}
	f.Behind = max(1, behind)
	return f, nil
}

// filter reads which legs are meant.
func (v *view) filter(q url.Values) (store.Filter, error) {
	f := store.Filter{
		Tenant: q.Get("tenant"), Queue: q.Get("queue"), Destination: q.Get("destination"),
		Host: q.Get("host"), Reply: q.Get("reply"),
	}
	if word := q.Get("place"); word != "" {
		place, ok := fold.ParsePlace(word)
		if !ok {
			return f, wrongf("place %q: want one of %s", word, strings.Join(fold.Places(), ", "))
		}
		f.Place = &place
	}
	if word := q.Get("reason"); word != "" {
		reason, ok := fold.ParseReason(word)
		if !ok {
			return f, wrongf("reason %q: want one of %s", word, strings.Join(fold.Reasons(), ", "))
		}
		f.Reason = reason
	}
	if text := q.Get("older"); text != "" {
		d, err := time.ParseDuration(text)
		if err != nil {
			return f, wrongf("older: %w", err)
		}
		f.BornBefore = v.deps.Now().Add(-d)
	}
	return f, nil
}

func limitOf(q url.Values) (int, error) {
	text := q.Get("limit")
	if text == "" {
		return defaultLimit, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > maxLimit {
		return 0, wrongf("limit: want a number from 1 to %d", maxLimit)
	}
	return n, nil
}

func (v *view) groups(ctx context.Context, r *http.Request) (any, error) {
	q := r.URL.Query()
	filter, err := v.filter(q)
	if err != nil {
		return nil, err
	}
	limit, err := limitOf(q)
	if err != nil {
		return nil, err
	}
	for _, c := range q["by"] {
		if !slices.Contains(store.Columns, c) {
			return nil, wrongf("by %q: want some of %s", c, strings.Join(store.Columns, ", "))
		}
	}
	fresh, err := v.fresh(ctx)
	if err != nil {
		return nil, err
	}
	groups, more, err := v.group(ctx, filter, limit, q["by"]...)
	return Groups{Fresh: fresh, By: q["by"], Groups: groups, More: more}, err
}

func (v *view) group(ctx context.Context, f store.Filter, limit int, by ...string) ([]Group, bool, error) {
	found, more, err := v.store.Groups(ctx, store.Grouping{By: by, Filter: f, Now: v.deps.Now(), Limit: limit})
	groups := make([]Group, len(found))
	for i, g := range found {
		groups[i] = Group{Keys: g.Keys, Legs: g.Legs, Recipients: g.Recipients, Reasons: g.Reasons}
		if !g.Oldest.IsZero() {
			oldest := g.Oldest.UTC()
			groups[i].Oldest = &oldest
		}
		if g.Replies > 0 {
			groups[i].Reply = &Reply{g.Reply, g.Replies}
		}
		if g.Rates != nil {
			groups[i].Rates = &Rates{In: g.Rates.Came, Out: g.Rates.Left, Deferred: g.Rates.Deferred}
		}
	}
	return groups, more, err
}

func (v *view) legs(ctx context.Context, r *http.Request) (any, error) {
	q := r.URL.Query()
	filter, err := v.filter(q)
	if err != nil {
		return nil, err
	}
	limit, err := limitOf(q)
	if err != nil {
		return nil, err
	}
	if s := q.Get("sort"); s != "" && !slices.Contains(store.Sorts, s) {
		return nil, wrongf("sort %q: want one of %s", s, strings.Join(store.Sorts, ", "))
	}
	fresh, err := v.fresh(ctx)
	if err != nil {
		return nil, err
	}
	found, more, err := v.store.Legs(ctx, store.Listing{Filter: filter, Sort: q.Get("sort"), Limit: limit})
	if err != nil {
		return nil, err
	}
	legs := make([]Leg, len(found))
	for i, l := range found {
		legs[i] = legOf(l)
	}
	return Legs{Fresh: fresh, Legs: legs, More: more}, nil
}

func legOf(l store.Leg) Leg {
	out := Leg{
		ID: l.ID.String(), Leg: l.Number, Born: l.Born.UTC(), Tenant: l.Tenant, Queue: l.Queue, Destination: l.Destination,
		Place: l.Place.String(), Since: time.UnixMilli(l.SinceMs).UTC(), Reason: fold.ReasonWord(l.Reason),
		Attempts: l.Attempt, Reply: l.LastReply(), Host: l.Host, ReversePath: l.ReversePath, HeaderID: l.HeaderID,
		Size: l.Size, Recipients: l.Recipients, Addresses: l.Addresses,
	}
	if l.DueMs > 0 {
		due := time.UnixMilli(l.DueMs).UTC()
		out.Due = &due
	}
	return out
}
