package archive

import (
	"context"
	"time"

	"google.golang.org/protobuf/proto"

	"qstream/bus"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
)

// State is how an archive does.
type State struct {
	Lag    int64     // copies that its sink has not taken
	Oldest time.Time // when the oldest of them came; zero: none waits
	// Failing is since when the sink takes no copies, Error what it said last,
	// hostile text; zero and empty: it does.
	Failing time.Time
	Error   string
}

// States asks the broker how archives do.
func States(ctx context.Context, b *bus.Bus, names []string) (map[string]State, error) {
	all := map[string]State{}
	for _, name := range names {
		s, err := waiting(ctx, b, name)
		if err != nil {
			return nil, err
		}
		all[name] = s
	}
	told := map[place]*pb.ArchiveState{}
	err := b.Read(ctx, []string{schemas.Archives}, bus.Start{}, func(r bus.Record) error {
		var s pb.ArchiveState
		if proto.Unmarshal(r.Value, &s) == nil && s.Offset == 0 {
			told[place{archive: s.Archive, partition: s.Partition}] = &s
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	newest := map[string]int64{}
	for _, s := range told {
		state, ok := all[s.Archive]
		if !ok || s.FailingMs == 0 {
			continue
		}
		since := time.UnixMilli(s.FailingMs)
		if state.Failing.IsZero() || since.Before(state.Failing) {
			state.Failing = since
		}
		if s.AtMs >= newest[s.Archive] {
			newest[s.Archive], state.Error = s.AtMs, s.Error
		}
		all[s.Archive] = state
	}
	return all, nil
}

// waiting measures what the sink hasn't taken.
func waiting(ctx context.Context, b *bus.Bus, name string) (State, error) {
	topic := schemas.Tap(name)
	var s State
	err := b.Waiting(ctx, schemas.SinkGroup(name), []string{topic}, bus.Look{}, func(r bus.Record) error {
		s.Lag++
		if s.Oldest.IsZero() || r.Time.Before(s.Oldest) {
			s.Oldest = r.Time
		}
		return nil
	})
	return s, err
}
