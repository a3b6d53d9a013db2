package fold

import (
	"fmt"
	"strings"
	"testing"

	pb "qstream/schemas/qstream/v1"
)

const born = 1_800_000_000_000

func testID(n byte) ID {
	var id ID
	_ = id.SetTime(born)
	id[15] = n
	return id
}

// ev is an event about message 1: type, leg, step and recipients "0,1".
func ev(kind pb.EventType, leg uint32, step uint64, recipients string) *pb.Event {
	e := &pb.Event{
		Type: kind, MessageId: testID(1).String(), Leg: leg, Step: step, AtMs: born + int64(step)*1000, Attempt: uint32(step),
		Tenant: "acme", Queue: "q", Destination: "acme.example", ReversePath: "ann@sender.example",
	}
	for r := range strings.SplitSeq(recipients, ",") {
		var n uint32
		if _, err := fmt.Sscan(r, &n); err == nil {
			e.Outcomes = append(e.Outcomes, &pb.Outcome{Number: n, Address: fmt.Sprintf("r%d@acme.example", n)})
		}
	}
	return e
}

func because(e *pb.Event, reason pb.Reason, due int64, code uint32, text string) *pb.Event {
	e.Reason, e.DueMs = reason, due
	for _, o := range e.Outcomes {
		o.Status = &pb.Status{Code: code, Text: text}
	}
	return e
}

// toScan marks an event whose leg, of the number, goes to be scanned.
func toScan(e *pb.Event, leg uint32) *pb.Event {
	e.Leg, e.Scan = leg, &pb.Scan{State: pb.ScanState_SCAN_STATE_WANTED, Policy: "p"}
	return e
}

// brief says where a message's recipients and legs are.
func brief(m *Message) string {
	var b strings.Builder
	for _, r := range m.Recipients {
		fmt.Fprintf(&b, "r%d %d in %d ends %d; ", r.Number, r.State, r.Leg, r.Ends)
	}
	for _, l := range m.Legs {
		fmt.Fprintf(&b, "leg %d %s n=%d %s due %d %d %s; ", l.Number, l.Place, l.Recipients, ReasonWord(l.Reason), l.DueMs, l.Code, l.Reply)
	}
	return strings.TrimSuffix(b.String(), "; ")
}

func TestApply(t *testing.T) {
	const (
		accepted  = pb.EventType_EVENT_TYPE_ACCEPTED
		routed    = pb.EventType_EVENT_TYPE_ROUTED
		attempted = pb.EventType_EVENT_TYPE_ATTEMPTED
		delivered = pb.EventType_EVENT_TYPE_DELIVERED
		deferred  = pb.EventType_EVENT_TYPE_DEFERRED
		bounced   = pb.EventType_EVENT_TYPE_BOUNCED
		expired   = pb.EventType_EVENT_TYPE_EXPIRED
		discarded = pb.EventType_EVENT_TYPE_DISCARDED
		released  = pb.EventType_EVENT_TYPE_RELEASED
		parked    = pb.EventType_EVENT_TYPE_PARKED
		rerouted  = pb.EventType_EVENT_TYPE_REROUTED
		spilled   = pb.EventType_EVENT_TYPE_SPILLED
		held      = pb.EventType_EVENT_TYPE_HELD
		dead      = pb.EventType_EVENT_TYPE_DEADLETTERED
	)
	in := []*pb.Event{ev(accepted, 0, 0, "0,1"), ev(routed, 0, 1, "0"), ev(routed, 1, 1, "1")}
	for _, c := range []struct {
		name   string
		events []*pb.Event
		want   string
	}{
		{"accepted", in[:1], "r0 0 in -1 ends 0; r1 0 in -1 ends 0; leg -1 received n=2  due 0 0 "},
		{"routed", in, "r0 0 in 0 ends 0; r1 0 in 1 ends 0; leg 0 queue n=1  due 0 0 ; leg 1 queue n=1  due 0 0 "},
		{"attempted", append(in, ev(attempted, 0, 1, "")), "r0 0 in 0 ends 0; r1 0 in 1 ends 0; leg 0 queue n=1  due 0 0 ; leg 1 queue n=1  due 0 0 "},
		{"delivered", append(in, ev(delivered, 0, 1, "0")), "r0 1 in 0 ends 1; r1 0 in 1 ends 0; leg 1 queue n=1  due 0 0 "},
		{"all ways to end", append(in, ev(delivered, 0, 1, "0"), ev(bounced, 1, 1, "1")), "r0 1 in 0 ends 1; r1 2 in 1 ends 1"},
		{"expired, discarded", append(in, ev(expired, 0, 1, "0"), ev(discarded, 1, 1, "1")), "r0 3 in 0 ends 1; r1 4 in 1 ends 1"},
		{"deferred", append(in, because(ev(deferred, 0, 1, "0"), pb.Reason_REASON_DEFERRED, born+7, 451, "later")),
			"r0 0 in 0 ends 0; r1 0 in 1 ends 0; leg 0 delay n=1 deferred due 1800000000007 451 later; leg 1 queue n=1  due 0 0 "},
		{"released keeps the reply", append(in, because(ev(deferred, 0, 1, "0"), pb.Reason_REASON_DEFERRED, born+7, 451, "later"), ev(held, 0, 2, "0"), ev(released, 0, 3, "0")),
			"r0 0 in 0 ends 0; r1 0 in 1 ends 0; leg 0 queue n=1  due 0 451 later; leg 1 queue n=1  due 0 0 "},
		{"spilled", append(in, because(ev(spilled, 0, 1, "0"), pb.Reason_REASON_BREAKER, born+9, 0, "")),
			"r0 0 in 0 ends 0; r1 0 in 1 ends 0; leg 0 delay n=1 breaker due 1800000000009 0 ; leg 1 queue n=1  due 0 0 "},
		{"parked", append(in, because(ev(parked, 0, 1, "0"), pb.Reason_REASON_SUSPENDED, 0, 0, "")),
			"r0 0 in 0 ends 0; r1 0 in 1 ends 0; leg 0 parked n=1 suspended due 0 0 ; leg 1 queue n=1  due 0 0 "},
		{"rerouted waits for the router", append(in, ev(rerouted, 0, 2, "0")),
			"r0 0 in 0 ends 0; r1 0 in 1 ends 0; leg 0 reinject n=1  due 0 0 ; leg 1 queue n=1  due 0 0 "},
		{"and gets a new leg", append(in, ev(rerouted, 0, 2, "0"), ev(routed, 1_000_000, 1, "0")),
			"r0 0 in 1000000 ends 0; r1 0 in 1 ends 0; leg 1 queue n=1  due 0 0 ; leg 1000000 queue n=1  due 0 0 "},
		{"dead records wait", append(in, ev(dead, 0, 1, "0")),
			"r0 0 in 0 ends 0; r1 0 in 1 ends 0; leg 0 deadletter n=1  due 0 0 ; leg 1 queue n=1  due 0 0 "},
		{"a repetition counts once", append(in, ev(delivered, 0, 1, "0"), ev(delivered, 0, 1, "0")), "r0 1 in 0 ends 1; r1 0 in 1 ends 0; leg 1 queue n=1  due 0 0 "},
		{"a duplicate counts", append(in, ev(delivered, 0, 1, "0"), ev(delivered, 0, 3, "0")), "r0 1 in 0 ends 2; r1 0 in 1 ends 0; leg 1 queue n=1  due 0 0 "},
		{"what has ended stays", append(in, ev(delivered, 0, 1, "0"), ev(deferred, 0, 1, "0"), ev(routed, 5, 1, "0"), ev(bounced, 5, 1, "0")),
			"r0 1 in 0 ends 2; r1 0 in 1 ends 0; leg 1 queue n=1  due 0 0 "},
		{"never heard of", []*pb.Event{ev(delivered, 3, 4, "2")}, "r2 1 in 3 ends 1"},
		{"never heard of, waits", []*pb.Event{ev(released, 3, 4, "2")}, "r2 0 in 3 ends 0; leg 3 queue n=1  due 0 0 "},
		{"to be scanned", append(in, toScan(ev(routed, 0, 1, "0"), 5)), "r0 0 in 5 ends 0; r1 0 in 1 ends 0; leg 1 queue n=1  due 0 0 ; leg 5 scan n=1  due 0 0 "},
		{"released to be scanned", append(in, toScan(ev(released, 0, 3, "0"), 0)), "r0 0 in 0 ends 0; r1 0 in 1 ends 0; leg 0 scan n=1  due 0 0 ; leg 1 queue n=1  due 0 0 "},
		{"scanned", append(in, toScan(ev(released, 0, 3, "0"), 0), ev(pb.EventType_EVENT_TYPE_SCANNED, 0, 4, "0")),
			"r0 0 in 0 ends 0; r1 0 in 1 ends 0; leg 0 queue n=1  due 0 0 ; leg 1 queue n=1  due 0 0 "},
		{"not scanned", append(in, because(ev(pb.EventType_EVENT_TYPE_UNSCANNED, 0, 4, "0"), pb.Reason_REASON_SCAN, born+9, 0, "")),
			"r0 0 in 0 ends 0; r1 0 in 1 ends 0; leg 0 delay n=1 scan due 1800000000009 0 ; leg 1 queue n=1  due 0 0 "},
		{"quarantined", append(in, because(ev(pb.EventType_EVENT_TYPE_QUARANTINED, 0, 4, "0"), pb.Reason_REASON_QUARANTINE, born+9, 0, "")),
			"r0 0 in 0 ends 0; r1 0 in 1 ends 0; leg 0 quarantine n=1 quarantine due 1800000000009 0 ; leg 1 queue n=1  due 0 0 "},
		{"a type of a later version", append(in, ev(99, 0, 1, "0")), "r0 0 in 0 ends 0; r1 0 in 1 ends 0; leg 0 queue n=1  due 0 0 ; leg 1 queue n=1  due 0 0 "},
	} {
		t.Run(c.name, func(t *testing.T) {
			var b Batch
			for i, e := range c.events {
				b.Add(e, At{Offset: int64(i), Seq: int64(i)})
			}
			res := b.Fold(nil, 0)
			m := res.Messages[0]
			if got := brief(m); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
			var open int64
			for _, r := range m.Recipients {
				if r.State == Open {
					open++
				}
			}
			var sum int64
			for _, s := range res.Accounts {
				sum += s.Open()
			}
			if sum != open {
				t.Errorf("accounts tell %d open recipients, there are %d", sum, open)
			}
		})
	}
}

// TestChild: a DSN is known, and waits, from the event on that made it.
func TestChild(t *testing.T) {
	forwarded := ev(pb.EventType_EVENT_TYPE_FORWARDED, 0, 1, "")
	forwarded.ChildId = testID(3).String()
	if n, ok := ChildOf(forwarded, 1); !ok || n.ID != testID(3) || n.Opened != Generated || n.Parent != testID(1) {
		t.Errorf("a forwarded message is noted as %+v, %t", n, ok)
	}
	dsn := ev(pb.EventType_EVENT_TYPE_DSN, 0, 1, "0")
	dsn.ChildId = testID(2).String()
	routed := &pb.Event{
		Type: pb.EventType_EVENT_TYPE_ROUTED, MessageId: dsn.ChildId, ParentId: dsn.MessageId, Origin: pb.Origin_ORIGIN_DSN,
		Tenant: "acme", Queue: "q", Step: 1, AtMs: born + 5, Outcomes: []*pb.Outcome{{Address: "ann@sender.example"}},
	}
	for name, events := range map[string][]*pb.Event{"first": {dsn}, "then routed": {dsn, routed}, "routed first": {routed, dsn}} {
		t.Run(name, func(t *testing.T) {
			var b Batch
			for i, e := range events {
				b.Add(e, At{Offset: int64(i)})
			}
			var child *Message
			for _, m := range b.Fold(nil, 0).Messages {
				if m.ID == testID(2) {
					child = m
				}
			}
			want := "r0 0 in 0 ends 0; leg 0 queue n=1  due 0 0 "
			if name == "first" {
				want = "r0 0 in -1 ends 0; leg -1 reinject n=1  due 0 0 "
			}
			if got := brief(child); got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
			if child.Parent != testID(1) || child.Opened != Generated || child.Recipients[0].Opened != Generated {
				t.Errorf("parent %s, opened %d and %d", child.Parent, child.Opened, child.Recipients[0].Opened)
			}
		})
	}
}

func FuzzTold(f *testing.F) {
	var t Told
	t.add(mark{Partition: 2, Offset: 1 << 40, Type: 4, Leg: 3, Step: 9, First: 7})
	t.add(mark{Partition: 2, Offset: 5, Type: 5, First: -1})
	f.Add(t.Packed())
	f.Fuzz(func(t *testing.T, packed []byte) {
		told, err := Unpack(packed)
		if err != nil {
			return
		}
		var again Told
		n := 0
		if err := told.each(func(k mark) bool {
			again.add(k)
			n++
			return true
		}); err != nil || n != told.Len() {
			t.Fatalf("%d of %d events: %v", n, told.Len(), err)
		}
		if _, err := Unpack(again.Packed()); err != nil {
			t.Fatal(err)
		}
	})
}

// Many events of a message are told apart by an index.
func TestToldMany(t *testing.T) {
	var told Told
	for i := range 3 * few {
		if !told.add(mark{Offset: int64(i), Type: 4, Step: uint64(i), First: 0}) {
			t.Fatalf("event %d repeats one", i)
		}
	}
	read, err := Unpack(told.Packed())
	if err != nil || read.Len() != 3*few {
		t.Fatalf("%d events, %v", read.Len(), err)
	}
	if read.add(mark{Offset: 99, Type: 4, Step: 2, First: 0}) {
		t.Error("a repetition is new")
	}
}
