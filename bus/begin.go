package bus

import (
	"context"
	"fmt"
	"time"
)

// Begin gives a group its places on topics where it has none: the first record
// appended at or after since, which may be zero. What it has stays, but a place
// that the log no longer reaches back to, since nobody read for longer than
// records are kept, becomes the oldest record; that is logged. It may be
// called by many processes at once, and again at every start: a group whose
// commits the brokers have forgotten begins again, which repeats and loses
// nothing.
func (b *Bus) Begin(ctx context.Context, group string, topics []string, since time.Time) error {
	parts, err := b.partitions(ctx, topics)
	if err != nil {
		return fmt.Errorf("begin %s: %w", group, err)
	}
	// In this order a member that goes on meanwhile isn't taken for one that aged out.
	starts, err := b.listOffsets(ctx, oldest, parts)
	if err != nil {
		return fmt.Errorf("begin %s: %w", group, err)
	}
	have, err := b.committed(ctx, group, parts)
	if err != nil {
		return err
	}
	from := b.agedOut(group, starts, have)
	if without := missing(parts, have); len(without) > 0 {
		first, err := b.resolve(ctx, Start{Since: since}, without)
		if err != nil {
			return fmt.Errorf("begin %s: %w", group, err)
		}
		for topic, ps := range first {
			for p, o := range ps {
				from.set(topic, p, o)
			}
		}
	}
	return b.commit(ctx, group, from)
}

// agedOut are the oldest records of partitions of which a group's next record
// is gone.
func (b *Bus) agedOut(group string, starts, have offsets) offsets {
	from := offsets{}
	for topic, ps := range have {
		for p, at := range ps {
			if start := starts[topic][p]; at < start {
				b.log.Error("records aged out before they were read, going on with the oldest", "group", group, "topic", topic, "partition", p, "from", at, "offset", start)
				from.set(topic, p, start)
			}
		}
	}
	return from
}

// Some reads at most about maxBytes of each partition of a topic, but at least
// a record where there is one, from the given places on; partitions without a
// place begin at their oldest record. It calls apply for what is committed until
// that returns false, and returns where to read on. It doesn't wait.
func (b *Bus) Some(ctx context.Context, topic string, from map[int32]int64, maxBytes int32, apply func(Record) bool) (next map[int32]int64, more bool, err error) {
	parts, err := b.partitions(ctx, []string{topic})
	if err != nil {
		return nil, false, err
	}
	at := offsets{}
	for p, o := range from {
		at.set(topic, p, o)
	}
	exact, err := b.resolve(ctx, Start{Offset: at}, parts)
	if err != nil {
		return nil, false, err
	}
	next = exact[topic]
	for _, p := range parts[topic] {
		f, err := b.fetch(ctx, topic, p, next[p], maxBytes)
		if err != nil {
			return nil, false, err
		}
		full := false
		for _, k := range f.records {
			if !k.Attrs.IsControl() && !apply(fromClient(k)) {
				full = true
				break
			}
			next[p] = k.Offset + 1
		}
		if full {
			return next, true, nil
		}
		next[p] = max(next[p], f.next)
		more = more || next[p] < f.stable
	}
	return next, more, nil
}
