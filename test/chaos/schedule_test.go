package main

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func shape(t *rapid.T) Shape {
	return Shape{
		Broker: rapid.SampledFrom([]string{"embedded", "kafka1", "kafka3"}).Draw(t, "broker"),
		Faults: rapid.IntRange(1, 200).Draw(t, "faults"),
		Clean:  rapid.Bool().Draw(t, "clean"),
		Disk:   rapid.Bool().Draw(t, "disk"),
	}
}

// TestScheduleIsAFunctionOfItsSeed also shows that a longer run begins as a
// shorter one of the same seed.
func TestScheduleIsAFunctionOfItsSeed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, seed := shape(t), rapid.Uint64().Draw(t, "seed")
		faults := Schedule(seed, s)
		if diff := cmp.Diff(faults, Schedule(seed, s)); diff != "" {
			t.Fatalf("the same seed differs:\n%s", diff)
		}
		more := s
		more.Faults += 10
		if diff := cmp.Diff(faults, Schedule(seed, more)[:s.Faults]); diff != "" {
			t.Fatalf("a longer schedule begins otherwise:\n%s", diff)
		}
		if diff := cmp.Diff(Schedule(seed+1, s), faults); s.Faults > 5 && diff == "" {
			t.Fatal("another seed gives the same schedule")
		}
	})
}

// TestScheduleIsPossible checks that each fault has a victim that is there, in
// order of time, and one that lasts a length.
func TestScheduleIsPossible(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := shape(t)
		last := time.Duration(0)
		for i, f := range Schedule(rapid.Uint64().Draw(t, "seed"), s) {
			if f.N != i+1 || f.At < last || f.Victim == "" || f.For < 0 || f.For > 20*time.Second {
				t.Fatalf("impossible: %+v", f)
			}
			last = f.At
			if s.Clean && !slices.Contains(clean, f.Kind) {
				t.Fatalf("not clean: %+v", f)
			}
			if s.Broker == "embedded" && strings.Contains(f.Victim, "broker-") || s.Broker == "kafka1" && strings.Contains(f.Victim, "broker-2") {
				t.Fatalf("no such broker: %+v", f)
			}
			if from, to, ok := strings.Cut(f.Victim, ">"); ok && from == to {
				t.Fatalf("a way to itself: %+v", f)
			}
			if f.Kind == Outage && f.For <= shortLifetime {
				t.Fatalf("shorter than the lifetime: %+v", f)
			}
		}
	})
}

// TestScheduleHasEveryKind checks that no kind is forgotten on the brokers it
// is for.
func TestScheduleHasEveryKind(t *testing.T) {
	for _, broker := range []string{"embedded", "kafka1", "kafka3"} {
		seen := map[Kind]bool{}
		for _, f := range Schedule(1, Shape{Broker: broker, Faults: 2000, Disk: true}) {
			seen[f.Kind] = true
		}
		for _, c := range choices {
			if want := slices.Contains(strings.Fields(c.brokers), broker); seen[c.kind] != want {
				t.Errorf("%s on %s: %v, want %v", c.kind, broker, seen[c.kind], want)
			}
		}
	}
}
