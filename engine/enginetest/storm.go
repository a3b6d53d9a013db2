package enginetest

import (
	"context"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"qstream/engine"
)

// storm calls scans off at every moment. Whatever was said in time is right,
// and neither goroutines (the suite looks for them at its end) nor files stay.
func storm(t *testing.T, m Maker) {
	// The first scan opens what a process keeps, such as the poller.
	m.each(t, func(t *testing.T, e engine.Engine) { Ask(t, e, message("Subject: good", 100)) })
	before := openFiles(t)
	t.Run("scans", func(t *testing.T) { // what it serves ends with it
		m.each(t, func(t *testing.T, e engine.Engine) {
			var wg sync.WaitGroup
			for w := range 8 {
				wg.Go(func() {
					for i := range 12 {
						gust(t, e, rand.New(rand.NewPCG(uint64(w), uint64(i))))
					}
				})
			}
			wg.Wait()
			if v := Ask(t, e, message(Bad, 1000)); !v.Bad() {
				t.Errorf("after the storm: %+v", v)
			}
		})
	})
	after := openFiles(t)
	for end := time.Now().Add(20 * time.Second); after > before && time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		after = openFiles(t)
	}
	if after > before {
		t.Errorf("%d files are open, %d before", after, before)
	}
}

// gust is one scan that is called off, or almost.
func gust(t *testing.T, e engine.Engine, r *rand.Rand) {
	bad := r.IntN(2) == 0
	extra := "Subject: good"
	if bad {
		extra = Bad
	}
	text := message(extra, r.IntN(400_000))
	ctx, cancel := context.WithTimeout(t.Context(), time.Duration(r.Int64N(int64(20*time.Millisecond))))
	defer cancel()
	end, _ := ctx.Deadline()
	v := e.Scan(ctx, &slowly{ctx: ctx, from: strings.NewReader(text), wait: time.Duration(r.IntN(2)) * time.Millisecond}, Facts(int64(len(text))))
	switch {
	case v.Outcome == engine.Failed && time.Now().Before(end): // the clock is sooner than ctx
		t.Errorf("not called off: %+v", v)
	case v.Outcome != engine.Failed && v.Bad() != bad:
		t.Errorf("wrong: %+v", v)
	}
}

// slowly reads content as from a topic: in pieces that take their time, until
// its context ends.
type slowly struct {
	ctx  context.Context
	from io.Reader
	wait time.Duration
}

func (s *slowly) Read(p []byte) (int, error) {
	if s.wait > 0 {
		select {
		case <-time.After(s.wait):
		case <-s.ctx.Done():
		}
	}
	if err := s.ctx.Err(); err != nil {
		return 0, err
	}
	return s.from.Read(p[:min(len(p), 32<<10)])
}

// openFiles counts what this process has open; 0 where that can't be known.
func openFiles(t *testing.T) int {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	if os.IsNotExist(err) {
		return 0
	}
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}
