package idempotency

import (
	"math/rand/v2"
	"testing"
	"time"

	"pgregory.net/rapid"

	pb "qstream/schemas/qstream/v1"
)

const (
	claims = pb.SubmissionState_SUBMISSION_STATE_CLAIMED
	opens  = pb.SubmissionState_SUBMISSION_STATE_OPEN
	done   = pb.SubmissionState_SUBMISSION_STATE_DONE
)

func TestFold(t *testing.T) {
	const minute = time.Minute
	// Each step is a record at its offset: its state, what it is based on,
	// when it was appended, and whether it counts.
	type step struct {
		state pb.SubmissionState
		base  int64
		at    time.Duration
		want  bool
	}
	for name, steps := range map[string][]step{
		"one":                         {{claims, -1, 0, true}, {done, 0, 1, true}},
		"the first claim wins":        {{claims, -1, 0, true}, {claims, -1, 1, false}, {done, 0, 2, true}, {done, 1, 3, true}},
		"a late claim":                {{claims, -1, 0, true}, {done, 0, 1, true}, {claims, -1, 2, false}, {claims, 0, 3, false}},
		"within the lease":            {{claims, -1, 0, true}, {claims, 0, minute - 1, false}},
		"after the lease":             {{claims, -1, 0, true}, {claims, 0, minute, true}, {done, 1, minute + 1, true}},
		"two take over":               {{claims, -1, 0, true}, {claims, 0, minute, true}, {claims, 0, minute + 1, false}},
		"not knowing the former":      {{claims, -1, 0, true}, {claims, -1, minute, false}},
		"the former's answer":         {{claims, -1, 0, true}, {claims, 0, minute, true}, {done, 0, minute + 1, false}},
		"left open":                   {{claims, -1, 0, true}, {opens, 0, 1, true}, {claims, 0, 2, true}, {claims, 0, 3, false}},
		"after a day":                 {{claims, -1, 0, true}, {done, 0, 1, true}, {claims, -1, Kept + minute, true}},
		"within a day":                {{claims, -1, 0, true}, {done, 0, 1, true}, {claims, -1, Kept - minute, false}},
		"claims were compacted away":  {{done, 0, 0, true}, {claims, -1, 1, false}},
		"an answer without its claim": {{done, -1, 0, false}},
		"no state":                    {{0, -1, 0, false}},
	} {
		t.Run(name, func(t *testing.T) {
			var e *entry
			for i, s := range steps {
				is, counts := fold(e, record{state: s.state, base: s.base, lease: minute, offset: int64(i), at: time.Unix(1_000_000, 0).Add(s.at)})
				if counts != s.want {
					t.Errorf("record %d: %v", i, counts)
				}
				if counts {
					e = &is
				}
			}
		})
	}
}

// Whatever edges write, in whatever order it reaches the log: at no time are
// there two claims whose leases run, and an answer, once there, stays.
func TestFoldProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var e *entry
		now := time.Unix(1_000_000, 0)
		began := now
		var leaseEnd time.Time
		var answered bool
		for offset := range int64(60) {
			now = now.Add(time.Duration(rapid.IntRange(0, 40).Draw(t, "pause")) * time.Second)
			if now.Sub(began) > Kept/2 {
				break
			}
			r := record{
				state: pb.SubmissionState(rapid.IntRange(1, 3).Draw(t, "state")), base: int64(rapid.IntRange(-1, int(offset)).Draw(t, "base")),
				lease: time.Minute, offset: offset, at: now,
			}
			if r.state != claims && (e == nil || r.base != e.claim) {
				continue // edges settle only claims that count
			}
			is, counts := fold(e, r)
			if !counts {
				continue
			}
			if answered && r.state == claims {
				t.Fatalf("claimed at %d after the answer", offset)
			}
			if r.state == claims {
				if now.Before(leaseEnd) {
					t.Fatalf("claimed at %d within another's lease", offset)
				}
				leaseEnd = now.Add(r.lease)
			} else {
				leaseEnd = time.Time{}
			}
			answered = answered || r.state == done
			e = &is
		}
	})
}

// What a million keys take.
func BenchmarkMemory(b *testing.B) {
	for b.Loop() {
		before := heap()
		known := map[Key]entry{}
		for range 1_000_000 {
			var k Key
			for i := range k {
				k[i] = byte(rand.Uint32())
			}
			known[k] = entry{state: done}
		}
		b.ReportMetric(float64(heap()-before)/float64(len(known)), "B/key")
	}
}
