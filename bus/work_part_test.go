package bus

import (
	"context"
	"fmt"
	"testing"
)

// A flood in one partition takes no more than its part: what comes for another
// is handed out though nothing of the flood ends, and the flood's rest comes
// when it does.
func TestWorkHoldsLittleOfAPartition(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := r.bus()
	group := "g." + r.name
	in, out := r.topic(group, "in", 2), r.topic("", "out", 2)
	put := func(partition int32, n int) {
		for i := range n {
			if err := b.Publish(t.Context(), &Record{Topic: in, Partition: partition, Value: fmt.Append(nil, i)}); err != nil {
				t.Fatal(err)
			}
		}
	}
	put(0, 50)
	jobs := make(chan *Job, 1000)
	cfg := WorkConfig{Group: group, From: NewTopics(in), MaxPart: 8, MaxHeld: 1000}
	run := start(t, func(ctx context.Context) error { return b.Work(ctx, cfg, func(j *Job) { jobs <- j }) })
	var held []*Job
	for range 8 {
		held = append(held, <-jobs)
	}
	put(1, 1)
	other := <-jobs
	if other.Record.Partition != 1 || len(jobs) > 0 {
		t.Errorf("partition %d was handed out, %d more", other.Record.Partition, len(jobs))
	}
	other.Finish()
	for n := 0; n < 50; n++ {
		j := held[0]
		held = held[1:]
		j.Finish(Record{Topic: out, Partition: AnyPartition, Value: j.Record.Value})
		if n < 42 {
			held = append(held, <-jobs)
		}
	}
	r.wantOnce(b, out, 50)
	run.stop(t)
}
