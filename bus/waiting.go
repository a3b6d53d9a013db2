package bus

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// Look is how Waiting reads.
type Look struct {
	// Decided goes by commits that no open transaction is about to change, and
	// waits for them as long as ctx lets it: with Bus.Decided before it, all is
	// told that transactions moved whose end anybody could see when that was called.
	Decided bool
	Pace    *Pace // nil: as fast as it goes
}

// Waiting calls each for every unfinished record of a group's topics: beyond
// its commits, less what the commits' metadata and the markers tell finished.
// It joins nothing; what moves meanwhile may be told as it was before. A
// partition without a commit waits as a whole. The topics are read twice,
// since a marker follows what it tells.
func (b *Bus) Waiting(ctx context.Context, group string, topics []string, how Look, each func(Record) error) error {
	parts, err := b.partitions(ctx, sorted(topics))
	if err != nil {
		return err
	}
	commits, err := b.commitsOf(ctx, group, parts, how.Decided)
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
	if err := b.Read(ctx, topics, Start{Offset: from, Pace: how.Pace}, note); err != nil {
		return err
	}
	return b.Read(ctx, topics, Start{Offset: from, Pace: how.Pace}, func(r Record) error {
		tp := topicPartition{r.Topic, r.Partition}
		if r.Offset >= seen[r.Topic][r.Partition] || marker(r) != nil || released[tp][r.Offset] || within(finished[tp], r.Offset) {
			return nil
		}
		return each(r)
	})
}

// commitsOf reads a group's commits. Stable ones are read topic by topic: under
// load there is always one of all partitions in a transaction.
func (b *Bus) commitsOf(ctx context.Context, group string, parts map[string][]int32, stable bool) ([]commit, error) {
	c, err := b.client()
	if err != nil {
		return nil, err
	}
	if !stable {
		return fetchCommits(ctx, c, group, parts, false)
	}
	var all []commit
	for t, ps := range parts {
		for _, p := range ps {
			some, err := fetchCommits(ctx, c, group, map[string][]int32{t: {p}}, true)
			if err != nil {
				return nil, err
			}
			all = append(all, some...)
		}
	}
	return all, nil
}

// decidedLook is how often Decided looks.
const decidedLook = 20 * time.Millisecond

// Decided waits until every transaction that is open on topics now has ended,
// so that its records are to be read or will never be, and returns ends behind
// all of them. A transaction whose owner was killed stays open until somebody
// takes its partitions over, or the broker gives it up (30 s).
func (b *Bus) Decided(ctx context.Context, topics []string) (map[string]map[int32]int64, error) {
	parts, err := b.partitions(ctx, sorted(topics))
	if err != nil {
		return nil, err
	}
	ends, err := b.listOffsetsAs(ctx, newest, uncommitted, parts)
	if err != nil {
		return nil, err
	}
	for {
		committed, err := b.listOffsets(ctx, newest, parts)
		if err != nil {
			return nil, err
		}
		if committed.reached(ends) {
			return ends, nil
		}
		if !Pause(ctx, decidedLook) {
			return nil, fmt.Errorf("wait for the end of open transactions: %w", context.Cause(ctx))
		}
	}
}

// Existing are those of topics that there are.
func (b *Bus) Existing(ctx context.Context, topics []string) ([]string, error) {
	layouts, err := b.layouts(ctx)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(slices.Clone(topics), func(t string) bool { return layouts[t] == nil }), nil
}

// Gap is a partition whose group's next record isn't there: what lies between
// was deleted before it was read, or the log is shorter than it was.
type Gap struct {
	Group, Topic string
	Partition    int32
	Commit       int64 // the next record the group would read
	Start, End   int64 // of the log
}

// Gaps are the partitions of a group's topics where records are gone that it
// never finished. A partition without any commit is none.
func (b *Bus) Gaps(ctx context.Context, group string, topics []string) ([]Gap, error) {
	parts, err := b.partitions(ctx, sorted(topics))
	if err != nil {
		return nil, err
	}
	// In this order neither a commit nor a trim in between looks like a gap.
	starts, err := b.listOffsets(ctx, oldest, parts)
	if err != nil {
		return nil, err
	}
	commits, err := b.committed(ctx, group, parts)
	if err != nil {
		return nil, err
	}
	ends, err := b.listOffsetsAs(ctx, newest, uncommitted, parts)
	if err != nil {
		return nil, err
	}
	var gaps []Gap
	for _, t := range sorted(topics) {
		for _, p := range parts[t] {
			at, ok := commits[t][p]
			if ok && (at < starts[t][p] || at > ends[t][p]) {
				gaps = append(gaps, Gap{group, t, p, at, starts[t][p], ends[t][p]})
			}
		}
	}
	return slices.Clip(gaps), nil
}

func within(spans []span, offset int64) bool {
	for _, s := range spans {
		if s.from <= offset && offset < s.to {
			return true
		}
	}
	return false
}
