package roster

import (
	"context"
	"slices"
	"sync"
)

// Gate shares slots among lanes, round robin. A lane takes no more than its own
// limit, and no more than share times what is then left free, so that a
// newcomer finds a slot though another fills the rest. Idle lanes together take
// at most a quarter of the slots, only while half of them are free and nobody
// else waits for one; to the others they are as good as empty.
type Gate struct {
	share int

	mu      sync.Mutex
	slots   int
	running int
	idle    int // of those, in idle lanes
	lanes   map[string]*lane
	turn    []*lane // those with somebody who waits, in the order of their turns
}

type lane struct {
	name    string
	limit   int
	idle    bool
	running int
	waiting []chan struct{}
}

// NewGate makes a gate of so many slots.
func NewGate(slots, share int) *Gate {
	return &Gate{slots: slots, share: share, lanes: map[string]*lane{}}
}

// Enter waits for a slot in a lane; limit is the lane's from now on. It returns
// false if ctx ends before. Call Leave in the end.
func (g *Gate) Enter(ctx context.Context, name string, limit int) bool {
	return g.EnterAs(ctx, name, limit, false)
}

// EnterAs is Enter, or, with idle, waits for a slot that nobody else wants; a
// lane is always one of both.
func (g *Gate) EnterAs(ctx context.Context, name string, limit int, idle bool) bool {
	g.mu.Lock()
	l := g.lanes[name]
	if l == nil {
		l = &lane{name: name, idle: idle}
		g.lanes[name] = l
	}
	l.limit = limit
	in := make(chan struct{})
	if l.waiting = append(l.waiting, in); len(l.waiting) == 1 {
		g.turn = append(g.turn, l)
	}
	g.admit()
	g.mu.Unlock()
	select {
	case <-in:
		return true
	case <-ctx.Done():
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for i, c := range l.waiting {
		if c == in {
			l.waiting = append(l.waiting[:i], l.waiting[i+1:]...)
			g.tidy()
			return false
		}
	}
	g.release(l) // it was let in at the same time
	return false
}

// Leave gives a slot back.
func (g *Gate) Leave(name string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.release(g.lanes[name])
}

func (g *Gate) release(l *lane) {
	g.running--
	l.running--
	if l.idle {
		g.idle--
	}
	g.admit()
	if l.running == 0 && len(l.waiting) == 0 {
		delete(g.lanes, l.name)
	}
}

// admit lets in whoever may come in, one of each lane in turn.
func (g *Gate) admit() {
	for progress := true; progress; {
		progress = false
		for range len(g.turn) {
			l := g.turn[0]
			g.turn = g.turn[1:]
			if g.admits(l) {
				close(l.waiting[0])
				l.waiting = l.waiting[1:]
				l.running++
				g.running++
				if l.idle {
					g.idle++
				}
				progress = true
			}
			if len(l.waiting) > 0 {
				g.turn = append(g.turn, l)
			}
		}
	}
}

func (g *Gate) admits(l *lane) bool {
	if l.idle {
		return g.running < (g.slots+1)/2 && g.idle < (g.slots+3)/4 && l.running < l.limit && !slices.ContainsFunc(g.turn, g.comesFirst)
	}
	return g.running < g.slots && l.running < l.limit && l.running <= g.share*(g.slots-g.running+g.idle-1)
}

// comesFirst reports a lane that a free slot is for, rather than for idle ones.
func (g *Gate) comesFirst(l *lane) bool { return !l.idle && len(l.waiting) > 0 && g.admits(l) }

// tidy forgets lanes that nobody is in or waits for.
func (g *Gate) tidy() {
	kept := g.turn[:0]
	for _, l := range g.turn {
		if len(l.waiting) > 0 {
			kept = append(kept, l)
		} else if l.running == 0 {
			delete(g.lanes, l.name)
		}
	}
	g.turn = kept
}

// Load is how many run.
func (g *Gate) Load() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.running
}

// Waits is how many wait in a lane.
func (g *Gate) Waits(name string) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	if l := g.lanes[name]; l != nil {
		return len(l.waiting)
	}
	return 0
}
