package deliver

import "time"

// Limits are what a queue's document allows.
type Limits struct {
	Concurrency            int     // attempts of the queue at once; 0 holds
	DestinationConcurrency int     // attempts to one of its destinations at once
	Rate                   float64 // attempts a second, 0: unlimited
	Shared                 bool    // by several tenants: none may take all of Concurrency
}

// item is one leg held by the scheduler.
type item struct {
	tenant, queue, destination string
	partition                  string // of the bus; what it pins
	size                       int    // bytes held
	spills                     uint32
	limits                     Limits
	settle                     bool        // refused, expired or parked: before every ring and limit
	gone                       func() bool // the partition was given up; nil: never
	value                      any

	away  bool  // its attempt is over
	lane  *lane // set by add
	added time.Time
}

// house is a tenant in the scheduler: the first level of the round robin.
type house struct {
	held, bytes, running int
	shelves              ring[*shelf]
	byQueue              map[string]*shelf
	listed               bool
}

// shelf is what a tenant has in one queue.
type shelf struct {
	queue    *line
	running  int
	doubtful int         // attempts running to destinations that are doubtful
	doubted  ring[*lane] // lanes that wait for doubtful to sink
	waits    bool        // in the queue's ring of those that have such
	lanes    ring[*lane]
	listed   bool
	pace     pace // over all its destinations
}

// room is how many attempts the tenant may still start in its queue: what is
// free, or of it what its share allows where others share the queue.
func (sh *shelf) room() int {
	free := max(0, sh.queue.limits.Concurrency-sh.queue.running)
	if sh.queue.limits.Shared {
		// Each start needs running < slotShare*free, and changes both.
		return max(0, min(free, (slotShare*(free+1)-sh.running)/(slotShare+1)))
	}
	return free
}

// line is a queue: its limits and what runs, over all its tenants.
type line struct {
	limits  Limits
	running int
	crowded ring[*lane]  // lanes that wait for running to sink
	doubted ring[*shelf] // shelves that have doubted lanes
	tokens  bucket
}

// lane is what a tenant has for one destination in one queue: the second
// level of the round robin.
type lane struct {
	house  *house
	shelf  *shelf
	gate   *gate
	items  ring[*item]
	listed bool // in the shelf's ring, or blocked
	// doubted: in the shelf's ring of those; an entry there may be out of date
	doubted bool
	running int
}

// gate is a destination in one queue, over all its tenants.
type gate struct {
	running  int
	held     int
	doubtful bool      // not known to answer in time
	heard    time.Time // when it last answered, or was first waited for
	breaker  breaker
	lanes    map[string]*lane // by tenant
	blocked  ring[*lane]      // lanes that wait for running to sink
	pace     pace
	used     time.Time
}

// partition is what a partition of the bus has in the scheduler. The commit
// metadata bounds how many scattered unfinished records it may have.
type partition struct {
	held  int
	of    map[*house]int // held by tenant
	last  *gate
	other time.Time // when a record for another than the last gate came
	seen  time.Time
}

// mixing is how long a partition counts as shared between destinations after
// a record for another one.
const mixing = 30 * time.Second

// mixed notes a record for g and reports whether the partition lately carried
// records for others too. A partition that carries one destination only may
// be held at length: its unfinished records are one run.
func (p *partition) mixed(g *gate, now time.Time) bool {
	if p.last != nil && p.last != g {
		p.other = p.seen
	}
	p.last, p.seen = g, now
	return !p.other.IsZero() && now.Sub(p.other) < mixing
}

func (g *gate) limit(l Limits) int {
	if !g.breaker.closed() {
		return 1
	}
	return max(1, l.DestinationConcurrency)
}
