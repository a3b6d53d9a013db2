package control

import (
	"errors"
	"testing"
	"time"

	"qstream/bus/bustest"
	"qstream/mail"
	pb "qstream/schemas/qstream/v1"
)

// Orders to scan again stand over snapshots of the state, name recipients of
// messages, and are given once by each undertaking.
func TestScanAgainStands(t *testing.T) {
	b := bustest.New(t)
	one, two := mail.NewID(time.Now()), mail.NewID(time.Now())
	order := func(job string, held ...*pb.HeldLeg) uint64 {
		t.Helper()
		n, err := Send(t.Context(), b, Command{Verb: ScanAgain, Actor: "scanner", Job: job, Held: held})
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	first := order("a", &pb.HeldLeg{MessageId: one, Recipients: []uint32{3, 1}})
	second := order("a", &pb.HeldLeg{MessageId: one, Recipients: []uint32{7}}, &pb.HeldLeg{MessageId: two, Recipients: []uint32{0}})
	if n := order("a", &pb.HeldLeg{MessageId: one, Recipients: []uint32{1, 7}}); n != second {
		t.Errorf("what was ordered is ordered again, as %d", n)
	}
	third := order("b", &pb.HeldLeg{MessageId: one, Recipients: []uint32{3}})
	if first >= second || second >= third {
		t.Errorf("orders %d, %d, %d", first, second, third)
	}
	check := func(when string) {
		t.Helper()
		s, err := Read(t.Context(), b)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			id     string
			number []uint32
			want   uint64
		}{{one, []uint32{1}, first}, {one, []uint32{7, 1}, second}, {one, []uint32{3}, third}, {one, []uint32{2}, 0}, {two, []uint32{0}, second}, {two, []uint32{1}, 0}} {
			var of []*pb.Recipient
			for _, n := range c.number {
				of = append(of, &pb.Recipient{Number: n})
			}
			if got, ok := s.ScanAgain(c.id, of); got != c.want || ok != (c.want > 0) {
				t.Errorf("%s: recipients %v of %s: order %d %v, want %d", when, c.number, c.id, got, ok, c.want)
			}
		}
		if _, ok := s.Order(Held{MessageID: one}); ok {
			t.Errorf("%s: it is an order about the quarantine", when)
		}
		if !s.covers(Command{Job: "b", Held: []*pb.HeldLeg{{MessageId: one, Recipients: []uint32{3}}}}) {
			t.Errorf("%s: the undertaking is forgotten", when)
		}
	}
	check("at once")
	for range snapshotEvery + 5 {
		send(t, b, Flush, Scope{})
	}
	check("after a snapshot")
	old := map[meant]again{{one, 1}: {number: 1, at: time.Unix(0, 0)}}
	if got := againAfter(old, &pb.Command{Verb: pb.Verb_VERB_SNAPSHOT, Orders: []*pb.Command{{
		Number: 1, Verb: pb.Verb_VERB_SCAN_AGAIN, AtMs: 1, Held: []*pb.HeldLeg{{MessageId: one, Recipients: []uint32{1}}},
	}}}, Command{At: time.Unix(0, 0).Add(againKept + time.Second)}); len(got) != 0 {
		t.Errorf("a month later: %v", got)
	}
}

func TestScanAgainIsRefused(t *testing.T) {
	id := mail.NewID(time.Now())
	one := []*pb.HeldLeg{{MessageId: id, Recipients: []uint32{1}}}
	for name, c := range map[string]struct {
		command Command
		want    error
	}{
		"nothing":       {Command{Verb: ScanAgain}, ErrHeld},
		"no id":         {Command{Verb: ScanAgain, Held: []*pb.HeldLeg{{MessageId: "x", Recipients: []uint32{1}}}}, ErrHeld},
		"no recipients": {Command{Verb: ScanAgain, Held: []*pb.HeldLeg{{MessageId: id}}}, ErrHeld},
		"a scope":       {Command{Verb: ScanAgain, Scope: Scope{Tenant: "acme"}, Held: one}, ErrScope},
		"too many":      {Command{Verb: ScanAgain, Held: make([]*pb.HeldLeg, MaxHeld+1)}, ErrHeld},
	} {
		if _, err := c.command.complete(); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
