package bus

import (
	"context"
	"crypto/rand"
	"slices"
	"testing"

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
	c, err := kgo.NewClient(b.clientOpts(kgo.TransactionalID("test." + rand.Text()))...)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	large := make([]byte, 2*atBytes)
	_, _ = rand.Read(large)
	k := b.toClient(&Record{Topic: topic, Partition: 0, Value: large})
	if err := c.ProduceSync(t.Context(), k).FirstErr(); err != nil {
		t.Fatal(err)
	}
	if err := topicsLearnt(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if err := c.EndTransaction(t.Context(), kgo.TryAbort); err != nil {
		t.Fatal(err)
	}
	publishN(t, b, topic, 2)
	var got []int64
	err = b.At(t.Context(), topic, map[int32][]int64{0: {0, 3, 900}}, func(r Record) error {
		got = append(got, r.Offset)
		return nil
	})
	if err != nil || !slices.Equal(got, []int64{3}) {
		t.Errorf("%v, %v", got, err)
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
