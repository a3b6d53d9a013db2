package deliver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"qstream/bus"
	"qstream/bus/bustest"
	"qstream/control"
	"qstream/directory"
	"qstream/mail"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
	"qstream/test/fakemx"
	"qstream/test/lanes"
	"qstream/transport/resolver"
	"qstream/transport/schemes"
	"qstream/transport/smtp"
)

func TestMain(m *testing.M) {
	lanes.Open(4)
	goleak.VerifyTestMain(m)
}

// rig is a broker with a directory, a peer and deliver workers.
type rig struct {
	t      testing.TB
	broker *bustest.Broker
	b      *bus.Bus
	mx     *fakemx.Server
	box    string // folder of the maildir route
	queue  string // topic of acme
}

const site = `
kind: site
me: hub.example
---
kind: queue
name: acme
lifetime: 1h
schedule: {steps: [50s]}
destination_concurrency: 5
%s
---
kind: tenant
name: acme
domains: [acme.example, box.example]
---
kind: route
name: acme-in
match: {domain: acme.example}
via: smtp://127.0.0.1:%d
---
kind: route
name: box
match: {domain: box.example}
via: "maildir:%s"
---
kind: route
name: void
match: {domain: void.example}
via: "discard:"
`

func newRig(t testing.TB, cfg fakemx.Config, queue string) *rig {
	t.Helper()
	mx, err := fakemx.Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(mx.Close)
	broker := bustest.Start(t)
	r := &rig{t: t, broker: broker, b: broker.Dial(t, bus.Config{}), mx: mx, box: filepath.Join(t.TempDir(), "box"), queue: schemas.Queue("acme", 1)}
	r.apply(fmt.Sprintf(site, queue, mx.Port(), r.box))
	return r
}

func (r *rig) apply(text string) {
	r.t.Helper()
	docs, err := directory.Parse(directory.File{Name: "test.yaml", Data: []byte(text)})
	if err != nil {
		r.t.Fatal(err)
	}
	if _, err := directory.Apply(r.t.Context(), r.b, directory.Change{Documents: docs}, directory.Options{}); err != nil {
		r.t.Fatal(err)
	}
}

// worker is a running stage with what cmd gives it.
type worker struct {
	*Deliverer
	stop func()
}

func (r *rig) start(b *bus.Bus, cfg Config, change func(*Deps)) *worker {
	r.t.Helper()
	res, err := resolver.New(resolver.Config{Servers: []string{"127.0.0.1:9"}})
	if err != nil {
		r.t.Fatal(err)
	}
	tr, err := schemes.New(schemes.Config{Resolver: res, SMTP: smtp.Config{NoTLS: true}})
	if err != nil {
		r.t.Fatal(err)
	}
	dir, ctl := directory.Follow(b), control.Follow(b, nil)
	deps := Deps{Bus: b, Directory: dir, Control: ctl, Transport: tr, Log: slog.New(slog.NewTextHandler(testWriter{r.t}, nil))}
	if change != nil {
		change(&deps)
	}
	d, err := New(cfg, deps)
	if err != nil {
		r.t.Fatal(err)
	}
	if off := deps.Now; off != nil {
		d.skew = func() (time.Duration, bool) { return time.Until(off()), true }
	}
	ctx, cancel := context.WithCancel(context.Background())
	follow, unfollow := context.WithCancel(context.Background())
	stage, followers := make(chan error, 1), make(chan error, 2)
	go func() { followers <- dir.Run(follow) }()
	go func() { followers <- ctl.Run(follow) }()
	go func() { stage <- d.Run(ctx) }()
	stopped := false
	w := &worker{Deliverer: d, stop: func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		err := <-stage
		unfollow()
		if err = errors.Join(err, <-followers, <-followers, tr.Close()); err != nil && !errors.Is(err, context.Canceled) {
			r.t.Error(err)
		}
	}}
	r.t.Cleanup(w.stop)
	return w
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

const body = "From: alice@client.example\r\nSubject: hello\r\n\r\nbody\r\n"

// leg makes a leg with stored content, changes it, and doesn't put it yet.
func (r *rig) leg(destination string, to ...string) *pb.Leg {
	r.t.Helper()
	id := mail.NewID(time.Now())
	content := inline([]byte(body))
	rec := bus.NewReceived(&pb.Received{Id: id, Envelope: &pb.Envelope{}, Content: content, Session: &pb.Session{}})
	if err := r.b.Publish(r.t.Context(), &rec); err != nil {
		r.t.Fatal(err)
	}
	l := &pb.Leg{
		MessageId: id, Step: 1, Tenant: "acme", Queue: "acme", Generation: 1, Destination: destination,
		ReversePath: "alice@client.example", BornMs: time.Now().UnixMilli(), Prepend: []byte("Received: here\r\n"),
		Content: &pb.ContentRef{MessageId: id, Topic: schemas.Received, Partition: rec.Partition, Offsets: []int64{rec.Offset},
			Inline: true, Size: content.Size, Sha256: content.Sha256, StoredMs: rec.Time.UnixMilli()},
	}
	for i, a := range to {
		l.Recipients = append(l.Recipients, &pb.Recipient{Number: uint32(i), Address: a})
	}
	return l
}

func (r *rig) acme(to ...string) *pb.Leg { return r.leg("127.0.0.1:"+fmt.Sprint(r.mx.Port()), to...) }

func (r *rig) put(ls ...*pb.Leg) {
	r.t.Helper()
	for _, l := range ls {
		bustest.Put(r.t, r.b, bus.NewLeg(r.queue, l))
	}
}

// want waits for n events of a type.
func (r *rig) want(kind pb.EventType, n int) []*pb.Event {
	r.t.Helper()
	var es []*pb.Event
	for _, rec := range bustest.WantMatch(r.t, r.b, schemas.Events, n, func(rec bus.Record) bool {
		return header(rec, bus.HeaderEvent) == kind.String()
	}) {
		var e pb.Event
		if err := proto.Unmarshal(rec.Value, &e); err != nil {
			r.t.Fatal(err)
		}
		es = append(es, &e)
	}
	return es
}

func header(r bus.Record, key string) string {
	for _, h := range r.Headers {
		if h.Key == key {
			return string(h.Value)
		}
	}
	return ""
}

// waiting waits for n legs on a topic.
func (r *rig) waiting(topic string, n int) []*pb.Leg {
	r.t.Helper()
	var ls []*pb.Leg
	for _, rec := range bustest.Want(r.t, r.b, topic, n) {
		var l pb.Leg
		if err := proto.Unmarshal(rec.Value, &l); err != nil {
			r.t.Fatal(err)
		}
		ls = append(ls, &l)
	}
	return ls
}

// reinjected waits for n messages put in again.
func (r *rig) reinjected(n int) []*pb.Reinject {
	r.t.Helper()
	var ms []*pb.Reinject
	for _, rec := range bustest.Want(r.t, r.b, schemas.Reinject, n) {
		var m pb.Reinject
		if err := proto.Unmarshal(rec.Value, &m); err != nil {
			r.t.Fatal(err)
		}
		ms = append(ms, &m)
	}
	return ms
}

func TestDeliversToPeerAndMaildir(t *testing.T) {
	t.Parallel()
	r := newRig(t, fakemx.Config{}, "")
	w := r.start(r.b, Config{}, nil)
	smtp, box, void := r.acme("bob@acme.example"), r.leg(r.box, "bob@box.example"), r.leg("discard", "x@void.example")
	void.Queue, void.Tenant = "default", "default"
	bustest.Put(t, r.b, bus.NewLeg(schemas.Queue("default", 1), void))
	r.put(smtp, box)
	events := r.want(pb.EventType_EVENT_TYPE_DELIVERED, 2)
	for _, e := range events {
		if len(e.Outcomes) != 1 || e.Attempt != 1 || e.Tenant != "acme" || e.Outcomes[0].Status.GetCode() != 250 {
			t.Errorf("%v", e)
		}
	}
	if e := r.want(pb.EventType_EVENT_TYPE_DISCARDED, 1)[0]; e.Text != "policy: route void" {
		t.Errorf("%v", e)
	}
	if ms := r.mx.Accepted(); len(ms) != 1 || string(ms[0].Data) != "Received: here\r\n"+body || ms[0].HELO != "hub.example" {
		t.Errorf("the peer got %+v", ms)
	}
	if files, _ := filepath.Glob(filepath.Join(r.box, "new", "*")); len(files) != 1 {
		t.Errorf("the maildir holds %v", files)
	}
	if err := w.Ready(); err != nil {
		t.Error(err)
	}
	w.stop()
	if lag := r.lag(); lag != 0 {
		t.Errorf("%d records are unfinished", lag)
	}
}

func (r *rig) lag() int { return r.lagOf(r.queue) }

func (r *rig) lagOf(topic string) (n int) {
	r.t.Helper()
	err := r.b.Waiting(r.t.Context(), schemas.DeliverGroup("default"), []string{topic}, bus.Look{}, func(bus.Record) error {
		n++
		return nil
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return n
}

// One recipient is taken, one deferred, one refused, of the same message.
func TestMixedReplies(t *testing.T) {
	t.Parallel()
	r := newRig(t, fakemx.Config{Rules: []fakemx.Rule{
		{Line: "RCPT TO:<later@", Reply: "450 4.2.1 try\nagain"},
		{Line: "RCPT TO:<nobody@", Reply: "550 5.1.1 no \x1bsuch user"},
	}}, "")
	r.start(r.b, Config{}, nil)
	l := r.acme("bob@acme.example", "later@acme.example", "nobody@acme.example")
	l.EnvId = "QQ1"
	r.put(l)
	if e := r.want(pb.EventType_EVENT_TYPE_DELIVERED, 1)[0]; len(e.Outcomes) != 1 || e.Outcomes[0].Number != 0 {
		t.Errorf("delivered: %v", e)
	}
	e := r.want(pb.EventType_EVENT_TYPE_DEFERRED, 1)[0]
	if len(e.Outcomes) != 1 || e.Outcomes[0].Number != 1 || e.Outcomes[0].Status.GetCode() != 450 || e.Reason != pb.Reason_REASON_DEFERRED {
		t.Errorf("deferred: %v", e)
	}
	if e := r.want(pb.EventType_EVENT_TYPE_BOUNCED, 1)[0]; len(e.Outcomes) != 1 || e.Outcomes[0].Number != 2 {
		t.Errorf("bounced: %v", e)
	}
	topic, _ := schemas.Delay(time.Minute)
	rest := r.waiting(topic, 1)[0]
	if rest.Attempt != 1 || rest.Step != 2 || len(rest.Recipients) != 1 || rest.Recipients[0].Number != 1 || rest.DueMs != e.DueMs ||
		rest.Last.GetCode() != 450 || time.Until(time.UnixMilli(rest.DueMs)) > 60*time.Second {
		t.Errorf("rest: %v", rest)
	}
	dsn := r.reinjected(1)[0]
	text := string(dsn.GetContent().GetInline())
	if dsn.Origin != pb.Origin_ORIGIN_DSN || dsn.Envelope.ReversePath != "" || dsn.Envelope.Recipients[0].Address != "alice@client.example" ||
		dsn.ParentId != l.MessageId || dsn.Tenant != "acme" {
		t.Errorf("report: %v", dsn)
	}
	for _, want := range []string{"Original-Envelope-Id: QQ1", "Final-Recipient: rfc822;nobody@acme.example", "Status: 5.1.1", "Subject: hello"} {
		if !strings.Contains(text, want) {
			t.Errorf("the report lacks %q", want)
		}
	}
	if strings.Contains(text, "later@") || strings.Contains(text, "\x1b") {
		t.Errorf("the report tells too much: %s", text)
	}
	if e := r.want(pb.EventType_EVENT_TYPE_DSN, 1)[0]; e.ChildId != dsn.Id || e.MessageId != l.MessageId {
		t.Errorf("event of the report: %v", e)
	}
}

func TestSettledWithoutAttempt(t *testing.T) {
	t.Parallel()
	r := newRig(t, fakemx.Config{}, "")
	r.start(r.b, Config{}, nil)
	refused := r.leg("error", "x@acme.example")
	refused.Refusal = &pb.Status{Code: 550, Enhanced: "5.1.1", Text: "gone"}
	old := r.acme("old@acme.example")
	old.BornMs, old.Attempt, old.Last = time.Now().Add(-2*time.Hour).UnixMilli(), 3, &pb.Status{Code: 451, Enhanced: "4.3.0", Text: "busy"}
	told := r.acme("told@acme.example")
	told.Expired, told.Attempt = true, 1
	owed := r.acme("owed@acme.example")
	owed.BornMs, owed.Attempt, owed.Owed = old.BornMs, 3, true
	never := r.acme("never@acme.example")
	never.BornMs = old.BornMs
	r.put(refused, old, told, owed, never)
	if e := r.want(pb.EventType_EVENT_TYPE_BOUNCED, 1)[0]; e.Outcomes[0].Status.GetText() != "gone" {
		t.Errorf("refused: %v", e)
	}
	for _, e := range r.want(pb.EventType_EVENT_TYPE_EXPIRED, 2) {
		if e.Outcomes[0].Address == "old@acme.example" && e.Outcomes[0].Status.GetText() != "busy" {
			t.Errorf("expired: %v", e)
		}
	}
	r.want(pb.EventType_EVENT_TYPE_DELIVERED, 2)
	r.reinjected(3)
	if n := len(r.mx.Accepted()); n != 2 {
		t.Errorf("%d attempts, want those of the two that are owed one", n)
	}
}

func TestSuspendedIsParked(t *testing.T) {
	t.Parallel()
	r := newRig(t, fakemx.Config{}, "")
	if _, err := control.Send(t.Context(), r.b, control.Command{Verb: "suspend", Scope: control.Scope{Tenant: "acme"}}); err != nil {
		t.Fatal(err)
	}
	r.start(r.b, Config{}, nil)
	r.put(r.acme("bob@acme.example"))
	l := r.waiting(schemas.Parked, 1)[0]
	if l.ParkedMs != l.BornMs || l.Step != 2 || l.Attempt != 0 || l.Reason != pb.Reason_REASON_SUSPENDED {
		t.Errorf("parked: %v", l)
	}
	r.want(pb.EventType_EVENT_TYPE_PARKED, 1)
	if n := r.mx.Connections(); n != 0 {
		t.Errorf("%d connections while suspended", n)
	}
}

func TestMovedIsRerouted(t *testing.T) {
	t.Parallel()
	r := newRig(t, fakemx.Config{}, "")
	r.start(r.b, Config{}, nil)
	elsewhere := r.leg("192.0.2.1:25", "bob@acme.example")
	purged := r.acme("bob@acme.example")
	purged.Generation = 7
	r.put(elsewhere, purged)
	for _, m := range r.reinjected(2) {
		if m.Origin != pb.Origin_ORIGIN_REROUTE || m.Reroutes != 1 || m.Content.GetRef() == nil {
			t.Errorf("rerouted: %v", m)
		}
	}
	r.want(pb.EventType_EVENT_TYPE_REROUTED, 2)
}

// A leg that a newer directory decided waits for it.
func TestWaitsForTheDirectory(t *testing.T) {
	t.Parallel()
	r := newRig(t, fakemx.Config{}, "")
	w := r.start(r.b, Config{}, nil)
	r.put(r.acme("bob@acme.example"))
	r.want(pb.EventType_EVENT_TYPE_DELIVERED, 1)
	l := r.leg(r.box, "bob@acme.example")
	l.Directory = w.deps.Directory.Snapshot().Number + 1
	r.put(l)
	eventually(t, "the leg in hand", func() bool { _, settling, _, _ := w.load(); return settling == 1 })
	r.apply("kind: route\nname: acme-in\nmatch: {domain: acme.example}\nvia: \"maildir:" + r.box + "\"\n")
	r.want(pb.EventType_EVENT_TYPE_DELIVERED, 2)
	if n := len(bustest.Records(t, r.b, schemas.Reinject)); n != 0 {
		t.Errorf("%d messages put in again", n)
	}
}

// A pool that the directory names later is served without a restart.
func TestEveryPoolIsServed(t *testing.T) {
	t.Parallel()
	r := newRig(t, fakemx.Config{}, "")
	r.start(r.b, Config{AllPools: true}, nil)
	r.put(r.acme("bob@acme.example"))
	r.want(pb.EventType_EVENT_TYPE_DELIVERED, 1)
	r.apply("kind: queue\nname: big\npool: big\n---\nkind: tenant\nname: big\ndomains: [big.example]\n---\n" +
		"kind: route\nname: big\nmatch: {domain: big.example}\nvia: \"maildir:" + r.box + "\"\n")
	l := r.leg(r.box, "bob@big.example")
	l.Tenant, l.Queue = "big", "big"
	bustest.Put(t, r.b, bus.NewLeg(schemas.Queue("big", 1), l))
	r.want(pb.EventType_EVENT_TYPE_DELIVERED, 2)
}

// Concurrency 0 holds: what is in hand waits without an attempt.
func TestQueueOnHoldSpills(t *testing.T) {
	t.Parallel()
	r := newRig(t, fakemx.Config{}, "concurrency: 0")
	r.start(r.b, Config{DelayAfter: time.Minute}, nil)
	young, old := r.acme("bob@acme.example"), r.acme("bob@acme.example")
	old.BornMs -= (10 * time.Minute).Milliseconds()
	r.put(young, old)
	for _, e := range r.want(pb.EventType_EVENT_TYPE_SPILLED, 2) {
		if e.Reason != pb.Reason_REASON_BACKPRESSURE || e.Attempt != 0 {
			t.Errorf("%v", e)
		}
	}
	topic, _ := schemas.Delay(time.Minute)
	for _, l := range r.waiting(topic, 2) {
		if l.Spills != 1 || l.DelayNotified != (l.MessageId == old.MessageId) {
			t.Errorf("%v", l)
		}
	}
	if m := r.reinjected(1)[0]; m.ParentId != old.MessageId || !strings.Contains(string(m.GetContent().GetInline()), "Action: delayed") {
		t.Errorf("%v", m)
	}
	if n := r.mx.Connections(); n != 0 {
		t.Errorf("%d connections", n)
	}
}

// With a clock that is ten days ahead nothing is attempted, expired, bounced
// or spilled.
func TestWrongClockDoesNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t, fakemx.Config{}, "")
	ahead := func() time.Time { return time.Now().Add(240 * time.Hour) }
	w := r.start(r.broker.Dial(t, bus.Config{Now: ahead}), Config{}, func(d *Deps) { d.Now = ahead })
	tried, fresh := r.acme("bob@acme.example"), r.acme("bob@acme.example")
	tried.Attempt = 1
	r.put(tried, fresh)
	eventually(t, "a leg in hand", func() bool { _, settling, held, _ := w.load(); return settling == 1 && held == 1 })
	time.Sleep(500 * time.Millisecond)
	if err := w.Ready(); err == nil || !strings.Contains(err.Error(), "clock") {
		t.Errorf("ready with a wrong clock: %v", err)
	}
	w.stop()
	if n := len(bustest.Records(t, r.b, schemas.Events)); n != 0 {
		t.Errorf("%d events", n)
	}
	r.start(r.b, Config{}, nil)
	r.want(pb.EventType_EVENT_TYPE_DELIVERED, 2)
}

func TestPoison(t *testing.T) {
	t.Parallel()
	r := newRig(t, fakemx.Config{}, "")
	r.start(r.b, Config{}, nil)
	bustest.Put(t, r.b, bus.Record{Topic: r.queue, Partition: bus.AnyPartition, Key: []byte("x"), Value: []byte("\xff garbage")},
		bus.NewLeg(r.queue, &pb.Leg{MessageId: "x"}))
	bustest.Want(t, r.b, schemas.Deadletter, 2)
	r.put(r.acme("bob@acme.example"))
	r.want(pb.EventType_EVENT_TYPE_DELIVERED, 1)
}
