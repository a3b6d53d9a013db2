package directory

import "sync"

// memoBound is how many decisions a snapshot remembers; then it forgets all.
const memoBound = 4096

// memo remembers decisions of a snapshot, which never change: a message asks
// for the same one at every step. Safe for concurrent use.
type memo struct {
	mu    sync.Mutex
	known map[memoKey]Decision
}

// memoKey is what a decision depends on.
type memoKey struct {
	domain, tenant, queue, route string
	nullSender                   bool
}

func newMemo() *memo { return &memo{known: map[memoKey]Decision{}} }

func (m *memo) get(k memoKey) (Decision, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	d, ok := m.known[k]
	return d, ok
}

// put remembers a decision without a refusal, which carries text of its own.
func (m *memo) put(k memoKey, d Decision) {
	if d.Refusal != nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.known) >= memoBound {
		clear(m.known)
	}
	m.known[k] = d
}
