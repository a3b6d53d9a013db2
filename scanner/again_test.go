package scanner

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"qstream/bus"
	"qstream/bus/bustest"
	"qstream/control"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
	"qstream/test/fakeclamd"
)

const job = "01JD00000000000000000000JB"

// offer is a leg of the past on the rescan topic.
func offer(ref *pb.ContentRef, to string, waiting bool) *pb.Rescan {
	l := wanted(ref, to)
	l.Scan = nil
	return &pb.Rescan{Job: job, Leg: l, Waiting: waiting, OfferedMs: time.Now().UnixMilli(), UntilMs: time.Now().Add(time.Hour).UnixMilli()}
}

func offers(t testing.TB, b *bus.Bus, os ...*pb.Rescan) {
	t.Helper()
	for _, o := range os {
		bustest.Put(t, b, bus.NewRescan(o))
	}
}

func result(r bus.Record) *pb.Rescan {
	o := &pb.Rescan{}
	if proto.Unmarshal(r.Value, o) != nil || o.Result == nil {
		return nil
	}
	return o
}

// results are those on the topic, once there are n; their outcomes by message.
func results(t testing.TB, b *bus.Bus, n int) map[string]string {
	t.Helper()
	got := map[string]string{}
	for _, r := range bustest.WantMatch(t, b, schemas.Rescan, n, func(r bus.Record) bool { return result(r) != nil }) {
		o := result(r)
		if got[o.Leg.MessageId] != "" {
			t.Errorf("%s has two results", o.Leg.MessageId)
		}
		got[o.Leg.MessageId] = o.Result.Outcome
	}
	return got
}

func foundBad(t testing.TB, b *bus.Bus) map[string]*pb.Event {
	t.Helper()
	got := map[string]*pb.Event{}
	for _, r := range bustest.Records(t, b, schemas.Events) {
		e := &pb.Event{}
		if err := proto.Unmarshal(r.Value, e); err != nil {
			t.Fatal(err)
		}
		if e.Type != pb.EventType_EVENT_TYPE_FOUND_BAD {
			continue
		}
		if got[e.MessageId] != nil {
			t.Errorf("%s is told twice", e.MessageId)
		}
		got[e.MessageId] = e
	}
	return got
}

func id(n int) string { return fmt.Sprintf("01JD00000000000000000000%02d", n) }

// What was delivered is told, what waits is ordered to be scanned before it
// is delivered; verdicts that mail on its way was given don't count, though the
// engine tells of no new signatures.
func TestScanAgain(t *testing.T) {
	t.Parallel()
	c, b := clam(t), bustest.New(t)
	apply(t, b, site(c.Addr(), ""))
	start(t, b, Config{})
	bad, waits, good := stored(t, b, id(1), "fresh sample"), stored(t, b, id(2), "fresh sample"), stored(t, b, id(3), "hello")
	put(t, b, wanted(bad, "a@acme.example"), wanted(good, "b@acme.example"))
	for _, l := range legOn(t, b, schemas.Queue("acme", 1), 2) {
		if l.Scan.Action != "pass" {
			t.Fatalf("%v", l)
		}
	}
	c.Learn("fresh sample", "Fresh-1", false)
	unwanted := offer(good, "a@elsewhere.example", false)
	unwanted.Leg.MessageId = id(4)
	offers(t, b, offer(bad, "a@acme.example", false), offer(waits, "a@acme.example", true), offer(good, "b@acme.example", false), unwanted)
	bustest.Put(t, b, bus.Record{Topic: schemas.Rescan, Partition: bus.AnyPartition, Key: []byte(id(5)), Value: []byte("\xff garbage")})
	got := results(t, b, 4)
	for n, want := range map[int]string{1: schemas.OfferBad, 2: schemas.OfferBad, 3: schemas.OfferClean, 4: schemas.OfferUnwanted} {
		if got[id(n)] != want {
			t.Errorf("%d: %s, want %s", n, got[id(n)], want)
		}
	}
	told := foundBad(t, b)
	if e := told[id(1)]; len(told) != 2 || e == nil || e.Waiting || e.Scan.Verdicts[0].Name != "Fresh-1" || len(e.Outcomes) != 1 || e.Outcomes[0].Address != "a@acme.example" {
		t.Errorf("%v", told)
	}
	s, err := control.Read(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	number, ok := s.ScanAgain(id(2), firstRecipient)
	if !ok || told[id(2)] == nil || !told[id(2)].Waiting {
		t.Errorf("no order about what waits; told by %v", told[id(2)])
	}
	if _, ok := s.ScanAgain(id(1), firstRecipient); ok {
		t.Error("an order about what is delivered")
	}
	// The leg that obeys is scanned indeed, and goes where its policy says.
	l := wanted(waits, "a@acme.example")
	l.Rescanned = number
	put(t, b, l)
	if q := legOn(t, b, schemas.Quarantine, 1)[0]; q.Scan.Verdicts[0].Kept || q.Rescanned != number {
		t.Errorf("%v", q)
	}
	if n := len(bustest.Records(t, b, schemas.Deadletter)); n != 0 {
		t.Errorf("%d records among the dead: an offer is no mail", n)
	}
}

var firstRecipient = []*pb.Recipient{{Number: 0}}

// What no sensible job offers keeps nothing that is behind it from being
// scanned: mail without an id that an order could name, and what is due in ages.
func TestScanAgainPoison(t *testing.T) {
	t.Parallel()
	c, b := clam(t), bustest.New(t)
	apply(t, b, site(c.Addr(), ""))
	start(t, b, Config{})
	ref := stored(t, b, id(1), fakeclamd.Eicar)
	nameless := offer(ref, "a@acme.example", true)
	nameless.Leg.MessageId = "\xef\xbf\xbd nobody"
	offers(t, b, nameless, offer(ref, "a@acme.example", true))
	if got := results(t, b, 1); got[id(1)] != schemas.OfferBad {
		t.Errorf("%v", got)
	}
	if _, err := decodeOffer(bus.NewRescan(nameless)); err == nil {
		t.Error("mail without an id is taken")
	}
}

// Orders that are given while another one is underway are given together, and
// each finding has its order before it is told.
func TestScanAgainOrdersTogether(t *testing.T) {
	t.Parallel()
	c, b := clam(t), bustest.New(t)
	apply(t, b, site(c.Addr(), ""))
	const all = 60
	for i := range all {
		offers(t, b, offer(stored(t, b, id(i), fmt.Sprint(i, fakeclamd.Eicar)), "a@acme.example", true))
	}
	start(t, b, Config{Again: 32})
	results(t, b, all)
	s, err := control.Read(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	for i := range all {
		if _, ok := s.ScanAgain(id(i), firstRecipient); !ok {
			t.Errorf("no order about %d", i)
		}
	}
	t.Logf("%d orders of %d findings", s.Number, all)
}

// An engine that is down puts offers off; they are scanned when it is back.
func TestScanAgainWaitsForEngines(t *testing.T) {
	t.Parallel()
	c, b := clam(t), bustest.New(t)
	c.Down()
	apply(t, b, site(c.Addr(), ""))
	ref, old := stored(t, b, id(1), fakeclamd.Eicar), stored(t, b, id(2), fakeclamd.Eicar)
	late := offer(old, "a@acme.example", false)
	late.UntilMs = time.Now().UnixMilli()
	offers(t, b, offer(ref, "a@acme.example", false), late)
	start(t, b, Config{})
	if got := results(t, b, 1); got[id(2)] != schemas.OfferGivenUp {
		t.Errorf("%v", got)
	}
	back := bustest.WantMatch(t, b, schemas.Rescan, 1, func(r bus.Record) bool {
		o := &pb.Rescan{}
		return proto.Unmarshal(r.Value, o) == nil && o.Result == nil && o.Leg.GetScan().GetWaits() == 1
	})[0]
	o := &pb.Rescan{}
	if err := proto.Unmarshal(back.Value, o); err != nil || o.DueMs <= time.Now().UnixMilli() {
		t.Errorf("%v, %v", o, err)
	}
	if err := c.Up(); err != nil {
		t.Fatal(err)
	}
	o.Leg.Number, o.DueMs = 1, 0 // as if its time had come
	offers(t, b, o)
	bustest.WantMatch(t, b, schemas.Rescan, 1, func(r bus.Record) bool {
		got := result(r)
		return got != nil && got.Leg.MessageId == id(1) && got.Result.Outcome == schemas.OfferBad
	})
}

// A fault between output and commit, and a stop amid scans: each offer has one
// result, and what is bad is told once.
func TestScanAgainFaults(t *testing.T) {
	t.Parallel()
	broker := bustest.Start(t)
	b := broker.Dial(t, bus.Config{})
	c := clam(t)
	apply(t, b, site(c.Addr(), ""))
	var faults atomic.Int32
	faulty := broker.Dial(t, bus.Config{Barrier: func(context.Context) error {
		if faults.Add(1) <= 2 {
			return errors.New("disk trouble")
		}
		return nil
	}})
	const all = 30
	for i := range all {
		body := fmt.Sprint("hello ", i)
		if i%3 == 0 {
			body += fakeclamd.Eicar
		}
		offers(t, b, offer(stored(t, b, id(i), body), "a@acme.example", i%2 == 0))
	}
	_, stop := start(t, faulty, Config{})
	bustest.WantMatch(t, b, schemas.Rescan, 5, func(r bus.Record) bool { return result(r) != nil })
	c.Feel(fakeclamd.Mood{Hang: true})
	stop()
	c.Feel(fakeclamd.Mood{})
	start(t, broker.Dial(t, bus.Config{}), Config{})
	got := results(t, b, all)
	for i := range all {
		want := schemas.OfferClean
		if i%3 == 0 {
			want = schemas.OfferBad
		}
		if got[id(i)] != want {
			t.Errorf("%d: %q, want %q", i, got[id(i)], want)
		}
	}
	if n := len(foundBad(t, b)); n != all/3 {
		t.Errorf("%d are told, want %d", n, all/3)
	}
	if faults.Load() <= 2 {
		t.Errorf("only %d commits were tried", faults.Load())
	}
}
