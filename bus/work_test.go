package bus

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// worker does jobs by copying their value to out after a little while.
type worker struct {
	t     *testing.T
	out   string
	delay func() time.Duration
	ran   *sync.Map // value -> *atomic.Int64
}

func newWorker(t *testing.T, out string) *worker {
	return &worker{t: t, out: out, ran: &sync.Map{}, delay: func() time.Duration { return time.Duration(rand.IntN(20)) * time.Millisecond }}
}

func (w *worker) take(j *Job) {
	go func() {
		ctx, ok := j.Begin(context.Background())
		if !ok {
			return
		}
		n, _ := w.ran.LoadOrStore(string(j.Record.Value), &atomic.Int64{})
		n.(*atomic.Int64).Add(1)
		select {
		case <-time.After(w.delay()):
			j.Finish(Record{Topic: w.out, Partition: AnyPartition, Key: j.Record.Key, Value: j.Record.Value})
		case <-ctx.Done():
			j.Abandon()
		}
	}()
}

// repeated are the values that ran more than once.
func (w *worker) repeated() (twice []string) {
	w.ran.Range(func(k, v any) bool {
		if v.(*atomic.Int64).Load() > 1 {
			twice = append(twice, k.(string))
		}
		return true
	})
	slices.Sort(twice)
	return twice
}

func TestWorkFinishesOutOfOrder(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := r.bus()
	group := "g." + r.name
	in, out := r.topic(group, "in", 4), r.topic("", "out", 2)
	w := newWorker(t, out)
	r.put(b, in, 0, 1000)
	cfg := WorkConfig{Group: group, From: NewTopics(in)}
	run := start(t, func(ctx context.Context) error { return b.Work(ctx, cfg, w.take) })
	r.wantOnce(b, out, 1000)
	run.stop(t)
	lag, err := b.Lag(t.Context(), group, []string{in})
	if err != nil {
		t.Fatal(err)
	}
	for p, n := range lag[in] {
		if n != 0 {
			t.Errorf("partition %d lags by %d after the stop", p, n)
		}
	}
	if twice := w.repeated(); len(twice) > 0 {
		t.Errorf("ran twice: %v", twice)
	}
}

// Members come and go under load: nothing is lost, nothing done twice.
func TestWorkRebalances(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	group := "g." + r.name
	pub := r.bus()
	in, out := r.topic(group, "in", 6), r.topic("", "out", 2)
	w := newWorker(t, out)
	cfg := WorkConfig{Group: group, From: NewTopics(in)}
	member := func() *runner {
		b := r.bus()
		return start(t, func(ctx context.Context) error { return b.Work(ctx, cfg, w.take) })
	}
	const rounds, each = 8, 300
	members := []*runner{member()}
	for i := range rounds {
		r.put(pub, in, i*each, each)
		if i%2 == 0 {
			members = append(members, member())
		} else {
			members[0].stop(t)
			members = members[1:]
		}
		time.Sleep(300 * time.Millisecond)
	}
	r.wantOnce(pub, out, rounds*each)
	if twice := w.repeated(); len(twice) > 0 {
		t.Errorf("ran twice: %v", twice)
	}
}

// A job that takes longer than the drain is cut and goes to the next owner.
func TestWorkCutsAtDrain(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := r.bus()
	group := "g." + r.name
	in, out := r.topic(group, "in", 1), r.topic("", "out", 1)
	w := newWorker(t, out)
	w.delay = func() time.Duration { return time.Hour }
	r.put(b, in, 0, 20)
	cfg := WorkConfig{Group: group, From: NewTopics(in), Drain: 200 * time.Millisecond}
	run := start(t, func(ctx context.Context) error { return b.Work(ctx, cfg, w.take) })
	eventually(t, 20*time.Second, "begun jobs", func() bool {
		n := 0
		w.ran.Range(func(any, any) bool { n++; return true })
		return n == 20
	})
	run.stop(t)
	w.delay = func() time.Duration { return 0 }
	start(t, func(ctx context.Context) error { return b.Work(ctx, cfg, w.take) })
	r.wantOnce(b, out, 20)
}

// What a job marked comes back with it to the next owner, however often the
// partition changes hands before it is finished.
func TestWorkMarksComeBack(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := r.bus()
	group := "g." + r.name
	in := r.topic(group, "in", 2)
	r.put(b, in, 0, 50)
	cfg := WorkConfig{Group: group, From: NewTopics(in)}
	for round := range 3 {
		var seen atomic.Int64
		run := start(t, func(ctx context.Context) error {
			return b.Work(ctx, cfg, func(j *Job) {
				go func() {
					if _, ok := j.Begin(context.Background()); !ok {
						return
					}
					if n := len(j.Marks()); n != round {
						t.Errorf("round %d: record %s has %d marks", round, j.Record.Value, n)
					}
					if err := j.Mark(context.Background(), []byte("250 ok")); err != nil {
						t.Error(err)
					}
					seen.Add(1)
					<-j.Revoked().Done()
					j.Abandon()
				}()
			})
		})
		eventually(t, 20*time.Second, "jobs", func() bool { return seen.Load() == 50 })
		run.stop(t)
	}
}

// While nothing can be committed only so much is handed out: what is finished
// without having begun takes memory too.
func TestWorkHandsOutNoMoreThanItCanKeep(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := r.bus()
	group := "g." + r.name
	in, out := r.topic(group, "in", 1), r.topic("", "out", 1)
	e, _ := r.workEngine(b, WorkConfig{Group: group, From: NewTopics(in)}, func(j *Job) {
		j.Finish(Record{Topic: out, Partition: AnyPartition, Value: j.Record.Value})
	})
	load := func(n int) {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.pending += n
	}
	load(maxPending)
	r.put(b, in, 0, 10)
	// What came before the pause waits here, the rest at the broker.
	eventually(t, 30*time.Second, "a partition that fetches no more", func() bool {
		e.mu.Lock()
		defer e.mu.Unlock()
		p := e.parts[topicPartition{in, 0}]
		return p != nil && p.paused
	})
	if n := len(r.values(b, out)); n != 0 {
		t.Errorf("%d were handed out", n)
	}
	load(-maxPending)
	r.wantOnce(b, out, 10)
}
