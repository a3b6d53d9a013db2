package bus

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestPace(t *testing.T) {
	batch := func(t *testing.T, p *Pace, work time.Duration) time.Duration {
		t.Helper()
		time.Sleep(work)
		began := time.Now()
		if err := p.rest(t.Context()); err != nil {
			t.Fatal(err)
		}
		return time.Since(began)
	}
	for name, test := range map[string]struct {
		pace       *Pace
		work, rest time.Duration
	}{
		"no pace":     {nil, time.Second, 0},
		"short batch": {Gently(), 4 * time.Millisecond, 36 * time.Millisecond},
		"long batch":  {Gently(), 3 * time.Second, longestRest},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				test.pace.start()
				for range 2 {
					if got := batch(t, test.pace, test.work); got != test.rest {
						t.Errorf("rested %v after %v, want %v", got, test.work, test.rest)
					}
				}
			})
		})
	}
	t.Run("bounded in all", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p, rested := Gently(), time.Duration(0)
			p.start()
			for range 1000 {
				rested += batch(t, p, time.Second)
			}
			if rested != restsInAll {
				t.Errorf("rested %v in all, want %v", rested, restsInAll)
			}
		})
	})
	t.Run("ends with its context", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p := Gently()
			p.start()
			time.Sleep(time.Second)
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			if err := p.rest(ctx); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("rest: %v", err)
			}
		})
	})
}
