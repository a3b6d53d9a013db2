package ledger

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"time"

	"google.golang.org/protobuf/proto"

	"qstream/bus"
	"qstream/ledger/fold"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
)

// Bounds of a trace.
const (
	maxMessages = 200
	maxDepth    = 5 // reports about reports
	maxEvents   = 100_000
)

// kinds are the parameters by which messages are found.
var kinds = map[string]fold.Kind{
	"message_id": fold.ByHeaderID, "reverse_path": fold.ByReversePath, "recipient": fold.ByRecipient,
}

// trace answers with events, fetched from the log by their places.
func (v *view) trace(ctx context.Context, r *http.Request) (any, error) {
	fresh, err := v.fresh(ctx)
	if err != nil {
		return nil, err
	}
	ids, more, err := v.wanted(ctx, r.URL.Query())
	if err != nil {
		return nil, err
	}
	t := tracing{view: v, known: map[fold.ID]bool{}, out: Trace{Fresh: fresh, More: more, Events: []json.RawMessage{}}}
	for depth := 0; len(ids) > 0 && depth <= maxDepth; depth++ {
		var next []fold.ID
		for _, id := range ids {
			children, err := t.message(ctx, id)
			if err != nil {
				return nil, err
			}
			next = append(next, children...)
		}
		ids = next
	}
	if t.out.Told == 0 && fresh.Behind == 0 {
		return nil, errUnknown
	}
	return t.out, nil
}

// wanted are the messages that a question means, the newest first.
func (v *view) wanted(ctx context.Context, q url.Values) ([]fold.ID, bool, error) {
	if text := q.Get("id"); text != "" {
		id, ok := fold.ParseID(text)
		if !ok {
			return nil, false, wrongf("id %q is no message id", text)
		}
		return []fold.ID{id}, false, nil
	}
	since, err := time.Parse(time.RFC3339Nano, q.Get("since"))
	if err != nil {
		return nil, false, wrongf("since: %w", err)
	}
	for parameter, kind := range kinds {
		if text := q.Get(parameter); text != "" {
			return v.store.Find(ctx, kind, text, since, maxMessages)
		}
	}
	return nil, false, wrongf("name messages by id, message_id, reverse_path or recipient")
}

// tracing gathers events.
type tracing struct {
	*view
	known map[fold.ID]bool
	out   Trace
}

// message adds a message's events and returns the reports about it.
func (t *tracing) message(ctx context.Context, id fold.ID) ([]fold.ID, error) {
	if t.known[id] {
		return nil, nil
	}
	t.known[id] = true
	places, ok, err := t.store.Told(ctx, id)
	if err != nil || !ok {
		return nil, err
	}
	for _, offsets := range places {
		t.out.Told += len(offsets)
	}
	if t.out.Told > maxEvents {
		return nil, wrongf("more than %d events: ask for fewer messages", maxEvents)
	}
	err = t.deps.Bus.At(ctx, schemas.Events, places, func(r bus.Record) error {
		var e pb.Event
		if proto.Unmarshal(r.Value, &e) != nil {
			return nil
		}
		line, err := schemas.JSON(&e)
		if err == nil {
			t.out.Events = append(t.out.Events, line)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return t.store.Children(ctx, id)
}
