package audit

import (
	"context"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"qstream/ledger/audit"
	"qstream/test/fakemx"
	"qstream/test/rig"
)

// TestUnderLoad audits again and again while mail flows, is deferred, bounces
// and makes reports, and while roles are killed and started again: nothing is
// ever found. It makes 5 audits, with QSTREAM_TEST_LONG 40.
func TestUnderLoad(t *testing.T) {
	t.Parallel()
	audits := 5
	if os.Getenv("QSTREAM_TEST_LONG") != "" {
		audits = 40
	}
	each(t, func(t *testing.T, broker string) {
		s := start(t, broker, "1s",
			fakemx.Rule{Line: "RCPT TO:<user@later.example>", Reply: "450 4.2.0 later", Times: 500},
			fakemx.Rule{Line: "RCPT TO:<user@bad.example>", Reply: "550 5.1.1 nobody"})
		to := []string{"user@fine.example", "user@later.example", "user@fine.example", "user@bad.example"}
		load := &rig.Load{Addr: s.SMTP, Sessions: 5, Rate: 100, To: func(n int) string { return to[n%len(to)] }}
		ctx, halt := context.WithCancel(context.Background())
		var wg sync.WaitGroup
		wg.Go(func() { load.Run(ctx, 0) })
		wg.Go(func() { s.kills(ctx) })
		moving := int64(0)
		for range audits {
			r := s.balanced("under load")
			moving += r.Waiting[audit.Moving]
			time.Sleep(time.Second)
			t.Logf("%d accepted, %d generated, waiting %v, %d ms", r.Total.Accepted, r.Total.Generated, r.Waiting, r.TookMs)
		}
		halt()
		wg.Wait()
		r := s.until("nothing waits", func(r *audit.Report) bool { return r.Total.Waiting == 0 })
		accepted := int64(load.Accepted())
		t.Logf("%d audits, %d recipients found moving; accepted by 250: %d; account: %+v", audits, moving, accepted, r.Total)
		if r.Total.Accepted < accepted || r.Total.Generated == 0 {
			t.Errorf("%d of %d accepted recipients in the account", r.Total.Accepted, accepted)
		}
	})
}

// kills kills one role after the other, and starts it again.
func (s *site) kills(ctx context.Context) {
	for i := 0; ctx.Err() == nil; i++ {
		role := []string{"deliver", "router", "deliver", "delay"}[i%4]
		select {
		case <-ctx.Done():
			return
		case <-time.After(2 * time.Second):
		}
		if err := s.Signal(role, syscall.SIGKILL); err != nil {
			s.t.Errorf("kill %s: %v", role, err)
		}
		if err := s.Again(role); err != nil {
			s.t.Errorf("start %s again: %v", role, err)
			return
		}
	}
}
