package gate

import (
	"net/netip"
	"sync"
	"time"

	"qstream/directory"
)

// table counts connections by service, address and network. It is bounded:
// where it is full, an address that has nothing open is forgotten for a new
// one, and with it how fast it came.
type table struct {
	mu  sync.Mutex
	max int
	m   map[scope]*entry
}

// scope is what a limit is for; the zero prefix is everybody.
type scope struct {
	service string
	prefix  netip.Prefix
	network bool
}

type entry struct {
	scope  scope
	open   int
	tokens float64 // of its rate
	at     time.Time
	rate   directory.ConnRate
}

func newTable(max int) *table { return &table{max: max, m: map[scope]*entry{}} }

func (t *table) len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.m)
}

// bound is one scope with its limits.
type bound struct {
	scope
	most  int
	rate  directory.ConnRate
	over  string // the reason when most is passed
	often string // and when rate is
}

func bounds(service string, ip netip.Addr, l directory.ConnLimits) []bound {
	bits := l.IPv6Bits
	if ip.Is4() {
		bits = l.IPv4Bits
	}
	all := []bound{{scope{service: service}, l.Connections, l.Rate, "limit_total", "rate_total"}}
	if ip.IsValid() {
		network, _ := ip.Prefix(bits) // bits fit: the directory checked them
		all = append(all,
			bound{scope{service, netip.PrefixFrom(ip, ip.BitLen()), false}, l.PerAddress, l.AddressRate, "limit_address", "rate_address"},
			bound{scope{service, network, true}, l.PerNetwork, l.NetworkRate, "limit_network", "rate_network"})
	}
	return all
}

// enter counts a connection where there are limits. Over is the limit that it
// passes; then nothing is counted.
func (t *table) enter(service string, ip netip.Addr, l directory.ConnLimits, now time.Time) (held []*entry, over string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	bs := bounds(service, ip, l)
	for _, b := range bs {
		if b.most == 0 && b.rate.Count == 0 {
			continue
		}
		e := t.entry(b, now)
		switch {
		case b.most > 0 && e.open >= b.most:
			over = b.over
		case b.rate.Count > 0 && e.tokens < 1:
			over = b.often
		}
		if over != "" {
			for _, h := range held {
				h.open--
				h.tokens++
			}
			t.tidy(append(held, e))
			return nil, over
		}
		// Counted at once: shrink forgets only what has nothing open.
		e.open++
		e.tokens--
		held = append(held, e)
	}
	return held, ""
}

// entry is a scope's, filled up for the time that has passed.
func (t *table) entry(b bound, now time.Time) *entry {
	e := t.m[b.scope]
	if e == nil {
		if len(t.m) >= t.max {
			t.shrink(now)
		}
		e = &entry{scope: b.scope, tokens: float64(b.rate.Count), at: now, rate: b.rate}
		t.m[b.scope] = e
		return e
	}
	if e.rate != b.rate {
		e.rate, e.tokens, e.at = b.rate, float64(b.rate.Count), now
		return e
	}
	e.fill(now)
	return e
}

func (e *entry) fill(now time.Time) {
	if e.rate.Count == 0 {
		return
	}
	passed := max(now.Sub(e.at), 0)
	e.tokens = min(e.tokens+float64(e.rate.Count)*passed.Seconds()/e.rate.Per.Seconds(), float64(e.rate.Count))
	e.at = now
}

func (t *table) leave(held []*entry) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, e := range held {
		e.open--
	}
	t.tidy(held)
}

// tidy forgets what neither counts nor remembers anything.
func (t *table) tidy(held []*entry) {
	for _, e := range held {
		if e.open <= 0 && e.rate.Count == 0 && t.m[e.scope] == e {
			delete(t.m, e.scope)
		}
	}
}

// shrinkLook is how many entries are looked at to make room.
const shrinkLook = 64

// shrink forgets what has nothing open: of some entries those that have come
// to rest, or else any one.
func (t *table) shrink(now time.Time) {
	looked := 0
	var idle *entry
	for _, e := range t.m {
		if e.open <= 0 {
			e.fill(now)
			if idle == nil || e.tokens > idle.tokens {
				idle = e
			}
			if e.tokens >= float64(e.rate.Count) {
				delete(t.m, e.scope)
			}
		}
		if looked++; looked == shrinkLook {
			break
		}
	}
	if idle != nil {
		delete(t.m, idle.scope)
	}
}
