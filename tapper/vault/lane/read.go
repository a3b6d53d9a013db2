package lane

import (
	"context"
	"maps"
	"slices"

	pb "qstream/schemas/qstream/v1"
)

// Cursors are where reading a stream goes on, by source; 0 is mail as it
// comes, else the past of the order of that number. Nil: there is no such
// stream, or it is at its end.
func (l *Lane) Cursors(stream uint32) map[uint32]int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.state.cursors(stream))
}

// Start begins to read a stream, at its cursors; sources without one at from.
// What was read before and hasn't been said is forgotten.
func (l *Lane) Start(number uint32, from map[uint32]int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := &stream{read: maps.Clone(from)}
	if s.read == nil {
		s.read = map[uint32]int64{}
	}
	maps.Copy(s.read, l.state.cursors(number))
	if old := l.streams[number]; old != nil {
		for _, g := range old.queue {
			l.forget(g)
		}
	}
	l.streams[number] = s
	if number == 0 {
		l.begins = nil
	}
}

// Stop ends the reading of a stream.
func (l *Lane) Stop(stream uint32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s := l.streams[stream]; s != nil {
		for _, g := range s.queue {
			l.forget(g)
		}
	}
	delete(l.streams, stream)
}

// Knows reports whether an order has begun in the lane, or is about to.
func (l *Lane) Knows(order string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.knows(order)
}

func (l *Lane) knows(order string) bool {
	return l.state.order(order) != nil ||
		slices.ContainsFunc(l.begins, func(b *pb.TapBegin) bool { return b.Order == order })
}

// Begin makes the lane know an order: from the next record of stream 0 on it
// is matched as mail comes; past is where reading what was before starts.
func (l *Lane) Begin(order string, past map[uint32]int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	live := l.streams[0]
	if live == nil || l.knows(order) {
		return
	}
	number := uint32(0)
	for n := range l.state.Taps {
		number = max(number, n)
	}
	for _, b := range l.begins {
		number = max(number, b.Number)
	}
	l.begins = append(l.begins, &pb.TapBegin{
		Number: number + 1, Order: order, Live: cursorsOf(0, live.read), Past: cursorsOf(number+1, past),
	})
}

// Message is the next message of a stream; match is asked which orders cover
// it. It waits while too much waits to be said.
func (l *Lane) Message(ctx context.Context, stream, source uint32, offset int64, id string, match func() []Match) error {
	return l.next(ctx, stream, source, offset, func() *group {
		matches := slices.DeleteFunc(match(), func(m Match) bool { return !l.knows(m.Order) })
		if len(matches) == 0 {
			return nil
		}
		return &group{source: source, offset: offset, id: id, matches: matches}
	})
}

// Event is the next event of a stream.
func (l *Lane) Event(ctx context.Context, stream, source uint32, offset int64, e *pb.Event) error {
	return l.next(ctx, stream, source, offset, func() *group {
		if !tells(e) || l.state.Tapped[e.MessageId] == nil && l.pending[e.MessageId] == 0 {
			return nil
		}
		return &group{source: source, offset: offset, id: e.MessageId, event: e}
	})
}

// Passed says that a stream's source has been read up to an offset.
func (l *Lane) Passed(stream, source uint32, next int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s := l.streams[stream]; s != nil {
		s.read[source] = max(s.read[source], next)
	}
}

func (l *Lane) next(ctx context.Context, stream, source uint32, offset int64, find func() *group) error {
	l.mu.Lock()
	for s := l.streams[stream]; s != nil && len(s.queue) >= most; s = l.streams[stream] {
		room := l.room
		l.mu.Unlock()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-room:
		}
		l.mu.Lock()
	}
	defer l.mu.Unlock()
	s := l.streams[stream]
	if s == nil || offset < s.read[source] {
		return nil
	}
	if g := find(); g != nil {
		s.queue = append(s.queue, g)
		if g.event == nil {
			l.pending[g.id]++
		}
	}
	s.read[source] = offset + 1
	return nil
}

// Settled waits until a stream's cursors have reached these places.
func (l *Lane) Settled(ctx context.Context, stream uint32, ends map[uint32]int64) error {
	for {
		l.mu.Lock()
		room, done := l.room, true
		cursors := l.state.cursors(stream)
		for source, end := range ends {
			done = done && cursors[source] >= end
		}
		l.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-room:
		}
	}
}

// finals are the events that settle a recipient's fate.
var finals = []pb.EventType{
	pb.EventType_EVENT_TYPE_DELIVERED, pb.EventType_EVENT_TYPE_BOUNCED,
	pb.EventType_EVENT_TYPE_EXPIRED, pb.EventType_EVENT_TYPE_DISCARDED,
}

// tells is whether an event is an outcome of recipients.
func tells(e *pb.Event) bool {
	return len(e.Outcomes) > 0 && (e.Type == pb.EventType_EVENT_TYPE_DEFERRED || slices.Contains(finals, e.Type))
}

func cursorsOf(stream uint32, places map[uint32]int64) []*pb.TapCursor {
	var cs []*pb.TapCursor
	for _, source := range slices.Sorted(maps.Keys(places)) {
		cs = append(cs, &pb.TapCursor{Stream: stream, Source: source, Next: places[source]})
	}
	return cs
}
