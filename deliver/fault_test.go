package deliver

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"qstream/bus"
	"qstream/bus/bustest"
	"qstream/control"
	"qstream/deliver/dsn"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
	"qstream/test/fakemx"
)

// A worker that is stopped awaits replies to final dots, so that nothing is
// sent twice.
func TestStopAwaitsReplies(t *testing.T) {
	t.Parallel()
	hold := make(chan struct{})
	r := newRig(t, fakemx.Config{Rules: []fakemx.Rule{{Line: ".", Hold: hold}}}, "")
	var sent atomic.Int64
	w := r.start(r.b, Config{}, dots(&sent))
	r.put(r.acme("bob@acme.example"), r.acme("carol@acme.example"))
	eventually(t, "two final dots", func() bool { return sent.Load() == 2 })
	stopped := make(chan struct{})
	go func() { w.stop(); close(stopped) }()
	select {
	case <-stopped:
		t.Error("stopped without the replies")
	case <-time.After(300 * time.Millisecond):
	}
	close(hold)
	<-stopped
	r.start(r.b, Config{}, nil)
	r.want(pb.EventType_EVENT_TYPE_DELIVERED, 2)
	r.put(r.acme("last@acme.example"))
	r.want(pb.EventType_EVENT_TYPE_DELIVERED, 3)
	if n := len(r.mx.Messages()); n != 3 {
		t.Errorf("the peer got %d messages, want 3", n)
	}
}

// A lifetime that stands still because its scope was suspended while an attempt
// was under way does not end with that attempt.
func TestSuspendedAmidAnAttempt(t *testing.T) {
	t.Parallel()
	hold := make(chan struct{})
	r := newRig(t, fakemx.Config{Rules: []fakemx.Rule{{Line: ".", Hold: hold, Reply: "451 4.3.0 busy"}}}, "")
	var sent, ahead atomic.Int64
	now := func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	w := r.start(r.b, Config{}, func(d *Deps) { dots(&sent)(d); d.Now = now })
	l := r.acme("bob@acme.example")
	end := time.Now().Add(20 * time.Minute)
	l.Attempt, l.BornMs = 1, end.Add(-time.Hour).UnixMilli()
	r.put(l)
	eventually(t, "a final dot", func() bool { return sent.Load() == 1 })
	if _, err := control.Send(t.Context(), r.b, control.Command{Verb: "suspend", Scope: control.Scope{Tenant: "acme"}}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the suspension", func() bool {
		_, ok := w.deps.Control.State().Suspended("acme", "acme", l.Destination)
		return ok
	})
	ahead.Store(int64(time.Until(end) + time.Minute))
	close(hold)
	r.want(pb.EventType_EVENT_TYPE_DEFERRED, 1)
}

// journaled counts the journal's entries about the queue.
func (r *rig) journaled() (n int) {
	for _, rec := range bustest.Records(r.t, r.b, schemas.Journal) {
		var j pb.Journaled
		if proto.Unmarshal(rec.Value, &j) == nil && j.Topic == r.queue {
			n++
		}
	}
	return n
}

// dots counts final dots in a worker.
func dots(n *atomic.Int64) func(*Deps) {
	return func(d *Deps) {
		d.Failpoint = func(name string) {
			if name == "deliver.dot.after" {
				n.Add(1)
			}
		}
	}
}

// heard counts the client lines that begin with prefix.
func (r *rig) heard(prefix string) (n int) {
	for _, line := range r.mx.Lines() {
		if strings.HasPrefix(line, prefix) {
			n++
		}
	}
	return n
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited 20 s for %s", what)
		}
	}
}

// A worker that is stopped before the final dot cuts the attempt: the next
// owner makes it, and it doesn't count.
func TestStopCutsBeforeTheDot(t *testing.T) {
	t.Parallel()
	hold := make(chan struct{})
	r := newRig(t, fakemx.Config{Rules: []fakemx.Rule{{Line: "RCPT", Hold: hold, Times: 1}}}, "")
	w := r.start(r.b, Config{}, nil)
	r.put(r.acme("bob@acme.example"))
	eventually(t, "an attempt", func() bool { return r.heard("RCPT") == 1 })
	w.stop()
	close(hold)
	r.start(r.b, Config{}, nil)
	if e := r.want(pb.EventType_EVENT_TYPE_DELIVERED, 1)[0]; e.Attempt != 1 {
		t.Errorf("attempt %d", e.Attempt)
	}
	if n := len(r.mx.Accepted()); n != 1 {
		t.Errorf("the peer got %d messages", n)
	}
}

// A reply that comes after the drain is over: the leg waits as unconfirmed.
func TestDrainEndsUnconfirmed(t *testing.T) {
	t.Parallel()
	hold := make(chan struct{})
	defer close(hold)
	r := newRig(t, fakemx.Config{Rules: []fakemx.Rule{{Line: ".", Hold: hold}}}, "")
	var sent atomic.Int64
	w := r.start(r.b, Config{Drain: 200 * time.Millisecond}, dots(&sent))
	r.put(r.acme("bob@acme.example"))
	eventually(t, "the final dot", func() bool { return sent.Load() == 1 })
	w.stop()
	e := r.want(pb.EventType_EVENT_TYPE_DEFERRED, 1)[0]
	wait := time.UnixMilli(e.DueMs).Sub(time.UnixMilli(e.AtMs))
	if e.Reason != pb.Reason_REASON_UNCONFIRMED || wait < 10*time.Minute {
		t.Errorf("%v, due in %v", e, wait)
	}
	topic, _ := schemas.Delay(wait)
	if l := r.waiting(topic, 1)[0]; l.Attempt != 1 || l.Reason != pb.Reason_REASON_UNCONFIRMED {
		t.Errorf("%v", l)
	}
}

// The transactions that would publish an outcome fail until the worker gives
// up, its journal doesn't: the next owner publishes the same outcome and
// doesn't send.
func TestTakeoverHonoursTheJournal(t *testing.T) {
	t.Parallel()
	r := newRig(t, fakemx.Config{Rules: []fakemx.Rule{{Line: "RCPT TO:<busy@", Reply: "450 4.2.1 busy"}}}, "")
	w := r.start(r.broker.Dial(t, bus.Config{Release: 2 * time.Second}), Config{}, nil)
	r.put(r.acme("first@acme.example"))
	r.want(pb.EventType_EVENT_TYPE_DELIVERED, 1)
	restore := r.broker.CutCommits()
	r.put(r.acme("bob@acme.example", "busy@acme.example"))
	eventually(t, "a journal entry", func() bool { return r.journaled() == 2 })
	w.stop()
	restore()
	r.start(r.b, Config{}, nil)
	if e := r.want(pb.EventType_EVENT_TYPE_DEFERRED, 1)[0]; e.Outcomes[0].Number != 1 {
		t.Errorf("%v", e)
	}
	for _, e := range r.want(pb.EventType_EVENT_TYPE_DELIVERED, 2) {
		if e.Outcomes[0].Number != 0 || len(e.Outcomes) != 1 {
			t.Errorf("%v", e)
		}
	}
	if n := len(r.mx.Messages()); n != 2 {
		t.Errorf("the peer got %d messages, want each of two once", n)
	}
}

func TestMarksOfAnEarlierOwner(t *testing.T) {
	t.Parallel()
	l := testLeg("a@acme.example", "b@acme.example")
	before := testTrip(t, l, replied(1, 250, ""), replied(1, 450, ""))
	before.fates[0].verdict, before.fates[0].peer = delivered, true
	mark, err := proto.Marshal(before.fresh())
	if err != nil {
		t.Fatal(err)
	}
	after := testTrip(t, l)
	after.fates = nil
	left := after.honour([][]byte{[]byte("\xff garbage"), mark})
	if len(left) != 1 || left[0].Number != 1 {
		t.Errorf("left: %v", left)
	}
	if len(after.fates) != 1 || after.fates[0].verdict != delivered || !after.fates[0].peer || after.host != "mx.acme.example" {
		t.Errorf("honoured: %+v", after.fates)
	}
	if after.fresh() != nil {
		t.Error("what was journaled is journaled again")
	}
}

// A dead destination opens its breaker: what waits goes to delay without an
// attempt.
func TestDeadDestinationSpills(t *testing.T) {
	t.Parallel()
	r := newRig(t, fakemx.Config{}, "")
	var ls []*pb.Leg
	for range 30 {
		ls = append(ls, r.acme("bob@acme.example"))
	}
	r.mx.Close()
	r.put(ls...)
	r.start(r.b, Config{}, nil)
	spilled := r.want(pb.EventType_EVENT_TYPE_SPILLED, 20)
	for _, e := range spilled {
		if e.Reason != pb.Reason_REASON_BREAKER || e.Attempt != 0 || e.DueMs-e.AtMs > time.Minute.Milliseconds() {
			t.Errorf("%v", e)
		}
	}
	topic, _ := schemas.Delay(time.Minute)
	legs := r.waiting(topic, 30)
	breaker := 0
	for _, l := range legs {
		if l.Reason == pb.Reason_REASON_BREAKER && l.Attempt == 0 && l.Spills == 1 {
			breaker++
		}
	}
	if breaker != len(spilled) {
		t.Errorf("%d legs of %d were spilled, %d told so", breaker, len(legs), len(spilled))
	}
}

// A bounce that bounces goes to who looks after it; that one's failure ends
// there.
func TestBouncesOfBouncesEnd(t *testing.T) {
	t.Parallel()
	r := newRig(t, fakemx.Config{Rules: []fakemx.Rule{{Line: "RCPT", Reply: "550 5.1.1 no"}}}, "double_bounce_to: postmaster@acme.example")
	r.start(r.b, Config{}, nil)
	bounce := r.acme("bob@acme.example")
	bounce.ReversePath, bounce.Origin = "", pb.Origin_ORIGIN_DSN
	r.put(bounce)
	double := r.reinjected(1)[0]
	if double.Envelope.Recipients[0].Address != "postmaster@acme.example" || double.Envelope.ReversePath != "" || string(double.Prepend) != doubleMark {
		t.Errorf("%v", double)
	}
	again := r.acme("postmaster@acme.example")
	again.ReversePath, again.Origin, again.Prepend = "", pb.Origin_ORIGIN_DSN, double.Prepend
	r.put(again)
	if e := r.want(pb.EventType_EVENT_TYPE_DISCARDED, 1)[0]; e.Text != policyTriple || e.ParentId != again.MessageId {
		t.Errorf("%v", e)
	}
	r.want(pb.EventType_EVENT_TYPE_BOUNCED, 2)
	r.reinjected(1)
}

// Reports to one sender are bounded; what is withheld is told.
func TestReportsAreBounded(t *testing.T) {
	t.Parallel()
	r := newRig(t, fakemx.Config{Rules: []fakemx.Rule{{Line: "RCPT", Reply: "550 5.1.1 no"}}}, "")
	r.apply("kind: tenant\nname: acme\ndomains: [acme.example, box.example]\ndsn_rate: 2\n")
	r.start(r.b, Config{}, nil)
	for range 5 {
		r.put(r.acme("bob@acme.example"))
	}
	r.want(pb.EventType_EVENT_TYPE_BOUNCED, 5)
	for _, e := range r.want(pb.EventType_EVENT_TYPE_DISCARDED, 3) {
		if e.Text != policyRate || e.Outcomes[0].Address != "alice@client.example" || e.ParentId == "" || e.MessageId == e.ParentId {
			t.Errorf("%v", e)
		}
	}
	r.reinjected(2)
}

// Who asked for success hears of it from us where the next hop makes no
// reports, or where we deliver; a report repeated has the same id.
func TestSuccessReports(t *testing.T) {
	t.Parallel()
	r := newRig(t, fakemx.Config{Extensions: []string{"PIPELINING"}}, "bounce_format: qsbmf")
	r.start(r.b, Config{}, nil)
	relayed, stored := r.acme("bob@acme.example"), r.leg(r.box, "bob@box.example")
	for _, l := range []*pb.Leg{relayed, stored} {
		l.Recipients[0].Notify = []pb.Notify{pb.Notify_NOTIFY_SUCCESS}
		r.put(l)
	}
	actions := map[string]string{}
	for _, m := range r.reinjected(2) {
		text := string(m.GetContent().GetInline())
		_, rest, _ := strings.Cut(text, "Action: ")
		action, _, _ := strings.Cut(rest, "\r\n")
		actions[m.ParentId] = action
		kind := map[string]dsn.Kind{"relayed": dsn.Relayed, "delivered": dsn.Delivered}[action]
		leg := map[string]*pb.Leg{relayed.MessageId: relayed, stored.MessageId: stored}[m.ParentId]
		if rec := r.record(leg); m.Id != dsn.ID(leg.MessageId, leg.Number, leg.Step, kind, rec.Time) {
			t.Errorf("%s: id %s doesn't repeat", action, m.Id)
		}
	}
	if actions[relayed.MessageId] != "relayed" || actions[stored.MessageId] != "delivered" {
		t.Errorf("%v", actions)
	}
}

// record is the leg's own record.
func (r *rig) record(l *pb.Leg) bus.Record {
	r.t.Helper()
	for _, rec := range bustest.Records(r.t, r.b, r.queue) {
		if header(rec, bus.HeaderID) == l.MessageId {
			return rec
		}
	}
	r.t.Fatalf("no leg of %s", l.MessageId)
	return bus.Record{}
}

// Content that can't be read is our trouble: also past its lifetime the leg
// doesn't bounce, it ends as a dead record.
func TestUnreadableContentNeverBounces(t *testing.T) {
	t.Parallel()
	r := newRig(t, fakemx.Config{}, "")
	r.start(r.b, Config{}, nil)
	lost, plain := r.acme("bob@acme.example"), r.acme("joe@acme.example")
	lost.Content.Sha256 = make([]byte, 32)
	for _, l := range []*pb.Leg{lost, plain} {
		l.Expired, l.Attempt = true, 1
	}
	r.put(lost, plain)
	if e := r.want(pb.EventType_EVENT_TYPE_EXPIRED, 1)[0]; e.MessageId != plain.MessageId {
		t.Errorf("expired: %v", e)
	}
	if e := r.want(pb.EventType_EVENT_TYPE_DEADLETTERED, 1)[0]; e.MessageId != lost.MessageId || len(e.Outcomes) != 1 {
		t.Errorf("dead: %v", e)
	}
	bustest.Want(t, r.b, schemas.Deadletter, 1)
	if m := r.reinjected(1)[0]; m.ParentId != plain.MessageId {
		t.Errorf("a report about %s", m.ParentId)
	}
}
