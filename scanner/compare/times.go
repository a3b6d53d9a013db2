package compare

import (
	"math"
	"time"
)

// buckets of a histogram: the last but one ends at 2^20 ms, 17 minutes.
const buckets = 42

// Times are how long scans took: a histogram with two buckets for each
// doubling, from 1 ms. The zero Times are empty. Not safe for concurrent use.
type Times struct{ scans [buckets]uint64 }

// Add adds a scan.
func (t *Times) Add(took time.Duration) {
	i := 0
	if ms := float64(took) / float64(time.Millisecond); ms > 1 {
		i = int(math.Ceil(2*math.Log2(ms) - 1e-9))
	}
	t.scans[min(i, buckets-1)]++
}

// merge adds counts as they were told; what is beyond is in the last bucket.
func (t *Times) merge(scans []uint64) {
	for i, n := range scans {
		t.scans[min(i, buckets-1)] += n
	}
}

// counts are those of the buckets, without the empty ones at the end.
func (t *Times) counts() []uint64 {
	n := buckets
	for n > 0 && t.scans[n-1] == 0 {
		n--
	}
	return t.scans[:n:n]
}

// Len is how many scans there were.
func (t *Times) Len() uint64 {
	n := uint64(0)
	for _, c := range t.scans {
		n += c
	}
	return n
}

// Quantile is a time that the share q of the scans did not outlast, at most 41
// percent too long; 0 if there were none. What took longer than the histogram
// reaches counts as that.
func (t *Times) Quantile(q float64) time.Duration {
	want, seen := uint64(math.Ceil(q*float64(t.Len()))), uint64(0)
	for i, n := range t.scans {
		if seen += n; seen >= want && seen > 0 {
			return bound(min(i, buckets-2))
		}
	}
	return 0
}

// bound is the longest time of a bucket.
func bound(i int) time.Duration {
	return time.Duration(math.Round(math.Exp2(float64(i)/2) * float64(time.Millisecond))).Round(100 * time.Microsecond)
}
