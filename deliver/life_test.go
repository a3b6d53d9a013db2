package deliver

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"

	"qstream/bus"
	"qstream/delay"
	"qstream/directory"
	pb "qstream/schemas/qstream/v1"
)

const (
	simQueue     = "qstream.queue.acme.v1"
	deliverGroup = "qstream.deliver.default"
	deadPeer     = "192.0.2.2:25"
	slowPeer     = "192.0.2.3:25"
)

const lifeDocuments = `
kind: queue
name: acme
lifetime: 10m
schedule: {steps: [20s, 100s, 5m]}
concurrency: 3
destination_concurrency: 2
---
kind: tenant
name: acme
domains: [well.example, dead.example, slow.example]
---
kind: route
name: well
match: {domain: well.example}
via: smtp://192.0.2.1
---
kind: route
name: dead
match: {domain: dead.example}
via: smtp://192.0.2.2
---
kind: route
name: slow
match: {domain: slow.example}
via: smtp://192.0.2.3
`

// life plays one scenario: legs arrive on a queue topic, are attempted, wait
// and come back until each recipient has ended.
type life struct {
	t        testing.TB
	name     string
	seed     uint64
	together bool          // a crash ends both processes, not only the one that was at it
	down     time.Duration // until what ended is started again
	faults   int           // of 100 transactions that abort, and releases that fail

	now      time.Time
	store    *storage
	bus      *bus.Bus
	snapshot *directory.Snapshot
	delay    delay.Rehearsal
	events   timeline
	random   *rand.Rand // of this run, also of what goes wrong
	owners   int

	courier      *courier
	keeper       *keeper
	again        map[string]time.Time // when a process starts
	lazy         bool                 // something may be left to commit
	crashes      int
	proof        proof
	arrived, due int // legs
}

func newLife(t testing.TB, seed uint64, snapshot *directory.Snapshot, crashAt int) *life {
	f := &life{
		t: t, seed: seed, name: fmt.Sprintf("seed %d, crash at %d", seed, crashAt), now: noon,
		random: rand.New(rand.NewPCG(seed, 1)), snapshot: snapshot, again: map[string]time.Time{}, proof: newProof(),
	}
	f.together, f.faults = seed%2 == 0, []int{0, 10}[seed/2%2]
	f.down = []time.Duration{time.Second, 20 * time.Second, 20 * time.Minute}[(seed+uint64(crashAt))%3]
	f.store = &storage{now: f.clock, logs: map[string]*partitionLog{}, commits: map[string]bus.Position{}}
	if crashAt > 0 { // and who takes over dies as well
		f.store.crashAt = []int{crashAt, crashAt + 1 + f.chance(20, "again", crashAt)}
	}
	f.delay = delay.Rehearsal{Directory: snapshot, Now: f.clock}
	var err error
	f.bus, err = bus.Dial(bus.Config{Seeds: []string{"127.0.0.1:1"}, Now: f.clock})
	f.must(err)
	f.due = 5 + int(seed%4)
	f.arrive(0) // is there before any process
	for n := 1; n < f.due; n++ {
		f.at(noon.Add(time.Duration(f.chance(90_000, "arrives", n))*time.Millisecond), func() { f.arrive(n) })
	}
	return f
}

func (f *life) clock() time.Time { return f.now }

func (f *life) at(at time.Time, do func()) { heap.Push(&f.events, happening{at, do, len(f.events)}) }

func (f *life) fail(format string, args ...any) {
	f.t.Helper()
	f.t.Fatalf(f.name+": "+format, args...)
}

func (f *life) must(err error) {
	if err != nil {
		f.fail("%v", err)
	}
}

func (f *life) nextOwner(role string) string {
	f.owners++
	return fmt.Sprintf("%s.%d", role, f.owners)
}

// chance is below n and the same in every run of a seed, whatever crashes.
func (f *life) chance(n int, of ...any) int {
	h := fnv.New64a()
	fmt.Fprint(h, f.seed, of)
	return rand.New(rand.NewPCG(h.Sum64(), 7)).IntN(n)
}

// arrive puts a leg on its queue's topic, as a router does.
func (f *life) arrive(n int) {
	domain := []string{"well", "dead", "slow", "well"}[f.chance(4, "to", n)]
	l := &pb.Leg{
		MessageId: fmt.Sprintf("%026d", n), Tenant: "acme", Queue: "acme", Generation: 1, ReversePath: "a@client.example",
		BornMs: f.now.UnixMilli(), Content: &pb.ContentRef{Size: 10},
	}
	for i := range 1 + f.chance(3, "recipients", n) {
		l.Recipients = append(l.Recipients, &pb.Recipient{Number: uint32(i), Address: fmt.Sprintf("r%d@%s.example", i, domain)})
	}
	l.Destination = f.snapshot.Decide(directory.Question{Recipient: l.Recipients[0].Address}).Destination
	f.store.append(bus.NewLeg(simQueue, l), nil)
	f.arrived++
	f.proof.born(l)
}

func (f *life) view() view {
	return view{
		number: f.snapshot.Number, decide: f.snapshot.Decide, queue: f.snapshot.Queue, tenant: f.snapshot.Tenant, now: f.now, again: noneAgain,
		suspended: func(string, string, string) (time.Time, bool) { return time.Time{}, false },
	}
}

// feed hands over what a reader of committed records sees.
func (f *life) feed(b *bus.Rehearsal, l *partitionLog, next *int64) (some bool) {
	stable := l.stable()
	if n := int64(1 + f.random.IntN(8)); stable > *next+n { // as much as one poll brings
		stable = *next + n
	}
	for ; *next < stable; *next++ {
		switch e := l.entries[*next]; {
		case e.stands():
			b.Arrive(e.record)
		case e.end:
			b.Pass(l.topic, l.partition, *next)
		}
		some = true
	}
	return some
}

// commit commits what has finished, not always at once.
func (f *life) commit(b *bus.Rehearsal, owner, group string) bool {
	switch f.random.IntN(6) {
	case 0:
		return true
	case 1, 2:
		f.lazy = true
		return false
	}
	t := b.Commit()
	if t == nil {
		return false
	}
	abort := f.random.IntN(100) < f.faults
	f.store.commit(owner, group, t, abort)
	t.End(!abort)
	return true
}

// release is delay's decision, checked; sometimes it can't be made yet.
func (f *life) release(_ context.Context, _ bus.Entry, r bus.Record, _ bool) ([]bus.Record, error) {
	if f.random.IntN(100) < f.faults {
		return nil, errors.New("not now")
	}
	out, err := f.delay.Release(r)
	f.must(err)
	f.released(r, out)
	return out, nil
}

// guard runs a part of a process, which may end in the middle of it.
func (f *life) guard(role string, do func()) {
	defer func() {
		switch r := recover(); r.(type) {
		case nil:
		case crashed:
			f.crash(role)
		default:
			panic(r)
		}
	}()
	do()
}

func (f *life) crash(role string) {
	f.crashes++
	for _, name := range []string{"deliver", "delay"} {
		if name != role && !f.together {
			continue
		}
		f.again[name] = f.now.Add(f.down)
		if name == "deliver" && f.courier != nil {
			f.courier.dead, f.courier = true, nil
		} else if name == "delay" {
			f.keeper = nil
		}
	}
}

// start starts what is down. Who takes over ends what the former one left open.
func (f *life) start() {
	if f.courier == nil && !f.now.Before(f.again["deliver"]) {
		f.takeover("deliver")
		f.guard("deliver", func() { f.courier = newCourier(f) })
	}
	if f.keeper == nil && !f.now.Before(f.again["delay"]) {
		f.takeover("delay")
		f.guard("delay", func() { f.keeper = newKeeper(f) })
	}
}

func (f *life) takeover(role string) {
	for n := range f.owners + 1 {
		f.store.fence(fmt.Sprintf("%s.%d", role, n))
	}
	f.balance()
}

// run plays until every recipient has ended and nothing is left to do.
func (f *life) run() {
	for {
		f.start()
		busy := false
		if c := f.courier; c != nil {
			f.guard("deliver", func() { busy = c.turn() })
		}
		if k := f.keeper; k != nil {
			f.guard("delay", func() { busy = k.turn() || busy })
		}
		if busy {
			continue
		}
		if f.lazy {
			f.lazy = false
			f.pass(f.now.Add(50 * time.Millisecond))
			continue
		}
		if f.arrived == f.due && f.ended() {
			f.balance()
			f.proofs()
			return
		}
		f.advance()
	}
}

// advance lets time pass until something may happen.
func (f *life) advance() {
	next := f.now.Add(time.Hour)
	sooner := func(at time.Time) {
		if at.Before(next) && at.After(f.now) {
			next = at
		}
	}
	if len(f.events) > 0 {
		sooner(f.events[0].at)
	}
	if f.courier != nil && f.courier.scheduler.held > f.courier.running {
		sooner(f.now.Add(sweepEvery))
	}
	for _, at := range f.again {
		sooner(at)
	}
	if f.keeper != nil {
		if due := f.keeper.due(); !due.IsZero() {
			sooner(later(due, f.now.Add(time.Second)))
		}
	}
	f.pass(next)
}

// pass lets time pass, and what was to happen until then happen.
func (f *life) pass(until time.Time) {
	if f.now = until; f.now.Sub(noon) > 24*time.Hour {
		f.fail("not over after a day; terminal %v", f.proof.terminal)
	}
	for len(f.events) > 0 && !f.events[0].at.After(f.now) {
		e := heap.Pop(&f.events).(happening)
		f.guard("deliver", e.do)
	}
	if c := f.courier; c != nil {
		c.sweep()
	}
}

func sortSpills(s []spill) {
	slices.SortFunc(s, func(a, b spill) int {
		x, y := a.item.value.(*task).job.Record, b.item.value.(*task).job.Record
		return int(x.Partition-y.Partition)*1000 + int(x.Offset-y.Offset)
	})
}

// TestLifeThroughCrashes plays each scenario once without a crash, and then as
// often as it has steps, each time with a crash after another one, and a second
// one soon after: between any two records, before and after each end of a
// transaction, between a peer's 250 and the journal's acknowledgement, before
// what follows from it. A scenario is its seed: the same seed, the same run.
//
// It was seen to fail when this was broken, one at a time: markers not written,
// not read, or read after the first release; a journal floor too high or lost
// from the metadata; attempts before the partition's claim is committed; marks
// not honoured, or a leg spilled in spite of them; nothing told finished in the
// metadata, one offset too much, or what an earlier owner had finished
// forgotten; a base that passes an open offset, of jobs and of the index;
// results of an aborted transaction dropped; an entry released while its
// release is under way; releases before due; expiry checked by neither stage;
// a due time past the lifetime; one attempt more than the limits of destination
// or queue; the wrong step of the schedule; a step not counted; a deferred leg
// that keeps its delivered recipients.
func TestLifeThroughCrashes(t *testing.T) {
	t.Parallel()
	docs, err := directory.Parse(directory.File{Name: "life.yaml", Data: []byte(lifeDocuments)})
	if err != nil {
		t.Fatal(err)
	}
	snapshot, err := directory.Build(docs)
	if err != nil {
		t.Fatal(err)
	}
	seeds := []uint64{0, 1, 3, 26}
	if os.Getenv("QSTREAM_TEST_LONG") != "" {
		for seed := range uint64(60) {
			seeds = append(seeds, 100+seed)
		}
	}
	for _, seed := range seeds {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			whole := newLife(t, seed, snapshot, 0)
			whole.run()
			repeated := 0
			for k := 1; k <= whole.store.steps; k++ {
				f := newLife(t, seed, snapshot, k)
				f.run()
				if f.crashes == 0 {
					f.fail("it didn't come to a crash: the run isn't the one before")
				}
				repeated += f.proof.repeated
			}
			t.Logf("%d legs, %d attempts, %d steps, as many runs with two crashes; deliveries repeated for want of a journal entry: %d",
				whole.due, whole.proof.attempts, whole.store.steps, repeated)
		})
	}
}
