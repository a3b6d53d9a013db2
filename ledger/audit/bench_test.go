package audit

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"qstream/bus"
	"qstream/mail"
	"qstream/schemas"
)

// BenchmarkAudit is an audit while 100,000 legs of one recipient wait in
// delay; run it with -benchtime 3x.
func BenchmarkAudit(b *testing.B) {
	s := newSystem(b)
	const legs, together = 100_000, 500
	for at := 0; at < legs; at += together {
		var rs []*bus.Record
		for i := range together {
			l := leg(mail.NewID(time.Now()), "default")
			l.Recipients, l.Destination = l.Recipients[:1], fmt.Sprintf("d%d.acme.example", (at+i)%1000)
			for _, r := range append(tells(l, accepted, routed, deferred), bus.NewWaiting(schemas.DelayTopics()[2], l)) {
				rs = append(rs, &r)
			}
		}
		if err := s.bus.Publish(b.Context(), rs...); err != nil {
			b.Fatal(err)
		}
	}
	began := time.Now()
	if r := s.run(Scope{}); !r.Balanced || r.Total.Waiting != legs {
		b.Fatalf("%+v", r)
	}
	b.Logf("the first audit folded %d events and took %v", 3*legs, time.Since(began))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for b.Loop() {
		if r := s.run(Scope{}); !r.Balanced || r.Waiting[AtDelay] != legs {
			b.Fatalf("%+v", r)
		}
	}
	runtime.ReadMemStats(&after)
	b.ReportMetric(float64(after.TotalAlloc-before.TotalAlloc)/float64(b.N)/(1<<20), "MB/op")
}
