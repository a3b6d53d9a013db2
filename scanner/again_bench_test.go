package scanner

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"qstream/bus"
	"qstream/bus/bustest"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
	"qstream/test/fakeclamd"
)

// BenchmarkLiveBesideThePast is how fast mail on its way passes an engine that
// takes 20 ms and twelve at once, ten at a time, alone and while 2,000 messages of the past wait to be
// scanned; and how many of those are scanned meanwhile. Run it with -benchtime 1x.
func BenchmarkLiveBesideThePast(b *testing.B) {
	const live = 400
	for _, past := range []int{0, 2000} {
		b.Run(fmt.Sprint(past), func(b *testing.B) {
			for b.Loop() {
				broker := bustest.Start(b)
				put := broker.Dial(b, bus.Config{})
				c := clam(b)
				apply(b, put, strings.ReplaceAll(site(c.Addr(), ""), "concurrency: 100", "concurrency: 12"))
				var legs []*pb.Leg
				for i := range live {
					legs = append(legs, wanted(stored(b, put, fmt.Sprintf("01JD000000000000000002%04d", i), fmt.Sprint("live ", i)), "a@acme.example"))
				}
				var offered []bus.Record
				for i := range past {
					ref := stored(b, put, fmt.Sprintf("01JD000000000000000003%04d", i), fmt.Sprint("past ", i))
					offered = append(offered, bus.NewRescan(offer(ref, "a@acme.example", false)))
				}
				bustest.Put(b, put, offered...)
				c.Feel(fakeclamd.Mood{Slow: 20 * time.Millisecond})
				start(b, broker.Dial(b, bus.Config{}), Config{})
				if past > 0 {
					reach(c, 50)
				}
				slowest, n := time.Duration(0), 0
				began := time.Now()
				for i := 0; i < live; i += 10 {
					at := time.Now()
					putAll(b, put, legs[i:i+10])
					n += 10
					bustest.Want(b, put, schemas.Queue("acme", 1), n)
					slowest = max(slowest, time.Since(at))
				}
				b.ReportMetric(live/time.Since(began).Seconds(), "live/s")
				b.ReportMetric(float64(slowest.Milliseconds()), "slowest-ms")
				all, _ := c.Scans()
				b.ReportMetric(float64(all-live), "past-scanned")
			}
		})
	}
}

func putAll(b *testing.B, put *bus.Bus, legs []*pb.Leg) {
	var rs []bus.Record
	for _, l := range legs {
		rs = append(rs, bus.NewLeg(schemas.Scan(l.Queue, l.Generation), l))
	}
	bustest.Put(b, put, rs...)
}
