package deliver

import "time"

// Breaker settings: a destination none of whose hosts can be reached is left
// alone for a while, then tried by one attempt alone.
const (
	breakerFails = 5 // consecutive connection failures that open it
	breakerFirst = time.Minute
	breakerLast  = time.Hour
)

// breaker is closed (the zero breaker), open until a time, or half-open after
// it: then a single probe decides. It is of a destination, not of one of its
// hosts: a transport passes over a dead host by itself.
type breaker struct {
	fails   int
	backoff time.Duration // 0: closed
	until   time.Time
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
