package delay

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"qstream/bus"
	"qstream/bus/bustest"
	"qstream/control"
	"qstream/directory"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
	"qstream/test/lanes"
)

func TestMain(m *testing.M) {
	lanes.Open(4)
	goleak.VerifyTestMain(m)
}

var acmeTopic = schemas.Queue("acme", 1)

// apply makes a directory.
func apply(t *testing.T, b *bus.Bus, text string) {
	t.Helper()
	docs, err := directory.Parse(directory.File{Name: "test.yaml", Data: []byte(text)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := directory.Apply(t.Context(), b, directory.Change{Documents: docs}, directory.Options{Retention: -1}); err != nil {
		t.Fatal(err)
	}
}

func send(t *testing.T, b *bus.Bus, verb string, s control.Scope) {
	t.Helper()
	if _, err := control.Send(t.Context(), b, control.Command{Verb: verb, Scope: s, Actor: "test"}); err != nil {
		t.Fatal(err)
	}
}

// start runs a Delay on b until stop is called, or the test ends.
func start(t *testing.T, b *bus.Bus, cfg Config) (d *Delay, stop func()) {
	t.Helper()
	f := directory.Follow(b)
	d, err := New(cfg, Deps{Bus: b, Directory: f})
	if err != nil {
		t.Fatal(err)
	}
	return d, run(t, d, f)
}

func run(t *testing.T, d *Delay, f *directory.Follower) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 2)
	go func() { ended <- f.Run(ctx) }()
	go func() { ended <- d.Run(ctx) }()
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
	return stop
}

// fresh is a leg of a message received just now, due in a while.
func fresh(id string, wait time.Duration) *pb.Leg {
	l := waiting()
	now := time.Now()
	l.MessageId, l.BornMs, l.DueMs = id, now.UnixMilli(), now.Add(wait).UnixMilli()
	l.Content.MessageId, l.Content.StoredMs = id, now.UnixMilli()
	return l
}

func delayed(ls ...*pb.Leg) []bus.Record {
	var rs []bus.Record
	for _, l := range ls {
		topic, _ := schemas.Delay(time.Until(time.UnixMilli(l.DueMs)))
		rs = append(rs, bus.NewWaiting(topic, l))
	}
	return rs
}

func legOf(t *testing.T, r bus.Record) *pb.Leg {
	t.Helper()
	var l pb.Leg
	if err := proto.Unmarshal(r.Value, &l); err != nil {
		t.Fatal(err)
	}
	return &l
}

// once are the legs of a topic, none of them twice.
func once(t *testing.T, rs []bus.Record) map[string]*pb.Leg {
	t.Helper()
	legs := map[string]*pb.Leg{}
	for _, r := range rs {
		l := legOf(t, r)
		if legs[l.MessageId] != nil {
			t.Errorf("leg of %s is there twice", l.MessageId)
		}
		legs[l.MessageId] = l
	}
	return legs
}

func isEvent(kind pb.EventType) func(bus.Record) bool {
	return func(r bus.Record) bool {
		var e pb.Event
		return proto.Unmarshal(r.Value, &e) == nil && e.Type == kind
	}
}

func TestReleasesWhenDue(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	apply(t, b, documents)
	d, _ := start(t, b, Config{})
	bustest.Put(t, b, delayed(fresh("01A", 700*time.Millisecond), fresh("01B", time.Hour), fresh("01C", 1200*time.Millisecond))...)
	expired := fresh("01D", 0)
	expired.BornMs -= 11 * 3600_000
	moved := fresh("01E", 0)
	moved.Destination = "old-host:25"
	bustest.Put(t, b, delayed(expired, moved)...)
	bustest.Put(t, b, bus.Record{Topic: schemas.DelayTopics()[0], Partition: 0, Value: []byte("\xff garbage")})
	rs := bustest.Want(t, b, acmeTopic, 3)
	legs := once(t, rs)
	for _, r := range rs {
		l := legOf(t, r)
		if l.MessageId == "01D" {
			if !l.Expired {
				t.Error("01D isn't expired")
			}
			continue
		}
		want := map[string]time.Duration{"01A": 700 * time.Millisecond, "01C": 1200 * time.Millisecond}[l.MessageId]
		late := r.Time.Sub(time.UnixMilli(l.BornMs).Add(want))
		t.Logf("%s released %s after it was due", l.MessageId, late)
		if late < 0 || late > 20*time.Second || l.Step != 6 {
			t.Errorf("%s at step %d, %s after it was due", l.MessageId, l.Step, late)
		}
	}
	if legs["01B"] != nil {
		t.Error("01B is there before its time")
	}
	bustest.Want(t, b, schemas.Reinject, 1)
	bustest.Want(t, b, schemas.Deadletter, 1)
	bustest.WantMatch(t, b, schemas.Events, 3, isEvent(pb.EventType_EVENT_TYPE_RELEASED))
	bustest.WantMatch(t, b, schemas.Events, 1, isEvent(pb.EventType_EVENT_TYPE_REROUTED))
	if err := d.Ready(); err != nil {
		t.Error(err)
	}
}

func TestFlushReleasesEarly(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	apply(t, b, documents)
	_, stop := start(t, b, Config{})
	bustest.Put(t, b, delayed(fresh("01A", time.Hour), fresh("01B", time.Hour), fresh("01C", 4*time.Hour), fresh("01D", time.Second))...)
	bustest.Want(t, b, acmeTopic, 1) // 01D: what came before is in the index now
	send(t, b, control.Flush, control.Scope{MessageID: "01B"})
	bustest.Want(t, b, acmeTopic, 2)
	send(t, b, control.Flush, control.Scope{Tenant: "acme"})
	bustest.Want(t, b, acmeTopic, 4)
	stop()
	if got := once(t, bustest.Records(t, b, acmeTopic)); len(got) != 4 {
		t.Errorf("%d legs", len(got))
	}
}

func TestSuspendParksAndResumeReleases(t *testing.T) {
	t.Parallel()
	broker := bustest.Start(t)
	b := broker.Dial(t, bus.Config{})
	apply(t, b, documents)
	send(t, b, control.Suspend, control.Scope{Tenant: "acme"})
	_, stop := start(t, broker.Dial(t, bus.Config{}), Config{})
	bustest.Put(t, b, delayed(fresh("01A", 0), fresh("01B", time.Millisecond))...)
	for _, r := range bustest.Want(t, b, schemas.Parked, 2) {
		if l := legOf(t, r); l.ParkedMs == 0 || l.Reason != pb.Reason_REASON_SUSPENDED {
			t.Errorf("%v", l)
		}
	}
	send(t, b, control.Flush, control.Scope{Tenant: "acme"})
	time.Sleep(300 * time.Millisecond)
	if got := bustest.Records(t, b, acmeTopic); len(got) != 0 {
		t.Fatal("released while suspended")
	}
	send(t, b, control.Resume, control.Scope{Tenant: "acme"})
	for _, l := range once(t, bustest.Want(t, b, acmeTopic, 2)) {
		if l.StoppedMs < 300 || l.ParkedMs != 0 {
			t.Errorf("its lifetime stood still for %d ms", l.StoppedMs)
		}
	}
	// A resume while no delay runs is found by the standing state.
	send(t, b, control.Suspend, control.Scope{Queue: "acme"})
	bustest.Put(t, b, delayed(fresh("01C", 0))...)
	bustest.Want(t, b, schemas.Parked, 3)
	stop()
	send(t, b, control.Resume, control.Scope{Queue: "acme"})
	start(t, broker.Dial(t, bus.Config{}), Config{})
	once(t, bustest.Want(t, b, acmeTopic, 3))
}

func TestShortenedLifetimeExpiresAtOnce(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	apply(t, b, documents)
	start(t, b, Config{})
	old := fresh("01A", time.Hour)
	old.BornMs -= 2 * 3600_000
	bustest.Put(t, b, delayed(old, fresh("01B", time.Second))...)
	bustest.Want(t, b, acmeTopic, 1)
	apply(t, b, "kind: queue\nname: acme\nlifetime: 1h\nbounce_lifetime: 1h")
	if l := once(t, bustest.Want(t, b, acmeTopic, 2))["01A"]; l == nil || !l.Expired {
		t.Errorf("%v", l)
	}
}

// A parked leg of a moved owner doesn't wait for the resume of the old one.
func TestMovedWhileParked(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	apply(t, b, documents)
	send(t, b, control.Suspend, control.Scope{Queue: "acme"})
	start(t, b, Config{})
	l := fresh("01A", 0)
	l.Destination = "x.acme.example"
	l.Recipients = []*pb.Recipient{{Address: "b@x.acme.example"}}
	bustest.Put(t, b, delayed(l)...)
	bustest.Want(t, b, schemas.Parked, 1)
	apply(t, b, "kind: tenant\nname: other\ndomains: [x.acme.example]\nqueue: held")
	bustest.Want(t, b, schemas.Reinject, 1)
}

// A fault between output and commit: what was produced is aborted, and made
// again once.
func TestFaultBetweenOutputAndCommit(t *testing.T) {
	t.Parallel()
	broker := bustest.Start(t)
	b := broker.Dial(t, bus.Config{})
	apply(t, b, documents)
	var commits, faults atomic.Int32
	faulty := broker.Dial(t, bus.Config{
		Failpoint: func(name string) {
			if name == "txn.produced" {
				commits.Add(1)
			}
		},
		Barrier: func(context.Context) error {
			if commits.Load() > 0 && faults.Add(1) <= 3 {
				return errors.New("disk trouble")
			}
			return nil
		},
	})
	_, stop := start(t, faulty, Config{})
	const n = 200
	for i := range n {
		bustest.Put(t, b, delayed(fresh(fmt.Sprintf("01%03d", i), 10*time.Millisecond))...)
	}
	once(t, bustest.Want(t, b, acmeTopic, n))
	stop()
	if faults.Load() <= 3 {
		t.Errorf("%d faults", faults.Load())
	}
	start(t, broker.Dial(t, bus.Config{}), Config{})
	bustest.Put(t, b, delayed(fresh("01Z", 100*time.Millisecond))...)
	once(t, bustest.Want(t, b, acmeTopic, n+1))
	once(t, bustest.Records(t, b, acmeTopic))
	once(t, bustest.Records(t, b, schemas.Reinject))
}

// Content that its topic won't keep for long is copied to hold, for parked
// legs and for legs in the tiers.
func TestContentIsHeldInTime(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	apply(t, b, documents)
	content := bytes.Repeat([]byte("0123456789abcdef\r\n"), 5000)
	blob := b.Create(t.Context(), "01A", schemas.DefaultClass)
	if _, err := blob.Write(content); err != nil {
		t.Fatal(err)
	}
	stored, err := blob.Commit()
	if err != nil {
		t.Fatal(err)
	}
	old := func(id, tenant string) *pb.Leg {
		l := fresh(id, 4*time.Hour)
		l.Content = proto.Clone(stored.GetRef()).(*pb.ContentRef)
		l.Content.StoredMs -= (6*24 + 12) * 3600_000
		return l
	}
	send(t, b, control.Suspend, control.Scope{Destination: "acme.example"})
	parked := old("01A", "acme")
	parked.ParkedMs, parked.DueMs = time.Now().UnixMilli(), 0
	bustest.Put(t, b, bus.NewWaiting(schemas.Parked, parked))
	tiered := old("01B", "acme")
	free := old("01C", "held")
	free.Queue, free.Destination = "held", "held.example"
	free.Recipients = []*pb.Recipient{{Address: "b@held.example"}}
	bustest.Put(t, b, delayed(tiered, free)...)
	start(t, b, Config{})
	bustest.WantMatch(t, b, schemas.Events, 3, isEvent(pb.EventType_EVENT_TYPE_HELD))
	held := func(r bus.Record) bool {
		var l pb.Leg
		return proto.Unmarshal(r.Value, &l) == nil && l.GetContent().GetTopic() == schemas.Hold
	}
	again := bustest.WantMatch(t, b, schemas.Parked, 2, held)
	again = append(again, bustest.WantMatch(t, b, schemas.DelayTopics()[4], 1, held)...)
	for _, r := range again {
		l := legOf(t, r)
		from, err := b.Open(t.Context(), l.Content)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(from)
		if err != nil || !bytes.Equal(got, content) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		if err := from.Close(); err != nil {
			t.Error(err)
		}
	}
}

// A tenant that is suspended for three times the retention of its content gets
// all of it after the resume.
func TestSuspendedForThreeRetentions(t *testing.T) {
	const retention = 2 * time.Second
	broker := bustest.StartSized(t, schemas.Sizing{Mail: retention})
	b := broker.Dial(t, bus.Config{})
	apply(t, b, "kind: queue\nname: acme\nlifetime: 1s\nbounce_lifetime: 1s")
	apply(t, b, documentsOfTenants)
	send(t, b, control.Suspend, control.Scope{Tenant: "acme"})
	start(t, b, Config{})
	for i := range 20 {
		l := fresh(fmt.Sprintf("01%02d", i), 0)
		r := bus.NewReceived(&pb.Received{Id: l.MessageId, Content: &pb.Content{Where: &pb.Content_Inline{Inline: []byte(l.MessageId)}, Size: 4}})
		if err := b.Publish(t.Context(), &r); err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256([]byte(l.MessageId))
		l.Content = &pb.ContentRef{MessageId: l.MessageId, Topic: r.Topic, Partition: r.Partition, Offsets: []int64{r.Offset},
			Inline: true, Size: 4, Sha256: sum[:], StoredMs: r.Time.UnixMilli()}
		bustest.Put(t, b, delayed(l)...)
	}
	for end := time.Now().Add(3 * retention); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		broker.Cluster.ApplyRetention()
	}
	if got := bustest.Records(t, b, schemas.Received); len(got) != 0 {
		t.Fatalf("%d received records are still there", len(got))
	}
	send(t, b, control.Resume, control.Scope{Tenant: "acme"})
	other := broker.Dial(t, bus.Config{}) // without the content it has published
	for _, l := range once(t, bustest.Want(t, b, acmeTopic, 20)) {
		if l.Expired || l.StoppedMs < (3*retention-time.Second).Milliseconds() {
			t.Errorf("its lifetime did not stand still: %v", l)
		}
		from, err := other.Open(t.Context(), l.Content)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(from); err != nil || string(got) != l.MessageId {
			t.Errorf("%q %v", got, err)
		}
		if err := from.Close(); err != nil {
			t.Error(err)
		}
	}
}

// Legs past their lifetime are noticed in the queue topics, where no deliver
// runs.
func TestWatchCountsOverdueLegs(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	apply(t, b, documents)
	d, _ := start(t, b, Config{Watch: 100 * time.Millisecond})
	late := fresh("01A", 0)
	late.BornMs -= 11 * 3600_000
	bustest.Put(t, b, bus.NewLeg(acmeTopic, late), bus.NewLeg(acmeTopic, fresh("01B", 0)))
	deadline := time.Now().Add(time.Minute)
	for d.metrics.overdueIn("acme") != 1 {
		if time.Now().After(deadline) {
			t.Fatalf("%v legs are overdue", d.metrics.overdueIn("acme"))
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// With a clock that is ten days ahead nothing is due and nothing expires. The
// broker of tests keeps our own time, so the difference is given.
func TestWrongClockReleasesNothing(t *testing.T) {
	t.Parallel()
	broker := bustest.Start(t)
	b := broker.Dial(t, bus.Config{})
	apply(t, b, documents)
	const off = 240 * time.Hour
	ahead := func() time.Time { return time.Now().Add(off) }
	bustest.Put(t, b, delayed(fresh("01A", time.Hour), fresh("01B", 0))...)
	wrong := broker.Dial(t, bus.Config{Now: ahead})
	f := directory.Follow(wrong)
	d, err := New(Config{Check: 100 * time.Millisecond}, Deps{Bus: wrong, Directory: f, Now: ahead})
	if err != nil {
		t.Fatal(err)
	}
	d.skew = func() (time.Duration, bool) { return off, true }
	stop := run(t, d, f)
	send(t, b, control.Flush, control.Scope{})
	apply(t, b, "kind: queue\nname: acme\nlifetime: 1h\nbounce_lifetime: 1h")
	time.Sleep(1500 * time.Millisecond)
	if err := d.Ready(); err == nil {
		t.Error("ready with a clock that is ten days ahead")
	}
	stop()
	if got := bustest.Records(t, b, acmeTopic); len(got) != 0 {
		t.Fatalf("%d legs released", len(got))
	}
	start(t, broker.Dial(t, bus.Config{}), Config{})
	if l := once(t, bustest.Want(t, b, acmeTopic, 1))["01B"]; l == nil || l.Expired {
		t.Errorf("%v", l)
	}
}

// A leg that was decided with a newer directory waits for it.
func TestWaitsForTheLegsDirectory(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	apply(t, b, documents)
	start(t, b, Config{})
	l := fresh("01A", 0)
	l.Directory = 2
	l.Destination = "x.acme.example"
	l.Recipients = []*pb.Recipient{{Address: "b@x.acme.example"}}
	l.Tenant, l.Queue = "other", "held"
	bustest.Put(t, b, delayed(l, fresh("01B", 0))...)
	bustest.Want(t, b, acmeTopic, 1)
	if got := bustest.Records(t, b, schemas.Reinject); len(got) != 0 {
		t.Fatal("rerouted by an old directory")
	}
	apply(t, b, "kind: tenant\nname: other\ndomains: [x.acme.example]\nqueue: held")
	once(t, bustest.Want(t, b, schemas.Queue("held", 1), 1))
}
