package deliver

import (
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"qstream/bus"
	"qstream/directory"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
)

// proof is what a life is held against: what an onlooker saw who never
// crashes. It asks nothing of what it checks.
type proof struct {
	legs         map[string]*pb.Leg // as they arrived
	peer         map[string]string  // recipient: who delivered it last
	acknowledged map[string]bool    // recipient: delivered, and the journal said so
	late         map[string]int     // leg: attempts past its lifetime
	wasDue       map[string]int64   // leg and step: what its wait was due at
	terminal     map[string]int     // recipient: ends told by committed events
	counted      int                // events looked at
	attempts     int
	repeated     int
}

func newProof() proof {
	return proof{
		legs: map[string]*pb.Leg{}, peer: map[string]string{}, acknowledged: map[string]bool{},
		late: map[string]int{}, wasDue: map[string]int64{}, terminal: map[string]int{},
	}
}

func (p *proof) born(l *pb.Leg) { p.legs[l.MessageId] = l }

func recipientOf(id string, number uint32) string { return fmt.Sprintf("%s #%d", id, number) }

func stepOf(l *pb.Leg) string { return fmt.Sprintf("%s step %d", l.MessageId, l.Step) }

const simLifetime = 10 * time.Minute

// attempted: nobody is delivered to again whom the journal says was, or whom
// this very process has delivered to; nothing is tried past its lifetime, but
// for the one attempt that is owed.
func (f *life) attempted(c *courier, t *task) {
	f.proof.attempts++
	for _, r := range t.leg.Recipients {
		who := recipientOf(t.leg.MessageId, r.Number)
		if f.proof.acknowledged[who] {
			f.fail("%s is attempted again, and the journal has it delivered", who)
		}
		if f.proof.peer[who] == c.owner {
			f.fail("%s is attempted again by who delivered it", who)
		}
	}
	end := time.UnixMilli(t.leg.BornMs).Add(simLifetime)
	if f.now.Before(end) {
		return
	}
	never := t.leg.Attempt == 0 && t.leg.Spills == 0
	due, waited := f.proof.wasDue[stepOf(t.leg)]
	intime := never || waited && due < end.UnixMilli() || t.leg.Reason == pb.Reason_REASON_BACKPRESSURE && t.leg.Owed
	if !intime || !never && c.taken[t].Before(end) {
		f.fail("%s is attempted %v past its lifetime, taken %v, due %v", stepOf(t.leg), f.now.Sub(end), c.taken[t], time.UnixMilli(due))
	}
	if f.proof.late[t.leg.MessageId]++; f.proof.late[t.leg.MessageId] > 1+f.crashes {
		f.fail("%s is attempted once more past its lifetime", t.leg.MessageId)
	}
}

func (f *life) delivered(c *courier, l *pb.Leg, r *pb.Recipient) {
	who := recipientOf(l.MessageId, r.Number)
	if f.proof.peer[who] != "" {
		f.proof.repeated++
	}
	f.proof.peer[who] = c.owner
}

func (f *life) acknowledged(l *pb.Leg, e *pb.Event) {
	for _, o := range e.Outcomes {
		f.proof.acknowledged[recipientOf(l.MessageId, o.Number)] = true
	}
}

// limits: no destination has more attempts than its queue allows.
func (f *life) limits(c *courier, destination string) {
	if c.to[destination] > 2 || c.running > 3 {
		f.fail("%d attempts to %s, %d of the queue", c.to[destination], destination, c.running)
	}
}

// scheduled: the next attempt is by the queue's schedule, spread by at most a
// twentieth, and never past the end. What an earlier owner left comes back soon.
func (f *life) scheduled(tr *trip, rest *pb.Leg) {
	due, end := time.UnixMilli(rest.DueMs), time.UnixMilli(rest.BornMs).Add(simLifetime)
	wait := directory.CutWait
	if rest.Attempt > tr.leg.Attempt {
		wait = []time.Duration{20 * time.Second, 100 * time.Second, 5 * time.Minute}[min(int(rest.Attempt), 3)-1]
	}
	first := tr.ended.Add(wait).Truncate(time.Millisecond)
	if due.Before(first) && !due.Equal(end) || due.After(first.Add(wait/20+time.Millisecond)) || due.After(end) && wait != directory.CutWait {
		f.fail("%s waits until %v after attempt %d at %v", stepOf(rest), due, rest.Attempt, tr.ended)
	}
}

// released: a leg goes to its queue when it is due, or to be settled.
func (f *life) released(waited bus.Record, out []bus.Record) {
	var was, is pb.Leg
	f.must(proto.Unmarshal(waited.Value, &was))
	f.must(proto.Unmarshal(out[0].Value, &is))
	if is.Step != was.Step+1 {
		f.fail("%s became step %d", stepOf(&was), is.Step)
	}
	if out[0].Topic != simQueue {
		return // another round
	}
	end := time.UnixMilli(was.BornMs).Add(simLifetime)
	if was.DueMs > f.now.UnixMilli() && f.now.Before(end) {
		f.fail("%s is released %v before it is due", stepOf(&was), time.UnixMilli(was.DueMs).Sub(f.now))
	}
	f.proof.wasDue[stepOf(&is)] = was.DueMs
}

// ended counts the ends that committed events tell.
func (f *life) ended() bool {
	for _, e := range f.store.events[f.proof.counted:] {
		switch e.Type {
		case pb.EventType_EVENT_TYPE_DELIVERED, pb.EventType_EVENT_TYPE_BOUNCED, pb.EventType_EVENT_TYPE_EXPIRED:
			for _, o := range e.Outcomes {
				f.proof.terminal[recipientOf(e.MessageId, o.Number)]++
			}
		}
	}
	f.proof.counted = len(f.store.events)
	for _, l := range f.proof.legs {
		for _, r := range l.Recipients {
			if f.proof.terminal[recipientOf(l.MessageId, r.Number)] == 0 {
				return false
			}
		}
	}
	return true
}

// balance: each recipient that arrived has ended once, or waits in one place.
// It is asked whenever a process takes over, of the log alone.
func (f *life) balance() {
	f.ended()
	places := map[string]int{}
	for who, n := range f.proof.terminal {
		places[who] = n
	}
	count := func(group string, l *partitionLog) {
		for _, leg := range f.store.unfinished(group, l) {
			for _, r := range leg.Recipients {
				places[recipientOf(leg.MessageId, r.Number)]++
			}
		}
	}
	for p := range int32(2) {
		count(deliverGroup, f.store.log(simQueue, p))
	}
	for _, topic := range schemas.DelayTopics() {
		l := f.store.log(topic, 0)
		count(schemas.DelayGroup, l)
		for offset, n := range l.released() {
			if n > 1 {
				f.fail("%s at %d was released %d times", topic, offset, n)
			}
		}
	}
	for _, l := range f.proof.legs {
		for _, r := range l.Recipients {
			if who := recipientOf(l.MessageId, r.Number); places[who] != 1 {
				f.fail("%s has ended or waits %d times", who, places[who])
			}
		}
	}
}

// proofs: at the end nothing waits, what was taken by a peer and journaled is
// told delivered, and no step of a leg stands twice.
func (f *life) proofs() {
	steps := map[string]bool{}
	for _, l := range f.store.logs {
		for _, e := range l.entries {
			if !e.stands() || header(e.record, bus.HeaderType) == "marker" {
				continue
			}
			var leg pb.Leg
			f.must(proto.Unmarshal(e.record.Value, &leg))
			if steps[stepOf(&leg)] {
				f.fail("%s stands twice", stepOf(&leg))
			}
			steps[stepOf(&leg)] = true
		}
	}
	told := map[string]bool{}
	for _, e := range f.store.events {
		if e.Type == pb.EventType_EVENT_TYPE_DELIVERED {
			for _, o := range e.Outcomes {
				told[recipientOf(e.MessageId, o.Number)] = true
			}
		}
	}
	for who := range f.proof.acknowledged {
		if !told[who] {
			f.fail("%s was journaled as delivered and is not told so", who)
		}
	}
	for who := range told {
		if f.proof.peer[who] == "" {
			f.fail("%s is told delivered and no peer has it", who)
		}
	}
}
