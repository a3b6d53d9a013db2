package bus

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"qstream/schemas"
)

// newTestBus is a Bus on a broker in memory, or on the cluster that the
// environment names: then the broker is nil.
func newTestBus(t *testing.T) (*Bus, *kfake.Cluster) {
	t.Helper()
	var c *kfake.Cluster
	cfg := Config{Timeout: 15 * time.Second}
	if seeds := os.Getenv("QSTREAM_TEST_KAFKA"); seeds != "" {
		cfg.Seeds = strings.Split(seeds, ",")
	} else {
		var err error
		if c, err = kfake.NewCluster(kfake.NumBrokers(1)); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		cfg.Seeds = c.ListenAddrs()
	}
	b, err := Dial(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b, c
}

// newTopic makes a topic of this test's own, with a group of its own.
func newTopic(t *testing.T, b *Bus, partitions int32) schemas.Topic {
	t.Helper()
	name := "test." + rand.Text()
	topic := schemas.Topic{Name: name, Partitions: partitions, Retention: time.Hour, MaxMessage: 1 << 20, Groups: []string{name + ".group"}}
	if _, err := b.CreateTopics(t.Context(), []schemas.Topic{topic}, CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	return topic
}

func publishN(t *testing.T, b *Bus, topic string, n int) {
	t.Helper()
	for i := range n {
		r := &Record{Topic: topic, Partition: AnyPartition, Key: fmt.Appendf(nil, "k%d", i), Value: fmt.Appendf(nil, "v%d", i)}
		if err := b.Publish(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		if r.Partition < 0 || r.Time.IsZero() {
			t.Fatalf("partition %d and time %v are not set", r.Partition, r.Time)
		}
	}
}

func TestReadIsBoundedAndComplete(t *testing.T) {
	t.Parallel()
	b, _ := newTestBus(t)
	one, two := newTopic(t, b, 3).Name, newTopic(t, b, 1).Name
	publishN(t, b, one, 50)
	publishN(t, b, two, 5)
	var got []string
	err := b.Read(t.Context(), []string{one, two}, Start{}, func(r Record) error {
		got = append(got, r.Topic+string(r.Value))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(got)
	if n := len(slices.Compact(slices.Clone(got))); n != 55 || len(got) != 55 {
		t.Fatalf("%d records, %d different, want 55", len(got), n)
	}
	n := 0
	err = b.Read(t.Context(), []string{two}, Start{Offset: map[string]map[int32]int64{two: {0: 3}}}, func(Record) error { n++; return nil })
	if err != nil || n != 2 {
		t.Fatalf("from offset 3: %d records, %v", n, err)
	}
	time.Sleep(2 * time.Millisecond) // append times are of milliseconds
	publishN(t, b, two, 1)
	n = 0
	err = b.Read(t.Context(), []string{two}, Start{Until: at(t, b, two, 5)}, func(Record) error { n++; return nil })
	if err != nil || n != 5 {
		t.Fatalf("until the sixth's time: %d records, %v", n, err)
	}
	err = b.Read(t.Context(), []string{one}, Start{End: true}, func(Record) error { return errors.New("nothing is there") })
	if err != nil {
		t.Fatal(err)
	}
}

// at is when a record of partition 0 was appended.
func at(t *testing.T, b *Bus, topic string, offset int64) (appended time.Time) {
	t.Helper()
	err := b.At(t.Context(), topic, map[int32][]int64{0: {offset}}, func(r Record) error { appended = r.Time; return nil })
	if err != nil || appended.IsZero() {
		t.Fatal(err)
	}
	return appended
}

// An end lies behind the markers of transactions, and aborted records are
// none.
func TestReadPassesTransactions(t *testing.T) {
	b, _ := newTestBus(t)
	topic := newTopic(t, b, 1).Name
	publishN(t, b, topic, 2)
	c, err := kgo.NewClient(b.clientOpts(kgo.TransactionalID("test." + rand.Text()))...)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, commit := range []kgo.TransactionEndTry{kgo.TryCommit, kgo.TryAbort} {
		if err := c.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		k := b.toClient(&Record{Topic: topic, Partition: 0, Value: fmt.Appendf(nil, "commit %v", commit)})
		if err := c.ProduceSync(t.Context(), k).FirstErr(); err != nil {
			t.Fatal(err)
		}
		if err := topicsLearnt(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		if err := c.EndTransaction(t.Context(), commit); err != nil {
			t.Fatal(err)
		}
	}
	// A machine under load is slow at times, a reader that waits always.
	quickest := time.Hour
	for range 5 {
		var got []string
		started := time.Now()
		err = b.Read(t.Context(), []string{topic}, Start{}, func(r Record) error { got = append(got, string(r.Value)); return nil })
		if err != nil || !slices.Equal(got, []string{"v0", "v1", "commit true"}) {
			t.Fatalf("%q, %v", got, err)
		}
		quickest = min(quickest, time.Since(started))
	}
	if quickest > 900*time.Millisecond {
		t.Errorf("took %v at best: the reader waited at the end", quickest)
	}
}

// Records trimmed under a reader's feet hold nobody up.
func TestReadPassesTrimmedRecords(t *testing.T) {
	t.Parallel()
	b, _ := newTestBus(t)
	topic := newTopic(t, b, 1).Name
	publishN(t, b, topic, 10)
	if err := b.Trim(t.Context(), topic, map[int32]int64{0: 10}); err != nil {
		t.Fatal(err)
	}
	at := Start{Offset: map[string]map[int32]int64{topic: {0: 4}}}
	if err := b.Read(t.Context(), []string{topic}, at, func(Record) error { return errors.New("nothing is there") }); err != nil {
		t.Fatal(err)
	}
}

func TestFollowIsFreshOnlyWhenApplied(t *testing.T) {
	t.Parallel()
	b, _ := newTestBus(t)
	topic := newTopic(t, b, 2).Name
	publishN(t, b, topic, 20)
	var seen atomic.Int64
	f := b.Follow([]string{topic}, Start{}, func(Record) error { seen.Add(1); return nil })
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	<-f.CaughtUp()
	if n := seen.Load(); n != 20 {
		t.Errorf("caught up after %d records, want 20", n)
	}
	publishN(t, b, topic, 10)
	waitFresh(t, f)
	if n := seen.Load(); n != 30 {
		t.Errorf("fresh after %d records, want 30", n)
	}
	// A partition that is added is followed too.
	admin, err := b.admin()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := admin.UpdatePartitions(t.Context(), 3, topic); err != nil {
		t.Fatal(err)
	}
	for started := time.Now(); ; {
		err := b.Publish(t.Context(), &Record{Topic: topic, Partition: 2, Value: []byte("new")})
		if err == nil {
			break
		}
		if time.Since(started) > 20*time.Second {
			t.Fatal(err)
		}
	}
	for started := time.Now(); seen.Load() < 31; time.Sleep(10 * time.Millisecond) {
		if time.Since(started) > 20*time.Second {
			t.Fatal("a new partition isn't read")
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// waitFresh waits until the follower confirms a time later than now.
func waitFresh(t *testing.T, f *Follower) {
	t.Helper()
	now := time.Now()
	for f.Fresh().Before(now) {
		if time.Since(now) > 30*time.Second {
			t.Fatal("not fresh within 30 s")
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Logf("fresh after %v", time.Since(now))
}

// While the broker doesn't answer a follower grows stale, and goes on after.
func TestFollowSurvivesOutage(t *testing.T) {
	t.Parallel()
	b, c := newTestBus(t)
	if c == nil {
		t.Skip("needs the broker in memory: it is made to fail")
	}
	topic := newTopic(t, b, 1).Name
	var seen atomic.Int64
	f := b.Follow([]string{topic}, Start{}, func(Record) error { seen.Add(1); return nil })
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	<-f.CaughtUp()
	down := c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch, kmsg.ListOffsets}, Err: kerr.NotLeaderForPartition, Count: -1})
	time.Sleep(600 * time.Millisecond)
	stale := f.Fresh()
	publishN(t, b, topic, 5)
	time.Sleep(600 * time.Millisecond)
	if got := f.Fresh(); got != stale {
		t.Errorf("confirmed %v during the outage", got.Sub(stale))
	}
	down.Remove()
	waitFresh(t, f)
	if n := seen.Load(); n != 5 {
		t.Errorf("fresh after %d records, want 5", n)
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestPublishIsBoundedByItsOwnTimer(t *testing.T) {
	t.Parallel()
	b, c := newTestBus(t)
	if c == nil {
		t.Skip("needs the broker in memory: it is frozen")
	}
	b.cfg.Timeout = 2 * time.Second
	topic := newTopic(t, b, 1).Name
	publishN(t, b, topic, 1)
	frozen := make(chan struct{})
	// The broker is there, but answers no produce request any more.
	c.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		c.SleepControl(func() { <-frozen })
		return nil, nil, false
	})
	defer close(frozen)
	started := time.Now()
	err := b.Publish(t.Context(), &Record{Topic: topic, Partition: AnyPartition, Value: []byte("x")})
	if err == nil {
		t.Fatal("no error from a frozen broker")
	}
	if took := time.Since(started); took > 20*time.Second {
		t.Fatalf("took %v with a limit of 2 s", took)
	}
}
