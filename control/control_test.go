package control

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"qstream/bus"
	"qstream/bus/bustest"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
)

func TestSuspendedAgreesWithEveryScope(t *testing.T) {
	names := rapid.SampledFrom([]string{"", "a", "b"})
	rapid.Check(t, func(t *rapid.T) {
		standing := map[Scope]Suspension{}
		for i := range rapid.IntRange(0, 8).Draw(t, "n") {
			s := Scope{names.Draw(t, "tenant"), names.Draw(t, "queue"), names.Draw(t, "destination"), ""}
			standing[s] = Suspension{Scope: s, Since: time.Unix(int64(100-i), 0)}
		}
		tenant, queue, destination := names.Draw(t, "t"), names.Draw(t, "q"), names.Draw(t, "d")
		var want time.Time
		covered := false
		for scope, s := range standing {
			if scope.Matches(tenant, queue, destination, "id") && (!covered || s.Since.Before(want)) {
				want, covered = s.Since, true
			}
		}
		got, ok := newState(1, standing, nil).Suspended(tenant, queue, destination)
		if ok != covered || !got.Equal(want) {
			t.Fatalf("%v: got %v %v, want %v %v", standing, got, ok, want, covered)
		}
	})
}

func follow(t *testing.T, b *bus.Bus, on func(Command)) *Follower {
	t.Helper()
	f := Follow(b, on)
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() {
		if err := f.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); done.Wait() })
	select {
	case <-f.Ready():
	case <-time.After(20 * time.Second):
		t.Fatal("follower not ready")
	}
	return f
}

func send(t *testing.T, b *bus.Bus, verb string, scope Scope) uint64 {
	t.Helper()
	n, err := Send(t.Context(), b, Command{Verb: verb, Scope: scope, Actor: "test", Reason: "why"})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestCommandsAreFollowed(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	send(t, b, Suspend, Scope{Tenant: "early"})
	commands := make(chan Command, 10)
	f := follow(t, b, func(c Command) { commands <- c })
	if _, ok := f.State().Suspended("early", "q", "d"); !ok {
		t.Error("what stood before isn't known")
	}
	send(t, b, Suspend, Scope{Queue: "acme", Destination: "ACME.example"})
	if n := send(t, b, Suspend, Scope{Queue: "acme", Destination: "acme.example"}); n != 2 {
		t.Errorf("suspending twice made number %d", n)
	}
	send(t, b, Flush, Scope{MessageID: "01J"})
	send(t, b, Resume, Scope{Queue: "acme", Destination: "acme.example"})
	var got []string
	for range 3 {
		c := <-commands
		got = append(got, fmt.Sprintf("%d %s %s", c.Number, c.Verb, c.Scope))
		if c.At.IsZero() || c.Actor != "test" || c.Reason != "why" {
			t.Errorf("%+v", c)
		}
	}
	want := []string{"2 suspend queue acme destination acme.example", "3 flush id 01J", "4 resume queue acme destination acme.example"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if all := f.State().Suspensions(); len(all) != 1 || all[0].Scope.Tenant != "early" || f.State().Number != 4 {
		t.Errorf("%+v", all)
	}
}

// TestResumeHeld: held mail goes on that was born before, in the scope alone,
// also after the state was written as a whole.
func TestResumeHeld(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	before := time.Now().Add(-time.Hour)
	send(t, b, ResumeHeld, Scope{Tenant: "acme"})
	send(t, b, ResumeHeld, Scope{Queue: "q", Destination: "d"})
	check := func(s *State) {
		t.Helper()
		for _, c := range []struct {
			tenant, queue, destination string
			born                       time.Time
			want                       bool
		}{
			{"acme", "x", "x", before, true},
			{"acme", "x", "x", time.Now().Add(time.Hour), false},
			{"beta", "x", "x", before, false},
			{"beta", "q", "d", before, true},
			{"beta", "q", "x", before, false},
		} {
			if got := s.Resumed(c.tenant, c.queue, c.destination, c.born); got != c.want {
				t.Errorf("%+v: %v", c, got)
			}
		}
		if _, ok := s.Suspended("acme", "q", "d"); ok {
			t.Error("something is suspended")
		}
	}
	s, err := Read(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	check(s)
	for range snapshotEvery {
		send(t, b, Flush, Scope{Tenant: "other"})
	}
	snapshots := 0
	for _, r := range bustest.Records(t, b, schemas.Control) {
		if c, err := decode(r); err == nil && c.Verb == pb.Verb_VERB_SNAPSHOT {
			snapshots += len(c.Resumed)
		}
	}
	if snapshots != 2 {
		t.Errorf("%d resumes in snapshots", snapshots)
	}
	f := follow(t, b, nil)
	check(f.State())
}

func TestSendRefuses(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	for name, c := range map[string]struct {
		command Command
		want    error
	}{
		"resume of nothing":    {Command{Verb: Resume, Scope: Scope{Tenant: "x"}}, ErrNotSuspended},
		"suspend of a message": {Command{Verb: Suspend, Scope: Scope{MessageID: "x"}}, ErrScope},
	} {
		if _, err := Send(t.Context(), b, c.command); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Send(t.Context(), b, Command{Verb: "explode"}); err == nil {
		t.Error("an unknown verb was sent")
	}
	if rs := bustest.Records(t, b, schemas.Control); len(rs) != 0 {
		t.Errorf("%d records", len(rs))
	}
}

// TestSendersRace: every command counts once, however many send at once, and
// the state is snapshotted on the way.
func TestSendersRace(t *testing.T) {
	t.Parallel()
	broker := bustest.Start(t)
	var mu sync.Mutex
	numbers := map[uint64]bool{}
	var done sync.WaitGroup
	const senders, rounds = 6, 20
	for i := range senders {
		b := broker.Dial(t, bus.Config{})
		done.Go(func() {
			for round := range rounds {
				n, err := Send(t.Context(), b, Command{Verb: Suspend, Scope: Scope{Tenant: fmt.Sprintf("t-%d-%d", i, round)}})
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				if numbers[n] {
					t.Errorf("number %d has two winners", n)
				}
				numbers[n] = true
				mu.Unlock()
			}
		})
	}
	done.Wait()
	s, err := Read(t.Context(), broker.Dial(t, bus.Config{}))
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Suspensions()) != senders*rounds || s.Number != senders*rounds+1 {
		t.Errorf("%d suspensions at number %d", len(s.Suspensions()), s.Number)
	}
	first := newFold()
	if err := first.seek(t.Context(), broker.Dial(t, bus.Config{})); err != nil || first.next < snapshotEvery {
		t.Errorf("reading starts at %d, want the snapshot (%v)", first.next, err)
	}
}

func TestGarbageIsSkipped(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	f := follow(t, b, nil)
	for _, value := range []string{"", "garbage", "\xff\xff", "\x08\x01\x10\x00"} {
		bustest.Put(t, b, bus.Record{Topic: schemas.Control, Value: []byte(value)})
	}
	n := send(t, b, Suspend, Scope{})
	for deadline := time.Now().Add(20 * time.Second); f.State().Number < n; {
		if time.Now().After(deadline) {
			t.Fatal("not followed")
		}
		time.Sleep(time.Millisecond)
	}
	if _, ok := f.State().Suspended("a", "b", "c"); !ok || f.Skipped() != 4 {
		t.Errorf("suspended %v, skipped %d", ok, f.Skipped())
	}
}
