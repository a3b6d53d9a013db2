package vault

import (
	"context"
	"time"

	"qstream/bus"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
	"qstream/tapper/sink"
)

// How often the broker is asked what topics keep: whether there are orders or
// not, which nobody is to see from it.
const (
	keptAsk   = 10 * time.Minute
	keptAgain = 10 * time.Second // after a failure
)

// retentions are for how long topics keep what they have, as the broker is
// configured; not above 0: for ever.
type retentions map[string]time.Duration

// stand is where a part of a copy stands, and since when.
type stand struct {
	topic string
	since time.Time
}

// standsOf are where a copy of a message's record stands; bare: without content.
func standsOf(r bus.Record, content *pb.Content, bare bool) []stand {
	stands := []stand{{r.Topic, r.Time}}
	if ref := content.GetRef(); ref != nil && !bare {
		stands = append(stands, stand{ref.Topic, time.UnixMilli(ref.StoredMs)})
	}
	return stands
}

// of is a topic's. Of one that wasn't asked about it is the shortest of those
// that were, and as long as nothing is known what received is made with.
func (r retentions) of(topic string) time.Duration {
	if kept, ok := r[topic]; ok {
		return kept
	}
	row, _ := schemas.ByName(schemas.Received)
	shortest := row.Retention
	for _, kept := range r {
		if kept > 0 {
			shortest = min(shortest, kept)
		}
	}
	return shortest
}

// leaves is when the first part of a copy leaves its topic; soon: its sink has
// had it for as long as it may wait.
func (r retentions) leaves(stands []stand, now time.Time) (at time.Time, soon bool) {
	for _, s := range stands {
		kept := r.of(s.topic)
		if kept <= 0 || s.since.IsZero() {
			continue
		}
		if end := s.since.Add(kept); at.IsZero() || end.Before(at) {
			at = end
		}
		soon = soon || !now.Before(s.since.Add(sink.Patience(kept)))
	}
	return at, soon
}

// kept are the retentions as they were last asked for.
func (v *Vault) kept() retentions {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.keeps
}

// keep asks for them from time to time.
func (v *Vault) keep(ctx context.Context) {
	for {
		r, err := v.askKept(ctx)
		wait := keptAgain
		if err == nil {
			wait = keptAsk
			v.mu.Lock()
			v.keeps = r
			v.mu.Unlock()
		}
		if !bus.Pause(ctx, wait) {
			return
		}
	}
}

func (v *Vault) askKept(ctx context.Context) (retentions, error) {
	topics := []string{schemas.Received, schemas.Reinject, schemas.Events, schemas.Hold}
	for _, class := range v.deps.Directory.Snapshot().ContentClasses() {
		topics = append(topics, schemas.Content(class))
	}
	r := retentions{}
	for _, topic := range topics {
		kept, err := v.apart.Retention(ctx, topic)
		if err != nil {
			return nil, err
		}
		r[topic] = kept
	}
	return r, nil
}
