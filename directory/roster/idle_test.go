package roster

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
)

// Mail on its way finds every slot of an engine while the past fills its share,
// and comes first.
func TestIdleLanesTakeWhatIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		g := NewGate(8, 2)
		var in sync.WaitGroup
		for range 10 {
			in.Go(func() { g.EnterAs(ctx, "past", 8, true) })
		}
		synctest.Wait()
		if g.Load() != 2 || g.idle != 2 {
			t.Fatalf("the past has %d of 8", g.Load())
		}
		// As many as without it, in its own lane's bounds and all slots.
		for range 20 {
			in.Go(func() { g.Enter(ctx, "live", 8) })
		}
		synctest.Wait()
		alone := NewGate(8, 2)
		for range 20 {
			in.Go(func() { alone.Enter(ctx, "live", 8) })
		}
		synctest.Wait()
		if live, want := g.Load()-g.idle, min(alone.Load(), 6); live != want || alone.Load() < 5 {
			t.Errorf("live mail has %d slots, %d without the past", live, alone.Load())
		}
		// What the past gives back goes to who waits, not to the past.
		g.Leave("past")
		synctest.Wait()
		if g.idle != 1 {
			t.Errorf("the past has %d slots while mail waits", g.idle)
		}
		cancel()
		in.Wait()
		one := NewGate(1, 2)
		if !one.EnterAs(t.Context(), "past", 8, true) {
			t.Error("an engine for one at a time isn't there for the past")
		}
	})
}
