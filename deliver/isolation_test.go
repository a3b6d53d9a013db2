package deliver

import (
	"testing"
	"time"

	"qstream/bus"
	"qstream/bus/bustest"
	pb "qstream/schemas/qstream/v1"
	"qstream/test/fakemx"
)

// A destination that never answers shares its queue and partition with a
// healthy one: the healthy one gets all its mail at once, the other's is
// spilled above its share, and few of its legs pin the partition.
func TestTarpitOnABroker(t *testing.T) {
	t.Parallel()
	hold := make(chan struct{})
	r := newRig(t, fakemx.Config{Rules: []fakemx.Rule{{Line: "RCPT", Hold: hold}}}, "")
	w := r.start(r.b, Config{Scheduler: SchedulerConfig{PartitionHeld: 100}}, nil)
	slow, quick := r.acme("bob@acme.example"), r.leg(r.box, "bob@box.example")
	const each, batch = 300, 20
	began := time.Now()
	for n := 0; n < each; n += batch {
		var rs []bus.Record
		for i := range batch {
			for _, l := range []*pb.Leg{slow, quick} {
				l.Number = uint32(n + i)
				rec := bus.NewLeg(r.queue, l)
				rec.Partition = 0
				rs = append(rs, rec)
			}
		}
		bustest.Put(t, r.b, rs...)
		r.want(pb.EventType_EVENT_TYPE_DELIVERED, n+batch)
	}
	t.Logf("%d legs beside a tarpit took %v", each, time.Since(began))
	spilled := r.want(pb.EventType_EVENT_TYPE_SPILLED, each-100)
	for _, e := range spilled {
		if e.MessageId != slow.MessageId || e.Reason != pb.Reason_REASON_BACKPRESSURE {
			t.Errorf("%v", e)
		}
	}
	if running, _, held, _ := w.load(); running != 5 || held > 100 {
		t.Errorf("%d attempts run, %d legs are held", running, held)
	}
	close(hold)
}
