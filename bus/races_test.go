package bus

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"qstream/schemas"
)

// The races that a prototype met, planted.

// needsFake skips where faults can't be injected into the broker.
func (r *rig) needsFake() {
	r.t.Helper()
	if r.fake == nil {
		r.t.Skip("plants faults in the embedded broker")
	}
}

// workEngine is what Work runs, with its parts in reach.
func (r *rig) workEngine(b *Bus, cfg WorkConfig, take func(*Job)) (*engine, *runner) {
	r.t.Helper()
	e, err := b.newWork(r.t.Context(), cfg, take)
	if err != nil {
		r.t.Fatal(err)
	}
	return e, start(r.t, e.run)
}

// The reply to the end of a transaction gets lost: once it had committed,
// once it had not. Outputs are there once in both cases.
func TestRaceEndOutcomeUnknown(t *testing.T) {
	t.Parallel()
	for _, committed := range []bool{true, false} {
		t.Run(fmt.Sprintf("committed=%v", committed), func(t *testing.T) {
			r := newRig(t)
			b := r.bus()
			group := "g." + r.name
			in, out := r.topic(group, "in", 2), r.topic("", "out", 1)
			w := newWorker(t, out)
			e, err := b.newWork(t.Context(), WorkConfig{Group: group, From: NewTopics(in)}, w.take)
			if err != nil {
				t.Fatal(err)
			}
			var ends, planted atomic.Int64
			e.end = func(ctx context.Context, cl *kgo.Client) error {
				if n := ends.Add(1); n%3 != 0 || n > 30 {
					return cl.EndTransaction(ctx, kgo.TryCommit)
				}
				planted.Add(1)
				if committed {
					if err := cl.EndTransaction(ctx, kgo.TryCommit); err != nil {
						t.Errorf("end transaction: %v", err)
					}
				}
				return errors.New("connection lost")
			}
			start(t, e.run)
			for i := range 6 {
				r.put(b, in, i*50, 50)
				time.Sleep(120 * time.Millisecond)
			}
			r.wantOnce(b, out, 300)
			if twice := w.repeated(); len(twice) > 0 {
				t.Errorf("ran twice: %v", twice)
			}
			if planted.Load() == 0 {
				t.Error("no end was lost")
			}
		})
	}
}

// Every step of a transaction fails now and then.
func TestRaceTransactionFaults(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.needsFake()
	b := r.bus()
	group := "g." + r.name
	in, out := r.topic(group, "in", 4), r.topic("", "out", 2)
	w := newWorker(t, out)
	for _, f := range []kfake.Fault{
		{Keys: []kmsg.Key{kmsg.TxnOffsetCommit}, Err: kerr.IllegalGeneration, Count: 2},
		{Keys: []kmsg.Key{kmsg.TxnOffsetCommit}, Err: kerr.ConcurrentTransactions, Count: 3},
		{Keys: []kmsg.Key{kmsg.TxnOffsetCommit}, Err: kerr.UnknownMemberID, Count: 1},
		{Keys: []kmsg.Key{kmsg.EndTxn}, Err: kerr.InvalidTxnState, Count: 1},
		{Keys: []kmsg.Key{kmsg.EndTxn}, Err: kerr.UnknownServerError, Count: 1},
		{Keys: []kmsg.Key{kmsg.EndTxn}, Err: kerr.ProducerFenced, Count: 1},
		{Keys: []kmsg.Key{kmsg.Produce}, Topic: out, Err: kerr.InvalidProducerEpoch, Count: 1},
		{Keys: []kmsg.Key{kmsg.Produce}, Topic: out, Err: kerr.NotEnoughReplicas, Count: 5},
	} {
		f.TxnID = ""
		r.fake.Fault(f)
	}
	r.workEngine(b, WorkConfig{Group: group, From: NewTopics(in)}, w.take)
	for i := range 10 {
		r.put(b, in, i*100, 100)
		time.Sleep(100 * time.Millisecond)
	}
	r.wantOnce(b, out, 1000)
	if twice := w.repeated(); len(twice) > 0 {
		t.Errorf("ran twice: %v", twice)
	}
}

// While the group knows no member of this process, nothing is committed: such
// a commit would be accepted without any check.
func TestRaceNoMemberNoCommit(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := r.bus()
	group := "g." + r.name
	in := r.topic(group, "in", 1)
	e, err := b.newWork(t.Context(), WorkConfig{Group: group, From: NewTopics(in)}, func(*Job) {})
	if err != nil {
		t.Fatal(err)
	}
	defer e.journal.client.Close()
	if e.client, err = kgo.NewClient(b.clientOpts(kgo.MaxVersions(kafkaVersions()))...); err != nil {
		t.Fatal(err)
	}
	defer e.client.Close()
	p := e.partOf(t.Context(), commit{topicPartition: topicPartition{in, 0}})
	p.track.add(0)
	e.parts[p.key()] = p
	e.finish(p, &result{offset: 0})
	if b, err := e.commitOnce(t.Context()); b != nil || err != nil {
		t.Errorf("committed without a member: %v, %v", b != nil, err)
	}
	cs, err := fetchCommits(t.Context(), e.client, group, map[string][]int32{in: {0}}, true)
	if err != nil || cs[0].offset != 0 || cs[0].metadata != "" {
		t.Errorf("commits: %v, %v", cs, err)
	}
}

// An owner died in its very first transaction: no commit tells its id, and its
// open commit hides the partition until the transaction times out.
func TestRaceDeadBeforeFirstCommit(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := r.bus()
	group := "g." + r.name
	in, out := r.topic(group, "in", 2), r.topic("", "out", 1)
	r.put(b, in, 0, 20)
	dead := b.newEngine(group, "", nil, 0, 0)
	p, err := dead.newProducer()
	if err != nil {
		t.Fatal(err)
	}
	defer p.client.Close()
	if err := p.client.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	if err := p.client.ProduceSync(t.Context(), &kgo.Record{Topic: out, Partition: -1, Value: []byte("never")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	if err := p.commitOffsets(t.Context(), group, "", -1, []commit{{topicPartition{in, 0}, 10, ""}, {topicPartition{in, 1}, 10, ""}}); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	start(t, func(ctx context.Context) error { return b.Transform(ctx, group, NewTopics(in), copyTo(out)) })
	r.wantOnce(b, out, 20)
	took := time.Since(began)
	t.Logf("taken over after %v", took.Round(time.Millisecond))
	if took > transactionTimeout/2 {
		t.Errorf("taken over after %v", took)
	}
}

// marked runs a Work until all n records have been marked once, then kills it
// without a hand-over, as far as that goes within a process.
func (r *rig) marked(b *Bus, group, in string, n int64) {
	r.t.Helper()
	var marks atomic.Int64
	_, run := r.workEngine(b, WorkConfig{Group: group, From: NewTopics(in)}, func(j *Job) {
		go func() {
			if _, ok := j.Begin(context.Background()); !ok {
				return
			}
			if err := j.Mark(context.Background(), []byte("250")); err != nil {
				r.t.Errorf("mark: %v", err)
			}
			marks.Add(1)
			<-j.Revoked().Done()
			j.Abandon()
		}()
	})
	eventually(r.t, time.Minute, "marks", func() bool { return marks.Load() == n })
	run.stop(r.t)
}

// finishMarked finishes every job and counts those that came without a mark.
func finishMarked(out string, unmarked *atomic.Int64) func(*Job) {
	return func(j *Job) {
		go func() {
			if len(j.Marks()) == 0 {
				unmarked.Add(1)
			}
			if _, ok := j.Begin(context.Background()); ok {
				j.Finish(Record{Topic: out, Partition: AnyPartition, Value: j.Record.Value})
			}
		}()
	}
}

// The replay is slow, and further assignments come while it runs.
func TestRaceReplayInterrupted(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.needsFake()
	b := r.bus()
	group := "g." + r.name
	in, out := r.topic(group, "in", 8), r.topic("", "out", 1)
	more := r.topic(group, "more", 4)
	r.put(b, in, 0, 200)
	r.marked(b, group, in, 200)
	r.fake.ControlKey(int16(kmsg.ListOffsets), func(req kmsg.Request) (kmsg.Response, error, bool) {
		r.fake.KeepControl()
		for _, topic := range req.(*kmsg.ListOffsetsRequest).Topics {
			if topic.Topic == schemas.Journal {
				r.fake.SleepControl(func() { time.Sleep(400 * time.Millisecond) })
			}
		}
		return nil, nil, false
	})
	var unmarked atomic.Int64
	take := finishMarked(out, &unmarked)
	from := NewTopics(in)
	r.workEngine(b, WorkConfig{Group: group, From: from}, take)
	time.Sleep(300 * time.Millisecond)
	from.Set(in, more)
	time.Sleep(300 * time.Millisecond)
	second, run := r.workEngine(r.bus(), WorkConfig{Group: group, From: from}, take)
	time.Sleep(500 * time.Millisecond)
	run.stop(t)
	_ = second
	r.wantOnce(b, out, 200)
	if n := unmarked.Load(); n > 0 {
		t.Errorf("%d jobs came without their mark", n)
	}
}

// The journal's leader is away when the partitions are taken over.
func TestRaceJournalLeaderDown(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.needsFake()
	b := r.bus()
	group := "g." + r.name
	in, out := r.topic(group, "in", 4), r.topic("", "out", 1)
	r.put(b, in, 0, 100)
	r.marked(b, group, in, 100)
	fault := r.fake.Fault(kfake.Fault{
		Keys: []kmsg.Key{kmsg.ListOffsets, kmsg.Fetch}, Topic: schemas.Journal, Err: kerr.OffsetNotAvailable, Count: -1,
	})
	var unmarked atomic.Int64
	r.workEngine(b, WorkConfig{Group: group, From: NewTopics(in)}, finishMarked(out, &unmarked))
	time.Sleep(2 * time.Second)
	if n := len(r.values(b, out)); n != 0 {
		t.Errorf("%d jobs began before the journal was read", n)
	}
	fault.Remove()
	r.wantOnce(b, out, 100)
	if n := unmarked.Load(); n > 0 {
		t.Errorf("%d jobs came without their mark", n)
	}
}

// The process loses its partitions and gets them back: what it journaled
// comes back with its records, what finished late is not committed.
func TestRaceLostAndRegained(t *testing.T) { // alone: it compares times
	r := newRig(t)
	r.needsFake()
	b := r.bus()
	group := "g." + r.name
	in, out := r.topic(group, "in", 4), r.topic("", "out", 1)
	r.put(b, in, 0, 400)
	var mu sync.Mutex
	delivered := map[string]int{}
	var lost []*Job
	take := func(j *Job) {
		go func() {
			if _, ok := j.Begin(context.Background()); !ok {
				return
			}
			if len(j.Marks()) == 0 {
				mu.Lock()
				delivered[string(j.Record.Value)]++
				lost = append(lost, j)
				mu.Unlock()
				if err := j.Mark(context.Background(), []byte("250")); err != nil {
					t.Errorf("mark: %v", err)
				}
				time.Sleep(300 * time.Millisecond)
			}
			j.Finish(Record{Topic: out, Partition: AnyPartition, Value: j.Record.Value})
		}()
	}
	e, _ := r.workEngine(b, WorkConfig{Group: group, From: NewTopics(in)}, take)
	for range 3 {
		eventually(t, 30*time.Second, "a begun job", func() bool { mu.Lock(); defer mu.Unlock(); return len(lost) > 20 })
		mu.Lock()
		lost = nil
		mu.Unlock()
		r.fake.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.ConsumerGroupHeartbeat}, Group: group, Err: kerr.UnknownMemberID, TopLevel: true, Count: 1})
		e.client.ForceRebalance()
		time.Sleep(600 * time.Millisecond)
		r.put(b, in, 1000+len(r.values(b, in)), 100)
	}
	total := len(r.values(b, in))
	r.wantOnce(b, out, total)
	e.mu.Lock()
	losses := e.counts.lost
	e.mu.Unlock()
	if losses == 0 {
		t.Error("no partition was lost")
	}
	mu.Lock()
	defer mu.Unlock()
	twice := 0
	for _, n := range delivered {
		if n > 1 {
			twice++
		}
	}
	t.Logf("%d partitions lost, %d of %d deliveries repeated (in flight at the loss)", int(losses), twice, total)
	if twice > total/10 {
		t.Errorf("%d deliveries repeated", twice)
	}
}

// Thousands of holes that don't fit into the metadata: handing out stops, the
// broker takes every commit, and after a clean hand-over nothing that was
// finished comes again.
func TestRaceMetadataFull(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := r.bus()
	group := "g." + r.name
	in, out := r.topic(group, "in", 1), r.topic("", "out", 1)
	const n = 9000
	r.put(b, in, 0, n)
	var held atomic.Int64
	e, run := r.workEngine(b, WorkConfig{Group: group, From: NewTopics(in)}, func(j *Job) {
		if j.Record.Offset%3 == 0 {
			held.Add(1)
			return
		}
		j.Finish(Record{Topic: out, Partition: AnyPartition, Value: j.Record.Value})
	})
	eventually(t, time.Minute, "full metadata", func() bool {
		e.mu.Lock()
		defer e.mu.Unlock()
		p := e.parts[topicPartition{in, 0}]
		return p != nil && p.metadata > metadataFull && e.pending == 0
	})
	run.stop(t)
	cs, err := fetchCommits(t.Context(), r.client(), group, map[string][]int32{in: {0}}, true)
	if err != nil {
		t.Fatal(err)
	}
	if size := len(cs[0].metadata); size > metadataLimit || size < metadataFull {
		t.Errorf("metadata of %d characters", size)
	}
	t.Logf("%d held when the metadata was full, %d characters", held.Load(), len(cs[0].metadata))
	waiting := 0
	if err := b.Waiting(t.Context(), group, []string{in}, Look{}, func(Record) error { waiting++; return nil }); err != nil {
		t.Fatal(err)
	}
	if done := len(r.values(b, out)); waiting != n-done {
		t.Errorf("%d wait and %d are done of %d", waiting, done, n)
	}
	r.workEngine(b, WorkConfig{Group: group, From: NewTopics(in)}, func(j *Job) {
		j.Finish(Record{Topic: out, Partition: AnyPartition, Value: j.Record.Value})
	})
	r.wantOnce(b, out, n)
}

// An output that no broker takes goes to deadletter with its job's record;
// its neighbours pass.
func TestRaceUnstorableOutput(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := r.bus()
	group := "g." + r.name
	in, out := r.topic(group, "in", 2), r.topic("", "out", 1)
	r.put(b, in, 0, 100)
	step := func(_ context.Context, _ []byte, rec Record) ([]Record, []byte, error) {
		o := Record{Topic: out, Partition: AnyPartition, Value: rec.Value}
		switch string(rec.Value) {
		case "7":
			o.Value = []byte(strings.Repeat("x", 3<<20))
		case "8":
			o.Topic = "no/such/topic"
		}
		return []Record{o}, nil, nil
	}
	start(t, func(ctx context.Context) error { return b.Transform(ctx, group, NewTopics(in), step) })
	r.wantOnce(b, out, 98)
	eventually(t, 30*time.Second, "dead records", func() bool { return len(r.dead(b, in)) == 2 })
}

// A partition without a commit stands still until one is made.
func TestStoppedPartitionGoesOn(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := r.bus()
	group := "g." + r.name
	in, out := r.topic("", "in", 2), r.topic("", "out", 1)
	r.put(b, in, 0, 20)
	start(t, func(ctx context.Context) error { return b.Transform(ctx, group, NewTopics(in), copyTo(out)) })
	eventually(t, 30*time.Second, "stopped partition", func() bool { return b.Stopped() != nil })
	if n := len(r.values(b, out)); n != 0 {
		t.Errorf("%d outputs without a commit", n)
	}
	if _, err := b.Resume(t.Context(), []schemas.Topic{{Name: in, Groups: []string{group}}}, time.Time{}, false); err != nil {
		t.Fatal(err)
	}
	r.wantOnce(b, out, 20)
	eventually(t, 30*time.Second, "going on", func() bool { return b.Stopped() == nil })
}
