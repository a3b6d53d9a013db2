package unpack_test

import (
	"context"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"qstream/engine"
	"qstream/engine/enginetest"
	"qstream/engine/unpack"
)

// TestCalledOff: scans that are called off at any moment leave neither files,
// which limited looks for, nor what is open.
func TestCalledOff(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	e := limited(t, unpack.Config{Memory: 1})
	mail := carrying(one(gzipped(tarred(zstandard(one(zeros(1 << 20)))))))
	open := func() int {
		all, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Skip("needs /proc")
		}
		return len(all)
	}
	before := open()
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(1, uint64(w)))
			for range 50 {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(r.Int64N(int64(20*time.Millisecond))))
				v := e.Scan(ctx, strings.NewReader(mail), enginetest.Facts(0))
				cancel()
				if v.Outcome != engine.Clean && (v.Outcome != engine.Failed || v.Reason != engine.Late) {
					t.Errorf("%+v", v)
				}
			}
		})
	}
	wg.Wait()
	if after := open(); after > before {
		t.Errorf("%d files are open, %d before", after, before)
	}
}
