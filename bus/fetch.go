package bus

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// fetched is the answer to a fetch by offset.
type fetched struct {
	records []*kgo.Record // from the offset asked for; control records too
	next    int64         // where the next fetch goes on, past gaps
	start   int64         // the partition's oldest offset
	stable  int64         // the partition's committed end
}

// errOutOfRange is an offset that is not, or no longer, there.
var errOutOfRange = errors.New("offset out of range")

// Isolation levels of Kafka's protocol.
const (
	uncommitted int8 = 0 // sees open transactions
	committed   int8 = 1
)

// fetch reads whole batches at an offset, at most about maxBytes but at least
// one, from the partition's leader. It doesn't wait for records.
func (b *Bus) fetch(ctx context.Context, topic string, partition int32, offset int64, maxBytes int32) (fetched, error) {
	return b.fetchAs(ctx, committed, topic, partition, offset, maxBytes)
}

// fetchAs is fetch of an isolation level.
func (b *Bus) fetchAs(ctx context.Context, level int8, topic string, partition int32, offset int64, maxBytes int32) (fetched, error) {
	var last error
	for try := range 5 {
		if try > 0 {
			b.routes.Delete(topic)
			if !Pause(ctx, time.Duration(try)*100*time.Millisecond) {
				return fetched{}, ctx.Err()
			}
		}
		f, err := b.fetchOnce(ctx, level, topic, partition, offset, maxBytes)
		if err == nil || errors.Is(err, errOutOfRange) || ctx.Err() != nil {
			return f, err
		}
		last = err
	}
	return fetched{}, last
}

func (b *Bus) fetchOnce(ctx context.Context, level int8, topic string, partition int32, offset int64, maxBytes int32) (fetched, error) {
	c, err := b.client()
	if err != nil {
		return fetched{}, err
	}
	to, err := b.route(ctx, topic)
	if err != nil {
		return fetched{}, err
	}
	leader, ok := to.leaders[partition]
	if !ok || leader < 0 {
		return fetched{}, fmt.Errorf("fetch %s/%d: no leader", topic, partition)
	}
	resp, err := c.Broker(int(leader)).RetriableRequest(ctx, fetchRequest(level, topic, to.id, partition, offset, maxBytes))
	if err != nil {
		return fetched{}, fmt.Errorf("fetch %s/%d at %d: %w", topic, partition, offset, err)
	}
	f, err := readFetch(resp.(*kmsg.FetchResponse), level, topic, partition, offset)
	if err != nil {
		return f, fmt.Errorf("fetch %s/%d at %d: %w", topic, partition, offset, err)
	}
	return f, nil
}

func fetchRequest(level int8, topic string, id [16]byte, partition int32, offset int64, maxBytes int32) *kmsg.FetchRequest {
	p := kmsg.NewFetchRequestTopicPartition()
	p.Partition, p.FetchOffset, p.PartitionMaxBytes = partition, offset, maxBytes
	t := kmsg.NewFetchRequestTopic()
	t.Topic, t.TopicID = topic, id
	t.Partitions = append(t.Partitions, p)
	req := kmsg.NewPtrFetchRequest()
	// The partition's bound is the only one: at that of the request the embedded
	// broker leaves out which transactions were aborted, and their records pass
	// for committed.
	req.MaxWaitMillis, req.MinBytes, req.MaxBytes = 0, 0, math.MaxInt32
	req.IsolationLevel = level
	// No session: each request stands for itself.
	req.SessionID, req.SessionEpoch = 0, -1
	req.Topics = append(req.Topics, t)
	return req
}

func readFetch(resp *kmsg.FetchResponse, level int8, topic string, partition int32, offset int64) (fetched, error) {
	if err := kerr.ErrorForCode(resp.ErrorCode); err != nil {
		return fetched{}, err
	}
	if len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1 {
		return fetched{}, errors.New("no answer for the partition")
	}
	p := &resp.Topics[0].Partitions[0]
	if p.ErrorCode == kerr.OffsetOutOfRange.Code {
		return fetched{}, errOutOfRange
	}
	if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
		return fetched{}, err
	}
	isolation := kgo.ReadUncommitted()
	if level == committed {
		isolation = kgo.ReadCommitted()
	}
	fp, next := kgo.ProcessFetchPartition(kgo.ProcessFetchPartitionOpts{
		KeepControlRecords: true,
		Offset:             offset,
		IsolationLevel:     isolation,
		Topic:              topic,
		Partition:          partition,
	}, p, kgo.DefaultDecompressor(), nil)
	if fp.Err != nil {
		return fetched{}, fp.Err
	}
	return fetched{records: fp.Records, next: max(next, offset), start: p.LogStartOffset, stable: p.LastStableOffset}, nil
}

// settled tells, of an offset at which a fetch brought nothing, that nothing is
// there; else it returns an error. A new leader doesn't show what is stored before it
// has heard of the other replicas, and says so only when asked for the end
// (KIP-207); and nobody is shown what lies behind an open transaction.
func (b *Bus) settled(ctx context.Context, topic string, partition int32, offset int64, f fetched) error {
	if offset < f.stable {
		return nil
	}
	ends, err := b.listOffsetsAs(ctx, newest, uncommitted, map[string][]int32{topic: {partition}})
	if err != nil {
		return err
	}
	if end := ends[topic][partition]; offset < end {
		return fmt.Errorf("%s/%d can't be read yet at offset %d: it ends at %d, but what is committed at %d", topic, partition, offset, end, f.stable)
	}
	return nil
}

// route is a topic's layout, remembered until a fetch fails.
func (b *Bus) route(ctx context.Context, topic string) (*layout, error) {
	if l, ok := b.routes.Load(topic); ok {
		return l.(*layout), nil
	}
	l, err := b.layout(ctx, topic)
	if err != nil {
		return nil, err
	}
	b.routes.Store(topic, l)
	return l, nil
}

// skipped finds, for positions that have not moved, where there is something
// to read or the end: behind trimmed records and compacted gaps.
func (b *Bus) skipped(ctx context.Context, at offsets) (offsets, error) {
	ends, err := b.listOffsets(ctx, newest, at.keys())
	if err != nil {
		return nil, err
	}
	starts, err := b.listOffsets(ctx, oldest, at.keys())
	if err != nil {
		return nil, err
	}
	next := offsets{}
	for t, ps := range at {
		for p, o := range ps {
			if o >= ends[t][p] {
				continue
			}
			if o < starts[t][p] {
				next.set(t, p, starts[t][p])
				continue
			}
			f, err := b.fetch(ctx, t, p, o, 64<<10)
			if err != nil {
				return nil, err
			}
			if len(f.records) == 0 && f.next > o {
				next.set(t, p, f.next)
			}
		}
	}
	return next, nil
}
