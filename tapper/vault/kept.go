package vault

import (
	"cmp"
	"context"
	"maps"
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
	keptWait  = time.Minute      // for an answer
)

// keptLeast is for how long a topic is taken to keep what it has that the broker
// never told of: so that an alarm comes after a day, early rather than late.
const keptLeast = 2 * sink.Margin

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

// of is a topic's. Of one that the broker didn't tell of it is the shortest of
// those that it did, and at most keptLeast.
func (r retentions) of(topic string) time.Duration {
	if kept, ok := r[topic]; ok {
		return kept
	}
	shortest := keptLeast
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

// keep asks for them from time to time. Nothing waits for the answer, neither
// mail nor lanes nor sinks: it is for alarms, which go by the last one meanwhile.
func (v *Vault) keep(ctx context.Context) {
	for bus.Pause(ctx, v.learnKept(ctx)) {
	}
}

// learnKept asks, and says when to do so again. That there is no answer is told
// once, until there is one, and by a metric; orders have no part in it.
func (v *Vault) learnKept(ctx context.Context) (again time.Duration) {
	r, err := v.askKept(ctx)
	if ctx.Err() != nil {
		return 0
	}
	if least := v.cfg.Keeps(); least > 0 {
		for topic, kept := range r {
			if kept <= 0 || kept > least {
				r[topic] = least
			}
		}
	}
	v.mu.Lock()
	was := v.keepless
	v.keeps, v.keepless = r, err != nil
	v.mu.Unlock()
	if err != nil {
		if !was {
			v.deps.Log.Warn("retention of the topics that the vault copies from is unknown, its alarms may come too early or too late, asking again", "err", err)
		}
		return keptAgain
	}
	if was {
		v.deps.Log.Info("retention of the topics that the vault copies from is known again")
	}
	return keptAsk
}

// askKept asks about each topic; of one that isn't told of the last answer stays,
// and the error is of the first.
func (v *Vault) askKept(ctx context.Context) (retentions, error) {
	ctx, cancel := context.WithTimeout(ctx, keptWait)
	defer cancel()
	topics := []string{schemas.Received, schemas.Reinject, schemas.Events, schemas.Hold}
	for _, class := range v.deps.Directory.Snapshot().ContentClasses() {
		topics = append(topics, schemas.Content(class))
	}
	r := maps.Clone(v.kept())
	var failed error
	for _, topic := range topics {
		kept, err := v.apart.Retention(ctx, topic)
		if err != nil {
			failed = cmp.Or(failed, err)
			continue
		}
		if r == nil {
			r = retentions{}
		}
		r[topic] = kept
	}
	return r, failed
}
