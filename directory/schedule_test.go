package directory

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

var birth = time.Unix(1_700_000_000, 0)

// offsetsOf are the seconds after birth at which attempts are made that each
// fail at once, within a lifetime.
func offsetsOf(s Schedule, life time.Duration) (offsets []int) {
	now := birth
	for attempt := 1; now.Sub(birth) <= life; attempt++ {
		offsets = append(offsets, int(now.Sub(birth)/time.Second))
		now = s.Next(birth, now, attempt)
	}
	return offsets
}

// TestQuadraticIsQmails compares with qmail-send's chanskip: remote 400 k^2
// seconds, local 100 k^2, and their numbers of passes.
func TestQuadraticIsQmails(t *testing.T) {
	const day = 24 * time.Hour
	for name, c := range map[string]struct {
		schedule     Schedule
		step         int
		inDay, inAll int // passes in a day, and up to the last one of 7 days
	}{
		"remote":  {Schedule{Quadratic: 20}, 400, 15, 40},
		"default": {Schedule{}, 400, 15, 40},
		"local":   {Schedule{Quadratic: 10}, 100, 30, 79},
	} {
		got := offsetsOf(c.schedule, 608400*time.Second)
		for k, offset := range got {
			if offset != c.step*k*k {
				t.Errorf("%s: attempt %d at %d s, want %d", name, k+1, offset, c.step*k*k)
			}
		}
		if len(got) != c.inAll || got[len(got)-1] != 608400 {
			t.Errorf("%s: %d attempts, the last at %d s", name, len(got), got[len(got)-1])
		}
		if n := len(offsetsOf(c.schedule, day)); n != c.inDay {
			t.Errorf("%s: %d attempts in a day, want %d", name, n, c.inDay)
		}
	}
	want := []int{0, 400, 1600, 3600, 6400, 10000}
	if diff := cmp.Diff(want, offsetsOf(Schedule{}, 10000*time.Second)); diff != "" {
		t.Error(diff)
	}
}

// TestQuadraticFromAnyAge is the formula itself, for attempts that took a
// while: next = birth + (isqrt(age) + skip)^2.
func TestQuadraticFromAnyAge(t *testing.T) {
	for _, c := range []struct{ age, skip, want int }{
		{0, 20, 400}, {1, 20, 441}, {3, 20, 441}, {4, 20, 484}, {399, 20, 1521}, {400, 20, 1600},
		{86400, 20, 97969}, {604800, 20, 635209}, {0, 10, 100}, {99, 10, 361}, {100, 10, 400},
	} {
		got := Schedule{Quadratic: c.skip}.Next(birth, birth.Add(time.Duration(c.age)*time.Second), 7)
		if seconds := int(got.Sub(birth) / time.Second); seconds != c.want {
			t.Errorf("age %d skip %d: %d, want %d", c.age, c.skip, seconds, c.want)
		}
	}
}

func TestSteps(t *testing.T) {
	s := Schedule{Steps: []time.Duration{time.Minute, 5 * time.Minute, time.Hour}}
	for attempt, want := range map[int]time.Duration{0: time.Minute, 1: time.Minute, 2: 5 * time.Minute, 3: time.Hour, 4: time.Hour, 1 << 30: time.Hour} {
		if got := s.Next(birth, birth.Add(time.Hour), attempt).Sub(birth.Add(time.Hour)); got != want {
			t.Errorf("after attempt %d: %s, want %s", attempt, got, want)
		}
	}
}

// TestNextProperties: an attempt is always later than now, later if the mail
// is older, no further away than the age allows; the spread is deterministic,
// at most 5 % and five minutes, and never passes the expiry.
func TestNextProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := Schedule{Quadratic: rapid.IntRange(0, maxQuadratic).Draw(t, "skip")}
		if rapid.Bool().Draw(t, "steps") {
			for range rapid.IntRange(1, 5).Draw(t, "n") {
				s.Steps = append(s.Steps, time.Duration(rapid.IntRange(1, 1e6).Draw(t, "step"))*time.Second)
			}
		}
		age := time.Duration(rapid.Int64Range(-int64(time.Hour), int64(20*365*24*time.Hour)).Draw(t, "age"))
		now := birth.Add(age)
		attempt := rapid.IntRange(0, 1000).Draw(t, "attempt")
		next := s.Next(birth, now, attempt)
		if !next.After(now) {
			t.Fatalf("next %s is not after now %s", next, now)
		}
		if later := s.Next(birth, now.Add(time.Hour), attempt); age >= 0 && age < maxAge-time.Hour && later.Before(next) {
			t.Fatalf("next goes back from %s to %s", next, later)
		}
		if wait := next.Sub(now); wait > 366*24*time.Hour {
			t.Fatalf("waits %s", wait)
		}
		expires := now.Add(time.Duration(rapid.Int64Range(-int64(time.Hour), int64(30*24*time.Hour)).Draw(t, "left")))
		spread := s.NextSpread(birth, now, attempt, "01JD0000000000000000000000", expires)
		if again := s.NextSpread(birth, now, attempt, "01JD0000000000000000000000", expires); !again.Equal(spread) {
			t.Fatal("not deterministic")
		}
		moved := spread.Sub(next)
		if moved < 0 || moved > next.Sub(now)/20 || moved > 5*time.Minute {
			t.Fatalf("moved by %s of %s", moved, next.Sub(now))
		}
		if next.Before(expires) && !spread.Before(expires) {
			t.Fatalf("moved from %s past expiry %s to %s", next, expires, spread)
		}
	})
}

func TestSpreadSpreads(t *testing.T) {
	seen := map[time.Duration]bool{}
	for i := range 1000 {
		next := Schedule{Steps: []time.Duration{time.Hour}}.NextSpread(birth, birth, 1, string(rune('a'+i%26))+string(rune(i)), time.Time{})
		seen[next.Sub(birth).Truncate(10*time.Second)] = true
	}
	if len(seen) < 17 {
		t.Errorf("%d of 18 tens of seconds used", len(seen))
	}
}

func TestExpires(t *testing.T) {
	const day = 24 * time.Hour
	q := newQueue("acme")
	for name, c := range map[string]struct {
		hold, stopped time.Duration
		null          bool
		want          time.Duration
	}{
		"lifetime":                      {0, 0, false, 5 * day},
		"bounce lifetime":               {0, 0, true, day},
		"stopped":                       {0, 100 * day, false, 105 * day},
		"stopped, with hold_expiry":     {30 * day, 100 * day, false, 35 * day},
		"stopped less than hold_expiry": {30 * day, 10 * day, true, 11 * day},
		"a clock that went back":        {0, -day, false, 5 * day},
	} {
		q.HoldExpiry = c.hold
		if got := q.Expires(birth, c.stopped, c.null).Sub(birth); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}
