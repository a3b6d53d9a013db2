package deliver

import (
	"testing"
	"time"

	"qstream/bus"
	"qstream/deliver/dsn"
	"qstream/directory"
	"qstream/mail"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
	"qstream/transport"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

const documents = `
kind: queue
name: acme
lifetime: 1h
bounce_lifetime: 10m
hold_expiry: 1h
schedule: {steps: [50s, 30m]}
double_bounce_to: postmaster@hub.example
---
kind: queue
name: other
---
kind: tenant
name: acme
domains: [acme.example, moved.example]
---
kind: route
name: in
match: {domain: acme.example}
via: smtp://192.0.2.1
---
kind: route
name: away
match: {domain: moved.example}
via: smtp://192.0.2.2
---
kind: route
name: later
match: {domain: later.acme.example}
via: error:451 4.3.0 not now
---
kind: route
name: never
match: {domain: never.acme.example}
via: error:550 5.1.1 gone
`

func testView(t *testing.T) view {
	t.Helper()
	docs, err := directory.Parse(directory.File{Name: "test.yaml", Data: []byte(documents)})
	if err != nil {
		t.Fatal(err)
	}
	s, err := directory.Build(docs)
	if err != nil {
		t.Fatal(err)
	}
	return view{
		number: s.Number, decide: s.Decide, queue: s.Queue, tenant: s.Tenant, now: noon, again: noneAgain,
		suspended: func(string, string, string) (time.Time, bool) { return time.Time{}, false },
		resumed:   func(string, string, string, time.Time) bool { return false },
	}
}

func testLeg(to ...string) *pb.Leg {
	l := &pb.Leg{MessageId: "01M", Number: 1, Step: 3, Attempt: 1, Tenant: "acme", Queue: "acme", Generation: 1, Destination: "192.0.2.1:25",
		ReversePath: "alice@client.example", BornMs: noon.Add(-10 * time.Minute).UnixMilli(), Content: &pb.ContentRef{Size: 10}}
	for i, a := range to {
		l.Recipients = append(l.Recipients, &pb.Recipient{Number: uint32(i), Address: a})
	}
	return l
}

func TestPlan(t *testing.T) {
	hours := func(h int) int64 { return noon.Add(-time.Duration(h) * time.Hour).UnixMilli() }
	for _, c := range []struct {
		name      string
		change    func(*pb.Leg)
		suspended time.Time
		want      action
	}{
		{"young", func(*pb.Leg) {}, time.Time{}, toAttempt},
		{"refused", func(l *pb.Leg) { l.Refusal = &pb.Status{Code: 550} }, noon, toRefuse},
		{"refused for now", func(l *pb.Leg) { l.Refusal = &pb.Status{Code: 451} }, time.Time{}, toAttempt},
		{"told to be expired, suspended", func(l *pb.Leg) { l.Expired = true }, noon.Add(-time.Hour), toExpire},
		{"old", func(l *pb.Leg) { l.BornMs = hours(2) }, time.Time{}, toExpire},
		{"old but never tried", func(l *pb.Leg) { l.BornMs, l.Attempt = hours(2), 0 }, time.Time{}, toAttempt},
		{"old, never tried but spilled", func(l *pb.Leg) { l.BornMs, l.Attempt, l.Spills = hours(2), 0, 1 }, time.Time{}, toExpire},
		{"old but owed", func(l *pb.Leg) { l.BornMs, l.Owed = hours(2), true }, time.Time{}, toAttempt},
		{"old but stopped", func(l *pb.Leg) { l.BornMs, l.StoppedMs = hours(1)-60_000, 120_000 }, time.Time{}, toAttempt},
		{"old, stopped too little", func(l *pb.Leg) { l.BornMs, l.StoppedMs = hours(1)-60_000, 30_000 }, time.Time{}, toExpire},
		{"a bounce gets less time", func(l *pb.Leg) { l.ReversePath = "" }, time.Time{}, toExpire},
		{"suspended", func(*pb.Leg) {}, noon.Add(-time.Minute), toPark},
		{"old while suspended", func(l *pb.Leg) { l.BornMs = hours(2) }, noon.Add(-90 * time.Minute), toExpire},
		{"held longer than allowed", func(l *pb.Leg) { l.BornMs = hours(9) }, noon.Add(-8 * time.Hour), toExpire},
		{"other destination", func(l *pb.Leg) { l.Destination = "192.0.2.9:25" }, time.Time{}, toReroute},
		{"other queue", func(l *pb.Leg) { l.Queue = "other" }, time.Time{}, toReroute},
		{"purged queue, though old", func(l *pb.Leg) { l.Generation, l.BornMs = 2, hours(2) }, time.Time{}, toReroute},
		{"one of two moved", func(l *pb.Leg) { l.Recipients[1].Address = "x@moved.example" }, time.Time{}, toReroute},
		{"refused for good now", func(l *pb.Leg) { l.Recipients = l.Recipients[:1]; l.Recipients[0].Address = "x@never.acme.example" }, time.Time{}, toReroute},
		{"tenant gone, same place", func(l *pb.Leg) { l.Tenant = "gone" }, time.Time{}, toAttempt},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := testView(t)
			v.suspended = func(string, string, string) (time.Time, bool) { return c.suspended, !c.suspended.IsZero() }
			l := testLeg("a@acme.example", "b@acme.example")
			c.change(l)
			if p := planFor(l, v); p.action != c.want {
				t.Errorf("%v, want %v", actionNames[p.action], actionNames[c.want])
			}
		})
	}
}

// TestPlanOfHeldMail: what was taken above a quota is parked until somebody
// lets it go on, and says why.
func TestPlanOfHeldMail(t *testing.T) {
	v, l := testView(t), testLeg("a@acme.example", "b@acme.example")
	l.Attempt, l.Recipients[0].Held, l.Recipients[1].Held = 0, true, true
	p := planFor(l, v)
	if p.action != toPark || p.since.UnixMilli() != l.BornMs {
		t.Errorf("%v since %v", actionNames[p.action], p.since)
	}
	if parked := parkedLeg(l, p, v); parked.Reason != pb.Reason_REASON_HELD || parked.ParkedMs != l.BornMs || !schemas.Held(parked) {
		t.Errorf("parked as %v", parked)
	}
	v.resumed = func(_, _, _ string, born time.Time) bool { return born.Before(noon) }
	if p := planFor(l, v); p.action != toAttempt {
		t.Errorf("let go on: %v", actionNames[p.action])
	}
	v.suspended = func(string, string, string) (time.Time, bool) { return noon, true }
	if p := planFor(l, v); p.action != toPark || parkedLeg(l, p, v).Reason != pb.Reason_REASON_SUSPENDED {
		t.Errorf("let go on and suspended: %v", actionNames[p.action])
	}
}

func testTrip(t *testing.T, l *pb.Leg, outcomes ...transport.Outcome) *trip {
	v := testView(t)
	p := planFor(l, v)
	tr := &trip{leg: l, plan: p, attempted: true, began: noon, ended: noon, host: "mx.acme.example"}
	tr.fates = judge(p, l.Recipients, transport.Result{Outcomes: outcomes})
	return tr
}

func TestRest(t *testing.T) {
	ok, busy := replied(transport.AtDot, 250, ""), replied(transport.AtRcpt, 450, "4.2.1")
	lost := transport.Outcome{Kind: transport.Unconfirmed, At: transport.AtDot, Status: mail.Status{Code: 451}}
	cut := transport.Outcome{Kind: transport.Cut, Status: mail.Status{Code: 451}}
	for _, c := range []struct {
		name     string
		outcomes []transport.Outcome
		born     time.Duration // ago
		attempt  uint32        // want
		due      time.Duration // want, give or take the jitter
		reason   pb.Reason
		left     int
	}{
		{"all taken", []transport.Outcome{ok, ok}, time.Minute, 0, 0, 0, 0},
		{"one busy", []transport.Outcome{ok, busy}, time.Minute, 2, 30 * time.Minute, pb.Reason_REASON_DEFERRED, 1},
		{"near its end", []transport.Outcome{busy, busy}, 45 * time.Minute, 2, 15 * time.Minute, pb.Reason_REASON_DEFERRED, 2},
		{"no reply to the dot", []transport.Outcome{lost, lost}, time.Minute, 2, 30 * time.Minute, pb.Reason_REASON_UNCONFIRMED, 2},
		{"cut beside others", []transport.Outcome{ok, cut}, time.Minute, 1, directory.CutWait, pb.Reason_REASON_DEFERRED, 1},
		{"fewer outcomes than recipients", []transport.Outcome{ok}, time.Minute, 2, 30 * time.Minute, pb.Reason_REASON_DEFERRED, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := testLeg("a@acme.example", "b@acme.example")
			l.BornMs = noon.Add(-c.born).UnixMilli()
			l.Spills, l.Owed = 4, true
			rest := testTrip(t, l, c.outcomes...).rest()
			if rest == nil {
				if c.left != 0 {
					t.Error("nothing is left")
				}
				return
			}
			wait := time.UnixMilli(rest.DueMs).Sub(noon)
			if rest.Attempt != c.attempt || rest.Reason != c.reason || len(rest.Recipients) != c.left || rest.Step != 4 ||
				rest.Spills != 0 || rest.Owed || wait < c.due || wait > c.due+c.due/20+time.Second {
				t.Errorf("%v, due in %v", rest, wait)
			}
		})
	}
}

func TestNotices(t *testing.T) {
	const success, failure, delay, never = pb.Notify_NOTIFY_SUCCESS, pb.Notify_NOTIFY_FAILURE, pb.Notify_NOTIFY_DELAY, pb.Notify_NOTIFY_NEVER
	no, busy, ok := replied(transport.AtRcpt, 550, "5.1.1"), replied(transport.AtRcpt, 450, ""), replied(transport.AtDot, 250, "")
	for _, c := range []struct {
		name   string
		o      transport.Outcome
		change func(*pb.Leg)
		want   []dsn.Kind
		policy string
	}{
		{"failure is told unless asked otherwise", no, func(*pb.Leg) {}, []dsn.Kind{dsn.Failed}, ""},
		{"never", no, func(l *pb.Leg) { l.Recipients[0].Notify = []pb.Notify{never} }, nil, ""},
		{"only success asked", no, func(l *pb.Leg) { l.Recipients[0].Notify = []pb.Notify{success} }, nil, ""},
		{"success not asked", ok, func(*pb.Leg) {}, nil, ""},
		{"success asked", ok, func(l *pb.Leg) { l.Recipients[0].Notify = []pb.Notify{success, failure} }, []dsn.Kind{dsn.Relayed}, ""},
		{"young and busy", busy, func(*pb.Leg) {}, nil, ""},
		{"delayed", busy, func(l *pb.Leg) { l.BornMs -= (30 * time.Minute).Milliseconds() }, []dsn.Kind{dsn.Delayed}, ""},
		{"delayed, but stopped", busy, func(l *pb.Leg) {
			l.BornMs -= (30 * time.Minute).Milliseconds()
			l.StoppedMs = (20 * time.Minute).Milliseconds()
		}, nil, ""},
		{"delayed and told", busy, func(l *pb.Leg) { l.BornMs -= (30 * time.Minute).Milliseconds(); l.DelayNotified = true }, nil, ""},
		{"delay not asked", busy, func(l *pb.Leg) {
			l.BornMs -= (30 * time.Minute).Milliseconds()
			l.Recipients[0].Notify = []pb.Notify{failure}
		}, nil, ""},
		{"delay asked", busy, func(l *pb.Leg) {
			l.BornMs -= (30 * time.Minute).Milliseconds()
			l.Recipients[0].Notify = []pb.Notify{delay}
		}, []dsn.Kind{dsn.Delayed}, ""},
		{"a bounce that fails", no, func(l *pb.Leg) { l.ReversePath = ""; l.BornMs = noon.UnixMilli() }, []dsn.Kind{dsn.Failed}, ""},
		{"its report that fails", no, func(l *pb.Leg) {
			l.ReversePath, l.Origin, l.Prepend, l.BornMs = "", pb.Origin_ORIGIN_DSN, []byte(doubleMark), noon.UnixMilli()
		}, []dsn.Kind{dsn.Failed}, policyTriple},
		{"its report that fails after it was moved", no, func(l *pb.Leg) {
			l.ReversePath, l.Origin, l.Prepend, l.BornMs = "", pb.Origin_ORIGIN_REROUTE, []byte(doubleMark), noon.UnixMilli()
		}, []dsn.Kind{dsn.Failed}, policyTriple},
		{"a bounce's success and delay are not told", busy, func(l *pb.Leg) { l.ReversePath = "" }, nil, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := testLeg("a@acme.example")
			c.change(l)
			tr := testTrip(t, l, c.o)
			ns := tr.notices(tr.rest(), 30*time.Minute)
			if len(ns) != len(c.want) {
				t.Fatalf("%d notices, want %v", len(ns), c.want)
			}
			for i, n := range ns {
				if n.kind != c.want[i] || n.policy != c.policy || n.double != (l.ReversePath == "") {
					t.Errorf("%+v, want %v", n, c.want[i])
				}
			}
		})
	}
}

func TestExpiryTakesTheDeferred(t *testing.T) {
	tr := testTrip(t, testLeg("a@acme.example", "b@acme.example"), replied(transport.AtDot, 250, ""), replied(transport.AtRcpt, 450, "4.2.1"))
	tr.expire()
	if tr.rest() != nil {
		t.Error("something is left")
	}
	es := tr.events(nil)
	if len(es) != 3 || es[0].Type != pb.EventType_EVENT_TYPE_ATTEMPTED || es[1].Type != pb.EventType_EVENT_TYPE_DELIVERED ||
		es[2].Type != pb.EventType_EVENT_TYPE_EXPIRED || es[2].Outcomes[0].Number != 1 {
		t.Errorf("%v", es)
	}
}

// An event for an attempt is told unless the delivered event tells it all.
func TestPlainSuccessIsOneEvent(t *testing.T) {
	taken, refused := replied(transport.AtDot, 250, ""), replied(transport.AtRcpt, 450, "4.2.1")
	l := testLeg("a@acme.example", "b@acme.example")
	passed := testTrip(t, l, taken, taken)
	passed.tries = []transport.Try{{Host: "mx1.acme.example"}}
	dropped := testTrip(t, l, taken, taken)
	dropped.fates[0].dropped = true
	for name, c := range map[string]struct {
		trip *trip
		told bool
	}{
		"all delivered":      {testTrip(t, l, taken, taken), false},
		"one deferred":       {testTrip(t, l, taken, refused), true},
		"a host passed over": {passed, true},
		"one discarded":      {dropped, true},
	} {
		es := c.trip.events(nil)
		if told := es[0].Type == pb.EventType_EVENT_TYPE_ATTEMPTED; told != c.told || es[len(es)-1].Attempt != l.Attempt+1 {
			t.Errorf("%s: %v", name, es)
		}
	}
}

// The peer has a duty to report only where somebody asked to hear of success.
func TestPeerReports(t *testing.T) {
	l := testLeg("a@acme.example", "b@acme.example")
	l.Recipients[1].Notify = []pb.Notify{pb.Notify_NOTIFY_SUCCESS}
	tr := testTrip(t, l)
	taken := replied(transport.AtDot, 250, "")
	taken.DSN = true
	fates := judge(tr.plan, l.Recipients, transport.Result{Outcomes: []transport.Outcome{taken, taken}})
	if fates[0].peer || !fates[1].peer {
		t.Errorf("duties %v %v, want the second alone", fates[0].peer, fates[1].peer)
	}
}

// A leg that came in time and is found too late is owed its attempt, also when
// it is spilled for want of room; not for ever, nor where nothing would take it.
func TestOwedAttempts(t *testing.T) {
	over := func(l *pb.Leg) { l.BornMs = noon.Add(-2 * time.Hour).UnixMilli() }
	for _, c := range []struct {
		name   string
		stored time.Duration // ago
		change func(*pb.Leg)
		known  bool
		why    why
		owed   bool
	}{
		{"came in time", 90 * time.Minute, over, true, overShare, true},
		{"came too late", 30 * time.Minute, over, true, overShare, false},
		{"never tried, came too late", 30 * time.Minute, func(l *pb.Leg) { over(l); l.Attempt = 0 }, true, overShare, true},
		{"in time, by a clock that isn't known", 90 * time.Minute, over, false, overShare, false},
		{"told to be expired", 90 * time.Minute, func(l *pb.Leg) { over(l); l.Expired = true }, true, overShare, false},
		{"young", time.Minute, func(*pb.Leg) {}, true, overShare, false},
		{"marked, no room once more", 30 * time.Minute, func(l *pb.Leg) { over(l); l.Owed, l.Spills = true, 3 }, true, overShare, true},
		{"marked, no room too often", 30 * time.Minute, func(l *pb.Leg) { over(l); l.Owed, l.Spills = true, owedSpills }, true, overShare, false},
		{"its destination is dead", 90 * time.Minute, over, true, breakerOpen, false},
		{"its queue is on hold", 90 * time.Minute, over, true, queueHeld, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			v, l := testView(t), testLeg("a@acme.example")
			c.change(l)
			task := &task{leg: l, job: &bus.Job{Record: bus.Record{Time: noon.Add(-c.stored)}}}
			p := task.plan(v, c.known)
			if c.owed && p.action != toAttempt {
				t.Errorf("%s", actionNames[p.action])
			}
			if next := spilledLeg(l, p, v, spill{why: c.why, due: noon.Add(time.Minute)}); next.Owed != c.owed {
				t.Errorf("owed: %v", next.Owed)
			}
		})
	}
}

// A recipient at localhost is at this site: what was decided about is asked of
// DNS.
func TestTargetIsWhatWasDecided(t *testing.T) {
	docs, err := directory.Parse(directory.File{Name: "test.yaml", Data: []byte("kind: site\nme: hub.example\n---\nkind: route\nname: mx\nmatch: {domain: \"*\"}\nvia: smtp://mx\n")})
	if err != nil {
		t.Fatal(err)
	}
	s, err := directory.Build(docs)
	if err != nil {
		t.Fatal(err)
	}
	for to, want := range map[string]string{"root@localhost": "hub.example", "a@B\u00fccher.example": "xn--bcher-kva.example", "a@acme.example": "acme.example"} {
		if got := target(plan{decision: s.Decide(directory.Question{Recipient: to})}); got.Domain != want || got.Host != "mx" {
			t.Errorf("%s: %+v", to, got)
		}
	}
}

// A report names the host that said what it tells, not the last one asked, and
// none where the words are ours.
func TestReportsNameWhoSaidIt(t *testing.T) {
	no := replied(transport.AtRcpt, 550, "5.1.1")
	no.Host = "mx1.acme.example"
	busy := replied(transport.AtRcpt, 450, "")
	busy.Host = "mx2.acme.example"
	down := transport.Outcome{Kind: transport.Failed, At: transport.AtConnect, Host: "mx2.acme.example", Status: mail.Status{Code: 451, Enhanced: "4.4.1"}}
	tr := testTrip(t, testLeg("a@acme.example", "b@acme.example"), no, down)
	tr.host = "mx2.acme.example"
	for i, want := range []string{"mx1.acme.example", ""} {
		if got := tr.reported(tr.fates[i]).Remote; got != want {
			t.Errorf("recipient %d: host %q, want %q", i, got, want)
		}
	}
	for want, o := range map[string]transport.Outcome{"mx2.acme.example": busy, "": down} {
		rest := testTrip(t, testLeg("a@acme.example"), o).rest()
		if rest.LastHost != want {
			t.Errorf("%s: last host %q, want %q", o.Kind, rest.LastHost, want)
		}
	}
}
