package scanner

import (
	"context"
	"slices"
	"sync"
	"time"

	"qstream/bus"
	"qstream/directory"
	"qstream/directory/roster"
	"qstream/directory/ruling"
	"qstream/engine"
	"qstream/scanner/compare"
	pb "qstream/schemas/qstream/v1"
)

// shadow asks policies that decide nothing about legs that were decided, and
// tells what would have become of them. It has engines, slots and memory of its
// own: nothing that it does is waited for. Safe for concurrent use.
type shadow struct {
	asker
	slots *roster.Gate
	limit int // of legs at hand
	tell  time.Duration

	mu      sync.Mutex
	ctx     context.Context // of run; nil: not running
	held    int
	tallies map[compare.Key]*compare.Tally
	tasks   sync.WaitGroup
}

const (
	shadowsAtHand = 16 // times as many legs are at hand as are compared
	shadowsInLane = 64 // at most of one tenant in one queue wait
	tellWithin    = 5 * time.Second
)

func newShadow(cfg Config, d Deps, m *metrics) *shadow {
	return &shadow{
		asker: newAsker(d, m.aside(), cfg.Kept/4), slots: roster.NewGate(cfg.Shadows, slotShare), limit: shadowsAtHand * cfg.Shadows,
		tell: cfg.Tell, tallies: map[compare.Key]*compare.Tally{},
	}
}

// pairing is a leg, what the policy in force made of it, and the policy that it
// is compared with.
type pairing struct {
	leg    *pb.Leg
	answer answer
	scene  scene
	shadow *directory.ScanPolicy
}

func (p pairing) key() compare.Key {
	return compare.Key{Tenant: p.leg.Tenant, Queue: p.leg.Queue, Policy: p.scene.policy.Name, Shadow: p.shadow.Name}
}

// offer has a leg compared that is decided, if there is room, and doesn't wait
// for that. The leg must not be changed any more.
func (s *shadow) offer(l *pb.Leg, a answer, sc scene, name string) {
	p := pairing{l, a, sc, sc.snap.Scan(name)}
	lane := l.Tenant + "\x00" + l.Queue
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx == nil || s.ctx.Err() != nil || s.held >= s.limit || s.slots.Waits(lane) >= shadowsInLane {
		s.missed(p)
		return
	}
	s.held++
	ctx := s.ctx
	s.tasks.Go(func() {
		ok := false
		if s.slots.Enter(ctx, lane, p.shadow.Concurrency) {
			var b answer
			if b, ok = s.second(ctx, p); ok {
				s.compare(p, b)
			}
			s.slots.Leave(lane)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.held--; !ok {
			s.missed(p)
		}
	})
}

// missed counts a leg that isn't compared; s.mu is held.
func (s *shadow) missed(p pairing) {
	s.tally(p.key()).Miss(s.deps.Now(), len(p.leg.Recipients))
	s.metrics.compared.WithLabelValues("missed").Add(float64(len(p.leg.Recipients)))
}

func (s *shadow) tally(k compare.Key) *compare.Tally {
	if s.tallies[k] == nil {
		s.tallies[k] = &compare.Tally{}
	}
	return s.tallies[k]
}

// second is what the shadow's engines say of a leg, and what would follow.
// Engines that were asked already aren't again. ok is false if ctx ended.
func (s *shadow) second(ctx context.Context, p pairing) (b answer, ok bool) {
	c := caseOf(p.leg, p.scene.now)
	b.rulings = ruling.Judge(p.shadow, nil, c)
	for _, name := range p.shadow.Engines {
		v := s.secondSaid(ctx, p, name)
		if ctx.Err() != nil {
			return b, false
		}
		b.verdicts = append(b.verdicts, v)
		b.rulings = ruling.Judge(p.shadow, b.verdicts, c)
		if ruling.Waiting(b.rulings) || ruling.Settled(b.rulings) {
			break
		}
	}
	return b, true
}

// secondSaid is an engine's verdict: the one that decided, or one of its own.
// Both policies are of one snapshot, where a name is one engine.
// What fails here is never poison: nobody tries again.
func (s *shadow) secondSaid(ctx context.Context, p pairing, name string) ruling.Said {
	if i := slices.IndexFunc(p.answer.verdicts, func(v ruling.Said) bool { return v.Engine == name }); i >= 0 {
		v := p.answer.verdicts[i]
		v.Took, v.Kept = 0, true
		return v
	}
	m, done := s.members.Use(p.scene.snap, name)
	defer done()
	v, _ := s.health(ctx, p.leg, m)
	if v.Engine == "" {
		v = s.scan(ctx, p.leg, m)
	}
	return v
}

// compare counts what both policies made of a leg, and tells it if they differ.
func (s *shadow) compare(p pairing, b answer) {
	now := s.deps.Now()
	var partings []*pb.Parting
	s.mu.Lock()
	t := s.tally(p.key())
	for i, r := range p.leg.Recipients {
		live, other := p.answer.rulings[i], b.rulings[i]
		action, shadowAction := way(live, p.scene.policy), way(other, p.shadow)
		t.Count(now, action, shadowAction)
		if action != shadowAction {
			partings = append(partings, &pb.Parting{
				Number: r.Number, Action: action, Finding: live.Finding, ShadowAction: shadowAction, ShadowFinding: other.Finding,
			})
		}
	}
	timed(t, false, p.answer.verdicts)
	timed(t, true, b.verdicts)
	s.mu.Unlock()
	s.metrics.compared.WithLabelValues("same").Add(float64(len(p.leg.Recipients) - len(partings)))
	s.metrics.compared.WithLabelValues("different").Add(float64(len(partings)))
	if len(partings) > 0 {
		s.publish(differing(p, b, partings, now))
	}
}

// timed notes how long engines took that gave a verdict, or were late.
func timed(t *compare.Tally, shadow bool, verdicts []ruling.Said) {
	for _, v := range verdicts {
		if !v.Kept && v.Took > 0 && (v.Outcome != engine.Failed || v.Reason == engine.Late) {
			t.Took(shadow, v.Engine, v.Took)
		}
	}
}

// differing is the event of a leg that the policies differ about.
func differing(p pairing, b answer, partings []*pb.Parting, now time.Time) bus.Record {
	e := plain(pb.EventType_EVENT_TYPE_COMPARED, p.leg, p.scene.snap.Number, now)
	e.Step++ // beside what became of it
	e.Comparison = &pb.Comparison{
		Policy: p.scene.policy.Name, Shadow: p.shadow.Name, Partings: partings,
		Verdicts: ruling.Recorded(p.answer.verdicts, 0), ShadowVerdicts: ruling.Recorded(b.verdicts, maxSymbols),
	}
	e.Outcomes = slices.DeleteFunc(e.Outcomes, func(o *pb.Outcome) bool {
		return !slices.ContainsFunc(partings, func(d *pb.Parting) bool { return d.Number == o.Number })
	})
	return bus.NewEvent(e)
}

// way is where mail goes by a ruling, as comparisons tell it.
func way(r ruling.Ruling, p *directory.ScanPolicy) string {
	switch r.Action {
	case directory.ActRedirect:
		return r.Action + " " + p.Rules[r.Rule].Queue
	case directory.ActForward:
		return r.Action + " " + p.Rules[r.Rule].Address
	}
	return r.Action
}

// begin lets legs be compared until ctx ends.
func (s *shadow) begin(ctx context.Context) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ctx = ctx
}

// run tells counts until ctx ends.
func (s *shadow) run(ctx context.Context) {
	again := time.NewTicker(s.tell)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-again.C:
			s.flush()
		}
	}
}

// close tells the rest and closes the engines; nothing may be offered any more.
func (s *shadow) close() {
	s.tasks.Wait()
	s.flush()
	s.members.Close()
}

// flush tells what was counted since.
func (s *shadow) flush() {
	s.mu.Lock()
	tallies := s.tallies
	s.tallies = map[compare.Key]*compare.Tally{}
	s.mu.Unlock()
	var out []bus.Record
	for k, t := range tallies {
		out = append(out, t.Record(k, stageName, s.deps.Now()))
	}
	s.publish(out...)
}

// publish tells events, also at a stop. What can't be told is not told again:
// mail goes on without, and the log says so.
func (s *shadow) publish(events ...bus.Record) {
	ctx, cancel := context.WithTimeout(context.Background(), tellWithin)
	defer cancel()
	rs := make([]*bus.Record, len(events))
	for i := range events {
		rs[i] = &events[i]
	}
	if err := s.deps.Bus.Publish(ctx, rs...); err != nil {
		s.deps.Log.Warn("comparisons not told", "stage", stageName, "events", len(rs), "err", err)
	}
}
