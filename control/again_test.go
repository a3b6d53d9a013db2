package control

import (
	"errors"
	"maps"
	"strconv"
	"testing"
	"time"

	"pgregory.net/rapid"

	"qstream/bus/bustest"
	"qstream/mail"
	pb "qstream/schemas/qstream/v1"
)

// Orders to scan again stand over snapshots of the state, name recipients of
// messages, and are given once by each undertaking.
func TestScanAgainStands(t *testing.T) {
	t.Parallel()
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
		if len(s.Orders(Held{MessageID: one})) > 0 {
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
	old := agains{most: map[meant]again{{one, 1}: {number: 1, at: time.Unix(0, 0)}}}
	if got := againAfter(old, &pb.Command{Verb: pb.Verb_VERB_SNAPSHOT, Orders: []*pb.Command{{
		Number: 1, Verb: pb.Verb_VERB_SCAN_AGAIN, AtMs: 1, Held: []*pb.HeldLeg{{MessageId: one, Recipients: []uint32{1}}},
	}}}, Command{At: time.Unix(0, 0).Add(againKept + time.Second)}); !got.none() {
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

// Whatever number of orders stands: the newest one counts for each recipient,
// a state is what it was when more are given, few are copied by each command, and
// none stands for ever.
func TestManyOrdersToScanAgain(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := time.Unix(1_800_000_000, 0)
		messages := rapid.SampledFrom([]int{10, 2000}).Draw(t, "messages")
		var kept agains
		plain := map[meant]again{}
		var earlier []agains
		var then []map[meant]again
		for n := range rapid.IntRange(1, 700).Draw(t, "orders") {
			m := meant{strconv.Itoa(n * 7919 % messages), uint32(n % 3)}
			p := &pb.Command{Number: uint64(n + 1), Verb: pb.Verb_VERB_SCAN_AGAIN, Job: "j", Held: []*pb.HeldLeg{{MessageId: m.messageID, Recipients: []uint32{m.number}}}}
			kept = againAfter(kept, p, Command{Verb: ScanAgain, At: now})
			plain[m] = again{p.Number, "j", now}
			if len(kept.newest) > againNewest && len(kept.newest)*len(kept.newest) > len(kept.most) {
				t.Fatalf("%d of %d are copied each time", len(kept.newest), len(kept.most))
			}
			if n%100 == 50 {
				earlier, then = append(earlier, kept), append(then, maps.Clone(plain))
			}
			now = now.Add(time.Second)
		}
		earlier, then = append(earlier, kept), append(then, plain)
		for i, a := range earlier {
			if all := a.all(now); !maps.Equal(all, then[i]) {
				t.Fatalf("%v, want %v", all, then[i])
			}
			for m, want := range then[i] {
				if got, ok := a.of(m); !ok || got != want {
					t.Fatalf("%v: %v, want %v", m, got, want)
				}
			}
		}
		now = now.Add(againKept + 2*time.Hour)
		for range againNewest + 1 {
			p := &pb.Command{Number: 1000, Verb: pb.Verb_VERB_SCAN_AGAIN, Held: []*pb.HeldLeg{{MessageId: strconv.Itoa(len(kept.newest)), Recipients: []uint32{9}}}}
			kept = againAfter(kept, p, Command{Verb: ScanAgain, At: now})
		}
		if all := kept.all(now); len(kept.most)+len(kept.newest) > againNewest+len(all) {
			t.Fatalf("a month later: %d and %d are kept, %d stand", len(kept.most), len(kept.newest), len(all))
		}
	})
}
