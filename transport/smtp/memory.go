package smtp

import (
	"sync"
	"time"
)

// tlsMemory is how long a failed handshake is remembered: a host that stalls
// in it would otherwise cost every attempt the whole time limit.
const tlsMemory = 15 * time.Minute

// maxMemory bounds what is remembered; past it all is forgotten,
// which costs a failed handshake for each.
const maxMemory = 10000

// memory is the addresses whose TLS failed lately.
type memory struct {
	mu    sync.Mutex
	until map[string]time.Time
}

func (m *memory) note(addr string, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.until) >= maxMemory {
		m.until = nil
	}
	if m.until == nil {
		m.until = map[string]time.Time{}
	}
	m.until[addr] = now.Add(tlsMemory)
}

func (m *memory) has(addr string, now time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	until, ok := m.until[addr]
	if ok && !now.Before(until) {
		delete(m.until, addr)
		return false
	}
	return ok
}
