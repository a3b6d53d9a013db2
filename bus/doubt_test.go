package bus

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"qstream/schemas"
)

// A broker that has lost the journal's partition without knowing it tells an
// end that lies before what the new leader acknowledged. Who takes over finds
// every mark all the same.
func TestRaceEndOfJournalIsOld(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.needsFake()
	b := r.bus()
	group := "g." + r.name
	in, out := r.topic(group, "in", 4), r.topic("", "out", 1)
	r.put(b, in, 0, 100)
	r.marked(b, group, in, 100)
	r.fake.ControlKey(int16(kmsg.ListOffsets), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		r.fake.KeepControl()
		req := kreq.(*kmsg.ListOffsetsRequest)
		if len(req.Topics) != 1 || req.Topics[0].Topic != schemas.Journal {
			return nil, nil, false
		}
		resp := req.ResponseKind().(*kmsg.ListOffsetsResponse)
		t := kmsg.NewListOffsetsResponseTopic()
		t.Topic = schemas.Journal
		for _, asked := range req.Topics[0].Partitions {
			p := kmsg.NewListOffsetsResponseTopicPartition()
			p.Partition, p.Offset = asked.Partition, 0
			t.Partitions = append(t.Partitions, p)
		}
		resp.Topics = append(resp.Topics, t)
		return resp, nil, true
	})
	var unmarked atomic.Int64
	r.workEngine(b, WorkConfig{Group: group, From: NewTopics(in)}, finishMarked(out, &unmarked))
	r.wantOnce(b, out, 100)
	if n := unmarked.Load(); n > 0 {
		t.Errorf("%d jobs came without their mark", n)
	}
}

// begun runs a Work and returns its jobs, of which the first has begun.
func (r *rig) begun(b *Bus, n int) (first *Job, rest []*Job) {
	r.t.Helper()
	group := "g." + r.name
	in := r.topic(group, "in", 1)
	r.put(b, in, 0, n)
	jobs := make(chan *Job, n)
	r.workEngine(b, WorkConfig{Group: group, From: NewTopics(in)}, func(j *Job) { jobs <- j })
	first = <-jobs
	if _, ok := first.Begin(r.t.Context()); !ok {
		r.t.Fatal("the first job may not begin")
	}
	for range n - 1 {
		rest = append(rest, <-jobs)
	}
	return first, rest
}

// While the journal acknowledges nothing only little begins: what is done
// meanwhile would be done again after a take-over.
func TestRaceNothingBeginsBesideALateJournal(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.needsFake()
	first, rest := r.begun(r.bus(), 2)
	fault := r.fake.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: schemas.Journal, Err: kerr.NotEnoughReplicas, Count: -1})
	marked, began := make(chan error, 1), make(chan bool, 1)
	go func() { marked <- first.Mark(context.Background(), []byte("250")) }()
	e := first.work.engine
	eventually(t, 20*time.Second, "late entry", func() bool {
		e.mu.Lock()
		defer e.mu.Unlock()
		return e.journal.late()
	})
	go func() {
		_, ok := rest[0].Begin(context.Background())
		began <- ok
	}()
	select {
	case <-began:
		t.Error("a job began though the journal is late")
	case err := <-marked:
		t.Errorf("the entry was acknowledged: %v", err)
	case <-time.After(10 * gateLook):
	}
	fault.Remove()
	if err := <-marked; err != nil {
		t.Errorf("mark: %v", err)
	}
	if ok := <-began; !ok {
		t.Error("the job may not begin after the journal came back")
	}
	first.Finish()
	rest[0].Finish()
}

// An entry whose writer gave up holds everything up until the broker answers,
// and no longer.
func TestRaceEntryThatNobodyAwaits(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.needsFake()
	first, rest := r.begun(r.bus(), 2)
	fault := r.fake.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: schemas.Journal, Err: kerr.NotEnoughReplicas, Count: -1})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := first.Mark(ctx, []byte("250")); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("mark: %v", err)
	}
	e := first.work.engine
	under := func() int {
		e.mu.Lock()
		defer e.mu.Unlock()
		return len(e.journal.writes)
	}
	if n := under(); n != 1 {
		t.Errorf("%d entries under way, want 1", n)
	}
	fault.Remove()
	eventually(t, 20*time.Second, "answer", func() bool { return under() == 0 })
	if _, ok := rest[0].Begin(t.Context()); !ok {
		t.Error("the job may not begin after the journal came back")
	}
	first.Finish()
	rest[0].Finish()
}

// A process whose group coordinator can't be reached holds nothing, before it
// is told that its partitions are another's.
func TestRaceNothingIsHeldWithoutTheCoordinator(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.needsFake()
	job, _ := r.begun(r.bus(func(c *Config) { c.Session = 3 * time.Second }), 1)
	eventually(t, 20*time.Second, "lease", job.Held)
	var gone atomic.Bool
	gone.Store(true)
	r.fake.ControlKey(int16(kmsg.ConsumerGroupHeartbeat), func(kmsg.Request) (kmsg.Response, error, bool) {
		r.fake.KeepControl()
		if gone.Load() {
			return nil, errors.New("cut off"), true
		}
		return nil, nil, false
	})
	eventually(t, 20*time.Second, "end of the lease", func() bool { return !job.Held() })
	if err := job.Revoked().Err(); err != nil {
		t.Errorf("told already: %v", err)
	}
	gone.Store(false)
	job.Abandon()
}

// A connection to the coordinator ends before its first answer, as one does
// that a broker accepted just before it was stopped. Membership, and what is
// under way, go on.
func TestRaceCoordinatorEndsBeforeItsFirstAnswer(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.needsFake()
	job, _ := r.begun(r.bus(), 1)
	var cut atomic.Int64
	r.fake.ControlKey(int16(kmsg.ConsumerGroupHeartbeat), func(kmsg.Request) (kmsg.Response, error, bool) {
		r.fake.KeepControl()
		if cut.Add(1) <= 2 {
			return nil, errors.New("stopped"), true
		}
		return nil, nil, false
	})
	eventually(t, 20*time.Second, "heartbeats after the cut ones", func() bool { return cut.Load() > 4 })
	e := job.work.engine
	job.Finish()
	eventually(t, 20*time.Second, "commit", func() bool {
		e.mu.Lock()
		defer e.mu.Unlock()
		p := e.parts[job.part.key()]
		return p != nil && p.committed == 1
	})
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.counts.lost > 0 || job.part.dropped {
		t.Errorf("%v partitions lost, dropped %v", e.counts.lost, job.part.dropped)
	}
}
