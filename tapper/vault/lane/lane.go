// Package lane is one of the vault's lanes: which messages of its partitions an
// order covers, what became of them, and how far it has read, as entries of a
// sealed log.
//
// Guarantee: a message is copied once for each order that covers it, its events
// follow, each once, and sequence numbers have no gap, whatever happens to the
// processes that write: all that a lane does follows from what its log says.
// Guarantee: what is read and not said yet is read again; a place that is said
// to be read has been.
//
// It reads nothing itself: the vault hands it records, in order, from where
// Cursors says.
package lane

import (
	"maps"
	"slices"
	"sync"

	"google.golang.org/protobuf/proto"

	pb "qstream/schemas/qstream/v1"
	"qstream/tapper/vault/sealed"
)

// most bounds what waits for its beat, in records of the stream. Then Read
// waits.
const most = 20000

// Match is an order that covers a message.
type Match struct {
	Order      string
	Recipients []uint32 // numbers, ascending
	Bare       bool     // the envelope alone
	Past       bool     // accepted before the order was approved
}

// Said is what a lane was told that counts, for who serves the sinks.
type Said struct {
	At   sealed.Place
	Tick *pb.TapTick
}

// Lane is a teller of its log. Safe for concurrent use.
type Lane struct {
	number int
	self   func() string // names this process
	on     func(Said)    // may be nil; must not block

	mu      sync.Mutex
	state   *State
	streams map[uint32]*stream
	begins  []*pb.TapBegin
	birth   []*pb.TapCursor // not nil: the lane is to be born
	gaps    []*pb.TapGap
	caught  []uint32       // orders whose past is read
	pending map[string]int // messages of which a copy waits to be said
	acks    map[uint32]*pb.TapAck
	out     bool   // what Fill gave last isn't taken yet
	foreign uint64 // records of other processes
	room    chan struct{}
	keys    sweepKeys
}

// stream is what was read and isn't said.
type stream struct {
	queue []*group
	read  map[uint32]int64 // by source: the next offset to read
}

// group is what one record means for orders: it is said in one piece.
type group struct {
	source  uint32
	offset  int64
	id      string
	matches []Match   // of a message
	event   *pb.Event // else
}

// New makes a lane; self names this process as the log does.
func New(number int, self func() string, on func(Said)) *Lane {
	return &Lane{
		number: number, self: self, on: on, state: newState(), streams: map[uint32]*stream{},
		acks: map[uint32]*pb.TapAck{}, pending: map[string]int{}, room: make(chan struct{}),
	}
}

// Number is which lane it is.
func (l *Lane) Number() int { return l.number }

// Take implements sealed.Teller.
func (l *Lane) Take(at sealed.Place, entry []byte) {
	tick := &pb.TapTick{}
	if err := proto.Unmarshal(entry, tick); err != nil {
		return // of a later version: it must not stop the lane
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.state.apply(at, tick)
	if at.Writer != l.self() {
		l.foreign++
		// What was read here and not said was matched by orders, and rests on
		// places, that may be others now: none of it is said.
		l.clear()
	}
	if !tick.Whole && len(tick.Taps) == 0 && len(tick.Tapped) == 0 {
		l.out = false
	}
	l.prune()
	if l.on != nil {
		l.on(Said{at, tick})
	}
}

// Clear forgets what was read and not said: reading starts again.
func (l *Lane) Clear() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.clear()
}

func (l *Lane) clear() {
	clear(l.streams)
	clear(l.pending)
	l.begins = nil
}

// prune forgets what counts now.
func (l *Lane) prune() {
	for number, s := range l.streams {
		cursors := l.state.cursors(number)
		kept := s.queue[:0]
		for _, g := range s.queue {
			if g.offset >= cursors[g.source] && cursors != nil {
				kept = append(kept, g)
			} else {
				l.forget(g)
			}
		}
		clear(s.queue[len(kept):])
		s.queue = kept
	}
	begins := l.begins[:0]
	for _, b := range l.begins {
		if l.state.order(b.Order) == nil {
			begins = append(begins, b)
		}
	}
	l.begins = begins
	if l.state.Born {
		l.birth = nil
	}
	l.gaps = slices.DeleteFunc(l.gaps, func(g *pb.TapGap) bool {
		return slices.ContainsFunc(l.state.Gaps, func(s *pb.TapGap) bool { return proto.Equal(g, s) })
	})
	l.caught = slices.DeleteFunc(l.caught, func(n uint32) bool { return l.state.cursors(n) == nil })
	for number, a := range l.acks {
		t := l.state.Taps[number]
		if t == nil || a.Sequence <= t.Acked {
			delete(l.acks, number)
			continue
		}
		a.Lost = slices.DeleteFunc(a.Lost, func(n uint64) bool { return n <= t.Acked }) // that is said
	}
	close(l.room)
	l.room = make(chan struct{})
}

// forget is called for each group that leaves a queue.
func (l *Lane) forget(g *group) {
	if g.event != nil {
		return
	}
	if l.pending[g.id]--; l.pending[g.id] <= 0 {
		delete(l.pending, g.id)
	}
}

// Drop implements sealed.Teller. What was said stays in the queues until it
// counts.
func (l *Lane) Drop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.out = false
}

// Foreign counts records of other processes: whenever it changes, what was
// read here may be what they have said, by orders that this process didn't
// know yet. It is forgotten; reading starts again at Cursors.
func (l *Lane) Foreign() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.foreign
}

// Born reports whether the lane's log has a beginning.
func (l *Lane) Born() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state.Born
}

// Bear gives the lane its beginning: reading starts at these places.
func (l *Lane) Bear(cursors []*pb.TapCursor) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.birth == nil && !l.state.Born {
		l.birth = append([]*pb.TapCursor{}, cursors...)
	}
}

// Gap says that a stretch of a stream's source is gone.
func (l *Lane) Gap(stream, source uint32, from, to int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.gaps = append(l.gaps, &pb.TapGap{Stream: stream, Source: source, From: from, To: to})
}

// Caught ends the reading of an order's past.
func (l *Lane) Caught(number uint32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.state.cursors(number) != nil && !slices.Contains(l.caught, number) {
		l.caught = append(l.caught, number)
	}
}

// Taps are the orders that the lane knows, as they stand.
func (l *Lane) Taps() []Tap {
	l.mu.Lock()
	defer l.mu.Unlock()
	taps := make([]Tap, 0, len(l.state.Taps))
	for _, number := range slices.Sorted(maps.Keys(l.state.Taps)) {
		t := *l.state.Taps[number]
		t.Live, t.Past, t.marks = maps.Clone(t.Live), maps.Clone(t.Past), nil
		taps = append(taps, t)
	}
	return taps
}

// Changed is closed at the next entry that counts.
func (l *Lane) Changed() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.room
}

// Ack tells that an order's sink has everything up to a sequence number;
// lost are those whose content is gone.
func (l *Lane) Ack(number uint32, sequence uint64, lost []uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.acks[number]
	if a == nil {
		a = &pb.TapAck{Number: number}
		l.acks[number] = a
	}
	a.Sequence, a.Lost = max(a.Sequence, sequence), append(a.Lost, lost...)
}
