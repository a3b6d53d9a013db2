package scanner

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"qstream/bus"
	"qstream/bus/bustest"
	"qstream/schemas"
	"qstream/test/fakeclamd"
)

// BenchmarkShadow is the throughput of live mail without a shadow, beside one
// with an engine of its own, and beside one whose engine hangs; all engines are
// in this process. Run it with -benchtime 1x.
func BenchmarkShadow(b *testing.B) {
	const legs = 3000
	for _, kind := range []string{"without", "beside", "hanging"} {
		b.Run(kind, func(b *testing.B) {
			for b.Loop() {
				broker := bustest.Start(b)
				put := broker.Dial(b, bus.Config{})
				live, other := clam(b), clam(b)
				other.Feel(fakeclamd.Mood{Hang: kind == "hanging"})
				text := shadowed(live.Addr(), "engines: clam", "engines: other\nconcurrency: 100") +
					fmt.Sprintf("---\nkind: engine\nname: other\ntype: clamd\naddress: tcp://%s\nconcurrency: 100\n", other.Addr())
				text = strings.Replace(text, "domains: [beta.example]\nqueue: acme\n", "domains: [beta.example]\n", 1)
				text = strings.Replace(text, "name: acme\nscan: p", "name: acme\nscan: p\npartitions: 12", 1)
				if kind == "without" {
					text = strings.Replace(text, "shadow: next\n", "", 1)
				}
				apply(b, put, text)
				for i := range legs {
					r := bus.NewLeg(schemas.Scan("acme", 1), wanted(stored(b, put, fmt.Sprintf("01JD0000000000000000%06d", i), fmt.Sprint(i)), "a@acme.example"))
					r.Partition = int32(i % 12) // as many destinations spread
					bustest.Put(b, put, r)
				}
				began := time.Now()
				start(b, broker.Dial(b, bus.Config{}), Config{})
				bustest.Want(b, put, schemas.Queue("acme", 1), legs)
				b.ReportMetric(legs/time.Since(began).Seconds(), "legs/s")
				all, _ := other.Scans()
				b.ReportMetric(float64(all), "compared")
			}
		})
	}
}
