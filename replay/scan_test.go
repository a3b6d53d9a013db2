package replay

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"qstream/bus"
	"qstream/bus/bustest"
	"qstream/mail"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
)

// offered are the offers of a job on the topic.
func offered(t *testing.T, b *bus.Bus, job string) []*pb.Rescan {
	t.Helper()
	var all []*pb.Rescan
	for _, r := range bustest.Records(t, b, schemas.Rescan) {
		p := &pb.Rescan{}
		if err := proto.Unmarshal(r.Value, p); err != nil {
			t.Fatal(err)
		}
		if p.Job == job && p.Result == nil {
			all = append(all, p)
		}
	}
	return all
}

func scanJob(s Selection) *Job {
	return &Job{ID: mail.NewID(time.Now()), Actor: "op", Reason: "new signatures", Selection: s}
}

// answer puts a result of an offer on the topic, as a scanner does.
func answer(t *testing.T, b *bus.Bus, o *pb.Rescan, r *pb.RescanResult) {
	t.Helper()
	l := &pb.Leg{MessageId: o.Leg.MessageId, Number: o.Leg.Number, Tenant: o.Leg.Tenant, Recipients: o.Leg.Recipients}
	bustest.Put(t, b, bus.NewRescan(&pb.Rescan{Job: o.Job, Leg: l, Waiting: o.Waiting, Result: r}))
}

// What is offered: each tenant's leg apart, what was delivered and what waits,
// with what was told of it before; nothing twice, however often it is run.
func TestOffer(t *testing.T) {
	h := newHistory(t)
	two := h.accept(t, "ann@sender.example", small, "bob@acme.example", "eve@other.example", "joe@other.example")
	h.tell(t, two, fate{"acme", delivered}, fate{"other", delivered}, fate{"other", bounced})
	waits := h.accept(t, "ann@sender.example", small, "bob@acme.example")
	h.tell(t, waits, fate{"acme", 0})
	held := h.accept(t, "ann@sender.example", small, "bob@acme.example")
	h.tell(t, held, fate{"acme", pb.EventType_EVENT_TYPE_QUARANTINED})
	bustest.Put(t, h.Bus, bus.NewEvent(&pb.Event{Type: pb.EventType_EVENT_TYPE_COMPARED, MessageId: held, Tenant: "acme", Outcomes: []*pb.Outcome{{Number: 0}}}))
	freed := h.accept(t, "ann@sender.example", small, "bob@acme.example")
	h.tell(t, freed, fate{"acme", pb.EventType_EVENT_TYPE_QUARANTINED}, fate{"acme", pb.EventType_EVENT_TYPE_RELEASED})
	bustest.Put(t, h.Bus, bus.NewEvent(&pb.Event{Type: pb.EventType_EVENT_TYPE_RELEASED, MessageId: freed, Step: 5, Tenant: "acme", Outcomes: []*pb.Outcome{{Number: 0}}}))
	bustest.Put(t, h.Bus, bus.NewEvent(&pb.Event{Type: pb.EventType_EVENT_TYPE_FOUND_BAD, Id: "told", MessageId: two, Tenant: "acme", Outcomes: []*pb.Outcome{{Number: 0}}}))

	all := scanJob(Selection{})
	got, err := h.Offer(t.Context(), all)
	if err != nil {
		t.Fatal(err)
	}
	if want := (Offering{Selected: 4, Recipients: 6, Offered: 4, Held: 1, Ended: 1}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	type leg struct {
		Message, Tenant string
		Waiting         bool
		Found           string
		Recipients      []uint32
	}
	legs := func(job string) map[leg0]leg {
		out := map[leg0]leg{}
		for _, o := range offered(t, h.Bus, job) {
			l := leg{o.Leg.MessageId, o.Leg.Tenant, o.Waiting, o.Found, nil}
			for _, r := range o.Leg.Recipients {
				l.Recipients = append(l.Recipients, r.Number)
			}
			out[leg0{o.Leg.MessageId, o.Leg.Number}] = l
			if o.Leg.Content.GetSize() != int64(len(small)) || string(o.Leg.Prepend) != "X-Edge: yes\r\n" || o.UntilMs-o.OfferedMs != DefaultPatience.Milliseconds() {
				t.Errorf("%v", o)
			}
		}
		return out
	}
	if d := cmp.Diff(map[leg0]leg{
		{two, 0}:   {two, "acme", false, "told", []uint32{0}},
		{two, 1}:   {two, "other", false, "", []uint32{1}},
		{waits, 0}: {waits, "acme", true, "", []uint32{0}},
		{freed, 0}: {freed, "acme", true, "", []uint32{0}},
	}, legs(all.ID)); d != "" {
		t.Error(d)
	}
	acme := scanJob(Selection{Tenant: "acme", Outcomes: []string{Delivered}})
	if _, err := h.Offer(t.Context(), acme); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(map[leg0]leg{{two, 0}: {two, "acme", false, "told", []uint32{0}}}, legs(acme.ID)); d != "" {
		t.Error(d)
	}
	again, err := h.Resume(t.Context(), all.ID)
	if err != nil || again.Action != ActionScan || again.Patience != DefaultPatience {
		t.Fatalf("%+v, %v", again, err)
	}
	if got, err := h.Offer(t.Context(), again); err != nil || got.Offered != 0 || got.Before != 4 {
		t.Errorf("once more: %+v, %v", got, err)
	}
	for _, p := range []time.Duration{-1, MaxPatience + 1} {
		j := scanJob(Selection{})
		j.Patience = p
		if _, err := h.Offer(t.Context(), j); err == nil {
			t.Errorf("a patience of %s is taken", p)
		}
	}
}

// leg0 names a leg.
type leg0 struct {
	message string
	number  uint32
}

// A job that is called off, and goes on, offers each leg once.
func TestOfferIsResumed(t *testing.T) {
	h := newHistory(t)
	for range 2*batch + 10 {
		h.tell(t, h.accept(t, "ann@sender.example", small, "bob@acme.example"), fate{"acme", delivered})
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	j := scanJob(Selection{Tenant: "acme"})
	j.Offered = func(Offering) { cancel() }
	got, err := h.Offer(ctx, j)
	if !errors.Is(err, context.Canceled) || got.Offered == 0 || got.Offered == len(h.ids) {
		t.Fatalf("%+v, %v", got, err)
	}
	again, err := h.Resume(t.Context(), j.ID)
	if err != nil {
		t.Fatal(err)
	}
	rest, err := h.Offer(t.Context(), again)
	if err != nil || rest.Offered+got.Offered != len(h.ids) || rest.Before != got.Offered {
		t.Errorf("%+v after %+v: %v", rest, got, err)
	}
	if n := len(offered(t, h.Bus, j.ID)); n != len(h.ids) {
		t.Errorf("%d offers of %d legs", n, len(h.ids))
	}
}

// What came of the offers: each counted once, and what became of mail that
// waited; the audit tells it when the topic doesn't any more.
func TestResults(t *testing.T) {
	h := newHistory(t)
	for i := range 7 {
		id := h.accept(t, "ann@sender.example", small, "bob@acme.example")
		if i < 3 {
			h.tell(t, id, fate{"acme", 0})
		} else {
			h.tell(t, id, fate{"acme", delivered})
		}
	}
	j := scanJob(Selection{Tenant: "acme"})
	o, err := h.Offer(t.Context(), j)
	if err != nil || o.Offered != 7 {
		t.Fatalf("%+v, %v", o, err)
	}
	at := map[string]*pb.Rescan{}
	for _, r := range offered(t, h.Bus, j.ID) {
		at[r.Leg.MessageId] = r
	}
	put := proto.CloneOf(at[h.ids[6]])
	put.Leg.Scan = &pb.Scan{Waits: 1}
	bustest.Put(t, h.Bus, bus.NewRescan(put))
	bad := &pb.RescanResult{Outcome: "bad", Finding: "malware", Text: "malware by clam (E)"}
	for i, r := range []*pb.RescanResult{bad, bad, bad, {Outcome: "bad", Told: true}, {Outcome: "unscannable"}, {Outcome: "clean"}} {
		answer(t, h.Bus, at[h.ids[i]], r)
	}
	answer(t, h.Bus, at[h.ids[5]], &pb.RescanResult{Outcome: "clean"}) // repeated
	other := proto.CloneOf(at[h.ids[0]])
	other.Job = "01JD00000000000000000000JX"
	answer(t, h.Bus, other, bad)
	a := NewAccount(j.ID)
	if err := h.Count(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	if r := a.Results(); r.Left != 1 || r.Again != 1 || r.Offered != 7 {
		t.Errorf("amid: %+v", r)
	}
	answered := make(chan error, 1)
	a = NewAccount(j.ID)
	go func() { answered <- h.Await(t.Context(), a, 7, func(Results) {}) }()
	answer(t, h.Bus, at[h.ids[6]], &pb.RescanResult{Outcome: "given up"})
	if err := <-answered; err != nil {
		t.Fatal(err)
	}
	h.tell(t, h.ids[0], fate{"acme", pb.EventType_EVENT_TYPE_QUARANTINED})
	bustest.Put(t, h.Bus, bus.NewEvent(&pb.Event{Type: pb.EventType_EVENT_TYPE_COMPARED, MessageId: h.ids[0], Tenant: "acme", Outcomes: []*pb.Outcome{{Number: 0}}}))
	h.tell(t, h.ids[1], fate{"acme", delivered})
	if err := h.Fates(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	want := Results{
		Job: j.ID, Offered: 7, Clean: 1, Delivered: 1, Waiting: 3, Quarantined: 1, Escaped: 1, Told: 1, Unscannable: 1, NotScanned: 1, Again: 1,
	}
	if d := cmp.Diff(want, a.Results()); d != "" {
		t.Error(d)
	}
	if n := len(a.Findings()); n != 6 {
		t.Errorf("%d findings", n)
	}
	if _, ok, err := h.Concluded(t.Context(), j.ID); ok || err != nil {
		t.Errorf("concluded before its end: %v", err)
	}
	if err := h.Conclude(t.Context(), j, a.Results()); err != nil {
		t.Fatal(err)
	}
	if got, ok, err := h.Concluded(t.Context(), j.ID); !ok || err != nil || got != want {
		t.Errorf("%+v, %v, %v", got, ok, err)
	}
}
