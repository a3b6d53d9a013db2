package bus

import (
	"context"
	"crypto/rand"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kgo"
)

func TestAt(t *testing.T) {
	t.Parallel()
	b, _ := newTestBus(t)
	topic := newTopic(t, b, 2).Name
	for i := range 300 {
		if err := b.Publish(t.Context(), &Record{Topic: topic, Partition: int32(i % 2), Value: make([]byte, 2000)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Trim(t.Context(), topic, map[int32]int64{1: 3}); err != nil {
		t.Fatal(err)
	}
	got := map[int32][]int64{}
	wanted := map[int32][]int64{0: {149, 0, 7, 7, 148}, 1: {2, 3, 90, 1000}}
	err := b.At(t.Context(), topic, wanted, func(r Record) error {
		got[r.Partition] = append(got[r.Partition], r.Offset)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[int32][]int64{0: {0, 7, 148, 149}, 1: {3, 90}}, got); diff != "" {
		t.Error(diff)
	}
	if !slices.Equal(wanted[0], []int64{149, 0, 7, 7, 148}) {
		t.Error("the caller's places were changed")
	}
}

// TestAtBehindAborted: a fetch that brings nothing but an aborted transaction
// is not the end, nor is what it brings committed.
func TestAtBehindAborted(t *testing.T) {
	t.Parallel()
	b, _ := newTestBus(t)
	topic := newTopic(t, b, 1).Name
	large := make([]byte, 2*atBytes)
	_, _ = rand.Read(large)
	openTransaction(t, b, topic, 0, large)(kgo.TryAbort)
	eventually(t, 30*time.Second, "end of the transaction", func() bool { // its marker comes by itself
		ends, err := b.listOffsets(t.Context(), newest, map[string][]int32{topic: {0}})
		return err == nil && ends[topic][0] == 2
	})
	publishN(t, b, topic, 2)
	var got []int64
	err := b.At(t.Context(), topic, map[int32][]int64{0: {0, 3, 900}}, func(r Record) error {
		got = append(got, r.Offset)
		return nil
	})
	if err != nil || !slices.Equal(got, []int64{3}) {
		t.Errorf("%v, %v", got, err)
	}
}

// openTransaction publishes a record in a transaction of somebody else that stays
// open until the function returned is called.
func openTransaction(t *testing.T, b *Bus, topic string, partition int32, value []byte) (end func(kgo.TransactionEndTry)) {
	t.Helper()
	c, err := kgo.NewClient(b.clientOpts(kgo.TransactionalID("test." + rand.Text()))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	if err := c.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	k := b.toClient(&Record{Topic: topic, Partition: partition, Value: value})
	if err := c.ProduceSync(t.Context(), k).FirstErr(); err != nil {
		t.Fatal(err)
	}
	return func(how kgo.TransactionEndTry) {
		t.Helper()
		if err := topicsLearnt(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		if err := c.EndTransaction(t.Context(), how); err != nil {
			t.Fatal(err)
		}
	}
}

// TestAtOpenTransaction: what may still be committed is not passed over as if it
// weren't there, nor what lies behind it.
func TestAtOpenTransaction(t *testing.T) {
	t.Parallel()
	b, _ := newTestBus(t)
	topic := newTopic(t, b, 1).Name
	end := openTransaction(t, b, topic, 0, []byte("open"))
	publishN(t, b, topic, 1)
	for offset := range int64(2) {
		err := b.At(t.Context(), topic, map[int32][]int64{0: {offset}}, func(r Record) error {
			t.Errorf("offset %d is read while its transaction is open", r.Offset)
			return nil
		})
		if err == nil {
			t.Errorf("offset %d is passed over while a transaction is open", offset)
		}
	}
	end(kgo.TryCommit)
	var got []int64
	eventually(t, 30*time.Second, "end of the transaction", func() bool { // its marker comes by itself
		got = nil
		return b.At(t.Context(), topic, map[int32][]int64{0: {0, 1}}, func(r Record) error {
			got = append(got, r.Offset)
			return nil
		}) == nil
	})
	if !slices.Equal(got, []int64{0, 1}) {
		t.Errorf("offsets %v, want 0 and 1", got)
	}
}

func TestIdentity(t *testing.T) {
	t.Parallel()
	b, _ := newTestBus(t)
	one, two := newTopic(t, b, 1).Name, newTopic(t, b, 1).Name
	ids := map[string]bool{}
	for _, topic := range []string{one, two, one} {
		id, err := b.Identity(t.Context(), topic)
		if err != nil {
			t.Fatal(err)
		}
		ids[id] = true
	}
	if len(ids) != 2 {
		t.Errorf("two topics have the identities %v", ids)
	}
	if id, err := b.Identity(t.Context(), "test.none"); err == nil {
		t.Errorf("a topic that isn't there is %q", id)
	}
}

// What was published before Sync was called is applied when it returns.
func TestFollowSync(t *testing.T) {
	t.Parallel()
	b, _ := newTestBus(t)
	topic := newTopic(t, b, 2).Name
	applied := map[int32]int64{}
	f := b.Follow([]string{topic}, Start{}, func(r Record) error { applied[r.Partition] = r.Offset; return nil })
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	for range 5 {
		publishN(t, b, topic, 3)
	}
	if err := f.Sync(ctx); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	ends, err := b.Ends(t.Context(), topic)
	if err != nil {
		t.Fatal(err)
	}
	for p, end := range ends {
		if end > 0 && applied[p] != end-1 {
			t.Errorf("partition %d is applied up to %d, ends at %d", p, applied[p], end)
		}
	}
	if err := f.Sync(ctx); err == nil {
		t.Error("synced after the end of its context")
	}
}
