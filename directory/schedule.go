package directory

import (
	"hash/fnv"
	"math"
	"time"
)

// Schedule says when a deferred leg is tried again. The zero Schedule is the
// default one.
type Schedule struct {
	// Quadratic is qmail's skip: next = birth + (isqrt(age) + skip)^2 in
	// seconds. 20 is what qmail does for remote mail, 10 for local.
	Quadratic int
	// Steps are the waits after the first, second, ... attempt; the last one
	// repeats. They win over Quadratic.
	Steps []time.Duration
}

const (
	defaultQuadratic = 20
	maxQuadratic     = 1000
	maxSteps         = 64
)

// CutWait is the wait of recipients that were cut off beside others that had an
// outcome: nothing was tried with them, so no schedule says when.
const CutWait = 10 * time.Second

// maxAge bounds what a wrong birth can do; no mail gets that old.
const maxAge = maxDuration

// Next is when to try again after attempt number attempt (from 1), for a
// message born at birth, at time now. It is always after now.
func (s Schedule) Next(birth, now time.Time, attempt int) time.Time {
	if len(s.Steps) > 0 {
		i := min(max(attempt, 1), len(s.Steps)) - 1
		return now.Add(s.Steps[i])
	}
	skip := s.Quadratic
	if skip <= 0 {
		skip = defaultQuadratic
	}
	age := now.Sub(birth)
	if age < 0 || age > maxAge {
		return now.Add(time.Duration(skip*skip) * time.Second)
	}
	root := isqrt(int64(age/time.Second)) + int64(skip)
	return birth.Add(time.Duration(root*root) * time.Second)
}

// NextSpread is Next, moved later by up to a twentieth of the wait so that
// what failed together doesn't come back together. The move depends on id
// alone (and the attempt), so that a repeated decision is the same decision.
// It never moves an attempt that would be in time beyond expires, nor by more
// than five minutes.
func (s Schedule) NextSpread(birth, now time.Time, attempt int, id string, expires time.Time) time.Time {
	next := s.Next(birth, now, attempt)
	span := min(next.Sub(now)/20, 5*time.Minute)
	if left := expires.Add(-time.Second).Sub(next); !expires.IsZero() && next.Before(expires) {
		span = max(min(span, left), 0)
	}
	h := fnv.New64a()
	h.Write([]byte(id))
	h.Write([]byte{byte(attempt)})
	return next.Add(time.Duration(float64(span) * (float64(mix(h.Sum64())>>11) / (1 << 53))))
}

// mix spreads FNV's weak high bits (the finaliser of MurmurHash3).
func mix(h uint64) uint64 {
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	h ^= h >> 33
	h *= 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}

// isqrt is the integer square root; n is not negative.
func isqrt(n int64) int64 {
	r := int64(math.Sqrt(float64(n)))
	for r*r > n {
		r--
	}
	for (r+1)*(r+1) <= n {
		r++
	}
	return r
}
