package then

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"qstream/directory"
	"qstream/directory/ruling"
	"qstream/mail"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
)

// leg is what earlier events say of a leg.
type leg struct {
	tenant  string // as it was resolved last
	queue   string // that a scan policy sent it to
	refused bool   // settled as it was routed, without another decision
	stopped bool   // its lifetime stood still, for how long isn't recorded
	waits   time.Time
}

// explain goes through the events in the log's order: a leg's follow each other
// there, while clocks of hosts may differ. What was decided is told by its time.
func (h *history) explain() *Message {
	m := &Message{ID: h.id, ReversePath: h.events[0].ReversePath, Numbers: slices.Sorted(maps.Keys(h.numbers()))}
	legs := map[uint32]*leg{}
	for _, e := range h.events {
		l := legs[e.Leg]
		if l == nil {
			l = &leg{}
			legs[e.Leg] = l
		}
		m.Decisions = append(m.Decisions, h.decisions(e, l)...)
		l.take(e)
	}
	slices.SortStableFunc(m.Decisions, func(a, b Decision) int { return a.At.Compare(b.At) })
	return m
}

// take notes what later decisions about the leg depend on.
func (l *leg) take(e *pb.Event) {
	if e.Type == pb.EventType_EVENT_TYPE_ACCEPTED {
		return
	}
	l.tenant = e.Tenant
	if q := e.Scan.GetQueue(); q != "" {
		l.queue = q
	}
	switch e.Type {
	case pb.EventType_EVENT_TYPE_ROUTED:
		l.refused = slices.ContainsFunc(e.Outcomes, func(o *pb.Outcome) bool { return o.Status != nil })
	case pb.EventType_EVENT_TYPE_SCANNED:
		l.refused = l.refused || e.Scan.GetAction() == directory.ActReject
	case pb.EventType_EVENT_TYPE_PARKED, pb.EventType_EVENT_TYPE_QUARANTINED:
		l.stopped = true
	case pb.EventType_EVENT_TYPE_UNSCANNED:
		if l.waits.IsZero() {
			l.waits = began(e)
		}
	}
}

// began is when the scan of an event began.
func began(e *pb.Event) time.Time { return time.UnixMilli(e.AtMs - e.TookMs) }

// decisions are those that an event tells of, one for each recipient.
func (h *history) decisions(e *pb.Event, l *leg) []Decision {
	var kind func(*pb.Event, *leg, *pb.Outcome, *directory.Snapshot, *Decision)
	switch e.Type {
	case pb.EventType_EVENT_TYPE_ACCEPTED:
		kind = h.accepted
	case pb.EventType_EVENT_TYPE_ROUTED:
		kind = h.routed
	case pb.EventType_EVENT_TYPE_DELIVERED, pb.EventType_EVENT_TYPE_DEFERRED, pb.EventType_EVENT_TYPE_BOUNCED:
		kind = h.attempted
	case pb.EventType_EVENT_TYPE_SCANNED, pb.EventType_EVENT_TYPE_QUARANTINED:
		kind = h.scanned
	}
	if kind == nil || l.refused {
		return nil
	}
	var ds []Decision
	for _, o := range e.Outcomes {
		d := Decision{
			At: time.UnixMilli(e.AtMs).UTC(), Event: strings.ToLower(strings.TrimPrefix(e.Type.String(), "EVENT_TYPE_")),
			Leg: e.Leg, Attempt: e.Attempt, Number: e.Directory, Recipient: o.Address, Result: Unknown,
		}
		if s := h.snapshots[e.Directory]; s == nil {
			d.Why = fmt.Sprintf("the directory has no snapshot %d", e.Directory)
		} else {
			kind(e, l, o, s, &d)
		}
		ds = append(ds, d)
	}
	return ds
}

// compare ends a decision that could be made again.
func (d *Decision) compare(again Answer) {
	d.Again, d.Result = &again, Same
	if again == d.Recorded {
		return
	}
	d.Result = Different
	for _, f := range []struct{ name, was, is string }{
		{"tenant", d.Recorded.Tenant, again.Tenant}, {"queue", d.Recorded.Queue, again.Queue},
		{"destination", d.Recorded.Destination, again.Destination}, {"route", d.Recorded.Route, again.Route},
		{"scan policy", d.Recorded.Scan, again.Scan}, {"refusal", d.Recorded.Refusal, again.Refusal},
		{"action", d.Recorded.Action, again.Action}, {"finding", d.Recorded.Finding, again.Finding},
		{"due", d.Recorded.Due, again.Due},
	} {
		if f.was != f.is {
			d.Why = strings.TrimPrefix(d.Why+fmt.Sprintf("; %s was %s, is %s", f.name, orNone(f.was), orNone(f.is)), "; ")
		}
	}
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

// accepted: the edge took the recipient, so that it may not have been refused.
func (h *history) accepted(e *pb.Event, _ *leg, o *pb.Outcome, s *directory.Snapshot, d *Decision) {
	in := h.entryOf(e)
	if in == nil {
		d.Why = "the received record isn't kept any more"
		return
	}
	ask := func(s *directory.Snapshot) (Answer, []string) {
		q := directory.Question{Recipient: o.Address, Tenant: in.tenant, NullSender: in.nullSender}
		found := s.Explain(q)
		if !in.session.GetRelay() && s.Owner(mail.Domain(o.Address)) == nil {
			return Answer{Refusal: "550 5.7.1 relaying denied"}, found.Steps
		}
		return Answer{Refusal: refusal(found)}, found.Steps
	}
	again, steps := ask(s)
	d.Steps = steps
	d.compare(again)
	if h.now != nil {
		now, _ := ask(h.now)
		d.Now = &now
	}
}

// refusal is one for good; others are an attempt's outcome.
func refusal(d directory.Decision) string {
	if d.Refusal == nil || d.Refusal.Temporary() {
		return ""
	}
	return d.Refusal.String()
}

// placed is where a decision puts a recipient.
func placed(d directory.Decision) Answer {
	return Answer{Tenant: d.Tenant, Queue: d.Queue.Name, Destination: d.Destination, Route: d.Route, Scan: d.Scan, Refusal: refusal(d)}
}

// place makes the decision about a recipient's place again.
func (h *history) place(q directory.Question, s *directory.Snapshot, d *Decision, mask func(*directory.Snapshot, Answer) Answer) {
	found := s.Explain(q)
	d.Steps = found.Steps
	d.compare(mask(s, placed(found)))
	if h.now != nil {
		now := mask(h.now, placed(h.now.Decide(q)))
		d.Now = &now
	}
}

// routed: the router gave the recipient its place, or refused it.
func (h *history) routed(e *pb.Event, _ *leg, o *pb.Outcome, s *directory.Snapshot, d *Decision) {
	in := h.entryOf(e)
	d.Recorded = Answer{Tenant: e.Tenant, Queue: e.Queue, Destination: e.Destination, Route: e.Route, Scan: e.Scan.GetPolicy()}
	if o.Status != nil {
		d.Recorded.Refusal = mail.Status{Code: int(o.Status.Code), Enhanced: o.Status.Enhanced, Text: o.Status.Text}.String()
	}
	if in == nil {
		d.Why = "the record that it was routed from isn't kept any more"
		return
	}
	q := directory.Question{Recipient: o.Address, NullSender: in.nullSender, Tenant: in.tenant, Queue: in.queue, Route: in.byRoute}
	h.place(q, s, d, func(s *directory.Snapshot, a Answer) Answer {
		if e.Scan == nil { // a policy that mail is exempt from, or was scanned by, isn't told
			a.Scan = ""
		} else {
			a.Scan = in.asked(s, a.Scan)
		}
		return a
	})
	if owed := d.Again.Scan; owed != "" && owed != s.Decide(q).Scan {
		d.Steps = append(d.Steps, "scan policy "+owed+" first, by the rule of the client's connection")
	}
}

// asked is the policy that the router has a leg scanned by; own is that of its
// tenant and queue. What is owed to the connection's rule comes first.
func (in *entry) asked(s *directory.Snapshot, own string) string {
	scan := in.scan
	if in.origin == pb.Origin_ORIGIN_UNSPECIFIED {
		scan = s.Believed(scan)
	}
	if !schemas.WantsScan(own, scan) {
		return ""
	}
	return schemas.Wanted(own, scan).Policy
}

// attempted: deliver found the place again before the attempt; and a deferred
// leg was due by the queue's schedule.
func (h *history) attempted(e *pb.Event, l *leg, o *pb.Outcome, s *directory.Snapshot, d *Decision) {
	d.Recorded = Answer{Tenant: e.Tenant, Queue: e.Queue, Destination: e.Destination, Route: e.Route}
	due, known := "", false
	if e.Type == pb.EventType_EVENT_TYPE_DEFERRED {
		if due, known = h.due(e, l, s); known {
			d.Recorded.Due = stamp(e.DueMs)
		}
	}
	q := directory.Question{Recipient: o.Address, NullSender: e.ReversePath == "", Tenant: l.tenant, Queue: l.queue, Route: h.byRoute()}
	h.place(q, s, d, func(_ *directory.Snapshot, a Answer) Answer {
		a.Scan, a.Refusal = "", "" // told by the outcome
		a.Due = due
		return a
	})
	d.Now.dueless()
}

// dueless takes what a time of today would say nothing about.
func (a *Answer) dueless() {
	if a != nil {
		a.Due = ""
	}
}

func stamp(ms int64) string { return time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05.000Z") }

// due is when the leg was due by the schedule. It isn't known where a lifetime
// stood still, or where something else than the schedule decided.
func (h *history) due(e *pb.Event, l *leg, s *directory.Snapshot) (string, bool) {
	in, q := h.entryOf(e), s.Queue(e.Queue)
	if in == nil || q == nil || l.stopped || e.Reason != pb.Reason_REASON_DEFERRED {
		return "", false
	}
	at := time.UnixMilli(e.AtMs)
	end := q.Expires(in.born, in.stopped, in.nullSender)
	due := q.Schedule.NextSpread(in.born, at, int(e.Attempt), h.id, end)
	if end.After(at) && due.After(end) {
		due = end
	}
	if wait := e.DueMs - e.AtMs; wait == directory.CutWait.Milliseconds() && due.UnixMilli() != e.DueMs {
		return "", false // cut off at a stop: not by the schedule
	}
	// The event's own time lost its fraction of a millisecond.
	if d := due.UnixMilli() - e.DueMs; d >= -1 && d <= 1 {
		return stamp(e.DueMs), true
	}
	return stamp(due.UnixMilli()), true
}

// scanned: the policy made something of the verdicts.
func (h *history) scanned(e *pb.Event, l *leg, o *pb.Outcome, s *directory.Snapshot, d *Decision) {
	d.Recorded = Answer{Scan: e.Scan.GetPolicy(), Action: e.Scan.GetAction(), Finding: e.Scan.GetFinding()}
	p, in := s.Scan(e.Scan.GetPolicy()), h.entryOf(e)
	switch {
	case p == nil:
		d.Why = "the snapshot has no scan policy of that name"
		return
	case in == nil:
		d.Why = "the record that it was routed from isn't kept any more"
		return
	}
	verdicts := ruling.Read(e.Scan.Verdicts)
	if n := len(verdicts); n > 0 && e.Scan.Finding == directory.FindPoison {
		verdicts[n-1].Poison = true
	}
	c := ruling.Case{Domains: []string{mail.Domain(o.Address)}, Answers: ruling.Answerable(e.ReversePath, in.session, in.verified)}
	if !l.waits.IsZero() {
		c.Waited = time.UnixMilli(e.AtMs).Sub(l.waits)
	}
	judged := func(s *directory.Snapshot) *Answer {
		p := s.Scan(e.Scan.Policy)
		if p == nil {
			return nil
		}
		r := ruling.Judge(p, verdicts, c)[0]
		return &Answer{Scan: p.Name, Action: r.Action, Finding: r.Finding}
	}
	again := judged(s)
	d.compare(*again)
	if d.Result == Different && d.Recorded.Finding == directory.FindRefused {
		d.Result, d.Why = Unknown, "which recipients an engine refused isn't recorded"
	}
	if h.now != nil {
		d.Now = judged(h.now)
	}
}
