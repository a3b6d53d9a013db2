package bus

import (
	"slices"
	"sync"
)

// Topics is a set of topic names that may change while it is consumed; safe
// for concurrent use.
type Topics struct {
	mu      sync.Mutex
	names   []string
	changed chan struct{}
}

// NewTopics makes a set of these names.
func NewTopics(names ...string) *Topics {
	t := &Topics{changed: make(chan struct{})}
	t.names = sorted(names)
	return t
}

// Set replaces the names; consumers follow within a second or so.
func (t *Topics) Set(names ...string) {
	names = sorted(names)
	t.mu.Lock()
	defer t.mu.Unlock()
	if slices.Equal(names, t.names) {
		return
	}
	t.names = names
	close(t.changed)
	t.changed = make(chan struct{})
}

// Names are the topics at this moment, sorted.
func (t *Topics) Names() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.names)
}

// watch returns the names and a channel that is closed at the next change.
func (t *Topics) watch() ([]string, <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.names), t.changed
}

func sorted(names []string) []string {
	names = slices.Clone(names)
	slices.Sort(names)
	return slices.Compact(names)
}
