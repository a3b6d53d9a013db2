package delay

import (
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"qstream/bus"
	"qstream/bus/bustest"
	"qstream/control"
	"qstream/directory"
	"qstream/mail"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
)

func TestObeyed(t *testing.T) {
	docs, err := directory.Parse(directory.File{Name: "x", Data: []byte(scanSite)})
	if err != nil {
		t.Fatal(err)
	}
	snap, err := directory.Build(docs)
	if err != nil {
		t.Fatal(err)
	}
	since := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	type result struct {
		fate       fate
		topic      string
		event      pb.EventType
		recipients int
	}
	released, discarded, rerouted := pb.EventType_EVENT_TYPE_RELEASED, pb.EventType_EVENT_TYPE_DISCARDED, pb.EventType_EVENT_TYPE_REROUTED
	remains := result{fateKept, schemas.Quarantine, pb.EventType_EVENT_TYPE_QUARANTINED, 1}
	for _, c := range []struct {
		name  string
		order control.Order
		want  []result
		state pb.ScanState
		older []control.Order
	}{
		{"release", control.Order{Verb: control.Release}, []result{{fateReleased, schemas.Queue("acme", 1), released, 2}}, pb.ScanState_SCAN_STATE_EXEMPT, nil},
		{"release, to be scanned", control.Order{Verb: control.Release, Rescan: true}, []result{{fateReleased, schemas.Scan("acme", 1), released, 2}}, pb.ScanState_SCAN_STATE_WANTED, nil},
		{"delete", control.Order{Verb: control.Delete}, []result{{fateDropped, "", discarded, 2}}, pb.ScanState_SCAN_STATE_DONE, nil},
		{"release one", control.Order{Verb: control.Release, Recipients: []uint32{1}}, []result{{fateRerouted, "", rerouted, 1}, remains}, pb.ScanState_SCAN_STATE_EXEMPT, nil},
		{"delete one", control.Order{Verb: control.Delete, Recipients: []uint32{4}}, []result{{fateDropped, "", discarded, 1}, remains}, pb.ScanState_SCAN_STATE_DONE, nil},
		{"nobody here", control.Order{Verb: control.Delete, Recipients: []uint32{7}}, []result{{fateKept, schemas.Quarantine, 0, 2}}, pb.ScanState_SCAN_STATE_DONE, nil},
		{"release one, delete the other before", control.Order{Verb: control.Release, Recipients: []uint32{1}}, []result{{fateRerouted, "", rerouted, 1}, remains}, pb.ScanState_SCAN_STATE_EXEMPT,
			[]control.Order{{Verb: control.Delete, Recipients: []uint32{4}}}},
		{"of two about one the newest", control.Order{Verb: control.Release}, []result{{fateReleased, schemas.Queue("acme", 1), released, 2}}, pb.ScanState_SCAN_STATE_EXEMPT,
			[]control.Order{{Verb: control.Delete, Recipients: []uint32{4}}}},
		{"one by the newest, the rest by the older", control.Order{Verb: control.Delete, Recipients: []uint32{4}}, []result{{fateRerouted, "", rerouted, 1}, remains}, pb.ScanState_SCAN_STATE_EXEMPT,
			[]control.Order{{Verb: control.Release}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := heldBack(since, 240*time.Hour)
			l.Recipients = append(l.Recipients, &pb.Recipient{Number: 4, Address: "c@acme.example"})
			c.order.Actor, c.order.Reason = "op", "asked\r\nfor"
			w := world{decide: snap.Decide, queue: snap.Queue, scan: snap.Scan, now: since.Add(time.Hour),
				suspended: func(string, string, string) (time.Time, bool) { return time.Time{}, false },
				flushed:   func(*pb.Leg) bool { return false }, again: noneAgain,
				orders: func(h control.Held) []control.Order {
					if h != (control.Held{MessageID: "01M", Leg: 2, Since: since.UnixMilli()}) {
						return nil
					}
					return append([]control.Order{c.order}, c.older...)
				}}
			var got []result
			all := 0
			for _, m := range quarantined(l, w) {
				r := result{fate: m.fate, topic: m.topic, recipients: len(m.event.GetOutcomes()), event: m.event.GetType()}
				if m.event == nil {
					r.recipients = len(m.leg.Recipients)
				}
				got, all = append(got, r), all+r.recipients
				if m.reinject != nil && (m.reinject.StoppedMs != time.Hour.Milliseconds() || m.reinject.Scan.GetState() != c.state) {
					t.Errorf("%v", m.reinject)
				}
			}
			if !slices.Equal(got, c.want) || all != 2 || l.Scan.State != c.state {
				t.Errorf("%+v, want %+v; %v", got, c.want, l.Scan)
			}
		})
	}
}

// TestTwoOrdersAboutALeg: two people each let a recipient have what is held while
// no delay runs; both orders are obeyed.
func TestTwoOrdersAboutALeg(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	apply(t, b, scanSite)
	since := time.Now()
	l := heldBack(since, 24*time.Hour)
	l.MessageId = mail.NewID(since)
	l.Recipients = append(l.Recipients, &pb.Recipient{Number: 4, Address: "c@acme.example"}, &pb.Recipient{Number: 5, Address: "d@acme.example"})
	bustest.Put(t, b, bus.NewQuarantined(l))
	for _, number := range []uint32{5, 1} {
		held := &pb.HeldLeg{MessageId: l.MessageId, Leg: l.Number, SinceMs: l.ParkedMs, Recipients: []uint32{number}}
		if _, err := control.Send(t.Context(), b, control.Command{Verb: control.Release, Actor: "op", Held: []*pb.HeldLeg{held}}); err != nil {
			t.Fatal(err)
		}
	}
	start(t, b, Config{})
	var released []uint32
	for _, r := range bustest.Want(t, b, schemas.Reinject, 2) {
		var p pb.Reinject
		if err := proto.Unmarshal(r.Value, &p); err != nil {
			t.Fatal(err)
		}
		for _, to := range p.Envelope.Recipients {
			released = append(released, to.Number)
		}
	}
	if slices.Sort(released); !slices.Equal(released, []uint32{1, 5}) {
		t.Errorf("released for recipients %v, want 1 and 5", released)
	}
}

// TestQuarantineIsOrdered: an order reaches what is held, and what is read
// only after it; a leg of the same message that it isn't about remains, and so
// does one that is held anew.
func TestQuarantineIsOrdered(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	apply(t, b, scanSite)
	since := time.Now()
	id := mail.NewID(since)
	put := func(leg uint32, since time.Time) {
		l := heldBack(since, 24*time.Hour)
		l.MessageId, l.Number, l.Step = id, leg, uint64(since.UnixMilli())
		bustest.Put(t, b, bus.NewQuarantined(l))
	}
	order := func(verb string, leg uint32) {
		t.Helper()
		if _, err := control.Send(t.Context(), b, control.Command{Verb: verb, Actor: "op", Held: []*pb.HeldLeg{{MessageId: id, Leg: leg, SinceMs: since.UnixMilli()}}}); err != nil {
			t.Fatal(err)
		}
	}
	put(1, since)
	order(control.Release, 1)
	start(t, b, Config{})
	bustest.Want(t, b, schemas.Queue("acme", 1), 1)
	put(2, since)
	put(3, since)
	order(control.Delete, 2)
	bustest.WantMatch(t, b, schemas.Events, 1, func(r bus.Record) bool { return headerIs(r, bus.HeaderEvent, "EVENT_TYPE_DISCARDED") })
	order(control.Release, 4)
	put(4, since)
	bustest.Want(t, b, schemas.Queue("acme", 1), 2)
	put(1, since.Add(time.Second))
	var left []uint32
	for range 1000 { // the order about leg 2 may still make leg 3 go round
		left = nil
		err := b.Waiting(t.Context(), schemas.DelayGroup, []string{schemas.Quarantine}, bus.Look{}, func(r bus.Record) error {
			l, err := bus.ReadLeg(r)
			if err != nil {
				return err
			}
			left = append(left, l.Number)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if slices.Sort(left); slices.Equal(left, []uint32{1, 3}) {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Errorf("legs %v wait, want 1 and 3", left)
}
