package bus

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"qstream/schemas"
)

// commitState is a group's commit on one partition, and why it can't start
// there.
type commitState struct {
	group, topic   string
	partition      int32
	at             int64 // -1: none
	oldest, newest int64
	problem        string // empty: none
}

// commitStates are the commits of all groups of topics.
func (b *Bus) commitStates(ctx context.Context, topics []schemas.Topic) ([]commitState, error) {
	byGroup := map[string][]string{}
	for _, t := range topics {
		for _, g := range t.Groups {
			byGroup[g] = append(byGroup[g], t.Name)
		}
	}
	var states []commitState
	for group, names := range byGroup {
		parts, err := b.partitions(ctx, names)
		if err != nil {
			return nil, err
		}
		starts, err := b.listOffsets(ctx, oldest, parts)
		if err != nil {
			return nil, err
		}
		// Progress is committed behind records of open transactions too.
		ends, err := b.listOffsetsAs(ctx, newest, uncommitted, parts)
		if err != nil {
			return nil, err
		}
		commits, err := b.committed(ctx, group, parts)
		if err != nil {
			return nil, err
		}
		for t, ps := range parts {
			for _, p := range ps {
				at, ok := commits[t][p]
				if !ok {
					at = -1
				}
				s := commitState{group: group, topic: t, partition: p, at: at, oldest: starts[t][p], newest: ends[t][p]}
				s.problem = s.judge()
				states = append(states, s)
			}
		}
	}
	slices.SortFunc(states, func(a, b commitState) int {
		if c := strings.Compare(a.group, b.group); c != 0 {
			return c
		}
		if c := strings.Compare(a.topic, b.topic); c != 0 {
			return c
		}
		return int(a.partition - b.partition)
	})
	return states, nil
}

func (s commitState) judge() string {
	switch {
	case s.at < 0:
		return "none"
	case s.at < s.oldest:
		return fmt.Sprintf("%d, before the oldest record", s.at)
	case s.at > s.newest:
		return fmt.Sprintf("%d, behind the newest record", s.at)
	}
	return ""
}

// Resumed is one commit that Resume mended.
type Resumed struct {
	Group, Topic string
	Partition    int32
	Was          string // what was wrong
	At           int64  // where the group goes on
	Records      int64  // how many records lie ahead of it
}

// Resume commits an offset where a group has none, or one out of range, and
// reports what it mended: the first record appended at or after since, or the
// oldest there is if since is zero. Records between what the group had really
// finished and that place are skipped or repeated: choose since by the events.
// Commits in range are never touched. With dry it only reports.
func (b *Bus) Resume(ctx context.Context, topics []schemas.Topic, since time.Time, dry bool) ([]Resumed, error) {
	states, err := b.commitStates(ctx, topics)
	if err != nil {
		return nil, err
	}
	var mended []Resumed
	places := map[string]offsets{}
	for _, s := range states {
		if s.problem == "" {
			continue
		}
		at := s.oldest
		if !since.IsZero() {
			parts := map[string][]int32{s.topic: {s.partition}}
			found, err := b.resolve(ctx, Start{Since: since}, parts)
			if err != nil {
				return nil, err
			}
			at = found[s.topic][s.partition]
		}
		if places[s.group] == nil {
			places[s.group] = offsets{}
		}
		places[s.group].set(s.topic, s.partition, at)
		mended = append(mended, Resumed{s.group, s.topic, s.partition, s.problem, at, s.newest - at})
	}
	if dry {
		return mended, nil
	}
	for group, at := range places {
		if err := b.commit(ctx, group, at); err != nil {
			return nil, err
		}
	}
	return mended, b.barrier(ctx)
}
