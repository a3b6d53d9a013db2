package dsn

import (
	"sync"
	"time"
)

// maxScopes bounds the limiter's memory. Beyond it everything is forgotten,
// which gives each sender one more allowance.
const maxScopes = 100_000

// Limiter says how many reports a recipient gets from a tenant: an allowance
// that refills over an hour. It lives in one process; with n deliver workers
// a recipient may get n times as many. Safe for concurrent use.
type Limiter struct {
	now func() time.Time
	mu  sync.Mutex
	m   map[scope]*allowance
}

type scope struct{ tenant, to string }

type allowance struct {
	left float64
	at   time.Time
}

// NewLimiter makes a limiter that knows nobody yet.
func NewLimiter(now func() time.Time) *Limiter {
	return &Limiter{now: now, m: map[scope]*allowance{}}
}

// Allow takes one report to a recipient from the hourly allowance.
func (l *Limiter) Allow(tenant, to string, hourly int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	now, full := l.now(), float64(hourly)
	k := scope{tenant, to}
	a := l.m[k]
	if a == nil {
		if len(l.m) >= maxScopes {
			clear(l.m)
		}
		a = &allowance{left: full, at: now}
		l.m[k] = a
	}
	if d := now.Sub(a.at); d > 0 {
		a.left = min(full, a.left+d.Hours()*full)
		a.at = now
	}
	if a.left < 1 {
		return false
	}
	a.left--
	return true
}
