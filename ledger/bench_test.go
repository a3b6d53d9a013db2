package ledger

import (
	"context"
	"fmt"
	"log/slog"
	"syscall"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"qstream/bus"
	"qstream/ledger/fold"
	"qstream/ledger/store"
	"qstream/mail"
	pb "qstream/schemas/qstream/v1"
)

// life is the events of a message that is delivered at once.
func life(i int, at time.Time) []bus.Record {
	id := mail.NewID(at)
	base := func(kind pb.EventType) *pb.Event {
		return &pb.Event{
			Type: kind, AtMs: at.UnixMilli(), MessageId: id, Step: 1, Attempt: 1, Tenant: "acme", Queue: "acme",
			Destination: "mail.acme.example:25", Route: "acme-inbound", Directory: 12, ReversePath: "ann@sender.example",
			HeaderMessageId: fmt.Sprintf("<%s.%d@sender.example>", id, i), Size: 10_240, Stage: "deliver",
		}
	}
	rcpt := func(s *pb.Status) []*pb.Outcome {
		return []*pb.Outcome{{Address: fmt.Sprintf("bob%d@acme.example", i%5000), Status: s}}
	}
	accepted := base(pb.EventType_EVENT_TYPE_ACCEPTED)
	accepted.Tenant, accepted.Queue, accepted.Destination, accepted.Outcomes = "", "", "", rcpt(nil)
	accepted.Session = &pb.Session{Id: id, Protocol: pb.Protocol_PROTOCOL_SMTP, Edge: "mx1.acme.example", ClientIp: "192.0.2.1", ClientPort: 4711, Helo: "sender.example"}
	routed := base(pb.EventType_EVENT_TYPE_ROUTED)
	routed.Outcomes = rcpt(nil)
	attempted := base(pb.EventType_EVENT_TYPE_ATTEMPTED)
	attempted.Host, attempted.HostIp, attempted.TookMs = "mail.acme.example", "192.0.2.25", 12
	delivered := base(pb.EventType_EVENT_TYPE_DELIVERED)
	delivered.Host, delivered.HostIp = attempted.Host, attempted.HostIp
	delivered.Outcomes = rcpt(&pb.Status{Code: 250, Enhanced: "2.0.0", Text: "ok: queued as 4711"})
	var rs []bus.Record
	for _, e := range []*pb.Event{accepted, routed, attempted, delivered} {
		rs = append(rs, bus.NewEvent(e))
	}
	return rs
}

func testView(t testing.TB, cfg Config) *view {
	t.Helper()
	cfg, err := cfg.complete()
	if err != nil {
		t.Fatal(err)
	}
	s, _, err := store.Open(context.Background(), store.Options{Dir: cfg.Dir, Topic: "test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	l := &Ledger{cfg: cfg, deps: Deps{Log: slog.New(slog.DiscardHandler), Now: time.Now}, metrics: newMetrics(nil, func() float64 { return 0 })}
	v := &view{Ledger: l, store: s, batch: &fold.Batch{}, waits: fold.Waits{}}
	if v.done, err = s.Progress(context.Background()); err != nil {
		t.Fatal(err)
	}
	v.next = v.done.Clone()
	return v
}

func mustEvent(r bus.Record, e *pb.Event) {
	if err := proto.Unmarshal(r.Value, e); err != nil {
		panic(err)
	}
}

func used() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkFold is the CPU of a message with one recipient that is delivered at
// once, from its four records to the file; inside says how many come and go
// within one batch, the others are delivered in the next.
func BenchmarkFold(b *testing.B) {
	for _, inside := range []bool{true, false} {
		b.Run(fmt.Sprintf("inside=%v", inside), func(b *testing.B) {
			v := testView(b, Config{Dir: b.TempDir()})
			records := make([][]bus.Record, b.N)
			for i := range records {
				records[i] = life(i, time.Now())
			}
			var offset int64
			put := func(rs ...bus.Record) {
				for _, r := range rs {
					r.Partition, r.Offset = 0, offset
					offset++
					if err := v.take(r); err != nil {
						b.Fatal(err)
					}
				}
			}
			before := used()
			b.ResetTimer()
			const batch = 1000
			for from := 0; from < b.N; from += batch {
				some := records[from:min(from+batch, b.N)]
				for _, rs := range some {
					put(rs[:2]...)
				}
				if !inside {
					if err := v.last(); err != nil {
						b.Fatal(err)
					}
				}
				for _, rs := range some {
					put(rs[2:]...)
				}
				if err := v.last(); err != nil {
					b.Fatal(err)
				}
			}
			b.StopTimer()
			b.ReportMetric(float64((used()-before).Nanoseconds())/1000/float64(b.N), "cpu-us/msg")
			b.ReportMetric(4*float64(b.N)/b.Elapsed().Seconds(), "events/s")
		})
	}
}
