package bus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// newTestBus is a Bus on a broker in memory.
func newTestBus(t *testing.T, seed ...kfake.Opt) (*Bus, *kfake.Cluster) {
	t.Helper()
	c, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(1)}, seed...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	b, err := Dial(Config{Seeds: c.ListenAddrs(), Timeout: 2 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b, c
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
	b, _ := newTestBus(t, kfake.SeedTopics(3, "a"), kfake.SeedTopics(1, "b"))
	publishN(t, b, "a", 50)
	publishN(t, b, "b", 5)
	var got []string
	err := b.Read(t.Context(), []string{"a", "b"}, Start{}, func(r Record) error {
		got = append(got, r.Topic+string(r.Value))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 55 {
		t.Fatalf("%d records, want 55", len(got))
	}
	slices.Sort(got)
	if n := len(slices.Compact(got)); n != 55 {
		t.Fatalf("%d different records, want 55", n)
	}
	n := 0
	err = b.Read(t.Context(), []string{"b"}, Start{Offset: map[string]map[int32]int64{"b": {0: 3}}}, func(Record) error { n++; return nil })
	if err != nil || n != 2 {
		t.Fatalf("from offset 3: %d records, %v", n, err)
	}
	err = b.Read(t.Context(), []string{"a"}, Start{End: true}, func(Record) error { return errors.New("nothing is there") })
	if err != nil {
		t.Fatal(err)
	}
}

func TestFollowIsFreshOnlyWhenApplied(t *testing.T) {
	b, _ := newTestBus(t, kfake.SeedTopics(2, "a"))
	publishN(t, b, "a", 20)
	var mu sync.Mutex
	seen := 0
	f := b.Follow([]string{"a"}, Start{}, func(Record) error {
		mu.Lock()
		defer mu.Unlock()
		seen++
		return nil
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	<-f.CaughtUp()
	mu.Lock()
	if seen != 20 {
		t.Errorf("caught up after %d records, want 20", seen)
	}
	mu.Unlock()
	publishN(t, b, "a", 10)
	after := time.Now()
	for f.Fresh().Before(after) {
		if time.Since(after) > 5*time.Second {
			t.Fatal("not fresh within 5 s")
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Logf("fresh after %v", time.Since(after))
	mu.Lock()
	if seen != 30 {
		t.Errorf("fresh after %d records, want 30", seen)
	}
	mu.Unlock()
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestPublishIsBoundedByItsOwnTimer(t *testing.T) {
	b, c := newTestBus(t, kfake.SeedTopics(1, "a"))
	publishN(t, b, "a", 1)
	frozen := make(chan struct{})
	// The broker is there, but answers no produce request any more.
	c.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		c.SleepControl(func() { <-frozen })
		return nil, nil, false
	})
	defer close(frozen)
	started := time.Now()
	err := b.Publish(t.Context(), &Record{Topic: "a", Partition: AnyPartition, Value: []byte("x")})
	if err == nil {
		t.Fatal("no error from a frozen broker")
	}
	if took := time.Since(started); took > 3*time.Second {
		t.Fatalf("took %v with a limit of 2 s", took)
	}
}
