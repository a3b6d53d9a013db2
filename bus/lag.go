package bus

import "context"

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
