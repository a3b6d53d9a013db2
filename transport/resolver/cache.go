package resolver

import (
	"sync"
	"time"
)

type question struct {
	name  string // lower case, with final dot
	qtype uint16
}

// cache keeps answers until their time is over. When it is full, what is over
// goes first, then anything: the next question costs one round trip.
type cache struct {
	mu  sync.Mutex
	max int
	m   map[question]answer
}

func newCache(max int) *cache { return &cache{max: max, m: map[question]answer{}} }

func (c *cache) get(q question, now time.Time) (answer, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	a, ok := c.m[q]
	if !ok || !now.Before(a.until) {
		return answer{}, false
	}
	return a, true
}

func (c *cache) put(q question, a answer, now time.Time) {
	if !now.Before(a.until) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.m) >= c.max {
		c.shrink(now)
	}
	c.m[q] = a
}

// shrink frees a tenth at least, so that a full cache doesn't shrink at every
// answer.
func (c *cache) shrink(now time.Time) {
	for q, a := range c.m {
		if !now.Before(a.until) {
			delete(c.m, q)
		}
	}
	for q := range c.m {
		if len(c.m) <= c.max-c.max/10-1 {
			return
		}
		delete(c.m, q)
	}
}
