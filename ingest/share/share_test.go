package share

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// One client that holds all it can, and waits for more, leaves room for others.
func TestSharesAreFair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(100, 50)
		take := func(who string, n int64, wait time.Duration) (func(), error) {
			ctx, cancel := context.WithTimeout(t.Context(), wait)
			defer cancel()
			return s.Take(ctx, who, n)
		}
		first, err := take("a", 50, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		waited := make(chan func())
		go func() {
			release, err := take("a", 50, time.Minute)
			if err != nil {
				t.Error(err)
			}
			waited <- release
		}()
		synctest.Wait()
		started := time.Now()
		other, err := take("b", 50, time.Minute)
		if err != nil || time.Since(started) != 0 {
			t.Fatalf("%v after %v", err, time.Since(started))
		}
		if _, err := take("c", 1, time.Second); err == nil {
			t.Error("more than there is")
		}
		first()
		release := <-waited
		release()
		other()
		if len(s.parts) != 0 {
			t.Errorf("%d clients remembered", len(s.parts))
		}
	})
}
