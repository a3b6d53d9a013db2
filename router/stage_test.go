package router

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"qstream/bus"
	"qstream/bus/bustest"
	"qstream/directory"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const site = `
kind: queue
name: acme
---
kind: tenant
name: acme
domains: [acme.example]
queue: acme
---
kind: route
name: all
match: {domain: "*"}
via: smtp://mx
---
kind: route
name: gone
match: {domain: gone.example}
via: error:550 5.1.1 gone
`

// apply makes a directory.
func apply(t *testing.T, b *bus.Bus, text string) {
	t.Helper()
	docs, err := directory.Parse(directory.File{Name: "test.yaml", Data: []byte(text)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := directory.Apply(t.Context(), b, directory.Change{Documents: docs}, directory.Options{}); err != nil {
		t.Fatal(err)
	}
}

// start runs a router on b until stop is called, or the test ends.
func start(t *testing.T, b *bus.Bus, cfg Config) (r *Router, stop func()) {
	t.Helper()
	d := directory.Follow(b)
	r, err := New(cfg, Deps{Bus: b, Directory: d})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 2)
	go func() { ended <- d.Run(ctx) }()
	go func() { ended <- r.Run(ctx) }()
	stop = func() {
		cancel()
		for range cap(ended) {
			if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		}
		ended = make(chan error)
	}
	t.Cleanup(func() { stop() })
	return r, stop
}

func received(id string, to ...string) bus.Record {
	return bus.NewReceived(&pb.Received{Id: id, Envelope: envelope("a@blue.example", to...), Content: inline("x"), Session: &pb.Session{Id: "s"}})
}

func legsOf(t *testing.T, rs []bus.Record) map[string]*pb.Leg {
	t.Helper()
	legs := map[string]*pb.Leg{}
	for _, r := range rs {
		var l pb.Leg
		if err := proto.Unmarshal(r.Value, &l); err != nil {
			t.Fatal(err)
		}
		id := fmt.Sprintf("%s.%d", l.MessageId, l.Number)
		if legs[id] != nil {
			t.Errorf("leg %s is there twice", id)
		}
		legs[id] = &l
	}
	return legs
}

func TestRouterOnABroker(t *testing.T) {
	b := bustest.New(t)
	apply(t, b, site)
	r, _ := start(t, b, Config{})
	bustest.Put(t, b,
		received("01A", "b@acme.example", "c@acme.example", "d@x.example"),
		bus.Record{Topic: schemas.Received, Partition: bus.AnyPartition, Key: []byte("01A"), Value: []byte("\xff garbage")},
		received("01A", "b@acme.example", "c@acme.example", "d@x.example"),
		received("01B", "b@gone.example"),
		bus.NewReinject(&pb.Reinject{Id: "01C", Origin: pb.Origin_ORIGIN_DSN, ParentId: "01B", Tenant: "acme",
			Envelope: envelope("", "a@blue.example"), Content: inline("dsn")}),
		received("01D", "e@acme.example"),
	)
	acme := legsOf(t, bustest.Want(t, b, schemas.Queue("acme", 1), 3))
	rest := legsOf(t, bustest.Want(t, b, schemas.Queue("default", 1), 2))
	bustest.Want(t, b, schemas.Deadletter, 1)
	if l := acme["01A.0"]; l == nil || len(l.Recipients) != 2 || l.Content.GetTopic() != schemas.Received || !l.Content.Inline {
		t.Errorf("01A.0: %v", l)
	}
	if l := acme["01C.0"]; l == nil || l.Origin != pb.Origin_ORIGIN_DSN || l.Content.GetTopic() != schemas.Reinject || l.BornMs == 0 {
		t.Errorf("01C.0: %v", l)
	}
	if l := rest["01B.0"]; l == nil || l.Refusal.GetEnhanced() != "5.1.1" {
		t.Errorf("01B.0: %v", l)
	}
	// Accepted and routed of 01A (two legs), 01B and 01D, routed of 01C.
	bustest.Want(t, b, schemas.Events, 8)
	if err := r.Ready(); err != nil {
		t.Error(err)
	}
	for _, topic := range []string{schemas.Queue("acme", 1), schemas.Queue("default", 1)} {
		legsOf(t, bustest.Records(t, b, topic))
	}
}

// A leg may come back in parts, one after the other, as when its recipients are
// released from quarantine one by one; the same part again is a repetition.
func TestLegComesBackInParts(t *testing.T) {
	b := bustest.New(t)
	apply(t, b, site)
	start(t, b, Config{})
	part := func(number uint32) bus.Record {
		return bus.NewReinject(&pb.Reinject{
			Id: "01A", Origin: pb.Origin_ORIGIN_REROUTE, ParentId: "01A", ParentLeg: 0, Reroutes: 1, Tenant: "acme", Content: inline("x"),
			Envelope: &pb.Envelope{ReversePath: "a@blue.example", Recipients: []*pb.Recipient{{Number: number, Address: "b@acme.example"}}},
		})
	}
	bustest.Put(t, b, part(0), part(2), part(0), part(1))
	legs := legsOf(t, bustest.Want(t, b, schemas.Queue("acme", 1), 3))
	for _, id := range []string{"01A.1000000", "01A.1000001", "01A.1000002"} {
		if legs[id] == nil {
			t.Errorf("leg %s is missing: %v", id, legs)
		}
	}
}

// The content of a leg can be opened by its reference.
func TestContentOfALeg(t *testing.T) {
	b := bustest.New(t)
	apply(t, b, site)
	start(t, b, Config{})
	bustest.Put(t, b, received("01A", "b@acme.example"))
	l := legsOf(t, bustest.Want(t, b, schemas.Queue("acme", 1), 1))["01A.0"]
	rs := bustest.Records(t, b, schemas.Received)
	if l.Content.Partition != rs[0].Partition || l.Content.Offsets[0] != rs[0].Offset || l.BornMs != rs[0].Time.UnixMilli() {
		t.Errorf("%v does not name %d/%d of %s", l.Content, rs[0].Partition, rs[0].Offset, rs[0].Time)
	}
}

// A fault between output and commit: what was produced is aborted, and made
// again once.
func TestFaultBetweenOutputAndCommit(t *testing.T) {
	broker := bustest.Start(t)
	b := broker.Dial(t, bus.Config{})
	apply(t, b, site)
	var faults atomic.Int32
	faulty := broker.Dial(t, bus.Config{Barrier: func(context.Context) error {
		if faults.Add(1) <= 2 {
			return errors.New("disk trouble")
		}
		return nil
	}})
	start(t, faulty, Config{})
	var put []bus.Record
	for i := range 50 {
		put = append(put, received(fmt.Sprintf("01%02d", i), "b@acme.example"))
	}
	bustest.Put(t, b, put...)
	legsOf(t, bustest.Want(t, b, schemas.Queue("acme", 1), 50))
	bustest.Want(t, b, schemas.Events, 100)
	if got := len(bustest.Records(t, b, schemas.Queue("acme", 1))); got != 50 {
		t.Errorf("%d legs are visible", got)
	}
	if faults.Load() <= 2 {
		t.Errorf("only %d commits were tried", faults.Load())
	}
}

// A router that takes over goes on where the last one committed.
func TestNextRouterGoesOn(t *testing.T) {
	broker := bustest.Start(t)
	b := broker.Dial(t, bus.Config{})
	apply(t, b, site)
	_, stop := start(t, broker.Dial(t, bus.Config{}), Config{})
	bustest.Put(t, b, received("01A", "b@acme.example"))
	bustest.Want(t, b, schemas.Queue("acme", 1), 1)
	stop()
	bustest.Put(t, b, received("01B", "b@acme.example"))
	start(t, broker.Dial(t, bus.Config{}), Config{})
	legsOf(t, bustest.Want(t, b, schemas.Queue("acme", 1), 2))
	legsOf(t, bustest.Records(t, b, schemas.Queue("acme", 1)))
}

// What the edge decided with a newer directory waits for it.
func TestWaitsForTheWritersDirectory(t *testing.T) {
	b := bustest.New(t)
	apply(t, b, site)
	start(t, b, Config{Behind: 50 * time.Millisecond})
	p := &pb.Received{Id: "01A", Envelope: envelope("a@blue.example", "b@new.example"), Content: inline("x"), Directory: 2}
	bustest.Put(t, b, bus.NewReceived(p), received("01B", "b@acme.example"))
	bustest.Want(t, b, schemas.Queue("acme", 1), 1) // another partition goes on
	if got := bustest.Records(t, b, schemas.Queue("default", 1)); len(got) != 0 {
		t.Fatalf("decided with an old directory: %v", got)
	}
	apply(t, b, `
kind: tenant
name: fresh
domains: [new.example]
`)
	legs := legsOf(t, bustest.Want(t, b, schemas.Queue("fresh", 1), 1))
	if l := legs["01A.0"]; l == nil || l.Directory != 2 {
		t.Errorf("%v", legs)
	}
}
