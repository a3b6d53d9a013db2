package then

import (
	"errors"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"qstream/bus"
	"qstream/bus/bustest"
	"qstream/directory"
	"qstream/mail"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const site = `
kind: scan
name: strict
engines: [av]
rules:
  - {on: malware, action: discard}
---
kind: engine
name: av
type: clamd
address: tcp://127.0.0.1:3310
---
kind: queue
name: acme
lifetime: 1d
schedule: {steps: [10m, 1h]}
---
kind: tenant
name: acme
domains: [acme.example]
queue: acme
scan: strict
---
kind: route
name: old
match: {domain: acme.example}
via: smtp://192.0.2.1:25
`

const moved = `
kind: route
name: old
match: {domain: acme.example}
via: smtp://192.0.2.2:25
`

func apply(t *testing.T, b *bus.Bus, text string) uint64 {
	t.Helper()
	docs, err := directory.Parse(directory.File{Name: "test.yaml", Data: []byte(text)})
	if err != nil {
		t.Fatal(err)
	}
	done, err := directory.Apply(t.Context(), b, directory.Change{Documents: docs}, directory.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return done.After.Number
}

const (
	accepted = pb.EventType_EVENT_TYPE_ACCEPTED
	routed   = pb.EventType_EVENT_TYPE_ROUTED
	scanned  = pb.EventType_EVENT_TYPE_SCANNED
	deferred = pb.EventType_EVENT_TYPE_DEFERRED
	bounced  = pb.EventType_EVENT_TYPE_BOUNCED
)

// told is an event about bob's leg as it should have been recorded.
func told(kind pb.EventType, id string, number uint64, at time.Time, change func(*pb.Event)) bus.Record {
	e := &pb.Event{
		Type: kind, MessageId: id, Directory: number, AtMs: at.UnixMilli(), ReversePath: "ann@sender.example",
		Tenant: "acme", Queue: "acme", Destination: "192.0.2.1:25", Route: "old", Outcomes: []*pb.Outcome{{Address: "bob@acme.example"}},
	}
	if change != nil {
		change(e)
	}
	return bus.NewEvent(e)
}

func TestExplain(t *testing.T) {
	b := bustest.New(t)
	first, born := apply(t, b, site), time.Now()
	second := apply(t, b, moved)
	put := func(records ...bus.Record) string {
		id := mail.NewID(time.Now())
		bustest.Put(t, b, bus.NewReceived(&pb.Received{
			Id: id, Session: &pb.Session{ClientIp: "192.0.2.9"}, Directory: first,
			Envelope: &pb.Envelope{ReversePath: "ann@sender.example", Recipients: []*pb.Recipient{{Address: "bob@acme.example"}}},
		}))
		return id
	}
	due := func(id string, attempt int) int64 {
		s, err := directory.ReadNumber(t.Context(), b, first)
		if err != nil {
			t.Fatal(err)
		}
		q := s.Queue("acme")
		return q.Schedule.NextSpread(born, born, attempt, id, q.Expires(born, 0, false)).UnixMilli()
	}
	verdicts := func(name string) func(*pb.Event) {
		return func(e *pb.Event) {
			e.Scan = &pb.Scan{Policy: "strict", Action: name, Finding: "malware", Verdicts: []*pb.Verdict{{Engine: "av", Outcome: "malware", Name: "Eicar"}}}
		}
	}
	wanted := func(e *pb.Event) { e.Scan = &pb.Scan{Policy: "strict"} }
	for name, c := range map[string]struct {
		kind   pb.EventType
		number uint64
		change func(id string) func(*pb.Event)
		want   Result
		why    string
	}{
		"accepted":               {kind: accepted, number: first, want: Same},
		"accepted, not ours":     {accepted, first, func(string) func(*pb.Event) { return func(e *pb.Event) { e.Outcomes[0].Address = "x@other.example" } }, Different, "refusal"},
		"routed":                 {routed, first, func(string) func(*pb.Event) { return wanted }, Same, ""},
		"routed, other snapshot": {routed, second, func(string) func(*pb.Event) { return wanted }, Different, "destination was 192.0.2.1:25, is 192.0.2.2:25"},
		"routed, other tenant":   {routed, first, func(string) func(*pb.Event) { return func(e *pb.Event) { wanted(e); e.Tenant = "beta" } }, Different, "tenant was beta"},
		"no snapshot":            {routed, 99, nil, Unknown, "no snapshot 99"},
		"no record":              {routed, first, func(string) func(*pb.Event) { return func(e *pb.Event) { e.Origin = pb.Origin_ORIGIN_REPLAY } }, Unknown, "isn't kept"},
		"bounced":                {kind: bounced, number: first, want: Same},
		"deferred": {deferred, first, func(id string) func(*pb.Event) {
			return func(e *pb.Event) {
				e.Attempt, e.Reason, e.DueMs = 1, pb.Reason_REASON_DEFERRED, due(id, 1)
			}
		}, Same, ""},
		"deferred for too long": {deferred, first, func(id string) func(*pb.Event) {
			return func(e *pb.Event) {
				e.Attempt, e.Reason, e.DueMs = 1, pb.Reason_REASON_DEFERRED, due(id, 2)
			}
		}, Different, "due was"},
		"scanned":                 {scanned, first, func(string) func(*pb.Event) { return verdicts("discard") }, Same, ""},
		"scanned, passed by hand": {scanned, first, func(string) func(*pb.Event) { return verdicts("pass") }, Different, "action was pass, is discard"},
	} {
		t.Run(name, func(t *testing.T) {
			id := put()
			var change func(*pb.Event)
			if c.change != nil {
				change = c.change(id)
			}
			bustest.Put(t, b, told(c.kind, id, c.number, born, change))
			m, err := Explain(t.Context(), b, id, Options{Now: true})
			if err != nil {
				t.Fatal(err)
			}
			if len(m.Decisions) != 1 {
				t.Fatalf("%+v", m)
			}
			d := m.Decisions[0]
			if d.Result != c.want || !strings.Contains(d.Why, c.why) || (c.want == Different) != (m.Differences() == 1) {
				t.Errorf("%s (%s): %+v", d.Result, d.Why, d)
			}
			if c.kind == routed && c.want == Same && d.Now.Destination != "192.0.2.2:25" {
				t.Errorf("today: %+v", d.Now)
			}
		})
	}
	if _, err := Explain(t.Context(), b, mail.NewID(time.Now()), Options{}); !errors.Is(err, ErrNoMessage) {
		t.Errorf("%v", err)
	}
}

// A leg that the scanner split off a rerouted one comes of the same record.
func TestEntryOf(t *testing.T) {
	h := &history{entries: []entry{{}, {origin: pb.Origin_ORIGIN_REROUTE, reroutes: 1}, {origin: pb.Origin_ORIGIN_REROUTE, reroutes: 2}}}
	for leg, want := range map[uint32]uint32{1_000_003: 1, 2_000_000: 2, schemas.SplitLegs + 2_000_001: 2} {
		if e := h.entryOf(&pb.Event{Leg: leg, Origin: pb.Origin_ORIGIN_REROUTE}); e == nil || e.reroutes != want {
			t.Errorf("leg %d: %+v", leg, e)
		}
	}
	if e := h.entryOf(&pb.Event{Leg: schemas.SplitLegs + 1}); e != &h.entries[0] {
		t.Errorf("as it came in: %+v", e)
	}
}

// What is left to the scanners by a connection's rule is scanned by the rule's
// policy first, whatever the tenant's.
func TestExplainRule(t *testing.T) {
	b := bustest.New(t)
	number := apply(t, b, site+"---\nkind: scan\nname: strangers\nengines: [av]\n")
	done := func(engine string) *pb.Scan {
		return &pb.Scan{
			State: pb.ScanState_SCAN_STATE_DONE, Policy: "strangers", OfRule: true, Directory: number + 1, Action: directory.ActPass,
			Verdicts: []*pb.Verdict{{Engine: engine, Outcome: "clean"}},
		}
	}
	for name, c := range map[string]struct {
		scan     *pb.Scan
		recorded string
		want     Result
	}{
		"left":                                 {schemas.Owed("strangers", nil), "strangers", Same},
		"left, and asked another":              {schemas.Owed("strangers", nil), "strict", Different},
		"scanned, then by the tenant's":        {done("av"), "strict", Same},
		"scanned, and again by the rule's":     {done("av"), "strangers", Different},
		"by engines that it has no more":       {done("old"), "strangers", Same},
		"not of a rule":                        {nil, "strict", Same},
		"not of a rule, and asked that policy": {nil, "strangers", Different},
	} {
		id := mail.NewID(time.Now())
		bustest.Put(t, b, bus.NewReceived(&pb.Received{
			Id: id, Session: &pb.Session{ClientIp: "192.0.2.9"}, Directory: number, Scan: c.scan,
			Envelope: &pb.Envelope{ReversePath: "ann@sender.example", Recipients: []*pb.Recipient{{Address: "bob@acme.example"}}},
		}), told(routed, id, number, time.Now(), func(e *pb.Event) { e.Scan = &pb.Scan{Policy: c.recorded} }))
		m, err := Explain(t.Context(), b, id, Options{})
		if err != nil {
			t.Fatal(err)
		}
		d := m.Decisions[0]
		if d.Result != c.want {
			t.Errorf("%s: %s (%s)", name, d.Result, d.Why)
		}
		if by := strings.Contains(strings.Join(d.Steps, "\n"), "scan policy strangers first"); by != (d.Again.Scan == "strangers") {
			t.Errorf("%s: %q", name, d.Steps)
		}
	}
}

// Mail that somebody sent by another route is decided by it again, at each step.
func TestExplainChosenRoute(t *testing.T) {
	b := bustest.New(t)
	first := apply(t, b, site+"---\nkind: route\nname: spare\nmatch: {domain: spare.example}\nvia: smtp://192.0.2.9:25\n")
	id := mail.NewID(time.Now())
	bustest.Put(t, b, bus.NewReinject(&pb.Reinject{
		Id: id, Origin: pb.Origin_ORIGIN_REPLAY, ParentId: mail.NewID(time.Now()), Directory: first, ByRoute: "spare",
		Envelope: &pb.Envelope{ReversePath: "ann@sender.example", Recipients: []*pb.Recipient{{Address: "bob@acme.example"}}},
	}))
	for i, kind := range []pb.EventType{routed, bounced} {
		bustest.Put(t, b, told(kind, id, first, time.Now(), func(e *pb.Event) {
			e.Origin, e.Destination, e.Route, e.Step = pb.Origin_ORIGIN_REPLAY, "192.0.2.9:25", "spare", uint64(i+1)
			if kind == routed {
				e.Scan = &pb.Scan{Policy: "strict"}
			}
		}))
	}
	m, err := Explain(t.Context(), b, id, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if len(m.Decisions) != 2 || m.Differences() != 0 {
		t.Errorf("%+v", m.Decisions)
	}
	for _, d := range m.Decisions {
		if d.Result != Same || !strings.Contains(strings.Join(d.Steps, "\n"), "route spare, which somebody chose") {
			t.Errorf("%+v", d)
		}
	}
}
