package control

import (
	"errors"
	"slices"
	"testing"
	"time"

	"qstream/bus/bustest"
	"qstream/mail"
	pb "qstream/schemas/qstream/v1"
)

// TestOrdersStand: an order about the quarantine is known to whoever starts
// later, also from a snapshot, the newest counts about each recipient, and a day
// later it is gone.
func TestOrdersStand(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	id := mail.NewID(time.Now())
	h := Held{MessageID: id, Leg: 2, Since: 5}
	order := func(verb string, recipients ...uint32) {
		t.Helper()
		_, err := Send(t.Context(), b, Command{Verb: verb, Actor: "op", Reason: "clean", Rescan: verb == Release,
			Held: []*pb.HeldLeg{{MessageId: id, Leg: 2, SinceMs: 5, Recipients: recipients}}})
		if err != nil {
			t.Fatal(err)
		}
	}
	order(Release, 9)
	order(Delete)
	order(Release, 3, 1)
	order(Release, 4)
	order(Release, 1)
	order(Delete, 1)
	order(Release, 4)
	check := func(when string) {
		t.Helper()
		s, err := Read(t.Context(), b)
		if err != nil {
			t.Fatal(err)
		}
		all := s.Orders(h)
		if len(all) != 4 {
			t.Fatalf("%s: %+v", when, all)
		}
		o := all[slices.IndexFunc(all, func(o Order) bool { return o.Of(3) })]
		if o.Verb != Release || !o.Rescan || o.Of(1) || o.Of(2) || o.Actor != "op" || time.Since(o.At) > time.Hour {
			t.Errorf("%s: %+v", when, o)
		}
		for number, verb := range map[uint32]string{1: Delete, 2: Delete, 3: Release, 4: Release} {
			if o := all[slices.IndexFunc(all, func(o Order) bool { return o.Of(number) })]; o.Verb != verb {
				t.Errorf("%s: %s of recipient %d, want %s", when, o.Verb, number, verb)
			}
		}
		if len(s.Orders(Held{MessageID: id, Leg: 2, Since: 6})) > 0 {
			t.Errorf("%s: another stay is meant", when)
		}
	}
	check("at once")
	for range snapshotEvery + 5 {
		send(t, b, Flush, Scope{})
	}
	check("after a snapshot")
	day := time.Unix(0, 0).Add(orderKept + 1)
	orders := map[Held][]Order{h: {{At: time.Unix(0, 0)}}, {Leg: 3}: {{At: day}, {At: time.Unix(0, 0)}}}
	if got := ordered(orders, &pb.Command{Verb: pb.Verb_VERB_FLUSH}, Command{At: day}); len(got) != 1 || len(got[Held{Leg: 3}]) != 1 {
		t.Errorf("a day later: %v", got)
	}
}

func TestOrdersAreRefused(t *testing.T) {
	id := mail.NewID(time.Now())
	one := []*pb.HeldLeg{{MessageId: id, SinceMs: 1}}
	for name, c := range map[string]struct {
		command Command
		want    error
	}{
		"no legs":            {Command{Verb: Release}, ErrHeld},
		"no id":              {Command{Verb: Delete, Held: []*pb.HeldLeg{{MessageId: "x", SinceMs: 1}}}, ErrHeld},
		"no stay":            {Command{Verb: Delete, Held: []*pb.HeldLeg{{MessageId: id}}}, ErrHeld},
		"too many":           {Command{Verb: Delete, Held: make([]*pb.HeldLeg, MaxHeld+1)}, ErrHeld},
		"a scope":            {Command{Verb: Release, Scope: Scope{Tenant: "acme"}, Held: one}, ErrScope},
		"legs of a flush":    {Command{Verb: Flush, Held: one}, ErrHeld},
		"legs of a suspense": {Command{Verb: Suspend, Held: one}, ErrHeld},
	} {
		if _, err := c.command.complete(); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestManyOrdersFit: as many legs as one command may name fit its record.
func TestManyOrdersFit(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	var held []*pb.HeldLeg
	for range MaxHeld {
		held = append(held, &pb.HeldLeg{MessageId: mail.NewID(time.Now()), Leg: 1 << 31, SinceMs: time.Now().UnixMilli(), Recipients: []uint32{1, 2, 3, 4}})
	}
	if _, err := Send(t.Context(), b, Command{Verb: Delete, Held: held}); err != nil {
		t.Fatal(err)
	}
	f := follow(t, b, nil)
	if len(f.State().orders) != MaxHeld {
		t.Errorf("%d orders", len(f.State().orders))
	}
}

func TestBecause(t *testing.T) {
	if a, b := Because("ann@hub", ""), Because("ann@hub", "she asked"); a != "ann@hub" || b != "ann@hub: she asked" {
		t.Errorf("%q, %q", a, b)
	}
}
