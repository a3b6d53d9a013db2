package webhook

import (
	"container/list"
	"context"
	"sync"
	"time"

	"qstream/bus"
	pb "qstream/schemas/qstream/v1"
)

// place is where a record is.
type place struct {
	topic     string
	partition int32
	offset    int64
}

// delivery is one event on its way to an endpoint.
type delivery struct {
	at    place
	event *pb.Event // what the endpoint is told
	place int       // among all that came, for the order in which they go

	// Below the lane's lock.
	job      *bus.Job // nil while it is handed out again
	first    time.Time
	failures int
	due      time.Time
}

// chain are a message's deliveries, the oldest first: only that is posted.
type chain struct {
	waiting []*delivery
	idle    *list.Element // nil while the oldest is being posted
}

// lane orders the deliveries of a webhook: each message's one after the other,
// messages beside each other, and to an endpoint that is down one at a time.
// Safe for concurrent use.
type lane struct {
	now    func() time.Time
	chance func() float64

	mu       sync.Mutex
	chains   map[string]*chain
	idle     *list.List // of chains, by the place of their oldest
	came     int
	failures int       // posts in a row that failed
	until    time.Time // the endpoint is left alone until then
	probing  bool
	changed  chan struct{} // of capacity 1
}

func newLane(now func() time.Time, chance func() float64) *lane {
	return &lane{now: now, chance: chance, chains: map[string]*chain{}, idle: list.New(), changed: make(chan struct{}, 1)}
}

// add takes a delivery, or the job of one that is handed out again; first is
// when it was first posted, by an earlier owner.
func (l *lane) add(at place, job *bus.Job, e *pb.Event, first time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.poke()
	c := l.chains[e.MessageId]
	if c == nil {
		c = &chain{}
		l.chains[e.MessageId] = c
	}
	for _, d := range c.waiting {
		if d.at == at {
			d.job = job
			return
		}
	}
	l.came++
	c.waiting = append(c.waiting, &delivery{at: at, event: e, place: l.came, job: job, first: first})
	if len(c.waiting) == 1 {
		l.rest(c)
	}
}

func (l *lane) poke() {
	select {
	case l.changed <- struct{}{}:
	default:
	}
}

// rest puts a chain among the idle ones, where its oldest belongs.
func (l *lane) rest(c *chain) {
	at := l.idle.Back()
	for at != nil && at.Value.(*chain).waiting[0].place > c.waiting[0].place {
		at = at.Prev()
	}
	if at == nil {
		c.idle = l.idle.PushFront(c)
	} else {
		c.idle = l.idle.InsertAfter(c, at)
	}
}

// next waits for a delivery that may be posted now, with its job; nil once ctx
// ends. Each has to be ended by taken, failed or drop, with that job.
func (l *lane) next(ctx context.Context) (*delivery, *bus.Job) {
	for ctx.Err() == nil {
		d, job, wait := l.pick()
		if d != nil {
			return d, job
		}
		t := time.NewTimer(wait)
		select {
		case <-l.changed:
		case <-t.C:
		case <-ctx.Done():
		}
		t.Stop()
	}
	return nil, nil
}

// never is a wait that something else ends.
const never = time.Minute

// pick takes the oldest delivery that is due, or says how long to wait. Of an
// endpoint that is down the oldest is asked whatever its own wait: else each
// probe would begin another event's time.
func (l *lane) pick() (*delivery, *bus.Job, time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	if wait := l.until.Sub(now); wait > 0 {
		return nil, nil, min(wait, never)
	}
	if l.down() && l.probing {
		return nil, nil, never
	}
	wait := never
	for at := l.idle.Front(); at != nil; at = at.Next() {
		c := at.Value.(*chain)
		d := c.waiting[0]
		if d.job == nil {
			continue
		}
		if due := d.due.Sub(now); due > 0 && !l.down() {
			wait = min(wait, due)
			continue
		}
		l.idle.Remove(at)
		c.idle = nil
		l.probing = l.down()
		if l.idle.Len() > 0 {
			l.poke() // for another who waits
		}
		return d, d.job, 0
	}
	return nil, nil, wait
}

func (l *lane) down() bool { return l.failures >= downAfter }

// taken ends a delivery that the endpoint took. What failed while it was down
// is due at once.
func (l *lane) taken(d *delivery, job *bus.Job) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.down() {
		for _, c := range l.chains {
			c.waiting[0].due = time.Time{}
		}
	}
	l.failures, l.probing, l.until = 0, false, time.Time{}
	l.end(d, job)
}

// drop ends a delivery without a word about the endpoint: it is given up, or
// another process's.
func (l *lane) drop(d *delivery, job *bus.Job) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.probing = false
	l.end(d, job)
}

// end lets the next of the message go. A delivery whose partition was lost and
// came back meanwhile has another job, which is still to be done. The lock is
// held.
func (l *lane) end(d *delivery, job *bus.Job) {
	c := l.chains[d.event.MessageId]
	if d.job != job {
		l.rest(c)
		l.poke()
		return
	}
	c.waiting[0] = nil
	c.waiting = c.waiting[1:]
	if len(c.waiting) == 0 {
		delete(l.chains, d.event.MessageId)
	} else {
		l.rest(c)
	}
	l.poke()
}

// failed takes note that the endpoint didn't take a delivery. It says when it
// was first posted. The delivery rests until its job comes again by add.
func (l *lane) failed(d *delivery, job *bus.Job, a answer) (first time.Time, before int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	if d.first.IsZero() {
		d.first = now
	}
	before = d.failures
	d.failures++
	d.due = now.Add(pause(d.failures, firstWait, longest, l.chance))
	l.failures++
	l.probing = false
	if l.down() {
		l.until = now.Add(pause(l.failures-downAfter+1, downFirst, downMost, l.chance))
	}
	if asked := now.Add(a.after); a.after > 0 && asked.After(l.until) {
		l.until = asked
	}
	if d.job == job {
		d.job = nil
	}
	l.rest(l.chains[d.event.MessageId])
	return d.first, before
}

// state is whether the endpoint is down, and when the first of what it was
// asked to take and hasn't was posted.
func (l *lane) state() (down bool, oldest time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.chains {
		if first := c.waiting[0].first; !first.IsZero() && (oldest.IsZero() || first.Before(oldest)) {
			oldest = first
		}
	}
	return l.down(), oldest
}
