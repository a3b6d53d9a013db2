package bus

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"qstream/schemas"
)

// Publish returns nil once all records are acknowledged by all in-sync
// replicas and the barrier passed. Partition, Offset and Time are set; Time is
// this process's clock, which a cluster replaces by its append time.
//
// On error some may be stored nevertheless, even later. It returns within
// Config.Timeout whatever the brokers do. Keys and values belong to the bus
// from then on: never change them, also after an error.
func (b *Bus) Publish(ctx context.Context, rs ...*Record) error {
	if len(rs) == 0 {
		return nil
	}
	if rs[0].Topic == schemas.Received {
		if err := b.admit(); err != nil {
			return err
		}
	}
	c, err := b.client()
	if err != nil {
		return err
	}
	if err := b.publish(ctx, c, rs, b.barrier); err != nil {
		return err
	}
	for _, r := range rs {
		b.remember(r)
	}
	return nil
}

// publish produces and then calls durable. It returns within Config.Timeout.
func (b *Bus) publish(ctx context.Context, c *kgo.Client, rs []*Record, durable func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, b.cfg.Timeout)
	defer cancel()
	started := time.Now()
	b.cfg.Failpoint("publish.before")
	err := b.acknowledged(ctx, c, rs)
	if err == nil {
		err = durable(ctx)
	}
	b.cfg.Failpoint("publish.after")
	b.metrics.published(len(rs), time.Since(started), err)
	if err != nil {
		// The client may not know yet that the topic or its partitions are new.
		c.ForceMetadataRefresh()
		return fmt.Errorf("publish to %s: %w", rs[0].Topic, err)
	}
	return nil
}

// acknowledged produces and waits for every acknowledgement. It gives up
// waiting when ctx ends; the client goes on by itself.
func (b *Bus) acknowledged(ctx context.Context, c *kgo.Client, rs []*Record) error {
	var (
		once  sync.Once
		left  atomic.Int64
		first error
		done  = make(chan struct{})
		sent  = make([]*kgo.Record, len(rs))
	)
	left.Store(int64(len(rs)))
	for i, r := range rs {
		sent[i] = b.toClient(r)
		c.Produce(ctx, sent[i], func(_ *kgo.Record, err error) {
			if err != nil {
				once.Do(func() { first = err; close(done) })
			} else if left.Add(-1) == 0 {
				once.Do(func() { close(done) })
			}
		})
	}
	select {
	case <-done:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if first != nil {
		return first
	}
	for i, r := range rs {
		r.Partition, r.Offset, r.Time = sent[i].Partition, sent[i].Offset, sent[i].Timestamp
	}
	return nil
}

// admit refuses new mail while there is no room for it. Everything else is
// published all the same: it is what makes room.
func (b *Bus) admit() error {
	if b.cfg.Admit == nil {
		return nil
	}
	return b.cfg.Admit()
}

// barrier returns once what the broker acknowledged is durable.
func (b *Bus) barrier(ctx context.Context) error {
	if b.cfg.Barrier == nil {
		return nil
	}
	if err := b.cfg.Barrier(ctx); err != nil {
		return fmt.Errorf("barrier: %w", err)
	}
	return nil
}

// later leaves it to who publishes the records together with others.
func later(context.Context) error { return nil }

// toClient makes the client's record. The time is the injected clock's: a
// cluster replaces it by its own, the embedded broker keeps it.
func (b *Bus) toClient(r *Record) *kgo.Record {
	return &kgo.Record{
		Topic: r.Topic, Partition: r.Partition, Key: r.Key, Value: r.Value, Headers: r.Headers,
		Timestamp: b.cfg.Now().Round(0).Truncate(time.Millisecond),
	}
}

// fromClient makes our record of the client's.
func fromClient(k *kgo.Record) Record {
	return Record{
		Topic: k.Topic, Partition: k.Partition, Offset: k.Offset,
		Key: k.Key, Value: k.Value, Headers: k.Headers, Time: k.Timestamp,
	}
}

// partitioner keeps a partition that a record names and lets the key decide
// otherwise, by the hash that every Kafka client uses.
func partitioner() kgo.Partitioner { return byNameOrKey{kgo.StickyKeyPartitioner(nil)} }

type byNameOrKey struct{ key kgo.Partitioner }

func (p byNameOrKey) ForTopic(topic string) kgo.TopicPartitioner {
	return topicByNameOrKey{p.key.ForTopic(topic)}
}

type topicByNameOrKey struct{ key kgo.TopicPartitioner }

// RequiresConsistency keeps a record's partition while that has no leader.
func (topicByNameOrKey) RequiresConsistency(*kgo.Record) bool { return true }

func (p topicByNameOrKey) Partition(r *kgo.Record, n int) int {
	if r.Partition >= 0 {
		return int(r.Partition)
	}
	return p.key.Partition(r, n)
}

// remember keeps what was just published and will be read soon.
func (b *Bus) remember(r *Record) {
	if r.Topic == schemas.Received || r.Topic == schemas.Reinject {
		b.cache.publish(r)
	}
}
