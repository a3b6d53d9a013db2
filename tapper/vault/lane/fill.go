package lane

import (
	"hash/fnv"
	"maps"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	pb "qstream/schemas/qstream/v1"
	"qstream/tapper/vault/sealed"
)

// cursorRoom is what one cursor takes at most.
const cursorRoom = 24

// Fill implements sealed.Teller: as much of what was read as has room, in one
// entry, and up to where that is.
func (l *Lane) Fill(room int) [][]byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.out {
		return nil
	}
	t := &pb.TapTick{}
	switch {
	case l.birth != nil:
		t.Born, t.Cursors = true, l.birth
	case l.state.Born:
		l.fill(t, room-sealed.Cost(nil))
	}
	if proto.Size(t) == 0 {
		return nil
	}
	entry, err := proto.Marshal(t)
	if err != nil {
		return nil // hostile text: event and order ids are checked where they enter
	}
	l.out = true
	return [][]byte{entry}
}

func (l *Lane) fill(t *pb.TapTick, room int) {
	t.Begins, t.Gaps, t.Caught = l.begins, l.gaps, l.caught
	for _, number := range slices.Sorted(maps.Keys(l.acks)) {
		t.Acks = append(t.Acks, l.acks[number])
	}
	room -= proto.Size(t)
	for _, s := range l.streams {
		room -= cursorRoom * len(s.read)
	}
	p := planner{state: l.state, begins: l.begins, sequences: map[uint32]uint64{}, by: map[string]map[uint32][]uint32{}}
	empty := proto.Size(t) == 0
	for _, number := range slices.Sorted(maps.Keys(l.streams)) {
		s, said := l.streams[number], 0
		for _, g := range s.queue {
			part := p.plan(g)
			// A record is said in one piece, if need be over several beats.
			size := proto.Size(part)
			if size > room && !(empty && said == 0) {
				p.undo(part)
				break
			}
			proto.Merge(t, part)
			room -= size
			said++
			empty = false
		}
		t.Cursors = append(t.Cursors, s.advance(number, said, l.state.cursors(number))...)
		if number > 0 && room < 0 {
			break
		}
	}
}

// advance are the cursors after the first said groups.
func (s *stream) advance(number uint32, said int, at map[uint32]int64) []*pb.TapCursor {
	next := maps.Clone(s.read)
	for _, g := range slices.Backward(s.queue[said:]) {
		next[g.source] = g.offset
	}
	if number > 0 && at == nil {
		return nil
	}
	maps.DeleteFunc(next, func(source uint32, to int64) bool { return to <= at[source] })
	return cursorsOf(number, next)
}

// planner numbers what is to be said, on top of the state.
type planner struct {
	state     *State
	begins    []*pb.TapBegin
	sequences map[uint32]uint64
	by        map[string]map[uint32][]uint32 // recipients of messages said in this entry
	told      map[uint64]bool
}

// number is how the lane calls an order.
func (p *planner) number(order string) (uint32, bool) {
	if t := p.state.order(order); t != nil {
		return t.Number, true
	}
	for _, b := range p.begins {
		if b.Order == order {
			return b.Number, true
		}
	}
	return 0, false
}

func (p *planner) sequence(number uint32) uint64 {
	if _, ok := p.sequences[number]; !ok {
		if t := p.state.Taps[number]; t != nil {
			p.sequences[number] = t.Sequence
		}
	}
	p.sequences[number]++
	return p.sequences[number]
}

// undo takes back the numbers of a part that has no room.
func (p *planner) undo(part *pb.TapTick) {
	for _, c := range part.Copies {
		p.sequences[c.Number]--
		delete(p.by[c.MessageId], c.Number)
	}
	for _, o := range part.Outcomes {
		p.sequences[o.Number]--
		delete(p.told, told(o.Number, o.Hash))
	}
}

// plan is what a record means: nothing of it was said before.
func (p *planner) plan(g *group) *pb.TapTick {
	t := &pb.TapTick{}
	if g.event != nil {
		p.outcomes(t, g)
		return t
	}
	for _, m := range g.matches {
		number, ok := p.number(m.Order)
		if !ok || p.recipients(g.id, number) != nil {
			continue // it is there already: the record came a second time
		}
		t.Copies = append(t.Copies, &pb.TapCopy{
			Number: number, Sequence: p.sequence(number), MessageId: g.id, Source: g.source, Offset: g.offset,
			Recipients: m.Recipients, Bare: m.Bare, Past: m.Past,
		})
		if p.by[g.id] == nil {
			p.by[g.id] = map[uint32][]uint32{}
		}
		p.by[g.id][number] = m.Recipients
	}
	return t
}

// recipients are those of a message that an order covers; nil: none.
func (p *planner) recipients(id string, number uint32) []uint32 {
	if m := p.state.Tapped[id]; m != nil && m.By[number] != nil {
		return m.By[number].Recipients
	}
	return p.by[id][number]
}

func (p *planner) outcomes(t *pb.TapTick, g *group) {
	var numbers []uint32
	if m := p.state.Tapped[g.id]; m != nil {
		numbers = slices.Collect(maps.Keys(m.By))
	}
	numbers = append(numbers, slices.Collect(maps.Keys(p.by[g.id]))...)
	slices.Sort(numbers)
	hash := hashOf(g.event.Id)
	for _, number := range numbers {
		known := told(number, hash)
		if m := p.state.Tapped[g.id]; p.told[known] || m != nil && m.Told[known] {
			continue
		}
		recipients := p.recipients(g.id, number)
		covered, settled := Theirs(g.event, recipients)
		if len(covered) == 0 {
			continue
		}
		if p.told == nil {
			p.told = map[uint64]bool{}
		}
		p.told[known] = true
		t.Outcomes = append(t.Outcomes, &pb.TapOutcome{
			Number: number, Sequence: p.sequence(number), MessageId: g.id, Source: g.source, Offset: g.offset, Hash: hash, Settled: settled, Recipients: recipients,
		})
	}
}

// Theirs are the outcomes of an event that are about some recipients, and the
// recipients whose fate is settled by it.
func Theirs(e *pb.Event, recipients []uint32) (outcomes []*pb.Outcome, settled []uint32) {
	for _, o := range e.Outcomes {
		if slices.Contains(recipients, o.Number) {
			outcomes = append(outcomes, o)
			if slices.Contains(finals, e.Type) {
				settled = append(settled, o.Number)
			}
		}
	}
	return outcomes, settled
}

func hashOf(id string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(id))
	return h.Sum64()
}

// sweepKeys are what a sweep has still to say.
type sweepKeys struct {
	whole  bool
	taps   []uint32
	tapped []string
}

// Sweep implements sealed.Teller.
func (l *Lane) Sweep(first bool, room int) (entries [][]byte, done bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if first {
		l.keys = sweepKeys{whole: l.state.Born, taps: slices.Sorted(maps.Keys(l.state.Taps)), tapped: slices.Sorted(maps.Keys(l.state.Tapped))}
	}
	t, used := &pb.TapTick{}, sealed.Cost(nil)
	if l.keys.whole {
		t.Whole, t.Cursors, l.keys.whole = true, cursorsOf(0, l.state.Live), false
		used += proto.Size(t)
	}
	more := func(m proto.Message) bool {
		size := proto.Size(m)
		used += 1 + protowire.SizeBytes(size)
		return used <= room || proto.Size(t) == 0
	}
	for ; len(l.keys.taps) > 0; l.keys.taps = l.keys.taps[1:] {
		st := l.state.tapState(l.keys.taps[0])
		if !more(st) {
			break
		}
		t.Taps = append(t.Taps, st)
	}
	for ; len(l.keys.taps) == 0 && len(l.keys.tapped) > 0; l.keys.tapped = l.keys.tapped[1:] {
		id := l.keys.tapped[0]
		m := l.state.Tapped[id]
		if m == nil || m.over(l.state.At.Written.UnixMilli()) {
			delete(l.state.Tapped, id)
			continue
		}
		st := m.proto(id)
		if !more(st) {
			break
		}
		t.Tapped = append(t.Tapped, st)
	}
	done = len(l.keys.taps) == 0 && len(l.keys.tapped) == 0
	if proto.Size(t) == 0 {
		return nil, done
	}
	entry, err := proto.Marshal(t)
	if err != nil {
		return nil, false
	}
	return [][]byte{entry}, done
}

func (s *State) tapState(number uint32) *pb.TapState {
	t := s.Taps[number]
	return &pb.TapState{
		Number: number, Order: t.Order, Sequence: t.Sequence, Acked: t.Acked,
		Live: cursorsOf(0, t.Live), Past: cursorsOf(number, t.Past), OpenOffset: t.Open,
	}
}

func (m *Tapped) proto(id string) *pb.VaultTapped {
	p := &pb.VaultTapped{MessageId: id, AtMs: m.AtMs, SettledMs: m.Settled}
	for _, number := range slices.Sorted(maps.Keys(m.By)) {
		p.By = append(p.By, &pb.TappedBy{Number: number, Recipients: m.By[number].Recipients, Open: m.By[number].Open})
	}
	p.Told = slices.Sorted(maps.Keys(m.Told))
	return p
}
