package bus

import (
	"slices"
	"sync"
)

// Topics is a set of topic names that may change while it is consumed; safe
// for concurrent use.
type Topics struct {
	mu    sync.Mutex
	names []string
}

// NewTopics makes a set of these names.
func NewTopics(names ...string) *Topics {
	return &Topics{names: sorted(names)}
}

// Set replaces the names; consumers follow within a second or so.
func (t *Topics) Set(names ...string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.names = sorted(names)
}

// Names are the topics at this moment, sorted.
func (t *Topics) Names() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.names)
}

func sorted(names []string) []string {
	names = slices.Clone(names)
	slices.Sort(names)
	return slices.Compact(names)
}
