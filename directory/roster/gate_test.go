package roster

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// A lane that floods leaves a slot for a newcomer, and turns are taken.
func TestGateShares(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGate(9, 8)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				if g.Enter(ctx, "flood", 1000) {
					time.Sleep(time.Hour)
					g.Leave("flood")
				}
			})
		}
		synctest.Wait()
		if n := g.Load(); n != 8 {
			t.Errorf("a flood alone has %d of 9 slots, want 8", n)
		}
		for i := range 3 {
			began := time.Now()
			if !g.Enter(ctx, "quiet", 16) {
				t.Fatal("not let in")
			}
			if i == 0 && time.Since(began) > 0 {
				t.Errorf("the quiet lane waited for %v", time.Since(began))
			}
			g.Leave("quiet")
		}
		cancel()
		wg.Wait()
		if len(g.lanes) > 0 || g.running != 0 || len(g.turn) > 0 {
			t.Errorf("left behind: %d lanes, %d running, %d turns", len(g.lanes), g.running, len(g.turn))
		}
	})
}

func TestGateLimitsOfALane(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGate(100, 8)
		ctx, cancel := context.WithCancel(t.Context())
		for range 10 {
			go g.Enter(ctx, "a", 3)
		}
		synctest.Wait()
		if g.Load() != 3 || g.Waits("a") != 7 || g.Waits("b") != 0 {
			t.Errorf("%d run, %d wait", g.Load(), g.Waits("a"))
		}
		cancel()
		synctest.Wait()
		if g.Waits("a") != 0 {
			t.Errorf("%d wait", g.Waits("a"))
		}
	})
}

// Whoever comes, goes and gives up in whatever order: the limits hold, and in
// the end all has been let in and nothing is left.
func TestGateAlways(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		slots, limit := rapid.IntRange(1, 5).Draw(rt, "slots"), rapid.IntRange(1, 4).Draw(rt, "limit")
		lanes, share := rapid.IntRange(1, 4).Draw(rt, "lanes"), rapid.IntRange(1, 8).Draw(rt, "share")
		seed := rapid.Uint64().Draw(rt, "seed")
		synctest.Test(t, func(t *testing.T) {
			g, random := NewGate(slots, share), rand.New(rand.NewPCG(seed, 1))
			var mu sync.Mutex
			running, in := map[string]int{}, 0
			var wg sync.WaitGroup
			for range 60 {
				name := fmt.Sprint(random.IntN(lanes))
				starts, lasts := time.Duration(random.IntN(20)), time.Duration(1+random.IntN(10))
				patience := time.Duration(random.IntN(60))
				wg.Go(func() {
					time.Sleep(starts)
					ctx := t.Context()
					if patience < 20 {
						limited, cancel := context.WithTimeout(ctx, patience)
						defer cancel()
						ctx = limited
					}
					if !g.Enter(ctx, name, limit) {
						if patience >= 20 {
							rt.Errorf("%s was not let in", name)
						}
						return
					}
					mu.Lock()
					running[name]++
					in++
					if in > slots || running[name] > limit {
						rt.Errorf("%d run, %d of them in lane %s", in, running[name], name)
					}
					mu.Unlock()
					time.Sleep(lasts)
					mu.Lock()
					running[name]--
					in--
					mu.Unlock()
					g.Leave(name)
				})
			}
			wg.Wait()
			if g.running != 0 || len(g.lanes) > 0 || len(g.turn) > 0 {
				rt.Errorf("left behind: %d running, %d lanes, %d turns", g.running, len(g.lanes), len(g.turn))
			}
		})
	})
}
