package deliver

import (
	"sync"
	"time"
)

// Breaker settings: a host that refuses or ignores connections is left alone
// for a while, then tried by one attempt alone.
const (
	breakerFails = 5 // consecutive connection failures that open it
	breakerFirst = time.Minute
	breakerLast  = time.Hour
)

// breaker is closed (the zero breaker), open until a time, or half-open after
// it: then a single probe decides.
type breaker struct {
	fails   int
	backoff time.Duration // 0: closed
	until   time.Time
	probing bool // a probe is under way; only hosts use it
}

func (b *breaker) closed() bool            { return b.backoff == 0 }
func (b *breaker) open(now time.Time) bool { return b.backoff > 0 && now.Before(b.until) }

// fail counts a connection failure and reports whether it opened the breaker.
// Failures of attempts that were under way when it opened don't count.
func (b *breaker) fail(now time.Time) bool {
	if b.open(now) {
		return false
	}
	if b.closed() {
		if b.fails++; b.fails < breakerFails {
			return false
		}
		b.backoff = breakerFirst
	} else {
		b.backoff = min(2*b.backoff, breakerLast)
	}
	b.until = now.Add(b.backoff)
	return true
}

func (b *breaker) succeed() { *b = breaker{} }

// hosts are the breakers of single hosts, by address and port. They make an
// attempt pass over a dead MX instead of waiting for its timeout again. Safe
// for concurrent use.
type hosts struct {
	mu sync.Mutex
	m  map[string]*breaker
}

// maxHosts bounds the memory of dead hosts; beyond it some
// verdict is forgotten, which only costs a connection attempt.
const maxHosts = 10000

// dead reports whether host is to be passed over now, and until when. Asking
// after that time admits the asker as the probe: others pass over the host
// until it is told.
func (h *hosts) dead(host string, now time.Time) (time.Time, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	b := h.m[host]
	if b == nil || b.closed() {
		return time.Time{}, false
	}
	if b.open(now) {
		return b.until, true
	}
	b.probing, b.until = true, now.Add(breakerFirst)
	return time.Time{}, false
}

func (h *hosts) tell(host string, ok bool, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if ok {
		delete(h.m, host)
		return
	}
	b := h.m[host]
	if b == nil {
		h.forget()
		b = &breaker{}
		h.m[host] = b
	}
	if b.probing {
		b.probing, b.until = false, time.Time{}
	}
	b.fail(now)
}

func (h *hosts) forget() {
	if h.m == nil {
		h.m = map[string]*breaker{}
	}
	for k := range h.m {
		if len(h.m) < maxHosts {
			return
		}
		delete(h.m, k)
	}
}
