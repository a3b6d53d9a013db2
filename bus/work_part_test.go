package bus

import (
	"context"
	"fmt"
	"testing"
	"time"
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

// What is large takes the memory it may and no more, whatever the count.
func TestWorkHoldsLittleOfWhatIsLarge(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := r.bus()
	group := "g." + r.name
	in := r.topic(group, "in", 2)
	const n, size, most = 40, 1000, 10
	for i := range n {
		if err := b.Publish(t.Context(), &Record{Topic: in, Partition: int32(i % 2), Value: make([]byte, size)}); err != nil {
			t.Fatal(err)
		}
	}
	jobs := make(chan *Job, n)
	cfg := WorkConfig{Group: group, From: NewTopics(in), MaxBytes: most*size - 1}
	run := start(t, func(ctx context.Context) error { return b.Work(ctx, cfg, func(j *Job) { jobs <- j }) })
	var held []*Job
	for range most {
		held = append(held, <-jobs)
	}
	for range n - most {
		if len(jobs) > 0 {
			t.Fatal("more was handed out")
		}
		held[0].Finish()
		held = append(held[1:], <-jobs)
	}
	held[0].Abandon() // comes again, and takes its room
	held[0] = <-jobs
	for _, j := range held {
		j.Finish()
	}
	run.stop(t)
	if lag, err := b.Lag(t.Context(), group, []string{in}); err != nil || lag[in][0]+lag[in][1] != 0 {
		t.Errorf("lag %v, %v", lag, err)
	}
}

// Who commits seldom commits when half of what may be open waits, and when it
// stops.
func TestWorkCommitsSeldom(t *testing.T) {
	r := newRig(t)
	b := r.bus()
	group := "g." + r.name
	in := r.topic(group, "in", 1)
	r.put(b, in, 0, 30)
	jobs := make(chan *Job, 30)
	cfg := WorkConfig{Group: group, From: NewTopics(in), MaxOpen: 20, Every: time.Hour}
	run := start(t, func(ctx context.Context) error { return b.Work(ctx, cfg, func(j *Job) { jobs <- j }) })
	finish := func(n int) {
		t.Helper()
		for range n {
			j := <-jobs
			if _, ok := j.Begin(t.Context()); !ok { // begins once the first commit stands
				t.Fatal("a job can't begin")
			}
			j.Finish()
		}
	}
	lag := func() int64 {
		t.Helper()
		all, err := b.Lag(t.Context(), group, []string{in})
		if err != nil {
			t.Fatal(err)
		}
		return all[in][0]
	}
	finish(9)
	time.Sleep(10 * commitTick)
	if n := lag(); n != 30 {
		t.Errorf("%d are left, want 30: nothing committed", n)
	}
	finish(1)
	eventually(t, 30*time.Second, "commit of ten", func() bool { return lag() == 20 })
	finish(5)
	run.stop(t)
	if n := lag(); n != 15 {
		t.Errorf("%d are left after the stop, want 15", n)
	}
}
