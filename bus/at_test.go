package bus

import (
	"context"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestAt(t *testing.T) {
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

func TestIdentity(t *testing.T) {
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
