package bus

import (
	"context"
	"fmt"
	"slices"
	"time"

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
	return layoutsOf(ctx, c, topics)
}

// layoutsOf asks one broker, or whichever a client takes.
func layoutsOf(ctx context.Context, who kmsg.Requestor, topics []string) (map[string]*layout, error) {
	req := kmsg.NewPtrMetadataRequest()
	for _, name := range topics {
		t := kmsg.NewMetadataRequestTopic()
		t.Topic = kmsg.StringPtr(name)
		req.Topics = append(req.Topics, t)
	}
	resp, err := req.RequestWith(ctx, who)
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
	return numbers(layouts, topics)
}

// numbers are the partition numbers of topics; one that isn't there, or that
// a broker can't tell about, is an error.
func numbers(layouts map[string]*layout, topics []string) (map[string][]int32, error) {
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

// knownWithin is how long a broker may take to say which topics it knows.
const knownWithin = 2 * time.Second

// awaitTopics waits until topics that may have been made just now are known to
// every broker, and their leaders answer. A cluster tells that a topic is made
// when its controller knows: a broker that is asked a moment later, by whoever
// reads or publishes next, may not have heard of it.
func (b *Bus) awaitTopics(ctx context.Context, topics []string) error {
	for try := 0; ; try++ {
		err := b.known(ctx, topics)
		if err == nil || try == 50 || ctx.Err() != nil {
			return err
		}
		if !Pause(ctx, 100*time.Millisecond) {
			return ctx.Err()
		}
	}
}

// known asks each broker for topics. One that can't be reached isn't waited
// for: it hears of them before the cluster lets it serve again.
func (b *Bus) known(ctx context.Context, topics []string) error {
	admin, err := b.admin()
	if err != nil {
		return err
	}
	c, err := b.client()
	if err != nil {
		return err
	}
	brokers, err := admin.ListBrokers(ctx)
	if err != nil {
		return fmt.Errorf("list brokers: %w", err)
	}
	for _, broker := range brokers {
		asked, cancel := context.WithTimeout(ctx, knownWithin)
		layouts, err := layoutsOf(asked, c.Broker(int(broker.NodeID)), topics)
		cancel()
		if err != nil {
			b.log.Warn("a broker doesn't say whether it knows the new topics", "broker", broker.NodeID, "err", err)
			continue
		}
		if _, err := numbers(layouts, topics); err != nil {
			return fmt.Errorf("ask broker %d: %w", broker.NodeID, err)
		}
	}
	parts, err := b.partitions(ctx, topics)
	if err != nil {
		return err
	}
	_, err = b.listOffsets(ctx, newest, parts)
	return err
}
