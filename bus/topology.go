package bus

import (
	"context"
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// ErrNoTopic is wrapped when a topic, or a partition of it, isn't there.
var ErrNoTopic error = kerr.UnknownTopicOrPartition

// layout is where a topic is.
type layout struct {
	id       [16]byte
	leaders  map[int32]int32 // by partition; -1: none now
	replicas int             // of the partition with the fewest
	err      error
}

// layouts asks a broker for topics, all if none are named. The client's own
// answer may be seconds old, and lack topics made since.
func (b *Bus) layouts(ctx context.Context, topics ...string) (map[string]*layout, error) {
	c, err := b.client()
	if err != nil {
		return nil, err
	}
	req := kmsg.NewPtrMetadataRequest()
	for _, name := range topics {
		t := kmsg.NewMetadataRequestTopic()
		t.Topic = kmsg.StringPtr(name)
		req.Topics = append(req.Topics, t)
	}
	resp, err := req.RequestWith(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("list topics: %w", err)
	}
	found := make(map[string]*layout, len(resp.Topics))
	for _, t := range resp.Topics {
		if t.Topic == nil {
			continue
		}
		l := &layout{id: t.TopicID, leaders: make(map[int32]int32, len(t.Partitions)), err: kerr.ErrorForCode(t.ErrorCode)}
		for i, p := range t.Partitions {
			l.leaders[p.Partition] = p.Leader
			if i == 0 || len(p.Replicas) < l.replicas {
				l.replicas = len(p.Replicas)
			}
		}
		found[*t.Topic] = l
	}
	return found, nil
}

// layout is one topic's.
func (b *Bus) layout(ctx context.Context, topic string) (*layout, error) {
	found, err := b.layouts(ctx, topic)
	if err != nil {
		return nil, err
	}
	l, ok := found[topic]
	if !ok {
		return nil, fmt.Errorf("topic %s: %w", topic, kerr.UnknownTopicOrPartition)
	}
	if l.err != nil {
		return nil, fmt.Errorf("topic %s: %w", topic, l.err)
	}
	return l, nil
}

// partitions are the partition numbers of topics, ascending.
func (b *Bus) partitions(ctx context.Context, topics []string) (map[string][]int32, error) {
	if len(topics) == 0 {
		return nil, nil
	}
	layouts, err := b.layouts(ctx, topics...)
	if err != nil {
		return nil, err
	}
	found := make(map[string][]int32, len(topics))
	for _, topic := range topics {
		l, ok := layouts[topic]
		if !ok {
			return nil, fmt.Errorf("topic %s: %w", topic, kerr.UnknownTopicOrPartition)
		}
		if l.err != nil {
			return nil, fmt.Errorf("topic %s: %w", topic, l.err)
		}
		for p := range l.leaders {
			found[topic] = append(found[topic], p)
		}
		slices.Sort(found[topic])
	}
	return found, nil
}
