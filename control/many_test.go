package control

import (
	"testing"
	"time"

	"qstream/bus/bustest"
	"qstream/mail"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
)

// More orders to scan again than a snapshot can hold: none is refused and none
// is lost, the commands themselves tell them. When they have stood their time the
// state is written as a whole again.
func TestMoreOrdersThanASnapshotHolds(t *testing.T) {
	b := bustest.New(t)
	scope := Scope{Tenant: "acme"}
	send(t, b, Suspend, scope)
	condensed := func(later time.Duration) (written bool) {
		t.Helper()
		f := newFold()
		if err := f.read(t.Context(), b); err != nil {
			t.Fatal(err)
		}
		before := f.snapshot
		f.since, f.at = snapshotEvery, f.at.Add(later)
		if err := f.condense(t.Context(), b); err != nil {
			t.Fatal(err)
		}
		return f.snapshot != before
	}
	if !condensed(0) {
		t.Fatal("no snapshot at first")
	}
	ids := make([]string, 8*MaxHeld+1)
	for i := range ids {
		ids[i] = mail.NewID(time.Now())
	}
	order := func(ids []string) uint64 {
		t.Helper()
		c := Command{Verb: ScanAgain, Actor: "scanner", Job: "j"}
		for _, id := range ids {
			c.Held = append(c.Held, &pb.HeldLeg{MessageId: id, Recipients: []uint32{0}})
		}
		n, err := Send(t.Context(), b, c)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	for i := 0; i+MaxHeld < len(ids); i += MaxHeld {
		order(ids[i : i+MaxHeld])
	}
	stands := func(want bool) {
		t.Helper()
		s, err := Read(t.Context(), b)
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := s.Suspended("acme", "q", "d"); !ok {
			t.Error("the suspension stands no more")
		}
		wrong := 0
		for _, id := range ids {
			if _, ok := s.ScanAgain(id, []*pb.Recipient{{Number: 0}}); ok != want {
				wrong++
			}
		}
		if wrong > 0 {
			t.Errorf("%d of %d orders: want them to stand: %v", wrong, len(ids), want)
		}
	}
	if condensed(0) {
		t.Fatalf("%d orders fit a snapshot: this test tries nothing", len(ids))
	}
	last := order(ids[len(ids)-1:]) // one more
	stands(true)
	if again := order(ids[:MaxHeld]); again != last {
		t.Errorf("what stands is ordered again, as %d after %d", again, last)
	}
	if condensed(0) {
		t.Error("they fit now")
	}
	if !condensed(againKept + time.Hour) {
		t.Error("no snapshot when they have stood their time")
	}
	stands(false)
	send(t, b, Flush, Scope{}) // which names the snapshot
	ends, err := b.Ends(t.Context(), schemas.Control)
	if err != nil {
		t.Fatal(err)
	}
	f := newFold()
	if err := f.seek(t.Context(), b); err != nil || f.next != ends[0]-2 {
		t.Errorf("reading begins at %d of %d (%v)", f.next, ends[0], err)
	}
}
