package ledger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"qstream/bus"
	"qstream/bus/bustest"
	"qstream/control"
	"qstream/directory"
	"qstream/mail"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rig is a ledger on a broker of its own.
type rig struct {
	t       *testing.T
	broker  *bustest.Broker
	bus     *bus.Bus
	dir     string
	metrics *prometheus.Registry
	ledger  *Ledger
	stop    func()
}

func newRig(t *testing.T) *rig {
	broker := bustest.Start(t)
	return &rig{t: t, broker: broker, bus: broker.Dial(t, bus.Config{}), dir: t.TempDir()}
}

// start runs a ledger, with what follows.
func (r *rig) start(cfg Config) {
	r.t.Helper()
	cfg.Dir = r.dir
	cfg.Retry, cfg.Look, cfg.Every, cfg.Tell = 50*time.Millisecond, 100*time.Millisecond, 100*time.Millisecond, 50*time.Millisecond
	r.metrics = prometheus.NewRegistry()
	b := r.broker.Dial(r.t, bus.Config{})
	d, c := directory.Follow(b), control.Follow(b, nil)
	l, err := New(cfg, Deps{Bus: b, Directory: d, Control: c, Metrics: r.metrics})
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 3)
	for _, run := range []func(context.Context) error{d.Run, c.Run, l.Run} {
		go func() { done <- run(ctx) }()
	}
	<-d.Ready()
	<-c.Ready()
	r.ledger = l
	stopped := false
	r.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		for range 3 {
			if err := <-done; err != nil {
				r.t.Error(err)
			}
		}
	}
	r.t.Cleanup(r.stop)
}

// ready waits until the ledger says what is wanted of its readiness.
func (r *rig) ready(want bool) {
	r.t.Helper()
	eventually(r.t, fmt.Sprintf("ready %v", want), func() bool { return (r.ledger.Ready() == nil) == want })
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited 20 s for %s", what)
		}
	}
}

// ask returns the status of an answer and what it holds.
func (r *rig) ask(path string, query string, into any) int {
	r.t.Helper()
	w := httptest.NewRecorder()
	r.ledger.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, path+"?"+query, nil))
	if w.Code == http.StatusOK && into != nil {
		if err := json.Unmarshal(w.Body.Bytes(), into); err != nil {
			r.t.Fatalf("%s: %v", w.Body, err)
		}
	}
	return w.Code
}

func (r *rig) groups(query string) map[string]int {
	r.t.Helper()
	var g Groups
	if code := r.ask("/v1/queue/groups", query, &g); code != http.StatusOK {
		r.t.Fatalf("groups %s: %d", query, code)
	}
	got := map[string]int{}
	for _, g := range g.Groups {
		var keys []string
		for _, k := range []string{"tenant", "queue", "destination", "reason", "place", "host"} {
			if v, ok := g.Keys[k]; ok {
				keys = append(keys, v)
			}
		}
		if g.Legs > 0 {
			got[strings.Join(keys, " ")] = g.Legs
		}
	}
	return got
}

func (r *rig) metric(name string) float64 {
	r.t.Helper()
	all, err := r.metrics.Gather()
	if err != nil {
		r.t.Fatal(err)
	}
	for _, f := range all {
		if f.GetName() == "qstream_ledger_"+name {
			return f.Metric[0].GetCounter().GetValue()
		}
	}
	r.t.Fatalf("no metric %s", name)
	return 0
}

// deferred are the events of a message that is deferred.
func deferred(i int, at time.Time) []bus.Record {
	rs := life(i, at)[:3]
	var e pb.Event
	mustEvent(rs[1], &e)
	e.Type, e.Id, e.Reason, e.DueMs, e.Host = pb.EventType_EVENT_TYPE_DEFERRED, "", pb.Reason_REASON_DEFERRED, at.Add(time.Hour).UnixMilli(), "mail.acme.example"
	for _, o := range e.Outcomes {
		o.Status = &pb.Status{Code: 451, Enhanced: "4.2.0", Text: "busy"}
	}
	return append(rs, bus.NewEvent(&e))
}

func TestViewIsBuiltAgain(t *testing.T) {
	r := newRig(t)
	now := time.Now()
	for i := range 20 {
		bustest.Put(t, r.bus, life(i, now)...)
	}
	for i := range 5 {
		bustest.Put(t, r.bus, deferred(i, now)...)
	}
	bustest.Put(t, r.bus, life(3, now)[:1]...) // accepted only
	want := map[string]int{"acme acme delay": 5, "  received": 1}
	look := func() {
		t.Helper()
		r.ready(true)
		if diff := cmp.Diff(want, r.groups("by=tenant&by=queue&by=place")); diff != "" {
			t.Error(diff)
		}
		var legs Legs
		if code := r.ask("/v1/queue/legs", "reason=deferred&limit=2&sort=due", &legs); code != 200 || len(legs.Legs) != 2 || !legs.More {
			t.Errorf("%d: %+v", code, legs)
		}
	}
	r.start(Config{})
	look()
	r.stop()
	r.start(Config{})
	look()
	if n := r.metric("builds_total"); n != 0 {
		t.Errorf("built %v times from the log", n)
	}
	r.stop()
	if err := os.Remove(filepath.Join(r.dir, "ledger.sqlite")); err != nil {
		t.Fatal(err)
	}
	r.start(Config{})
	look()
	r.stop()
	if err := os.WriteFile(filepath.Join(r.dir, "ledger.sqlite"), []byte(strings.Repeat("garbage ", 10_000)), 0o600); err != nil {
		t.Fatal(err)
	}
	r.start(Config{})
	look()
	if n := r.metric("builds_total"); n != 1 {
		t.Errorf("built %v times from the log", n)
	}
}

// A file that is taken away, or changed for another, while it is open is soon
// built again.
func TestFileIsTakenAway(t *testing.T) {
	r := newRig(t)
	bustest.Put(t, r.bus, deferred(1, time.Now())...)
	r.start(Config{})
	file := filepath.Join(r.dir, "ledger.sqlite")
	for i, away := range []func() error{
		func() error { return os.Remove(file) },
		func() error { return errors.Join(os.Remove(file), os.WriteFile(file, nil, 0o600)) },
		func() error { return os.RemoveAll(r.dir) },
	} {
		r.ready(true)
		before := r.ledger.view.Load()
		if err := away(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "another view", func() bool { v := r.ledger.view.Load(); return v != nil && v != before })
		r.ready(true)
		if diff := cmp.Diff(map[string]int{"delay": 1}, r.groups("by=place")); diff != "" {
			t.Error(diff)
		}
		if n := r.metric("builds_total"); n != float64(i+2) {
			t.Errorf("built %v times from the log, want %d", n, i+2)
		}
	}
}

// A log that is shorter than it was, or another one: the view is built anew.
func TestViewOfAnotherLog(t *testing.T) {
	r := newRig(t)
	bustest.Put(t, r.bus, deferred(1, time.Now())...)
	r.start(Config{})
	r.ready(true)
	r.groups("")
	v := r.ledger.view.Load()
	v.mu.Lock()
	for p := range 3 {
		v.next.Next[int32(p)] = 1 << 40
	}
	v.mu.Unlock()
	bustest.Put(t, r.bus, life(1, time.Now())...)
	r.groups("") // writes the positions with the events
	r.stop()
	r.start(Config{})
	r.ready(true)
	if diff := cmp.Diff(map[string]int{"delay": 1}, r.groups("by=place")); diff != "" {
		t.Error(diff)
	}
	r.stop()
	r.broker = bustest.Start(t)
	r.bus = r.broker.Dial(t, bus.Config{})
	bustest.Put(t, r.bus, life(1, time.Now())[:2]...)
	r.start(Config{})
	r.ready(true)
	if diff := cmp.Diff(map[string]int{"queue": 1}, r.groups("by=place")); diff != "" {
		t.Error(diff)
	}
}

// A full disk makes the ledger unready and ends nothing; with room it goes on
// where it was.
func TestFullDisk(t *testing.T) {
	r := newRig(t)
	r.start(Config{MaxBytes: 200 << 10})
	r.ready(true)
	for i := range 60 {
		rs := deferred(i, time.Now())
		for j := range rs {
			var e pb.Event
			mustEvent(rs[j], &e)
			e.HeaderMessageId = strings.Repeat("x", 500) + fmt.Sprint(i)
			e.ReversePath = strings.Repeat("y", 500) + "@sender.example"
			for _, o := range e.Outcomes {
				o.Address = strings.Repeat("z", 500) + fmt.Sprint(i) + "@acme.example"
			}
			rs[j] = bus.NewEvent(&e)
		}
		bustest.Put(t, r.bus, rs...)
	}
	r.ready(false)
	if r.metric("failures_total") == 0 {
		t.Error("no failure was counted")
	}
	if !strings.Contains(r.ledger.Ready().Error(), "full") {
		t.Errorf("unready for: %v", r.ledger.Ready())
	}
	r.stop()
	r.start(Config{})
	r.ready(true)
	if diff := cmp.Diff(map[string]int{"delay": 60}, r.groups("by=place")); diff != "" {
		t.Error(diff)
	}
}

// What no router reads is noted after a while, and is its router's afterwards.
func TestNotes(t *testing.T) {
	r := newRig(t)
	r.start(Config{})
	r.ready(true)
	id, report := mail.NewID(time.Now()), mail.NewID(time.Now())
	content := &pb.Content{Where: &pb.Content_Inline{Inline: []byte("hello")}, Size: 5}
	bustest.Put(t, r.bus,
		bus.NewReceived(&pb.Received{
			Id: id, Session: &pb.Session{Tenant: "acme"}, Content: content, HeaderMessageId: "<m@sender.example>",
			Envelope: &pb.Envelope{ReversePath: "ann@sender.example", Recipients: []*pb.Recipient{{Address: "bob@acme.example"}, {Number: 1, Address: "carl@acme.example"}}},
		}),
		bus.NewReinject(&pb.Reinject{
			Id: report, Origin: pb.Origin_ORIGIN_DSN, ParentId: id, Tenant: "acme", Content: content,
			Envelope: &pb.Envelope{Recipients: []*pb.Recipient{{Address: "ann@sender.example"}}},
		}),
		bus.Record{Topic: schemas.Received, Partition: bus.AnyPartition, Value: []byte("\xff garbage")},
	)
	want := map[string]int{"acme received": 1, "acme reinject": 1}
	eventually(t, "notes", func() bool { return cmp.Equal(want, r.groups("by=tenant&by=place")) })
	var legs Legs
	r.ask("/v1/queue/legs", "place=received", &legs)
	if l := legs.Legs[0]; l.ID != id || l.Recipients != 2 || l.ReversePath != "ann@sender.example" ||
		!cmp.Equal(l.Addresses, []string{"bob@acme.example", "carl@acme.example"}) {
		t.Errorf("%+v", l)
	}
	time.Sleep(300 * time.Millisecond)
	if n := r.metric("notes_total"); n != 2 {
		t.Errorf("%v notes", n)
	}
	// The router comes.
	two := []*pb.Outcome{{Address: "bob@acme.example"}, {Number: 1, Address: "carl@acme.example"}}
	bustest.Put(t, r.bus,
		bus.NewEvent(&pb.Event{Type: pb.EventType_EVENT_TYPE_ACCEPTED, MessageId: id, Outcomes: two, AtMs: time.Now().UnixMilli()}),
		bus.NewEvent(&pb.Event{Type: pb.EventType_EVENT_TYPE_ROUTED, MessageId: id, Step: 1, Tenant: "acme", Queue: "q", Outcomes: two}),
	)
	want = map[string]int{"acme queue": 1, "acme reinject": 1}
	if diff := cmp.Diff(want, r.groups("by=tenant&by=place")); diff != "" {
		t.Error(diff)
	}
}

func TestTrace(t *testing.T) {
	r := newRig(t)
	r.start(Config{})
	r.ready(true)
	now := time.Now()
	rs := deferred(7, now)
	var first pb.Event
	mustEvent(rs[0], &first)
	child := mail.NewID(now)
	rs = append(rs,
		bus.NewEvent(&pb.Event{Type: pb.EventType_EVENT_TYPE_DSN, MessageId: first.MessageId, Step: 1, Tenant: "acme", ChildId: child, AtMs: now.UnixMilli()}),
		bus.NewEvent(&pb.Event{
			Type: pb.EventType_EVENT_TYPE_ROUTED, MessageId: child, Step: 1, Tenant: "acme", Origin: pb.Origin_ORIGIN_DSN, ParentId: first.MessageId,
			Outcomes: []*pb.Outcome{{Address: "ann@sender.example"}}, AtMs: now.UnixMilli(),
		}))
	bustest.Put(t, r.bus, rs...)
	bustest.Put(t, r.bus, life(8, now)...)
	since := "&since=" + url.QueryEscape(now.Add(-time.Hour).Format(time.RFC3339Nano))
	for query, want := range map[string]int{
		"id=" + first.MessageId:                                        6,
		"id=" + mail.NewID(now):                                        0,
		"recipient=BOB7@acme.example" + since:                          6,
		"recipient=bob8@acme.example" + since:                          4,
		"recipient=bob9@acme.example" + since:                          0,
		"reverse_path=ann@sender.example" + since:                      10,
		"message_id=" + url.QueryEscape(first.HeaderMessageId) + since: 6,
		"reverse_path=ann@sender.example&since=" + url.QueryEscape(now.Add(time.Hour).Format(time.RFC3339Nano)): 0,
	} {
		var tr Trace
		code := r.ask("/v1/trace", query, &tr)
		if len(tr.Events) != want || (code == http.StatusOK) != (want > 0) || tr.Told != want {
			t.Errorf("%s: %d, %d events of %d, want %d", query, code, len(tr.Events), tr.Told, want)
		}
	}
	// Events that are gone from the log are told apart.
	ends, err := r.bus.Ends(t.Context(), schemas.Events)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.bus.Trim(t.Context(), schemas.Events, ends); err != nil {
		t.Fatal(err)
	}
	var tr Trace
	if code := r.ask("/v1/trace", "id="+first.MessageId, &tr); code != http.StatusOK || len(tr.Events) != 0 || tr.Told != 6 {
		t.Errorf("%d: %d events of %d", code, len(tr.Events), tr.Told)
	}
}

// A broker may repeat records: they count once, and are counted.
func TestRepeatedEvents(t *testing.T) {
	r := newRig(t)
	r.start(Config{})
	r.ready(true)
	rs := deferred(1, time.Now())
	bustest.Put(t, r.bus, rs...)
	r.groups("")
	bustest.Put(t, r.bus, rs...)
	bustest.Put(t, r.bus, bus.Record{Topic: schemas.Events, Partition: bus.AnyPartition, Value: []byte("\xff garbage")},
		bus.NewEvent(&pb.Event{Id: mail.NewID(time.Now()), Type: pb.EventType_EVENT_TYPE_TALLIED, Tenant: "acme"})) // about no message
	if diff := cmp.Diff(map[string]int{"delay": 1}, r.groups("by=place")); diff != "" {
		t.Error(diff)
	}
	if n := r.metric("events_repeated_total"); n != float64(len(rs)) {
		t.Errorf("%v repeated", n)
	}
	if n := r.metric("events_unreadable_total"); n != 1 {
		t.Errorf("%v unreadable", n)
	}
}

func TestQuestions(t *testing.T) {
	r := newRig(t)
	r.ledger, _ = New(Config{Dir: r.dir}, Deps{Bus: r.bus, Directory: directory.Follow(r.bus), Control: control.Follow(r.bus, nil)})
	if code := r.ask("/v1/queue/groups", "", nil); code != http.StatusServiceUnavailable {
		t.Errorf("before it runs: %d", code)
	}
	r.start(Config{})
	r.ready(true)
	hostile := "\x1b[31m\x00<b>\"'; DROP TABLE legs; --@acme.example"
	e := &pb.Event{
		Type: pb.EventType_EVENT_TYPE_ROUTED, MessageId: mail.NewID(time.Now()), Step: 1, Tenant: "acme", Queue: "q", Destination: hostile,
		ReversePath: hostile, HeaderMessageId: hostile, Outcomes: []*pb.Outcome{{Address: hostile, Status: &pb.Status{Code: 550, Text: hostile}}},
	}
	bustest.Put(t, r.bus, bus.NewEvent(e))
	for _, c := range []struct {
		path string
		want int
	}{
		{"/v1/queue/groups?by=tenant&by=host&limit=3", 200},
		{"/v1/queue/groups?by=nothing", 400},
		{"/v1/queue/groups?by=" + url.QueryEscape("tenant; DROP TABLE legs"), 400},
		{"/v1/queue/groups?limit=0", 400},
		{"/v1/queue/legs?place=nowhere", 400},
		{"/v1/queue/legs?reason=unspecified", 400},
		{"/v1/queue/legs?older=1", 400},
		{"/v1/queue/legs?older=1h&sort=since&host=x&reply=busy&destination=D&tenant=t&queue=q", 200},
		{"/v1/queue/legs?sort=up", 400},
		{"/v1/queue/show/q", 200},
		{"/v1/queue/show/none", 404},
		{"/v1/trace", 400},
		{"/v1/trace?id=x", 400},
		{"/v1/trace?recipient=x", 400},
		{"/v1/none", 404},
	} {
		path, query, _ := strings.Cut(c.path, "?")
		if code := r.ask(path, query, nil); code != c.want {
			t.Errorf("%s: %d, want %d", c.path, code, c.want)
		}
	}
	var legs Legs
	r.ask("/v1/queue/legs", "destination="+url.QueryEscape(hostile), &legs)
	want := []Leg{{
		Tenant: "acme", Queue: "q", Destination: hostile, Place: "queue", Reply: "550 " + hostile, ReversePath: hostile,
		HeaderID: hostile, Recipients: 1, Addresses: []string{hostile}, ID: e.MessageId,
	}}
	if diff := cmp.Diff(want, legs.Legs, cmpopts.IgnoreFields(Leg{}, "Born", "Since")); diff != "" {
		t.Error(diff)
	}
	since := "&since=" + url.QueryEscape(time.Now().Add(-time.Hour).Format(time.RFC3339Nano))
	var tr Trace
	if code := r.ask("/v1/trace", "recipient="+url.QueryEscape(hostile)+since, &tr); code != 200 || len(tr.Events) != 1 {
		t.Errorf("%d: %d events", code, len(tr.Events))
	}
}

// An answer says how far it is when the view can't catch up.
func TestBehind(t *testing.T) {
	r := newRig(t)
	r.start(Config{Wait: time.Nanosecond})
	r.ready(true)
	var g Groups
	if code := r.ask("/v1/queue/groups", "", &g); code != 200 || g.Fresh.Behind == 0 {
		t.Errorf("%d %+v", code, g.Fresh)
	}
}

func TestNew(t *testing.T) {
	if _, err := New(Config{Dir: "x"}, Deps{}); err == nil {
		t.Error("made without a bus")
	}
	b := bustest.New(t)
	d := Deps{Bus: b, Directory: directory.Follow(b), Control: control.Follow(b, nil)}
	for _, cfg := range []Config{{}, {Dir: "x", Every: -1}, {Dir: "x", Batch: -1}, {Dir: "x", MaxBytes: -1}} {
		if _, err := New(cfg, d); err == nil {
			t.Errorf("made with %+v", cfg)
		}
	}
	l, err := New(Config{Dir: "x"}, d)
	if err != nil || l.Ready() == nil {
		t.Errorf("%v, ready before it runs", err)
	}
}
