package bus

import (
	"context"
	"time"
)

// Entry is what a Holder remembers of a waiting record. Strings are interned.
type Entry struct {
	Due         time.Time // released by the clock then
	Born        time.Time // for expiry by Pull
	Appended    time.Time // append time of the waiting record, set by bus
	Tenant      string
	Queue       string
	Destination string
	ID          string    // message id (26 characters)
	Content     time.Time // until then its content is safe where it is; for Pull
	Kind        uint8     // what else the stage's Pull tells entries apart by
}

// HoldConfig says what is held and what a release makes of it.
type HoldConfig struct {
	Group string
	From  *Topics
	Stage string
	// Entry reads a record; an error that wraps ErrPoison sends it to deadletter.
	Entry func(Record) (Entry, error)
	// Release makes the outputs of a released record. Pulled tells a release
	// by Pull from one by the clock. An error that wraps ErrPoison sends the
	// record to deadletter; any other is retried.
	Release func(ctx context.Context, e Entry, r Record, pulled bool) ([]Record, error)
}

// Hold makes a Holder; it starts nothing.
func (b *Bus) Hold(cfg HoldConfig) (*Holder, error) { panic("todo") }

// Holder keeps an index of waiting records and releases them: outputs and a
// marker in the record's own partition in one transaction.
type Holder struct{}

// Run consumes and releases until ctx ends.
func (h *Holder) Run(ctx context.Context) error { panic("todo") }

// Pull releases now what matches, in the partitions this process owns, and
// says how many were released. It waits until the index is complete.
func (h *Holder) Pull(ctx context.Context, match func(Entry) bool) (int, error) { panic("todo") }

// Each calls f for every waiting entry of this process's partitions.
func (h *Holder) Each(f func(Entry)) { panic("todo") }

// Ready is nil when every assigned partition's index is complete.
func (h *Holder) Ready() error { panic("todo") }

// Waiting calls each for every unfinished record of a group's topics: beyond
// its commits, less what the commits' metadata and the markers tell finished.
func (b *Bus) Waiting(ctx context.Context, group string, topics []string, each func(Record) error) error {
	panic("todo")
}
