package bus

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
)

// Ends are the committed ends of a topic's partitions: the offset of the next
// record.
func (b *Bus) Ends(ctx context.Context, topic string) (map[int32]int64, error) {
	parts, err := b.partitions(ctx, []string{topic})
	if err != nil {
		return nil, err
	}
	ends, err := b.listOffsets(ctx, newest, parts)
	return ends[topic], err
}

// Starts are the offsets of the oldest records of a topic's partitions.
func (b *Bus) Starts(ctx context.Context, topic string) (map[int32]int64, error) {
	parts, err := b.partitions(ctx, []string{topic})
	if err != nil {
		return nil, err
	}
	starts, err := b.listOffsets(ctx, oldest, parts)
	return starts[topic], err
}

// Since are the offsets of the first records of a topic's partitions that were
// appended at or after a time; the end where there is none.
func (b *Bus) Since(ctx context.Context, topic string, at time.Time) (map[int32]int64, error) {
	parts, err := b.partitions(ctx, []string{topic})
	if err != nil {
		return nil, err
	}
	found, err := b.resolve(ctx, Start{Since: at}, parts)
	return found[topic], err
}

// Committed are a group's commits on a topic; partitions without are left out.
func (b *Bus) Committed(ctx context.Context, group, topic string) (map[int32]int64, error) {
	parts, err := b.partitions(ctx, []string{topic})
	if err != nil {
		return nil, err
	}
	found, err := b.committed(ctx, group, parts)
	return found[topic], err
}

// Retention is a topic's actual retention; negative: for ever.
func (b *Bus) Retention(ctx context.Context, topic string) (time.Duration, error) {
	admin, err := b.admin()
	if err != nil {
		return 0, err
	}
	all, err := admin.DescribeTopicConfigs(ctx, topic)
	if err != nil {
		return 0, fmt.Errorf("describe topic %s: %w", topic, err)
	}
	described, err := all.On(topic, nil)
	if err == nil {
		err = described.Err
	}
	if err != nil {
		return 0, fmt.Errorf("describe topic %s: %w", topic, err)
	}
	for _, c := range described.Configs {
		if c.Key == "retention.ms" {
			ms, err := strconv.ParseInt(c.MaybeValue(), 10, 64)
			if err != nil {
				return 0, fmt.Errorf("retention.ms of %s: %w", topic, err)
			}
			return time.Duration(ms) * time.Millisecond, nil
		}
	}
	return 0, fmt.Errorf("topic %s tells no retention.ms", topic)
}

// Lag is how many records lie between a group's commit and the committed end,
// by topic and partition.
func (b *Bus) Lag(ctx context.Context, group string, topics []string) (map[string]map[int32]int64, error) {
	parts, err := b.partitions(ctx, sorted(topics))
	if err != nil {
		return nil, err
	}
	ends, err := b.listOffsets(ctx, newest, parts)
	if err != nil {
		return nil, err
	}
	committed, err := b.committed(ctx, group, parts)
	if err != nil {
		return nil, err
	}
	for topic, ps := range ends {
		for p, end := range ps {
			ends.set(topic, p, max(0, end-committed[topic][p]))
		}
	}
	return ends, nil
}

// Trim removes the records of a topic below the given offsets. On the
// embedded broker it isn't durable: a kill of the process brings them back.
func (b *Bus) Trim(ctx context.Context, topic string, below map[int32]int64) error {
	if len(below) == 0 {
		return nil
	}
	admin, err := b.admin()
	if err != nil {
		return err
	}
	var to kadm.Offsets
	for p, o := range below {
		to.AddOffset(topic, p, o, -1)
	}
	rs, err := admin.DeleteRecords(ctx, to)
	if err == nil {
		err = rs.Error()
	}
	if err != nil {
		return fmt.Errorf("trim %s: %w", topic, err)
	}
	return nil
}
