package scanner

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"qstream/bus"
	"qstream/bus/bustest"
	"qstream/schemas"
	"qstream/test/fakeclamd"
)

// BenchmarkReplicas is the throughput of one and of two scanners with an
// engine that takes 300 ms, and the second as a multiple of the first; run it
// with -benchtime 1x.
func BenchmarkReplicas(b *testing.B) {
	const legs = 320
	measured := map[int]float64{}
	for _, replicas := range []int{1, 2} {
		b.Run(fmt.Sprint(replicas), func(b *testing.B) {
			for b.Loop() {
				broker := bustest.Start(b)
				put := broker.Dial(b, bus.Config{})
				c := clam(b)
				c.Feel(fakeclamd.Mood{Slow: 300 * time.Millisecond})
				text := strings.ReplaceAll(site(c.Addr(), ""), "concurrency: 100", "concurrency: 12")
				text = strings.Replace(text, "[acme.example]", "[.acme.example]", 1)
				text = strings.Replace(text, "queue: acme\nscan: q", "scan: q", 1) // of one tenant: nothing spills
				apply(b, put, strings.Replace(text, "name: acme\nscan: p", "name: acme\nscan: p\npartitions: 12", 1))
				for range replicas {
					start(b, broker.Dial(b, bus.Config{}), Config{})
				}
				// Once all partitions have their owners.
				warm(b, put)
				for i := range legs {
					ref := stored(b, put, fmt.Sprintf("01JD000000000000000002%04d", i), fmt.Sprint(i))
					l := wanted(ref, fmt.Sprintf("a@d%d.acme.example", i%120))
					l.Tenant = "acme"
					r := bus.NewLeg(schemas.Scan("acme", 1), l)
					r.Partition = int32(i % 12) // as many destinations spread
					bustest.Put(b, put, r)
				}
				// While both have something to do: how many partitions each
				// has is the group's matter.
				reach(c, 50)
				began := time.Now()
				reach(c, 50+160)
				measured[replicas] = 160 / time.Since(began).Seconds()
				b.ReportMetric(measured[replicas], "legs/s")
				bustest.Want(b, put, schemas.Queue("acme", 1), legs)
				_, most := c.Scans()
				b.ReportMetric(float64(most), "at-once")
			}
		})
	}
	if measured[1] > 0 {
		b.Logf("two replicas scan %.2f times as much as one", measured[2]/measured[1])
	}
}

// reach waits until the engine has been given so many messages.
func reach(c *fakeclamd.Server, n int) {
	for all, _ := c.Scans(); all < n; all, _ = c.Scans() {
		time.Sleep(time.Millisecond)
	}
}

func warm(b *testing.B, put *bus.Bus) {
	for i := range 120 {
		l := wanted(stored(b, put, fmt.Sprintf("01JD000000000000000003%04d", i), "warm"), fmt.Sprintf("a@d%d.acme.example", i))
		l.Tenant = "acme"
		bustest.Put(b, put, bus.NewLeg(schemas.Scan("acme", 1), l))
	}
	bustest.Want(b, put, schemas.Queue("acme", 1), 120)
	time.Sleep(5 * time.Second) // a second member takes its share within a heartbeat
}

// BenchmarkReading is what it takes to read a message of 50 KB again, and one of
// 5 MB: how much a common reading for all engines of a policy could save.
func BenchmarkReading(b *testing.B) {
	bu := bustest.New(b)
	for _, size := range []int{50 << 10, 5 << 20} {
		w := bu.Create(b.Context(), fmt.Sprintf("01JD00000000000000000%05d", size>>10), "")
		if _, err := io.WriteString(w, strings.Repeat("0123456789abcde\n", size/16)); err != nil {
			b.Fatal(err)
		}
		c, err := w.Commit()
		if err != nil {
			b.Fatal(err)
		}
		b.Run(fmt.Sprintf("%dKB", size>>10), func(b *testing.B) {
			for b.Loop() {
				r, err := bu.Open(b.Context(), c.GetRef())
				if err != nil {
					b.Fatal(err)
				}
				if _, err := io.Copy(io.Discard, r); err != nil {
					b.Fatal(err)
				}
				_ = r.Close()
			}
		})
	}
}
