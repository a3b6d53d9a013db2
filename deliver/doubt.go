package deliver

import "time"

// A destination is doubtful until it has answered once, and again when nothing
// came of what runs for a while: its attempts may hang until their time-outs,
// which are minutes. What a tenant has in a queue must not all hang there.
const (
	doubtAfter = 5 * time.Second
	doubtShare = 10 // a doubtful destination may run a tenth of what doubtful ones may still
	spareDoubt = 20 // one part in so many of a tenant's share is kept from doubtful destinations
	spareBusy  = 40 // and so much of it also from those that have something running
)

// look notes that a destination has kept us waiting.
func (g *gate) look(now time.Time) {
	if g.running > 0 && now.Sub(g.heard) > doubtAfter {
		g.doubt(true)
	}
}

// doubt changes what is thought of a destination.
func (g *gate) doubt(yes bool) {
	if g.doubtful == yes {
		return
	}
	g.doubtful = yes
	for _, l := range g.lanes {
		if yes {
			l.shelf.doubtful += l.running
		} else {
			l.shelf.doubtful -= l.running
		}
	}
}

// trust lets go what was blocked by doubt about a destination that answered.
func (s *scheduler) trust(g *gate) {
	if !g.doubtful {
		return
	}
	g.doubt(false)
	for _, l := range g.lanes {
		if l.doubted {
			s.unlist(l)
		}
	}
}

// run counts n attempts more.
func (l *lane) run(n int) {
	l.running += n
	l.gate.running += n
	l.shelf.running += n
	l.shelf.queue.running += n
	if l.gate.doubtful {
		l.shelf.doubtful += n
	}
}

// spare is the part of a tenant's share of its queue that it leaves free for
// destinations that are known to answer: those that hang can't take it.
func (sh *shelf) spare(part int) int { return (sh.running + sh.room()) / part }

// doubts is how many attempts to doubtful destinations a tenant may still
// start in its queue.
func (sh *shelf) doubts() int {
	room, spare := sh.room(), sh.spare(spareDoubt)
	return min(room-spare, max(1, sh.running+room-spare)-sh.doubtful)
}

// timid reports whether a doubtful destination must leave what is left to
// others that are: each gets one attempt at least, as long as there are.
func (l *lane) timid() bool {
	left := l.shelf.doubts()
	return left <= 0 || l.gate.running > 0 && l.gate.running >= left/doubtShare
}

// block puts a lane that may not start an attempt now where the end of another
// attempt finds it.
func (l *lane) block() bool {
	g, sh, q := l.gate, l.shelf, l.shelf.queue
	switch {
	case g.running >= g.limit(q.limits):
		g.blocked.push(l)
	case g.doubtful && l.timid():
		l.doubted = true
		sh.doubted.push(l)
		sh.wait()
	case !g.doubtful && g.running > 0 && sh.room() <= sh.spare(spareBusy):
		q.crowded.push(l)
	default:
		return false
	}
	return true
}

// unblock lists the lanes that may start now that an attempt of l has ended.
func (s *scheduler) unblock(l *lane) {
	q := l.shelf.queue
	for range l.gate.blocked.len() {
		s.unlist(l.gate.blocked.pop())
	}
	for range q.crowded.len() {
		s.unlist(q.crowded.pop())
	}
	s.release(l.shelf)
	// In a shared queue a tenant's end is another's room. Once nothing runs
	// nobody else would come by.
	n := q.doubted.len()
	if q.running > 0 {
		n = min(n, 4)
	}
	for range n {
		sh := q.doubted.pop()
		sh.waits = false
		s.release(sh)
	}
}

// release lists as many of a shelf's doubted lanes as may start.
func (s *scheduler) release(sh *shelf) {
	for n := sh.doubts(); n > 0 && sh.doubted.len() > 0; {
		if l := sh.doubted.pop(); l.doubted {
			s.unlist(l)
			if l.listed {
				n--
			}
		}
	}
	sh.wait()
}

// wait puts a shelf with doubted lanes where the end of an attempt finds it.
func (sh *shelf) wait() {
	if !sh.waits && sh.doubted.len() > 0 {
		sh.waits = true
		sh.queue.doubted.push(sh)
	}
}

// unlist takes a lane out of where it was blocked and lists it anew.
func (s *scheduler) unlist(l *lane) {
	l.listed, l.doubted = false, false
	s.list(l)
}
