package router

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"pgregory.net/rapid"

	"qstream/bus"
	"qstream/directory"
	"qstream/mail"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
)

var (
	stored = time.UnixMilli(1_700_000_000_000)
	now    = stored.Add(time.Second)
	acme   = &directory.Queue{Name: "acme", Generation: 2}
	common = &directory.Queue{Name: "default", Generation: 1}
)

// decideByDomain stands for a snapshot: acme.example belongs to acme, bounces go to
// their own queue, none.example is refused, and the rest is the submitter's.
func decideByDomain(q directory.Question) directory.Decision {
	domain := q.Recipient[strings.LastIndexByte(q.Recipient, '@')+1:]
	d := directory.Decision{Tenant: q.Tenant, Queue: common, Destination: domain, Route: "internet"}
	switch {
	case q.NullSender:
		d.Queue, d.Route = &directory.Queue{Name: "bounces"}, "bounces"
	case domain == "acme.example":
		d.Tenant, d.Queue, d.Route = "acme", acme, "acme-inbound"
	case domain == "later.example":
		d.Refusal = &mail.Status{Code: 451, Enhanced: "4.3.0", Text: "later"}
	case domain == "none.example":
		d.Refusal = &mail.Status{Code: 550, Enhanced: "5.1.2", Text: "no such domain"}
	}
	if q.Route != "" { // that somebody chose
		d.Route, d.Destination = q.Route, q.Route+".example"
	}
	return d
}

func viewed() view { return view{number: 7, decide: decideByDomain, now: now} }

func envelope(reversePath string, addresses ...string) *pb.Envelope {
	e := &pb.Envelope{ReversePath: reversePath}
	for i, a := range addresses {
		e.Recipients = append(e.Recipients, &pb.Recipient{Number: uint32(i), Address: a})
	}
	return e
}

func inline(s string) *pb.Content {
	return &pb.Content{Where: &pb.Content_Inline{Inline: []byte(s)}, Size: int64(len(s)), Sha256: []byte("hash")}
}

func receivedRecord(t testing.TB, p *pb.Received) bus.Record {
	t.Helper()
	r := bus.NewReceived(p)
	r.Partition, r.Offset, r.Time = 3, 42, stored
	return r
}

func reinjectRecord(t testing.TB, p *pb.Reinject) bus.Record {
	t.Helper()
	r := bus.NewReinject(p)
	r.Partition, r.Offset, r.Time = 1, 9, stored
	return r
}

func mustDecode(t testing.TB, r bus.Record) *message {
	t.Helper()
	m, err := decode(r)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// sketch is a leg in one line.
func sketch(l *pb.Leg) string {
	var to []string
	for _, r := range l.Recipients {
		to = append(to, fmt.Sprint(r.Number))
	}
	s := fmt.Sprintf("%d %s/%s.%d %s via %s [%s]", l.Number, l.Tenant, l.Queue, l.Generation, l.Destination, l.Route, strings.Join(to, " "))
	if l.Refusal != nil {
		s += fmt.Sprintf(" refused %d %s", l.Refusal.Code, l.Refusal.Enhanced)
	}
	return s
}

func sketches(legs []*pb.Leg) []string {
	out := make([]string, len(legs))
	for i, l := range legs {
		out[i] = sketch(l)
	}
	return out
}

func TestRoute(t *testing.T) {
	received := func(e *pb.Envelope) *message {
		return mustDecode(t, receivedRecord(t, &pb.Received{
			Id: "01A", Envelope: e, Content: inline("x"), Session: &pb.Session{Tenant: "blue"},
		}))
	}
	reinject := func(p *pb.Reinject) *message {
		p.Id, p.Content = "01A", inline("x")
		return mustDecode(t, reinjectRecord(t, p))
	}
	for _, c := range []struct {
		name string
		m    *message
		want []string
	}{
		{"one recipient", received(envelope("a@blue.example", "b@acme.example")),
			[]string{"0 acme/acme.2 acme.example via acme-inbound [0]"}},
		{"grouped by destination, in order of the envelope",
			received(envelope("a@blue.example", "b@x.example", "b@acme.example", "c@x.example", "c@acme.example")),
			[]string{"0 blue/default.1 x.example via internet [0 2]", "1 acme/acme.2 acme.example via acme-inbound [1 3]"}},
		{"held recipients apart", received(&pb.Envelope{ReversePath: "a@blue.example", Recipients: []*pb.Recipient{
			{Number: 0, Address: "b@x.example"}, {Number: 1, Address: "c@x.example", Held: true}, {Number: 2, Address: "d@x.example"}}}),
			[]string{"0 blue/default.1 x.example via internet [0 2]", "1 blue/default.1 x.example via internet [1]"}},
		{"refused recipients apart", received(envelope("a@blue.example", "b@none.example", "b@x.example")),
			[]string{"0 blue/default.1 none.example via internet [0] refused 550 5.1.2", "1 blue/default.1 x.example via internet [1]"}},
		{"refused for now is no refusal", received(envelope("a@blue.example", "b@later.example")),
			[]string{"0 blue/default.1 later.example via internet [0]"}},
		{"null reverse-path takes bounce routes", received(envelope("", "b@acme.example")),
			[]string{"0 blue/bounces.0 acme.example via bounces [0]"}},
		{"DSN keeps the tenant of its origin", reinject(&pb.Reinject{
			Origin: pb.Origin_ORIGIN_DSN, ParentId: "01P", Tenant: "green", Envelope: envelope("", "b@x.example")}),
			[]string{"0 green/bounces.0 x.example via bounces [0]"}},
		{"rerouted legs are numbered by routing and lowest recipient", reinject(&pb.Reinject{
			Origin: pb.Origin_ORIGIN_REROUTE, ParentId: "01A", Reroutes: 2, Tenant: "green",
			Envelope: &pb.Envelope{ReversePath: "a@green.example", Recipients: []*pb.Recipient{
				{Number: 8, Address: "b@x.example"}, {Number: 5, Address: "c@x.example"}, {Number: 6, Address: "c@acme.example"}}}}),
			[]string{"2000005 green/default.1 x.example via internet [8 5]", "2000006 acme/acme.2 acme.example via acme-inbound [6]"}},
		{"replayed legs are numbered from the first free", reinject(&pb.Reinject{
			Origin: pb.Origin_ORIGIN_REPLAY, ParentId: "01P", NextLeg: 40, Tenant: "green", Envelope: envelope("a@green.example", "b@x.example")}),
			[]string{"40 green/default.1 x.example via internet [0]"}},
		{"replayed by a route that somebody chose", reinject(&pb.Reinject{
			Origin: pb.Origin_ORIGIN_REPLAY, ParentId: "01P", Tenant: "green", ByRoute: "spare", Envelope: envelope("a@green.example", "b@x.example", "b@acme.example")}),
			[]string{"0 green/default.1 spare.example via spare [0]", "1 acme/acme.2 spare.example via spare [1]"}},
		{"ten reroutes are allowed", reinject(&pb.Reinject{
			Origin: pb.Origin_ORIGIN_REROUTE, Reroutes: 10, Tenant: "green", Envelope: envelope("a@green.example", "b@x.example")}),
			[]string{"10000000 green/default.1 x.example via internet [0]"}},
		{"eleven are a loop", reinject(&pb.Reinject{
			Origin: pb.Origin_ORIGIN_REROUTE, Reroutes: 11, Tenant: "green", Envelope: envelope("a@green.example", "b@x.example")}),
			[]string{"11000000 green/default.1 x.example via internet [0] refused 554 5.4.6"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			legs, _ := route(c.m, viewed())
			if d := cmp.Diff(c.want, sketches(legs)); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestLegCarriesTheMessage(t *testing.T) {
	e := envelope("a@blue.example", "b@x.example")
	e.EnvId, e.Ret, e.Body, e.Smtputf8 = "env", pb.Ret_RET_HDRS, pb.Body_BODY_8BITMIME, true
	session := &pb.Session{Id: "s", Tenant: "blue"}
	legs, _ := route(mustDecode(t, receivedRecord(t, &pb.Received{
		Id: "01A", Envelope: e, Content: inline("body"), Session: session,
		Prepend: []byte("Received: x\r\n"), HeaderMessageId: "<m@blue.example>", Directory: 5,
	})), viewed())
	want := &pb.Leg{
		MessageId: "01A", Step: 1, Tenant: "blue", Queue: "default", Generation: 1,
		Destination: "x.example", Route: "internet", ReversePath: "a@blue.example",
		Recipients: e.Recipients, EnvId: "env", Ret: pb.Ret_RET_HDRS, Body: pb.Body_BODY_8BITMIME, Smtputf8: true,
		Content: &pb.ContentRef{MessageId: "01A", Topic: schemas.Received, Partition: 3, Offsets: []int64{42},
			Inline: true, Size: 4, Sha256: []byte("hash"), StoredMs: stored.UnixMilli()},
		Prepend: []byte("Received: x\r\n"), BornMs: stored.UnixMilli(), Directory: 7,
		HeaderMessageId: "<m@blue.example>", Session: session,
	}
	if d := cmp.Diff(want, legs[0], protocmp.Transform()); d != "" {
		t.Error(d)
	}
}

func TestReroutedLegKeepsItsAge(t *testing.T) {
	ref := &pb.ContentRef{MessageId: "01A", Topic: schemas.Received, Partition: 3, Offsets: []int64{42}, Size: 4}
	last := &pb.Status{Code: 451, Text: "later"}
	legs, _ := route(mustDecode(t, reinjectRecord(t, &pb.Reinject{
		Id: "01A", Origin: pb.Origin_ORIGIN_REROUTE, ParentId: "01A", ParentLeg: 3, Envelope: envelope("a@b.example", "b@x.example"),
		Content: &pb.Content{Where: &pb.Content_Ref{Ref: ref}, Size: 4}, BornMs: 1000, StoppedMs: 20, Attempt: 4, Reroutes: 1, Last: last,
	})), viewed())
	l := legs[0]
	if l.BornMs != 1000 || l.StoppedMs != 20 || l.Attempt != 4 || l.Reroutes != 1 {
		t.Errorf("leg has forgotten its age: %v", l)
	}
	if !proto.Equal(l.Content, ref) || !proto.Equal(l.Last, last) {
		t.Errorf("leg has lost its content or last status: %v", l)
	}
}

func TestEvents(t *testing.T) {
	m := mustDecode(t, receivedRecord(t, &pb.Received{
		Id: "01A", Envelope: envelope("a@blue.example", "b@acme.example", "b@none.example"),
		Content: inline("body"), Session: &pb.Session{Id: "s", Tenant: "blue"}, HeaderMessageId: "<m@blue.example>",
	}))
	_, events := route(m, viewed())
	if len(events) != 3 {
		t.Fatalf("want accepted and two routed, got %v", events)
	}
	accepted, toAcme, refused := events[0], events[1], events[2]
	if accepted.Type != pb.EventType_EVENT_TYPE_ACCEPTED || accepted.Tenant != "" || len(accepted.Outcomes) != 2 ||
		accepted.AtMs != stored.UnixMilli() || accepted.Size != 4 || accepted.Session.GetId() != "s" {
		t.Errorf("accepted: %v", accepted)
	}
	if toAcme.Tenant != "acme" || len(toAcme.Outcomes) != 1 || toAcme.Outcomes[0].Address != "b@acme.example" || toAcme.Session != nil {
		t.Errorf("routed names more than its tenant's: %v", toAcme)
	}
	if refused.Outcomes[0].Status.GetEnhanced() != "5.1.2" {
		t.Errorf("refused without its status: %v", refused)
	}
}

func TestManyRecipientsMakeSeveralAcceptedEvents(t *testing.T) {
	e := &pb.Envelope{}
	for i := range 2500 {
		e.Recipients = append(e.Recipients, &pb.Recipient{Number: uint32(i), Address: "b@x.example"})
	}
	m := mustDecode(t, receivedRecord(t, &pb.Received{Id: "01A", Envelope: e, Content: inline("")}))
	ids := map[string]bool{}
	for _, ev := range m.accepted() {
		bus.NewEvent(ev)
		ids[ev.Id] = true
	}
	if len(ids) != 3 {
		t.Errorf("want three events of their own id, got %v", ids)
	}
}

func TestPoison(t *testing.T) {
	good := func() *pb.Received {
		return &pb.Received{Id: "01A", Envelope: envelope("", "b@x.example"), Content: inline("")}
	}
	with := func(change func(*pb.Received)) bus.Record {
		p := good()
		change(p)
		return receivedRecord(t, p)
	}
	if _, err := decode(receivedRecord(t, good())); err != nil {
		t.Fatal(err)
	}
	for name, r := range map[string]bus.Record{
		"garbage":           {Topic: schemas.Received, Value: []byte("\xff\xff\xff")},
		"empty":             {Topic: schemas.Reinject},
		"no id":             with(func(p *pb.Received) { p.Id = "" }),
		"no envelope":       with(func(p *pb.Received) { p.Envelope = nil }),
		"no recipients":     with(func(p *pb.Received) { p.Envelope = envelope("") }),
		"no content":        with(func(p *pb.Received) { p.Content = nil }),
		"empty reference":   with(func(p *pb.Received) { p.Content.Where = &pb.Content_Ref{} }),
		"repeated number":   with(func(p *pb.Received) { p.Envelope.Recipients = append(p.Envelope.Recipients, p.Envelope.Recipients[0]) }),
		"number too large":  with(func(p *pb.Received) { p.Envelope.Recipients[0].Number = schemas.RerouteSpan }),
		"reinject, origin?": reinjectRecord(t, &pb.Reinject{Id: "01A", Envelope: envelope("", "b@x.example"), Content: inline("")}),
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := decode(r); !errors.Is(err, bus.ErrPoison) {
				t.Errorf("want poison, got %v", err)
			}
		})
	}
}

func TestRouteProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		domains := rapid.SliceOfN(rapid.SampledFrom([]string{"acme.example", "none.example", "x.example", "y.example"}), 1, 700).Draw(t, "domains")
		e := envelope(rapid.SampledFrom([]string{"", "a@blue.example"}).Draw(t, "reverse-path"))
		for i, d := range domains {
			e.Recipients = append(e.Recipients, &pb.Recipient{Number: uint32(i), Address: "b@" + d})
		}
		m := &message{id: "01A", envelope: e, content: &pb.ContentRef{}}
		legs, events := route(m, viewed())
		checkPartition(t, e, legs)
		// Every leg returns again and again: numbers never repeat.
		numbers := map[uint32]bool{}
		for round := uint32(1); len(legs) > 0 && round <= maxReroutes; round++ {
			legs = reroute(t, legs, numbers, round)
		}
		for _, ev := range events[1:] {
			if ev.Type == pb.EventType_EVENT_TYPE_ROUTED && len(ev.Outcomes) > legRecipients {
				t.Fatalf("event with %d recipients", len(ev.Outcomes))
			}
		}
	})
}

// checkPartition holds legs against the envelope they came from.
func checkPartition(t *rapid.T, e *pb.Envelope, legs []*pb.Leg) {
	found := map[uint32]int{}
	for i, l := range legs {
		if l.Number != uint32(i) {
			t.Fatalf("leg %d has number %d", i, l.Number)
		}
		if len(l.Recipients) == 0 || len(l.Recipients) > legRecipients {
			t.Fatalf("leg with %d recipients", len(l.Recipients))
		}
		for _, r := range l.Recipients {
			found[r.Number]++
		}
	}
	for _, r := range e.Recipients {
		if found[r.Number] != 1 {
			t.Fatalf("recipient %d is in %d legs", r.Number, found[r.Number])
		}
	}
}

// reroute puts some of the legs in again, each on its own.
func reroute(t *rapid.T, legs []*pb.Leg, numbers map[uint32]bool, round uint32) []*pb.Leg {
	var next []*pb.Leg
	for _, l := range legs {
		if numbers[l.Number] {
			t.Fatalf("leg number %d came twice", l.Number)
		}
		numbers[l.Number] = true
		if !rapid.Bool().Draw(t, "returns") {
			continue
		}
		m := &message{id: "01A", origin: pb.Origin_ORIGIN_REROUTE, reroutes: round,
			envelope: &pb.Envelope{ReversePath: l.ReversePath, Recipients: l.Recipients}, content: &pb.ContentRef{}}
		split := viewed()
		modulus := rapid.Uint32Range(1, 4).Draw(t, "split")
		split.decide = func(q directory.Question) directory.Decision {
			d := decideByDomain(q)
			d.Destination = fmt.Sprint(uint32(len(next))%modulus, len(q.Recipient)%2)
			return d
		}
		made, _ := route(m, split)
		next = append(next, made...)
	}
	return next
}
