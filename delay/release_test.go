package delay

import (
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"qstream/directory"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
)

const documents = `
kind: queue
name: acme
lifetime: 10h
bounce_lifetime: 2h
---
kind: queue
name: held
lifetime: 10h
hold_expiry: 3h
---
kind: tenant
name: acme
domains: [acme.example]
queue: acme
---
kind: tenant
name: held
domains: [held.example]
queue: held
---
kind: route
name: all
match: {domain: "*"}
via: smtp://mx
---
kind: route
name: later
match: {domain: later.acme.example}
via: error:451 4.3.0 later
---
kind: route
name: refused
match: {domain: refused.example}
via: error:550 5.1.1 gone
`

const documentsOfTenants = `
kind: tenant
name: acme
domains: [acme.example]
queue: acme
---
kind: route
name: all
match: {domain: "*"}
via: smtp://mx
`

// moved is the same directory with acme.example in other hands.
const documentsMoved = documents + `
---
kind: tenant
name: other
domains: [x.acme.example]
queue: held
`

func snapshot(t testing.TB, text string) *directory.Snapshot {
	t.Helper()
	docs, err := directory.Parse(directory.File{Name: "test.yaml", Data: []byte(text)})
	if err != nil {
		t.Fatal(err)
	}
	s, err := directory.Build(docs)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// birth is when the leg of these tests was received; times are hours after it.
var birth = time.UnixMilli(1_700_000_000_000)

func at(hours float64) time.Time { return birth.Add(time.Duration(hours * float64(time.Hour))) }

func ms(hours float64) int64 { return at(hours).UnixMilli() }

func waiting() *pb.Leg {
	return &pb.Leg{
		MessageId: "01A", Number: 2, Step: 5, Attempt: 3, Tenant: "acme", Queue: "acme", Generation: 1,
		Destination: "acme.example", Route: "all", ReversePath: "a@blue.example",
		Recipients: []*pb.Recipient{{Number: 0, Address: "b@acme.example"}, {Number: 4, Address: "c@acme.example"}},
		Content:    &pb.ContentRef{MessageId: "01A", Topic: schemas.Received, Offsets: []int64{1}, StoredMs: ms(0)},
		BornMs:     ms(0), DueMs: ms(1), Reason: pb.Reason_REASON_DEFERRED,
	}
}

func inDirectory(t testing.TB, text string, now float64) world {
	s := snapshot(t, text)
	return world{
		number: 9, decide: s.Decide, queue: s.Queue, now: at(now),
		suspended: func(string, string, string) (time.Time, bool) { return time.Time{}, false },
		resumed:   never,
		flushed:   func(*pb.Leg) bool { return false }, again: noneAgain,
	}
}

func (w world) whileSuspended(since float64, tenants ...string) world {
	w.suspended = func(tenant, queue, destination string) (time.Time, bool) {
		for _, t := range tenants {
			if t == tenant {
				return at(since), true
			}
		}
		return time.Time{}, false
	}
	return w
}

func overQuota(l *pb.Leg) {
	l.Attempt, l.ParkedMs, l.DueMs = 0, l.BornMs, 0
	for _, r := range l.Recipients {
		r.Held = true
	}
}

func (w world) resumedAt(hours float64) world {
	w.resumed = func(_, _, _ string, born time.Time) bool { return born.Before(at(hours)) }
	return w
}

func (w world) whileFlushed() world {
	w.flushed = func(*pb.Leg) bool { return true }
	return w
}

type releaseCase struct {
	name    string
	world   world
	leg     func(*pb.Leg)
	parked  bool
	want    fate
	topic   string
	stopped float64 // hours
	owed    bool
}

func (c releaseCase) check(t *testing.T) {
	l := waiting()
	if c.leg != nil {
		c.leg(l)
	}
	m := release(l, c.parked, c.world)
	if m.fate != c.want || m.topic != c.topic {
		t.Fatalf("want %s to %q, got %s to %q", c.want, c.topic, m.fate, m.topic)
	}
	if m.fate == fateRerouted {
		return
	}
	checkLeg(t, m, c.stopped, c.owed)
}

func TestRelease(t *testing.T) {
	parked := func(since float64) func(*pb.Leg) {
		return func(l *pb.Leg) { l.ParkedMs, l.DueMs = ms(since), 0 }
	}
	for _, c := range []releaseCase{
		{name: "due", world: inDirectory(t, documents, 1), want: fateReleased, topic: "qstream.queue.acme.v1"},
		{name: "not due: another round", world: inDirectory(t, documents, 0.5), want: fateRound, topic: "qstream.delay.1h.v1"},
		{name: "due in five hours: the largest tier", world: inDirectory(t, documents, 1),
			leg: func(l *pb.Leg) { l.DueMs = ms(6) }, want: fateRound, topic: "qstream.delay.4h.v1"},
		{name: "due in ten seconds: the smallest tier", world: inDirectory(t, documents, 1),
			leg: func(l *pb.Leg) { l.DueMs = ms(1) + 10_000 }, want: fateRound, topic: "qstream.delay.1m.v1"},
		{name: "not due but flushed", world: inDirectory(t, documents, 0.5).whileFlushed(), want: fateReleased, topic: "qstream.queue.acme.v1"},

		{name: "past its lifetime", world: inDirectory(t, documents, 10),
			leg: func(l *pb.Leg) { l.DueMs = ms(10) }, want: fateExpired, topic: "qstream.queue.acme.v1"},
		{name: "just before its end", world: inDirectory(t, documents, 9.99),
			leg: func(l *pb.Leg) { l.DueMs = ms(9.9) }, want: fateReleased, topic: "qstream.queue.acme.v1"},
		{name: "a bounce past the bounce lifetime", world: inDirectory(t, documents, 2),
			leg: func(l *pb.Leg) { l.ReversePath = ""; l.DueMs = ms(2) }, want: fateExpired, topic: "qstream.queue.acme.v1"},
		{name: "lifetime that stood still", world: inDirectory(t, documents, 11),
			leg:  func(l *pb.Leg) { l.DueMs = ms(11); l.StoppedMs = 2 * 3600_000 },
			want: fateReleased, topic: "qstream.queue.acme.v1", stopped: 2},
		{name: "shortened: pulled before it was due", world: inDirectory(t, documents, 12),
			leg: func(l *pb.Leg) { l.DueMs = ms(14) }, want: fateExpired, topic: "qstream.queue.acme.v1"},
		{name: "expired while the wait was flushed", world: inDirectory(t, documents, 12).whileFlushed(),
			leg: func(l *pb.Leg) { l.DueMs = ms(14) }, want: fateExpired, topic: "qstream.queue.acme.v1"},

		{name: "owed: due in time, released too late", world: inDirectory(t, documents, 20),
			want: fateReleased, topic: "qstream.queue.acme.v1", owed: true},
		{name: "owed: never attempted", world: inDirectory(t, documents, 20),
			leg: func(l *pb.Leg) { l.Attempt = 0; l.DueMs = ms(25) }, want: fateReleased, topic: "qstream.queue.acme.v1", owed: true},
		{name: "owed once only", world: inDirectory(t, documents, 20),
			leg: func(l *pb.Leg) { l.Owed = true }, want: fateExpired, topic: "qstream.queue.acme.v1", owed: true},
		{name: "owed still: deliver had no room for it", world: inDirectory(t, documents, 20),
			leg:  func(l *pb.Leg) { l.Owed, l.Reason, l.DueMs = true, pb.Reason_REASON_BACKPRESSURE, ms(20) },
			want: fateReleased, topic: "qstream.queue.acme.v1", owed: true},
		{name: "not owed: only spilled, due late", world: inDirectory(t, documents, 20),
			leg: func(l *pb.Leg) { l.Attempt = 0; l.Spills = 1; l.DueMs = ms(20) }, want: fateExpired, topic: "qstream.queue.acme.v1"},

		{name: "moved to another tenant and queue", world: inDirectory(t, documentsMoved, 1),
			leg: func(l *pb.Leg) {
				l.Destination = "x.acme.example"
				l.Recipients = []*pb.Recipient{{Address: "b@x.acme.example"}}
			}, want: fateRerouted},
		{name: "another destination", world: inDirectory(t, documents, 1),
			leg: func(l *pb.Leg) { l.Destination = "old-host:25" }, want: fateRerouted},
		{name: "queue purged", world: inDirectory(t, documents, 20),
			leg: func(l *pb.Leg) { l.Queue = "gone" }, want: fateRerouted},
		{name: "queue purged and back again", world: inDirectory(t, documents, 20),
			leg: func(l *pb.Leg) { l.Generation = 7 }, want: fateRerouted},
		{name: "refused for good now", world: inDirectory(t, documents, 1),
			leg: func(l *pb.Leg) { l.Recipients[1].Address = "b@refused.example" }, want: fateRerouted},
		{name: "moved while parked under the old owner", world: inDirectory(t, documents, 40).whileSuspended(9, "acme"),
			leg: func(l *pb.Leg) { parked(9)(l); l.Destination = "old-host:25" }, parked: true, want: fateRerouted},
	} {
		t.Run(c.name, c.check)
	}
}

func TestReleaseHeldBack(t *testing.T) {
	parked := func(since float64) func(*pb.Leg) {
		return func(l *pb.Leg) { l.ParkedMs, l.DueMs = ms(since), 0 }
	}
	for _, c := range []releaseCase{
		{name: "suspended", world: inDirectory(t, documents, 1).whileSuspended(0.5, "acme"), want: fateParked, topic: schemas.Parked},
		{name: "suspended, flushed all the same", world: inDirectory(t, documents, 1).whileSuspended(0.5, "acme").whileFlushed(),
			want: fateParked, topic: schemas.Parked},
		{name: "past its lifetime before the suspension", world: inDirectory(t, documents, 12).whileSuspended(11, "acme"),
			leg: func(l *pb.Leg) { l.DueMs = ms(11) }, want: fateExpired, topic: "qstream.queue.acme.v1", stopped: 1},
		{name: "suspended before its end, due after it", world: inDirectory(t, documents, 30).whileSuspended(9, "acme"), want: fateParked, topic: schemas.Parked},
		{name: "parked, still suspended", world: inDirectory(t, documents, 40).whileSuspended(9, "acme"),
			leg: parked(9), parked: true, want: fateKept, topic: schemas.Parked},
		{name: "parked, resumed: the lifetime stood still", world: inDirectory(t, documents, 40),
			leg: parked(9), parked: true, want: fateReleased, topic: "qstream.queue.acme.v1", stopped: 31},
		{name: "parked twice", world: inDirectory(t, documents, 40),
			leg:    func(l *pb.Leg) { parked(9)(l); l.StoppedMs = 3600_000 },
			parked: true, want: fateReleased, topic: "qstream.queue.acme.v1", stopped: 32},
		{name: "parked beyond the hold expiry", world: inDirectory(t, documents, 14).whileSuspended(9, "held"),
			leg: func(l *pb.Leg) {
				parked(9)(l)
				l.Tenant, l.Queue, l.Destination = "held", "held", "held.example"
				l.Recipients = []*pb.Recipient{{Address: "b@held.example"}}
			}, parked: true, want: fateExpired, topic: "qstream.queue.held.v1", stopped: 5},

		{name: "parked beyond the hold expiry, never attempted", world: inDirectory(t, documents, 14).whileSuspended(9, "held"),
			leg: func(l *pb.Leg) {
				parked(9)(l)
				l.Attempt = 0
				l.Tenant, l.Queue, l.Destination = "held", "held", "held.example"
				l.Recipients = []*pb.Recipient{{Address: "b@held.example"}}
			}, parked: true, want: fateExpired, topic: "qstream.queue.held.v1", stopped: 5},
	} {
		t.Run(c.name, c.check)
	}
}

// What was taken above a quota waits until it is let go on.
func TestReleaseAboveQuota(t *testing.T) {
	for _, c := range []struct {
		name    string
		world   world
		want    fate
		topic   string
		stopped float64 // hours
	}{
		{"held", inDirectory(t, documents, 100), fateKept, schemas.Parked, 0},
		{"let go on", inDirectory(t, documents, 100).resumedAt(1), fateReleased, "qstream.queue.acme.v1", 100},
		{"held after others were let go on", inDirectory(t, documents, 100).resumedAt(-1), fateKept, schemas.Parked, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := waiting()
			overQuota(l)
			m := release(l, true, c.world)
			if m.fate != c.want || m.topic != c.topic {
				t.Fatalf("want %s to %q, got %s to %q", c.want, c.topic, m.fate, m.topic)
			}
			checkLeg(t, m, c.stopped, false)
		})
	}
}

func checkLeg(t *testing.T, m move, stopped float64, owed bool) {
	t.Helper()
	l := m.leg
	if l.Step != 6 || l.Attempt > 3 {
		t.Errorf("step %d, attempt %d", l.Step, l.Attempt)
	}
	if got := time.Duration(l.StoppedMs) * time.Millisecond; got != time.Duration(stopped*float64(time.Hour)) {
		t.Errorf("stopped for %s", got)
	}
	if l.Owed != owed || l.Expired != (m.fate == fateExpired) {
		t.Errorf("owed %v, expired %v", l.Owed, l.Expired)
	}
}

func TestReleaseFollowsTheOwner(t *testing.T) {
	l := waiting()
	l.Tenant, l.Route = "before", "before"
	m := release(l, false, inDirectory(t, documents, 1))
	if m.fate != fateReleased || l.Tenant != "acme" || l.Route != "all" || l.Directory != 9 || m.event.Tenant != "acme" {
		t.Errorf("%s %v", m.fate, l)
	}
}

func TestRefusedForNowIsAnAttemptsOutcome(t *testing.T) {
	w := inDirectory(t, documents, 1)
	l := waiting()
	l.Recipients = []*pb.Recipient{{Address: "b@later.acme.example"}}
	d := w.decide(directory.Question{Recipient: "b@later.acme.example", Tenant: "acme"})
	l.Tenant, l.Queue, l.Generation, l.Destination = d.Tenant, d.Queue.Name, d.Queue.Generation, d.Destination
	if m := release(l, false, w); m.fate != fateReleased {
		t.Errorf("got %s", m.fate)
	}
}

func TestRerouteCarriesStoppedTime(t *testing.T) {
	for _, c := range []struct {
		name  string
		world world
		want  float64
	}{
		{"free in its new scope", inDirectory(t, documents, 40).whileSuspended(9, "acme"), 31},
		{"suspended there too: that is counted there", inDirectory(t, documents, 40).whileSuspended(20, "acme", "other"), 11},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := waiting()
			l.ParkedMs = ms(9)
			s := c.world.decide
			c.world.decide = func(q directory.Question) directory.Decision {
				d := s(q)
				if c.want == 11 {
					d.Tenant = "other"
				} else {
					d.Tenant = "free"
				}
				d.Destination = "new.example"
				return d
			}
			m := release(l, true, c.world)
			if m.fate != fateRerouted || m.reinject.StoppedMs != int64(c.want*3600_000) || m.reinject.Reroutes != 1 {
				t.Errorf("%s %v", m.fate, m.reinject)
			}
		})
	}
}

func TestRecordsOfAMove(t *testing.T) {
	w := inDirectory(t, documents, 1)
	for name, c := range map[string]struct {
		change func(*pb.Leg, *world)
		topics []string
		event  pb.EventType
	}{
		"released": {func(*pb.Leg, *world) {}, []string{"qstream.queue.acme.v1", schemas.Events}, pb.EventType_EVENT_TYPE_RELEASED},
		"rerouted": {func(l *pb.Leg, _ *world) { l.Destination = "x" }, []string{schemas.Reinject, schemas.Events}, pb.EventType_EVENT_TYPE_REROUTED},
		"parked":   {func(_ *pb.Leg, w *world) { *w = w.whileSuspended(0, "acme") }, []string{schemas.Parked, schemas.Events}, pb.EventType_EVENT_TYPE_PARKED},
		"round":    {func(l *pb.Leg, _ *world) { l.DueMs = ms(1.5) }, []string{"qstream.delay.1h.v1"}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			l, w := waiting(), w
			c.change(l, &w)
			out := release(l, false, w).records()
			if len(out) != len(c.topics) {
				t.Fatalf("%d records", len(out))
			}
			for i, topic := range c.topics {
				if out[i].Topic != topic {
					t.Errorf("record %d goes to %s", i, out[i].Topic)
				}
			}
			if len(out) == 2 {
				var e pb.Event
				if err := proto.Unmarshal(out[1].Value, &e); err != nil || e.Type != c.event || e.Step != 6 || len(e.Outcomes) != 2 {
					t.Errorf("%v %v", &e, err)
				}
			}
		})
	}
}

// TestReleaseOfHeldMail: what was taken above a quota stays parked until
// somebody lets it go on, or its hold expires.
func TestReleaseOfHeldMail(t *testing.T) {
	elsewhere := func(l *pb.Leg) {
		overQuota(l)
		l.Tenant, l.Queue, l.Destination = "held", "held", "held.example"
		l.Recipients = []*pb.Recipient{{Address: "b@held.example", Held: true}}
	}
	for _, c := range []struct {
		name   string
		world  world
		leg    func(*pb.Leg)
		want   fate
		topic  string
		reason pb.Reason
	}{
		{"held", inDirectory(t, documents, 100), overQuota, fateKept, schemas.Parked, pb.Reason_REASON_HELD},
		{"let go on", inDirectory(t, documents, 100).resumedAt(1), overQuota, fateReleased, "qstream.queue.acme.v1", 0},
		{"after others were let go on", inDirectory(t, documents, 100).resumedAt(-1), overQuota, fateKept, schemas.Parked, pb.Reason_REASON_HELD},
		{"let go on, suspended", inDirectory(t, documents, 100).resumedAt(1).whileSuspended(2, "acme"), overQuota, fateKept, schemas.Parked, pb.Reason_REASON_SUSPENDED},
		{"before its hold expires", inDirectory(t, documents, 12.9), elsewhere, fateKept, schemas.Parked, pb.Reason_REASON_HELD},
		{"beyond its hold expiry, never attempted", inDirectory(t, documents, 13), elsewhere, fateExpired, "qstream.queue.held.v1", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := waiting()
			c.leg(l)
			m := release(l, true, c.world)
			if m.fate != c.want || m.topic != c.topic || c.reason != 0 && m.leg.Reason != c.reason || schemas.Held(m.leg) != (c.want == fateKept) {
				t.Errorf("%s to %s: %v", m.fate, m.topic, m.leg)
			}
		})
	}
}

// Whatever the state, a leg goes to exactly one place, its step grows by one,
// it is never attempted past its lifetime unless that is owed, never while its
// scope is suspended, and never before it is due unless it is flushed.
func TestReleaseProperties(t *testing.T) {
	base := inDirectory(t, documentsMoved, 0)
	hours := rapid.Float64Range(0, 48)
	rapid.Check(t, func(t *rapid.T) {
		l := waiting()
		l.Attempt = rapid.Uint32Range(0, 3).Draw(t, "attempt")
		l.Spills = rapid.Uint32Range(0, 1).Draw(t, "spills")
		l.DueMs = ms(hours.Draw(t, "due"))
		l.StoppedMs = int64(hours.Draw(t, "stopped") * 3600_000)
		l.Owed = rapid.Bool().Draw(t, "owed before")
		if rapid.Bool().Draw(t, "bounce") {
			l.ReversePath = ""
		}
		l.Destination = rapid.SampledFrom([]string{"acme.example", "acme.example", "elsewhere"}).Draw(t, "destination")
		w := base
		w.now = at(hours.Draw(t, "now"))
		isParked := rapid.Bool().Draw(t, "parked")
		if isParked {
			l.ParkedMs = ms(hours.Draw(t, "parked at"))
		}
		isHeld, isResumed := rapid.Bool().Draw(t, "held"), rapid.Bool().Draw(t, "resumed")
		if isHeld {
			l.Recipients[0].Held, l.Recipients[1].Held = true, true
		}
		if isResumed {
			w = w.resumedAt(1)
		}
		isSuspended := rapid.Bool().Draw(t, "suspended")
		if isSuspended {
			w = w.whileSuspended(hours.Draw(t, "since"), "acme")
		}
		if rapid.Bool().Draw(t, "flushed") {
			w = w.whileFlushed()
		}
		before := proto.Clone(l).(*pb.Leg)
		m := release(l, isParked, w)
		if (m.leg == nil) == (m.reinject == nil) || l.Step != before.Step+1 {
			t.Fatalf("leg %v, reinject %v", m.leg, m.reinject)
		}
		if m.fate != fateReleased {
			return
		}
		expires := base.queue("acme").Expires(birth, time.Duration(l.StoppedMs)*time.Millisecond, l.ReversePath == "")
		if !w.now.Before(expires) && (!l.Owed || before.Owed) {
			t.Fatal("released past its lifetime")
		}
		if isSuspended || isHeld && !isResumed || schemas.Held(l) {
			t.Fatal("released while it is held back")
		}
		if !isParked && before.DueMs > w.now.UnixMilli() && !w.flushed(l) && !l.Owed {
			t.Fatal("released before due")
		}
	})
}
