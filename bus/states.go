package bus

import (
	"context"
	"fmt"

	"qstream/schemas"
)

// TopicState is what a topic holds.
type TopicState struct {
	schemas.Topic
	Missing bool
	Places  int32 // partitions there are
	Copies  int   // replicas of the partition with the fewest
	// Records is how many offsets are kept: transaction markers count too.
	Records int64
	// Behind is, by group, how many offsets lie ahead of its commits.
	Behind map[string]int64
}

// States tell what topics hold and how far their groups are.
func (b *Bus) States(ctx context.Context, topics []schemas.Topic) ([]TopicState, error) {
	layouts, err := b.layouts(ctx)
	if err != nil {
		return nil, err
	}
	states := make([]TopicState, 0, len(topics))
	for _, t := range topics {
		s := TopicState{Topic: t, Behind: map[string]int64{}}
		l := layouts[t.Name]
		if l == nil {
			s.Missing = true
			states = append(states, s)
			continue
		}
		s.Places, s.Copies = int32(len(l.leaders)), l.replicas
		parts := map[string][]int32{t.Name: nil}
		for p := range l.leaders {
			parts[t.Name] = append(parts[t.Name], p)
		}
		starts, err := b.listOffsets(ctx, oldest, parts)
		if err != nil {
			return nil, err
		}
		ends, err := b.listOffsets(ctx, newest, parts)
		if err != nil {
			return nil, err
		}
		for p, end := range ends[t.Name] {
			s.Records += end - starts[t.Name][p]
		}
		for _, g := range t.Groups {
			lag, err := b.Lag(ctx, g, []string{t.Name})
			if err != nil {
				return nil, fmt.Errorf("lag of %s: %w", t.Name, err)
			}
			for _, n := range lag[t.Name] {
				s.Behind[g] += n
			}
		}
		states = append(states, s)
	}
	return states, nil
}
