package deliver

import (
	"time"

	"google.golang.org/protobuf/proto"

	"qstream/bus"
	"qstream/mail"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
	"qstream/transport"
)

// courier is a deliver process: the scheduler and the decisions of this
// package over the bus's windows and journal. What it knows dies with it.
type courier struct {
	life      *life
	owner     string
	bus       *bus.Rehearsal
	scheduler *scheduler
	read      [2]int64 // next offset, by partition
	starting  []*item  // have a slot and wait for leave to begin
	taken     map[*task]time.Time
	to        map[string]int // attempts under way, by destination
	running   int
	dead      bool
}

func newCourier(f *life) *courier {
	c := &courier{life: f, owner: f.nextOwner("deliver"), taken: map[*task]time.Time{}, to: map[string]int{}}
	c.scheduler = newScheduler(SchedulerConfig{Slots: 4, Held: 8, PartitionHeld: 6}, f.clock)
	c.bus = f.bus.RehearseWork(c.owner, bus.WorkConfig{Group: deliverGroup, From: bus.NewTopics(simQueue), MaxHeld: 100, MaxOpen: 100}, c.take)
	for p := range c.read {
		at := f.store.position(deliverGroup, simQueue, int32(p))
		c.bus.Assign(at, 0, f.store.journal)
		c.read[p] = at.Offset
	}
	return c
}

// turn reads, starts and commits; false: there was nothing to do.
func (c *courier) turn() (busy bool) {
	for p := range c.read {
		busy = c.life.feed(c.bus, c.life.store.log(simQueue, int32(p)), &c.read[p]) || busy
	}
	c.dispatch()
	starting := c.starting
	c.starting = nil
	for _, it := range starting {
		c.begin(it)
	}
	return c.life.commit(c.bus, c.owner, deliverGroup) || busy
}

// take is Deliverer.take and hold.
func (c *courier) take(job *bus.Job) {
	l, err := bus.ReadLeg(job.Record)
	c.life.must(err)
	t, v := &task{job: job, leg: l}, c.life.view()
	c.taken[t] = v.now
	t.line(t.plan(v, true))
	if sp, spilled := c.scheduler.add(t.item); spilled {
		c.spill(sp)
	}
}

// spill is Deliverer.spill.
func (c *courier) spill(sp spill) {
	t, v := sp.item.value.(*task), c.life.view()
	if p := t.plan(v, true); p.action == toAttempt {
		t.job.Finish(spillRecords(t.leg, p, v, sp)...)
		return
	}
	t.item = &item{settle: true, value: t}
	c.scheduler.add(t.item)
}

func (c *courier) dispatch() {
	for it := c.scheduler.next(); it != nil; it = c.scheduler.next() {
		c.begin(it)
	}
}

func (c *courier) sweep() {
	spilled := c.scheduler.sweep()
	sortSpills(spilled)
	for _, sp := range spilled {
		c.spill(sp)
	}
}

// begin is Deliverer.end as far as nothing takes time.
func (c *courier) begin(it *item) {
	t, v := it.value.(*task), c.life.view()
	if !c.bus.Begin(t.job) {
		c.starting = append(c.starting, it)
		return
	}
	p := t.plan(v, true)
	switch {
	case len(t.job.Marks()) > 0:
		c.finish(t, settled(t, p, v))
		c.done(it, contactNone)
	case it.settle && p.action == toAttempt:
		t.job.Abandon()
		c.done(it, contactNone)
	case p.action == toExpire:
		c.finish(t, settled(t, p, v))
		c.done(it, contactNone)
	case p.action == toAttempt:
		c.attempt(it, p, v)
	default:
		c.life.fail("leg %s: action %d was not in the play", t.leg.MessageId, p.action)
	}
}

func (c *courier) done(it *item, with contact) {
	for _, sp := range c.scheduler.done(it, with) {
		c.spill(sp)
	}
}

// attempt is Deliverer.attempt; the reply comes later.
func (c *courier) attempt(it *item, p plan, v view) {
	t := it.value.(*task)
	tr := t.trip(p, v)
	tr.attempted = true
	c.life.attempted(c, t)
	c.running++
	c.to[t.leg.Destination]++
	c.life.limits(c, t.leg.Destination)
	c.life.at(c.life.now.Add(c.life.latency(t.leg)), func() { c.reply(it, tr, p) })
}

// reply is what the peer says to each recipient. What it takes it has, also if
// this process ends at the next step.
func (c *courier) reply(it *item, tr *trip, p plan) {
	if c.dead {
		return
	}
	c.running--
	c.to[tr.leg.Destination]--
	left := tr.leg.Recipients
	res := transport.Result{Outcomes: c.life.outcomes(tr.leg, left), Host: tr.leg.Destination}
	for i, r := range left {
		if res.Outcomes[i].Status.OK() {
			c.life.delivered(c, tr.leg, r)
		}
	}
	c.life.store.step()
	tr.fates = judge(p, left, res)
	tr.met(res)
	c.ended(it, tr, contactOf(res))
}

// ended is the rest of Deliverer.attempt: journal, then finish.
func (c *courier) ended(it *item, tr *trip, with contact) {
	t := it.value.(*task)
	tr.ended = c.life.now
	if e := tr.fresh(); e != nil {
		result, err := proto.Marshal(e)
		c.life.must(err)
		entry, acknowledged := c.bus.Mark(t.job, result)
		s := c.life.store
		s.journal = append(s.journal, bus.Record{Topic: schemas.Journal, Offset: int64(len(s.journal)), Value: entry.Value})
		s.step()
		acknowledged(int64(len(s.journal)) - 1)
		c.life.acknowledged(tr.leg, e)
	}
	c.finish(t, tr)
	c.done(it, with)
}

// finish is Deliverer.finish without reports.
func (c *courier) finish(t *task, tr *trip) {
	if over(tr.leg, tr.plan.queue, tr.ended, time.Time{}, false) {
		tr.expire()
	}
	rest := tr.rest()
	var out []bus.Record
	for _, e := range tr.events(rest) {
		out = append(out, bus.NewEvent(e))
	}
	if rest != nil {
		c.life.scheduled(tr, rest)
		out = append(out, bus.NewWaiting(waitTopic(rest, tr.ended), rest))
	}
	t.job.Finish(out...)
}

// keeper is a delay process: the bus's index and markers over delay's
// decisions.
type keeper struct {
	life  *life
	owner string
	bus   *bus.Rehearsal
	read  []int64 // next offset, by tier
}

func newKeeper(f *life) *keeper {
	k := &keeper{life: f, owner: f.nextOwner("delay")}
	var err error
	k.bus, err = f.bus.RehearseHold(k.owner, bus.HoldConfig{
		Group: schemas.DelayGroup, From: bus.NewTopics(schemas.DelayTopics()...), Entry: f.delay.Entry, Release: f.release,
	})
	f.must(err)
	for _, topic := range schemas.DelayTopics() {
		at := f.store.position(schemas.DelayGroup, topic, 0)
		k.read = append(k.read, at.Offset)
		if m := k.bus.Assign(at, int64(len(f.store.log(topic, 0).entries)), nil); m != nil {
			k.bus.Until(f.store.append(*m, nil))
			f.store.step()
		}
	}
	return k
}

func (k *keeper) turn() (busy bool) {
	for i, topic := range schemas.DelayTopics() {
		busy = k.life.feed(k.bus, k.life.store.log(topic, 0), &k.read[i]) || busy
	}
	if k.life.random.IntN(20) == 0 {
		k.bus.Pull(func(bus.Entry) bool { return k.life.random.IntN(2) == 0 })
	}
	busy = k.bus.Release(func(topic string, partition int32, offset int64) *bus.Record {
		return &k.life.store.log(topic, partition).entries[offset].record
	}) > 0 || busy
	return k.life.commit(k.bus, k.owner, schemas.DelayGroup) || busy
}

// due is when the next leg is.
func (k *keeper) due() (first time.Time) {
	k.bus.Each(func(e bus.Entry) {
		if first.IsZero() || e.Due.Before(first) {
			first = e.Due
		}
	})
	return first
}

// latency is how long the peer takes.
func (f *life) latency(l *pb.Leg) time.Duration {
	if l.Destination == slowPeer {
		return time.Duration(30+f.chance(60, "slow", l.MessageId, l.Step)) * time.Second
	}
	if f.chance(2, "quick", l.MessageId, l.Step) == 0 {
		return 10 * time.Millisecond // sooner than a commit
	}
	return time.Duration(50+f.chance(900, "took", l.MessageId, l.Step)) * time.Millisecond
}

// outcomes are the peer's words, the same in every run of a seed.
func (f *life) outcomes(l *pb.Leg, rs []*pb.Recipient) []transport.Outcome {
	os := make([]transport.Outcome, len(rs))
	if l.Destination == deadPeer && f.chance(10, "dead", l.MessageId, l.Step) < 8 {
		for i := range os {
			os[i] = transport.Outcome{Kind: transport.Failed, At: transport.AtConnect, Status: mail.Status{Code: 421, Enhanced: "4.4.1", Text: "no route"}}
		}
		return os
	}
	for i, r := range rs {
		s := mail.Status{Code: 250, Enhanced: "2.0.0", Text: "taken"}
		switch n := f.chance(100, "word", l.MessageId, r.Number, l.Attempt); {
		case n < 35:
			s = mail.Status{Code: 451, Enhanced: "4.2.0", Text: "later"}
		case n < 42:
			s = mail.Status{Code: 550, Enhanced: "5.1.1", Text: "unknown"}
		}
		at := transport.AtDot
		if !s.OK() {
			at = transport.AtRcpt
		}
		os[i] = transport.Outcome{Kind: transport.Replied, At: at, Status: s, Host: l.Destination}
	}
	return os
}
