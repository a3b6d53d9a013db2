package bus

import (
	"context"
	"errors"
	"fmt"
)

// LookBack is how many records at the end Whole looks at: most of them may be
// garbage.
const LookBack = 16

// errEnough ends a reading.
var errEnough = errors.New("enough is read")

// Whole finds where to begin with a topic of one partition of which some
// records are whole: they hold all that was before them, so that a reader need
// not begin at the oldest however long the history is. Every record names the
// newest whole one: named is its offset, or an error for what can't be read.
// What is named is trusted only if whole says so. 0: there is none.
func (b *Bus) Whole(ctx context.Context, topic string, named func(Record) (int64, error), whole func(Record) bool) (int64, error) {
	ends, err := b.Ends(ctx, topic)
	if err != nil {
		return 0, fmt.Errorf("find the end of %s: %w", topic, err)
	}
	newest := int64(0)
	err = b.Read(ctx, []string{topic}, From(topic, max(ends[0]-LookBack, 0)), func(r Record) error {
		if offset, err := named(r); err == nil && offset < r.Offset {
			newest = max(newest, offset)
		}
		return nil
	})
	if err != nil || newest == 0 {
		return 0, err
	}
	trusted := false
	err = b.Read(ctx, []string{topic}, From(topic, newest), func(r Record) error {
		trusted = r.Offset == newest && whole(r)
		return errEnough
	})
	if !errors.Is(err, errEnough) {
		return 0, err
	}
	if !trusted {
		return 0, nil
	}
	return newest, nil
}

// From starts a topic of one partition at an offset; 0: at its oldest record.
func From(topic string, offset int64) Start {
	if offset == 0 {
		return Start{}
	}
	return Start{Offset: map[string]map[int32]int64{topic: {0: offset}}}
}
