package bus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// offsets are positions by topic and partition.
type offsets map[string]map[int32]int64

func (o offsets) set(topic string, partition int32, offset int64) {
	if o[topic] == nil {
		o[topic] = map[int32]int64{}
	}
	o[topic][partition] = offset
}

// reached reports whether every position of ends is passed.
func (o offsets) reached(ends offsets) bool {
	for t, ps := range ends {
		for p, end := range ps {
			if o[t][p] < end {
				return false
			}
		}
	}
	return true
}

// What ListOffsets is asked for, beside times in milliseconds.
const (
	newest = -1
	oldest = -2
)

// listOffsets asks the leaders for one offset of each partition, as committed
// readers see it: oldest, newest, or the first appended at or after a time in
// milliseconds, which is -1 where there is none.
func (b *Bus) listOffsets(ctx context.Context, at int64, parts map[string][]int32) (offsets, error) {
	return b.listOffsetsAs(ctx, at, committed, parts)
}

// listOffsetsAs is listOffsets of an isolation level.
func (b *Bus) listOffsetsAs(ctx context.Context, at int64, level int8, parts map[string][]int32) (offsets, error) {
	found := offsets{}
	if len(parts) == 0 {
		return found, nil
	}
	c, err := b.client()
	if err != nil {
		return nil, err
	}
	req := kmsg.NewPtrListOffsetsRequest()
	req.IsolationLevel = level
	for topic, ps := range parts {
		t := kmsg.NewListOffsetsRequestTopic()
		t.Topic = topic
		for _, p := range ps {
			part := kmsg.NewListOffsetsRequestTopicPartition()
			part.Partition, part.Timestamp = p, at
			t.Partitions = append(t.Partitions, part)
		}
		req.Topics = append(req.Topics, t)
	}
	resp, err := req.RequestWith(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("list offsets: %w", err)
	}
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
				return nil, fmt.Errorf("list offsets of %s/%d: %w", t.Topic, p.Partition, err)
			}
			found.set(t.Topic, p.Partition, p.Offset)
		}
	}
	for topic, ps := range parts {
		for _, p := range ps {
			if _, ok := found[topic][p]; !ok {
				return nil, fmt.Errorf("list offsets of %s/%d: no answer", topic, p)
			}
		}
	}
	return found, nil
}

// resolve makes exact offsets of a start, never beyond the committed end: the
// client would take such an offset for lost data.
func (b *Bus) resolve(ctx context.Context, start Start, parts map[string][]int32) (offsets, error) {
	ends, err := b.listOffsets(ctx, newest, parts)
	if err != nil || start.End && start.Offset == nil {
		return ends, err
	}
	at := int64(oldest)
	if !start.Since.IsZero() {
		at = start.Since.UnixMilli()
	}
	found, err := b.listOffsets(ctx, at, parts)
	if err != nil {
		return nil, err
	}
	for topic, ps := range found {
		for p, offset := range ps {
			end := ends[topic][p]
			if exact, ok := start.Offset[topic][p]; ok {
				if at == oldest {
					exact = max(exact, offset) // what is gone isn't waited for
				}
				offset = exact
			} else if start.End {
				offset = end
			}
			if offset < 0 || offset > end {
				offset = end
			}
			found[topic][p] = offset
		}
	}
	return found, nil
}

// consumable makes the client's form of offsets.
func consumable(at offsets) map[string]map[int32]kgo.Offset {
	m := make(map[string]map[int32]kgo.Offset, len(at))
	for t, ps := range at {
		m[t] = make(map[int32]kgo.Offset, len(ps))
		for p, o := range ps {
			m[t][p] = kgo.NewOffset().At(o)
		}
	}
	return m
}

// missing are the partitions of all that have has no position for.
func missing(all map[string][]int32, have offsets) map[string][]int32 {
	m := map[string][]int32{}
	for t, ps := range all {
		for _, p := range ps {
			if _, ok := have[t][p]; !ok {
				m[t] = append(m[t], p)
			}
		}
	}
	return m
}

// keys are the partitions of positions.
func (o offsets) keys() map[string][]int32 {
	m := make(map[string][]int32, len(o))
	for t, ps := range o {
		for p := range ps {
			m[t] = append(m[t], p)
		}
		slices.Sort(m[t])
	}
	return m
}

// committed are a group's commits; partitions without one are left out.
func (b *Bus) committed(ctx context.Context, group string, parts map[string][]int32) (offsets, error) {
	admin, err := b.admin()
	if err != nil {
		return nil, err
	}
	names := make([]string, 0, len(parts))
	for t := range parts {
		names = append(names, t)
	}
	got, err := admin.FetchOffsetsForTopics(ctx, group, names...)
	// The coordinator of a new cluster, or after a failover, takes some seconds.
	for try := 0; kerr.IsRetriable(err) && try < 100 && Pause(ctx, 200*time.Millisecond); try++ {
		got, err = admin.FetchOffsetsForTopics(ctx, group, names...)
	}
	if errors.Is(err, kerr.GroupIDNotFound) {
		return offsets{}, nil // a group begins to exist with its first commit
	}
	if err != nil {
		return nil, fmt.Errorf("fetch commits of %s: %w", group, err)
	}
	found := offsets{}
	for t, ps := range parts {
		for _, p := range ps {
			o, ok := got.Lookup(t, p)
			if ok && o.Err != nil {
				return nil, fmt.Errorf("fetch commit of %s for %s/%d: %w", group, t, p, o.Err)
			}
			if !ok || o.At < 0 {
				continue
			}
			found.set(t, p, o.At)
		}
	}
	return found, nil
}
