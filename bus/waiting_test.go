package bus

import (
	"context"
	"errors"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// What a transaction holds is decided only once it ends.
func TestDecided(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := r.bus()
	in := r.topic("", "in", 1)
	r.put(b, in, 0, 1)
	if _, err := b.Decided(t.Context(), []string{in}); err != nil {
		t.Fatal(err)
	}
	c, err := kgo.NewClient(kgo.SeedBrokers(r.seeds...), kgo.TransactionalID("open."+r.name), kgo.RecordPartitioner(partitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	if err := c.ProduceSync(t.Context(), &kgo.Record{Topic: in, Value: []byte("x")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if ends, err := b.Decided(short, []string{in}); err == nil {
		t.Fatalf("decided at %v while a transaction is open", ends)
	}
	if err := c.EndTransaction(t.Context(), kgo.TryCommit); err != nil {
		t.Fatal(err)
	}
	ends, err := b.Decided(t.Context(), []string{in})
	if err != nil || ends[in][0] < 2 {
		t.Fatalf("decided at %v, %v", ends, err)
	}
}

// A commit below the log's start or beyond its end is a gap, and no other is.
func TestGaps(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := r.bus()
	group := "g." + r.name
	in := r.topic(group, "in", 1)
	r.put(b, in, 0, 5)
	want := func(commit, n int64) {
		t.Helper()
		if err := b.commit(t.Context(), group, offsets{in: {0: commit}}); err != nil {
			t.Fatal(err)
		}
		gaps, err := b.Gaps(t.Context(), group, []string{in})
		if err != nil || int64(len(gaps)) != n {
			t.Fatalf("commit %d: gaps %v, %v", commit, gaps, err)
		}
		if n == 1 && (gaps[0].Commit != commit || gaps[0].Start != 2 || gaps[0].End != 5) {
			t.Errorf("commit %d: %+v", commit, gaps[0])
		}
	}
	want(0, 0)
	if err := b.Trim(t.Context(), in, map[int32]int64{0: 2}); err != nil {
		t.Fatal(err)
	}
	want(0, 1)
	want(1, 1)
	want(2, 0)
	want(5, 0)
	want(6, 1)
}

func TestTemporary(t *testing.T) {
	for _, c := range []struct {
		err  error
		want bool
	}{
		{fmt.Errorf("list: %w", kerr.NotLeaderForPartition), true},
		{&net.OpError{Op: "dial", Err: errors.New("refused")}, true},
		{fmt.Errorf("list: %w", &kgo.ErrFirstReadEOF{}), true},
		{fmt.Errorf("topic: %w", kerr.TopicAuthorizationFailed), false},
		{context.Canceled, false}, {errors.New("other"), false},
	} {
		if got := Temporary(c.err); got != c.want {
			t.Errorf("%v: %v", c.err, got)
		}
	}
}
