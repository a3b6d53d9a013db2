package delay

import (
	"slices"
	"testing"
	"time"

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
	}{
		{"release", control.Order{Verb: control.Release}, []result{{fateReleased, schemas.Queue("acme", 1), released, 2}}, pb.ScanState_SCAN_STATE_EXEMPT},
		{"release, to be scanned", control.Order{Verb: control.Release, Rescan: true}, []result{{fateReleased, schemas.Scan("acme", 1), released, 2}}, pb.ScanState_SCAN_STATE_WANTED},
		{"delete", control.Order{Verb: control.Delete}, []result{{fateDropped, "", discarded, 2}}, pb.ScanState_SCAN_STATE_DONE},
		{"release one", control.Order{Verb: control.Release, Recipients: []uint32{1}}, []result{{fateRerouted, "", rerouted, 1}, remains}, pb.ScanState_SCAN_STATE_EXEMPT},
		{"delete one", control.Order{Verb: control.Delete, Recipients: []uint32{4}}, []result{{fateDropped, "", discarded, 1}, remains}, pb.ScanState_SCAN_STATE_DONE},
		{"nobody here", control.Order{Verb: control.Delete, Recipients: []uint32{7}}, []result{{fateKept, schemas.Quarantine, 0, 2}}, pb.ScanState_SCAN_STATE_DONE},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := heldBack(since, 240*time.Hour)
			l.Recipients = append(l.Recipients, &pb.Recipient{Number: 4, Address: "c@acme.example"})
			c.order.Actor, c.order.Reason = "op", "asked\r\nfor"
			w := world{decide: snap.Decide, queue: snap.Queue, scan: snap.Scan, now: since.Add(time.Hour),
				suspended: func(string, string, string) (time.Time, bool) { return time.Time{}, false },
				flushed:   func(*pb.Leg) bool { return false }, again: noneAgain,
				order: func(h control.Held) (control.Order, bool) {
					return c.order, h == control.Held{MessageID: "01M", Leg: 2, Since: since.UnixMilli()}
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
