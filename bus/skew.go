package bus

import (
	"context"
	"crypto/rand"
	"fmt"
	"sync"
	"time"

	"qstream/schemas"
)

// skewEvery is how often the clocks are compared.
const skewEvery = 10 * time.Second

// skew is the newest measure of this process's clock against the broker's.
type skew struct {
	mu    sync.Mutex
	pings int
	asked time.Time
	value time.Duration
	known bool
}

// Skew is how far this process's clock is from the broker's append times
// (positive: ours is ahead); ok is false until the first measure. Ping
// measures, from its second call on, every 10 s. On the embedded broker there
// is nothing to measure: records keep this machine's time, so that it is known
// to be 0.
func (b *Bus) Skew() (skew time.Duration, ok bool) {
	if b.cfg.Barrier != nil {
		return 0, true
	}
	b.skew.mu.Lock()
	defer b.skew.mu.Unlock()
	return b.skew.value, b.skew.known
}

// due reports whether it is time to measure, and that someone does. A process
// that pings once, such as a verb, doesn't.
func (s *skew) due() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pings++
	if s.pings < 2 || time.Since(s.asked) < skewEvery {
		return false
	}
	s.asked = time.Now()
	return true
}

// measure publishes a record that says nothing and compares the append time
// that it got with this process's clock. The journal is nobody's to read but
// the bus's own, which passes over it.
func (b *Bus) measure(ctx context.Context) error {
	before := b.cfg.Now().Round(0)
	r := &Record{
		Topic: schemas.Journal, Partition: AnyPartition, Key: []byte(rand.Text()),
		Headers: headers(HeaderType, "clock"),
	}
	if err := b.Publish(ctx, r); err != nil {
		return fmt.Errorf("measure clock: %w", err)
	}
	after := b.cfg.Now().Round(0)
	// Somebody's open transaction doesn't matter here, and there always is one.
	f, err := b.fetchAs(ctx, uncommitted, r.Topic, r.Partition, r.Offset, 1)
	if err != nil {
		return fmt.Errorf("measure clock: %w", err)
	}
	if len(f.records) == 0 || f.records[0].Offset != r.Offset {
		return fmt.Errorf("measure clock: no record at %s/%d offset %d", r.Topic, r.Partition, r.Offset)
	}
	b.skew.mu.Lock()
	defer b.skew.mu.Unlock()
	b.skew.value, b.skew.known = between(before, after, f.records[0].Timestamp), true
	return nil
}

// between is how far a time lies outside of a span: 0 inside, positive if the
// span is later.
func between(before, after, t time.Time) time.Duration {
	switch {
	// Append times are whole milliseconds.
	case t.Before(before.Truncate(time.Millisecond)):
		return before.Sub(t)
	case t.After(after):
		return after.Sub(t)
	}
	return 0
}
