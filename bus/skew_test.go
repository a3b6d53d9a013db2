package bus

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"qstream/schemas"
)

func TestBetween(t *testing.T) {
	at := time.UnixMilli(1_000_000)
	for _, c := range []struct {
		append time.Time
		want   time.Duration
	}{
		{at, 0},
		{at.Add(5 * time.Millisecond), 0},
		{at.Add(-time.Minute), time.Minute},
		{at.Add(time.Minute), 10*time.Millisecond - time.Minute},
	} {
		if got := between(at, at.Add(10*time.Millisecond), c.append); got != c.want {
			t.Errorf("append time %v: %v, want %v", c.append, got, c.want)
		}
	}
}

// TestPingMeasuresTheClock whatever transactions are open in the journal.
func TestPingMeasuresTheClock(t *testing.T) {
	b := newContentBus(t)
	parts, err := b.partitions(t.Context(), []string{schemas.Journal})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range parts[schemas.Journal] {
		defer openTransaction(t, b, schemas.Journal, p, []byte("open"))(kgo.TryAbort)
	}
	if err := b.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, ok := b.Skew(); ok {
		t.Error("a single ping published")
	}
	if err := b.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	if skew, ok := b.Skew(); !ok || skew.Abs() > time.Second {
		t.Errorf("skew %v, known: %v", skew, ok)
	}
}
