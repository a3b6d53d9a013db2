package bus

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// atBytes is how much is fetched at a time: records that are looked for stand
// in few batches, or far from each other.
const atBytes = 64 << 10

// At calls apply for the records at exact places of a topic, by partition, each
// partition in ascending order. What isn't there any more is passed over, and so
// is what no transaction committed; what is there but can't be read yet is an error.
func (b *Bus) At(ctx context.Context, topic string, places map[int32][]int64, apply func(Record) error) error {
	for partition, wanted := range places {
		wanted = slices.Clone(wanted)
		slices.Sort(wanted)
		if err := b.partitionAt(ctx, topic, partition, slices.Compact(wanted), apply); err != nil {
			return err
		}
	}
	return nil
}

func (b *Bus) partitionAt(ctx context.Context, topic string, partition int32, wanted []int64, apply func(Record) error) error {
	for len(wanted) > 0 {
		from := wanted[0]
		f, err := b.fetch(ctx, topic, partition, from, atBytes)
		if errors.Is(err, errOutOfRange) {
			wanted = wanted[1:]
			continue
		}
		if err != nil {
			return err
		}
		for _, k := range f.records {
			for len(wanted) > 0 && wanted[0] < k.Offset {
				wanted = wanted[1:]
			}
			if len(wanted) == 0 {
				return nil
			}
			if k.Offset != wanted[0] {
				continue
			}
			wanted = wanted[1:]
			if k.Attrs.IsControl() {
				continue
			}
			if err := apply(fromClient(k)); err != nil {
				return err
			}
		}
		// Nothing to read at all is the end; what was aborted is gone over.
		if len(f.records) == 0 && f.next <= from {
			if err := b.settled(ctx, topic, partition, from, f); err != nil {
				return err
			}
		}
		for len(wanted) > 0 && (wanted[0] < f.next || f.next <= from) {
			wanted = wanted[1:]
		}
	}
	return nil
}

// Identity names a topic of a cluster: another topic of this name, also one
// made after this one was deleted, has another.
func (b *Bus) Identity(ctx context.Context, topic string) (string, error) {
	c, err := b.client()
	if err != nil {
		return "", err
	}
	req := kmsg.NewPtrMetadataRequest()
	t := kmsg.NewMetadataRequestTopic()
	t.Topic = kmsg.StringPtr(topic)
	req.Topics = append(req.Topics, t)
	resp, err := req.RequestWith(ctx, c)
	if err != nil {
		return "", fmt.Errorf("identify topic %s: %w", topic, err)
	}
	l, err := b.layout(ctx, topic)
	if err != nil {
		return "", fmt.Errorf("identify topic %s: %w", topic, err)
	}
	cluster := ""
	if resp.ClusterID != nil {
		cluster = *resp.ClusterID
	}
	return fmt.Sprintf("%s %x", cluster, l.id), nil
}
