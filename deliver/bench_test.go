package deliver

import (
	"log/slog"
	"testing"
	"time"

	"qstream/bus"
	"qstream/schemas"
	"qstream/test/fakemx"
)

// BenchmarkLegs is how many legs a second one worker takes off its queue to a
// peer on this machine, broker in memory included.
func BenchmarkLegs(b *testing.B) {
	for _, to := range []string{"peer", "nowhere"} {
		b.Run(to, func(b *testing.B) {
			r := newRig(b, fakemx.Config{DigestOnly: true}, "concurrency: 200")
			l := r.acme("bob@acme.example")
			topic := r.queue
			if to == "nowhere" {
				l = r.leg("discard", "bob@void.example")
				l.Queue, l.Tenant = "default", "default"
				topic = schemas.Queue("default", 1)
			}
			for from := 0; from < b.N; from += 500 {
				var rs []*bus.Record
				for i := from; i < min(b.N, from+500); i++ {
					l.Number = uint32(i)
					rec := bus.NewLeg(topic, l)
					rs = append(rs, &rec)
				}
				if err := r.b.Publish(b.Context(), rs...); err != nil {
					b.Fatal(err)
				}
			}
			b.ResetTimer()
			began := time.Now()
			w := r.start(r.b, Config{}, func(d *Deps) { d.Log = slog.New(slog.DiscardHandler) })
			for r.lagOf(topic) > 0 {
				time.Sleep(20 * time.Millisecond)
			}
			b.ReportMetric(float64(b.N)/time.Since(began).Seconds(), "legs/s")
			b.StopTimer()
			w.stop()
		})
	}
}
