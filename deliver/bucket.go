package deliver

import "time"

// bucket is a token bucket. The zero bucket is full at its first use.
type bucket struct {
	tokens float64
	at     time.Time
}

// burst is how many attempts may start at once after a pause: a tenth of a
// second's worth, at least one, so that a rate below 10 spaces them evenly.
func burst(rate float64) float64 { return max(1, rate/10) }

// ready is the zero time when a token is there, else when one will be. A rate
// of 0 is unlimited.
func (b *bucket) ready(now time.Time, rate float64) time.Time {
	if rate <= 0 {
		return time.Time{}
	}
	b.refill(now, rate)
	// A hair below one still counts, or rounding would wake us for nothing.
	if b.tokens >= 1-1e-6 {
		return time.Time{}
	}
	return now.Add(time.Duration((1 - b.tokens) / rate * float64(time.Second)))
}

func (b *bucket) take(rate float64) {
	if rate > 0 {
		b.tokens--
	}
}

func (b *bucket) refill(now time.Time, rate float64) {
	if b.at.IsZero() {
		b.tokens = burst(rate)
	} else if d := now.Sub(b.at); d > 0 {
		b.tokens = min(burst(rate), b.tokens+d.Seconds()*rate)
	}
	b.at = now
}
