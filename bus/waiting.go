package bus

import "context"

// Waiting calls each for every unfinished record of a group's topics: beyond
// its commits, less what the commits' metadata and the markers tell finished.
// It joins nothing; what moves meanwhile may be told as it was before. A
// partition without a commit waits as a whole. The topics are read twice,
// since a marker follows what it tells.
func (b *Bus) Waiting(ctx context.Context, group string, topics []string, each func(Record) error) error {
	parts, err := b.partitions(ctx, sorted(topics))
	if err != nil {
		return err
	}
	c, err := b.client()
	if err != nil {
		return err
	}
	commits, err := fetchCommits(ctx, c, group, parts, false)
	if err != nil {
		return err
	}
	from, finished := offsets{}, map[topicPartition][]span{}
	for _, c := range commits {
		if c.offset < 0 {
			continue
		}
		from.set(c.topic, c.partition, c.offset)
		if was, err := decodeProgress(c.offset, c.metadata); err == nil {
			if err := b.whole(ctx, c, &was); err != nil && ctx.Err() != nil {
				return err
			}
			finished[c.topicPartition] = was.finished
		}
	}
	released := map[topicPartition]map[int64]bool{}
	seen := offsets{}
	note := func(r Record) error {
		seen.set(r.Topic, r.Partition, r.Offset+1)
		if m := marker(r); m != nil {
			tp := topicPartition{r.Topic, r.Partition}
			if released[tp] == nil {
				released[tp] = map[int64]bool{}
			}
			for _, o := range m.Offsets {
				released[tp][o] = true
			}
		}
		return nil
	}
	if err := b.Read(ctx, topics, Start{Offset: from}, note); err != nil {
		return err
	}
	return b.Read(ctx, topics, Start{Offset: from}, func(r Record) error {
		tp := topicPartition{r.Topic, r.Partition}
		if r.Offset >= seen[r.Topic][r.Partition] || marker(r) != nil || released[tp][r.Offset] || within(finished[tp], r.Offset) {
			return nil
		}
		return each(r)
	})
}

func within(spans []span, offset int64) bool {
	for _, s := range spans {
		if s.from <= offset && offset < s.to {
			return true
		}
	}
	return false
}
