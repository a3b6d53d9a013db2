package scanner

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"qstream/bus"
	"qstream/bus/bustest"
	"qstream/directory"
	"qstream/engine"
	"qstream/engine/engines"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
	"qstream/test/fakeclamd"
	"qstream/test/lanes"
)

func TestMain(m *testing.M) {
	lanes.Open(4)
	goleak.VerifyTestMain(m)
}

// site is a directory with one fake clamd, a policy of some rules and three
// tenants; beta shares acme's queue with a policy of its own.
func site(addr, rules string) string {
	return fmt.Sprintf(`
kind: engine
name: clam
type: clamd
address: tcp://%s
deadline: 5s
per_megabyte: 0s
concurrency: 100
---
kind: scan
name: p
engines: clam
concurrency: 100
%s
---
kind: scan
name: q
engines: clam
---
kind: queue
name: acme
scan: p
---
kind: queue
name: junk
---
kind: tenant
name: acme
domains: [acme.example]
---
kind: tenant
name: beta
domains: [beta.example]
queue: acme
scan: q
---
kind: route
name: all
match: {domain: "*"}
via: smtp://mx
`, addr, rules)
}

func apply(t testing.TB, b *bus.Bus, text string) {
	t.Helper()
	docs, err := directory.Parse(directory.File{Name: "test.yaml", Data: []byte(text)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := directory.Apply(t.Context(), b, directory.Change{Documents: docs}, directory.Options{}); err != nil {
		t.Fatal(err)
	}
}

// start runs a scanner until stop is called, or the test ends.
func start(t testing.TB, b *bus.Bus, cfg Config) (s *Scanner, stop func()) {
	t.Helper()
	return startWith(t, b, cfg, engines.New)
}

// startWith is start with engines made by another function.
func startWith(t testing.TB, b *bus.Bus, cfg Config, made func(engine.Spec) (engine.Engine, error)) (s *Scanner, stop func()) {
	t.Helper()
	d := directory.Follow(b)
	s, err := New(cfg, Deps{Bus: b, Directory: d, Engine: made})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 2)
	go func() { ended <- d.Run(ctx) }()
	go func() { ended <- s.Run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		for range cap(ended) {
			if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		}
	}
	t.Cleanup(stop)
	return s, stop
}

func clam(t testing.TB) *fakeclamd.Server {
	t.Helper()
	c, err := fakeclamd.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Down)
	return c
}

// stored puts a message on the received topic and refers to it.
func stored(t testing.TB, b *bus.Bus, id, body string) *pb.ContentRef {
	t.Helper()
	text := []byte("Subject: hello\r\n\r\n" + body + "\r\n")
	sum := sha256.Sum256(text)
	r := bus.NewReceived(&pb.Received{Id: id, Content: &pb.Content{Where: &pb.Content_Inline{Inline: text}, Size: int64(len(text)), Sha256: sum[:]}})
	if err := b.Publish(t.Context(), &r); err != nil {
		t.Fatal(err)
	}
	return &pb.ContentRef{MessageId: id, Topic: r.Topic, Partition: r.Partition, Offsets: []int64{r.Offset}, Inline: true,
		Size: int64(len(text)), Sha256: sum[:], StoredMs: r.Time.UnixMilli()}
}

// wanted is a leg that is to be scanned.
func wanted(ref *pb.ContentRef, to string) *pb.Leg {
	_, domain, _ := strings.Cut(to, "@")
	tenant, _, _ := strings.Cut(domain, ".")
	return &pb.Leg{
		MessageId: ref.MessageId, Step: 1, Tenant: tenant, Queue: "acme", Generation: 1, Destination: domain, ReversePath: "ann@x.example",
		Recipients: []*pb.Recipient{{Address: to}}, Content: ref, BornMs: time.Now().UnixMilli(), Directory: 1,
		Scan: &pb.Scan{State: pb.ScanState_SCAN_STATE_WANTED, Policy: "p"}, Prepend: []byte("Received: by x\r\n"),
	}
}

func put(t testing.TB, b *bus.Bus, legs ...*pb.Leg) {
	t.Helper()
	for _, l := range legs {
		bustest.Put(t, b, bus.NewLeg(schemas.Scan(l.Queue, l.Generation), l))
	}
}

func legOn(t testing.TB, b *bus.Bus, topic string, n int) []*pb.Leg {
	t.Helper()
	var ls []*pb.Leg
	for _, r := range bustest.Want(t, b, topic, n) {
		l := &pb.Leg{}
		if err := proto.Unmarshal(r.Value, l); err != nil {
			t.Fatal(err)
		}
		ls = append(ls, l)
	}
	return ls
}

func eventOf(t testing.TB, b *bus.Bus, kind pb.EventType) *pb.Event {
	t.Helper()
	r := bustest.WantMatch(t, b, schemas.Events, 1, func(r bus.Record) bool {
		e := &pb.Event{}
		return proto.Unmarshal(r.Value, e) == nil && e.Type == kind
	})[0]
	e := &pb.Event{}
	if err := proto.Unmarshal(r.Value, e); err != nil {
		t.Fatal(err)
	}
	return e
}

// Each way that a leg may go.
func TestActions(t *testing.T) {
	queue, junk := schemas.Queue("acme", 1), schemas.Queue("junk", 1)
	eicar := "x " + fakeclamd.Eicar
	for _, c := range []struct {
		name, rule, body string
		change           func(*pb.Leg)
		topic            string
		event            pb.EventType
		check            func(t *testing.T, l *pb.Leg, e *pb.Event)
	}{
		{"clean", "", "hello", nil, queue, pb.EventType_EVENT_TYPE_SCANNED, func(t *testing.T, l *pb.Leg, e *pb.Event) {
			if l.Scan.State != pb.ScanState_SCAN_STATE_DONE || l.Scan.Policy != "p" || len(l.Scan.Changes) > 0 || e.Scan.Verdicts[0].Outcome != "clean" || e.Scan.Verdicts[0].Signatures == "" {
				t.Errorf("%v, told by %v", l.Scan, e.Scan)
			}
		}},
		{"malware", "", eicar, nil, schemas.Quarantine, pb.EventType_EVENT_TYPE_QUARANTINED, func(t *testing.T, l *pb.Leg, e *pb.Event) {
			if l.Scan.Finding != "malware" || l.Scan.Verdicts[0].Name != "Eicar-Test-Signature" || l.DueMs != e.DueMs || l.DueMs-l.ParkedMs != (30*24*time.Hour).Milliseconds() || l.Reason != pb.Reason_REASON_QUARANTINE {
				t.Errorf("%v, told by %v", l, e)
			}
		}},
		{"tagged", `rules: {on: malware, action: tag, subject: "[bad]"}`, eicar, nil, queue, pb.EventType_EVENT_TYPE_SCANNED, func(t *testing.T, l *pb.Leg, _ *pb.Event) {
			if n := len(l.Scan.Changes); n != 3 || string(l.Scan.Changes[1].Value) != "malware by clam (Eicar-Test-Signature)" {
				t.Errorf("%v", l.Scan.Changes)
			}
		}},
		{"rejected", "rules: {on: malware, action: reject}", eicar, func(l *pb.Leg) { l.Verified = true }, queue, pb.EventType_EVENT_TYPE_SCANNED, func(t *testing.T, l *pb.Leg, _ *pb.Event) {
			if l.Refusal.GetCode() != 550 || l.Scan.Action != "reject" {
				t.Errorf("%v", l)
			}
		}},
		{"rejected without a sender", "rules: {on: malware, action: reject}", eicar, nil, schemas.Quarantine, pb.EventType_EVENT_TYPE_QUARANTINED, func(t *testing.T, l *pb.Leg, _ *pb.Event) {
			if l.Refusal != nil {
				t.Errorf("%v", l)
			}
		}},
		{"redirected", "rules: {on: malware, action: redirect, queue: junk}", eicar, nil, junk, pb.EventType_EVENT_TYPE_SCANNED, func(t *testing.T, l *pb.Leg, e *pb.Event) {
			if l.Queue != "junk" || l.Scan.Queue != "junk" || e.Queue != "junk" || schemas.WantsScan("other", l.Scan) {
				t.Errorf("%v", l)
			}
		}},
		{"forwarded", "rules: {on: malware, action: forward, address: abuse@hub.example}", eicar, nil, schemas.Reinject, pb.EventType_EVENT_TYPE_FORWARDED, func(t *testing.T, _ *pb.Leg, e *pb.Event) {
			if e.ChildId == "" || len(e.Outcomes) != 0 {
				t.Errorf("%v", e)
			}
		}},
		{"discarded", "rules: {on: malware, action: discard}", eicar, nil, "", pb.EventType_EVENT_TYPE_DISCARDED, func(t *testing.T, _ *pb.Leg, e *pb.Event) {
			if e.Text != "policy: scan p" || len(e.Outcomes) != 1 {
				t.Errorf("%v", e)
			}
		}},
		{"refused before", "", eicar, func(l *pb.Leg) { l.Refusal = &pb.Status{Code: 550} }, queue, 0, func(t *testing.T, l *pb.Leg, _ *pb.Event) {
			if l.Scan.Action != "" || l.Refusal == nil {
				t.Errorf("%v", l)
			}
		}},
		{"elsewhere by now", "", eicar, func(l *pb.Leg) { l.Destination = "old.example" }, schemas.Reinject, pb.EventType_EVENT_TYPE_REROUTED, func(*testing.T, *pb.Leg, *pb.Event) {}},
		{"of another policy", "", eicar, func(l *pb.Leg) {
			l.Tenant, l.Destination, l.Recipients[0].Address = "beta", "beta.example", "b@beta.example"
		}, schemas.Quarantine, pb.EventType_EVENT_TYPE_QUARANTINED, func(t *testing.T, l *pb.Leg, _ *pb.Event) {
			if l.Scan.Policy != "q" {
				t.Errorf("%v", l.Scan)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := bustest.New(t)
			apply(t, b, site(clam(t).Addr(), c.rule))
			l := wanted(stored(t, b, "01JD0000000000000000000001", c.body), "b@acme.example")
			if c.change != nil {
				c.change(l)
			}
			put(t, b, l)
			start(t, b, Config{})
			var got *pb.Leg
			var e *pb.Event
			switch c.topic {
			case "":
			case schemas.Reinject:
				r := &pb.Reinject{}
				if err := proto.Unmarshal(bustest.Want(t, b, c.topic, 1)[0].Value, r); err != nil || r.ParentId != l.MessageId {
					t.Errorf("%v, %v", r, err)
				}
				if r.Origin == pb.Origin_ORIGIN_FORWARD && (r.Envelope.ReversePath != "" || r.Scan.State != pb.ScanState_SCAN_STATE_EXEMPT || r.Envelope.Recipients[0].Address != "abuse@hub.example") {
					t.Errorf("%v", r)
				}
			default:
				if got = legOn(t, b, c.topic, 1)[0]; got.Step != 2 {
					t.Errorf("step %d", got.Step)
				}
			}
			if c.event != 0 {
				e = eventOf(t, b, c.event)
			}
			c.check(t, got, e)
		})
	}
}

// Many legs of one message are scanned once, also at the same time.
func TestOneScanForManyLegs(t *testing.T) {
	t.Parallel()
	c, b := clam(t), bustest.New(t)
	apply(t, b, site(c.Addr(), ""))
	ref := stored(t, b, "01JD0000000000000000000001", "hello")
	for i := range 40 {
		l := wanted(ref, "a@acme.example")
		l.Number = uint32(i)
		put(t, b, l)
	}
	start(t, b, Config{})
	kept := 0
	for _, l := range legOn(t, b, schemas.Queue("acme", 1), 40) {
		if l.Scan.Verdicts[0].Kept {
			kept++
		}
	}
	if all, _ := c.Scans(); all != 1 || kept != 39 {
		t.Errorf("%d scans, %d verdicts from memory", all, kept)
	}
}

// A fault between output and commit: what was produced is aborted, and made
// again once.
func TestFaultBetweenOutputAndCommit(t *testing.T) {
	t.Parallel()
	broker := bustest.Start(t)
	b := broker.Dial(t, bus.Config{})
	apply(t, b, site(clam(t).Addr(), ""))
	var faults atomic.Int32
	faulty := broker.Dial(t, bus.Config{Barrier: func(context.Context) error {
		if faults.Add(1) <= 2 {
			return errors.New("disk trouble")
		}
		return nil
	}})
	for i := range 30 {
		body := "hello"
		if i%3 == 0 {
			body = fakeclamd.Eicar
		}
		put(t, b, wanted(stored(t, b, fmt.Sprintf("01JD00000000000000000000%02d", i), body), "a@acme.example"))
	}
	_, stop := start(t, faulty, Config{})
	legOn(t, b, schemas.Queue("acme", 1), 20)
	legOn(t, b, schemas.Quarantine, 10)
	stop()
	if q, h := len(bustest.Records(t, b, schemas.Queue("acme", 1))), len(bustest.Records(t, b, schemas.Quarantine)); q != 20 || h != 10 {
		t.Errorf("%d and %d legs are visible", q, h)
	}
	if faults.Load() <= 2 {
		t.Errorf("only %d commits were tried", faults.Load())
	}
	// Who comes next finds nothing left to do.
	put(t, b, wanted(stored(t, b, "01JD0000000000000000000099", "last"), "a@acme.example"))
	start(t, broker.Dial(t, bus.Config{}), Config{})
	legOn(t, b, schemas.Queue("acme", 1), 21)
}

// Garbage goes to the deadletter topic; its neighbours go on.
func TestGarbage(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	apply(t, b, site(clam(t).Addr(), ""))
	bustest.Put(t, b, bus.Record{Topic: schemas.Scan("acme", 1), Partition: bus.AnyPartition, Key: []byte("acme.example"), Value: []byte("\xff garbage")})
	put(t, b, wanted(stored(t, b, "01JD0000000000000000000001", "hello"), "a@acme.example"))
	start(t, b, Config{})
	bustest.Want(t, b, schemas.Deadletter, 1)
	legOn(t, b, schemas.Queue("acme", 1), 1)
}
