package bus

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
)

func copyTo(topic string) Step {
	return func(_ context.Context, _ []byte, r Record) ([]Record, []byte, error) {
		return []Record{{Topic: topic, Partition: AnyPartition, Key: r.Key, Value: r.Value}}, nil, nil
	}
}

func TestTransformCopiesOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := r.bus()
	group := "g." + r.name
	in, out := r.topic(group, "in", 4), r.topic("", "out", 2)
	r.put(b, in, 0, 500)
	run := start(t, func(ctx context.Context) error { return b.Transform(ctx, group, NewTopics(in), copyTo(out)) })
	r.wantOnce(b, out, 500)
	r.put(b, in, 500, 500)
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
	start(t, func(ctx context.Context) error { return b.Transform(ctx, group, NewTopics(in), copyTo(out)) })
	r.put(b, in, 1000, 100)
	r.wantOnce(b, out, 1100)
}

// The state counts a partition's records over restarts of the shape.
func TestTransformKeepsState(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := r.bus()
	group := "g." + r.name
	in, out := r.topic(group, "in", 2), r.topic("", "out", 1)
	step := func(_ context.Context, state []byte, rec Record) ([]Record, []byte, error) {
		n := uint64(0)
		if len(state) == 8 {
			n = binary.BigEndian.Uint64(state)
		}
		return []Record{{Topic: out, Partition: AnyPartition, Value: fmt.Appendf(nil, "%d/%d", rec.Partition, n)}},
			binary.BigEndian.AppendUint64(nil, n+1), nil
	}
	for round := range 3 {
		r.put(b, in, round*100, 100)
		run := start(t, func(ctx context.Context) error { return b.Transform(ctx, group, NewTopics(in), step) })
		r.wantOnce(b, out, (round+1)*100)
		run.stop(t)
	}
}

func TestTransformPoisonAndRetry(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := r.bus()
	group := "g." + r.name
	in, out := r.topic(group, "in", 1), r.topic("", "out", 1)
	failed := 0
	step := func(_ context.Context, _ []byte, rec Record) ([]Record, []byte, error) {
		switch string(rec.Value) {
		case "3":
			return nil, nil, fmt.Errorf("decode: %w", ErrPoison)
		case "5":
			if failed++; failed < 4 {
				return nil, nil, errors.New("not now")
			}
		}
		return []Record{{Topic: out, Partition: AnyPartition, Value: rec.Value}}, nil, nil
	}
	r.put(b, in, 0, 10)
	start(t, func(ctx context.Context) error { return b.Transform(ctx, group, NewTopics(in), step) })
	r.wantOnce(b, out, 9)
	dead := r.dead(b, in)
	if len(dead) != 1 || dead[0].Offset != 3 || string(dead[0].Value) != "3" || dead[0].Error == "" {
		t.Errorf("dead records: %v", dead)
	}
}

// dead are the deadletter records about a topic.
func (r *rig) dead(b *Bus, topic string) []*pb.Deadletter {
	r.t.Helper()
	var found []*pb.Deadletter
	err := b.Read(r.t.Context(), []string{schemas.Deadletter}, Start{}, func(rec Record) error {
		var d pb.DeadletterRecord
		if err := proto.Unmarshal(rec.Value, &d); err != nil {
			return err
		}
		if d.GetDead().GetTopic() == topic {
			found = append(found, d.GetDead())
		}
		return nil
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return found
}

// Topics may come and go while the shape runs.
func TestTransformFollowsTopics(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := r.bus()
	group := "g." + r.name
	one, two, out := r.topic(group, "one", 2), r.topic(group, "two", 2), r.topic("", "out", 1)
	r.put(b, one, 0, 50)
	r.put(b, two, 50, 50)
	from := NewTopics(one)
	start(t, func(ctx context.Context) error { return b.Transform(ctx, group, from, copyTo(out)) })
	r.wantOnce(b, out, 50)
	from.Set(one, two)
	r.wantOnce(b, out, 100)
	from.Set(two)
	time.Sleep(time.Second)
	r.put(b, one, 100, 50)
	r.put(b, two, 150, 50)
	r.wantOnce(b, out, 150)
	from.Set(one, two)
	r.wantOnce(b, out, 200)
}

// What is polled ahead of a step that takes long is bounded in bytes.
func TestTransformPollsAheadOnlySoMuch(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := r.bus()
	group := "g." + r.name
	in, out := r.topic(group, "in", 1), r.topic("", "out", 1)
	const n = 40
	for i := range n {
		value := make([]byte, 500<<10) // of random bytes: fetches are bounded as compressed
		rand.Read(value)
		value = fmt.Append(value, i)
		if err := b.Publish(t.Context(), &Record{Topic: in, Partition: 0, Value: value}); err != nil {
			t.Fatal(err)
		}
	}
	e := b.newEngine(group, group, NewTopics(in), transformDrain, 0)
	goOn := make(chan struct{})
	e.shape = &transform{engine: e, step: func(_ context.Context, _ []byte, rec Record) ([]Record, []byte, error) {
		<-goOn
		return []Record{{Topic: out, Partition: AnyPartition, Value: rec.Value[500<<10:]}}, nil, nil
	}}
	start(t, e.run)
	most := 0
	watch := func() bool {
		e.mu.Lock()
		defer e.mu.Unlock()
		if p := e.parts[topicPartition{in, 0}]; p != nil {
			most = max(most, p.queued)
			return p.paused
		}
		return false
	}
	eventually(t, 30*time.Second, "pause", watch)
	for range 25 {
		watch()
		time.Sleep(20 * time.Millisecond)
	}
	close(goOn)
	r.wantOnce(b, out, n)
	// What the client had fetched already comes all the same.
	if most > 2*transformQueued {
		t.Errorf("%d bytes were polled ahead", most)
	}
}
