package lane

import (
	"slices"

	pb "qstream/schemas/qstream/v1"
	"qstream/tapper/vault/sealed"
)

// Kinds of sources: see Source.
const (
	OfReceived = iota
	OfReinject
	OfEvents
	sourceKinds = 4
)

// Source names a partition of a topic that a lane reads.
func Source(kind int, partition int32) uint32 { return uint32(partition)*sourceKinds + uint32(kind) }

// Split is what Source joined.
func Split(source uint32) (kind int, partition int32) {
	return int(source % sourceKinds), int32(source / sourceKinds)
}

// settledKept is how long a message is remembered whose outcomes are all
// known: its records may come a second time. unsettledKept is how long one is
// whose outcomes never came.
const (
	settledKept   = 3_600_000          // ms
	unsettledKept = 60 * 24 * 3600_000 // ms, above any lifetime
)

// State is what a lane's log says.
type State struct {
	Born   bool
	Live   map[uint32]int64 // by source: the next offset
	Taps   map[uint32]*Tap  // by number
	Tapped map[string]*Tapped
	Gaps   []*pb.TapGap
	At     sealed.Place // of the newest entry

	byOrder map[string]uint32
}

// Tap is what a lane knows of an order.
type Tap struct {
	Number   uint32
	Order    string
	Sequence uint64
	Acked    uint64
	Live     map[uint32]int64 // where it began to be matched as mail comes
	Past     map[uint32]int64 // by source: the next offset of its past; nil: it is read
	Open     int64            // place of the first record that isn't acked, or before it

	marks []mark
}

// mark is where a sequence number stands.
type mark struct {
	sequence uint64
	offset   int64
}

// Tapped is a copied message.
type Tapped struct {
	By      map[uint32]*By
	Told    map[uint64]bool
	AtMs    int64
	Settled int64
}

// By are the recipients that an order covers, and those whose fate is open.
type By struct{ Recipients, Open []uint32 }

func newState() *State {
	return &State{
		Live: map[uint32]int64{}, Taps: map[uint32]*Tap{}, Tapped: map[string]*Tapped{}, byOrder: map[string]uint32{},
	}
}

func (s *State) order(id string) *Tap { return s.Taps[s.byOrder[id]] }

// cursors are a stream's; nil for one that isn't known or at its end.
func (s *State) cursors(stream uint32) map[uint32]int64 {
	if stream == 0 {
		return s.Live
	}
	if t := s.Taps[stream]; t != nil {
		return t.Past
	}
	return nil
}

// apply takes one entry.
func (s *State) apply(at sealed.Place, t *pb.TapTick) {
	s.At = at
	s.Born = s.Born || t.Born || t.Whole
	for _, st := range t.Taps {
		s.set(st)
	}
	for _, m := range t.Tapped {
		s.Tapped[m.MessageId] = tappedOf(m)
	}
	for _, b := range t.Begins {
		if s.order(b.Order) == nil {
			s.Taps[b.Number] = &Tap{Number: b.Number, Order: b.Order, Live: placesOf(b.Live), Past: placesOf(b.Past), Open: at.Offset}
			s.byOrder[b.Order] = b.Number
		}
	}
	for _, c := range t.Copies {
		s.copied(at, c)
	}
	for _, o := range t.Outcomes {
		s.told(at, o)
	}
	for _, c := range t.Cursors {
		if to := s.cursors(c.Stream); to != nil {
			to[c.Source] = max(to[c.Source], c.Next)
		}
	}
	for _, n := range t.Caught {
		if tap := s.Taps[n]; tap != nil {
			tap.Past = nil
		}
	}
	for _, a := range t.Acks {
		if tap := s.Taps[a.Number]; tap != nil {
			tap.acked(a.Sequence, at.Offset)
		}
	}
	s.Gaps = append(s.Gaps, t.Gaps...)
}

func (s *State) set(st *pb.TapState) {
	t := &Tap{
		Number: st.Number, Order: st.Order, Sequence: st.Sequence, Acked: st.Acked,
		Live: placesOf(st.Live), Past: placesOf(st.Past), Open: st.OpenOffset,
	}
	if had := s.Taps[st.Number]; had != nil && had.Sequence == t.Sequence {
		t.marks = had.marks
	} else {
		t.marks = []mark{{st.Acked + 1, st.OpenOffset}}
	}
	s.Taps[st.Number], s.byOrder[st.Order] = t, st.Number
}

func (s *State) copied(at sealed.Place, c *pb.TapCopy) {
	// Who began to read at a sweep may come to the order later in it; the
	// message isn't in that sweep, if it was copied since.
	if tap := s.Taps[c.Number]; tap != nil {
		tap.next(c.Sequence, at.Offset)
	}
	m := s.Tapped[c.MessageId]
	if m == nil {
		m = &Tapped{By: map[uint32]*By{}, Told: map[uint64]bool{}, AtMs: at.Written.UnixMilli()}
		s.Tapped[c.MessageId] = m
	}
	m.By[c.Number] = &By{Recipients: c.Recipients, Open: slices.Clone(c.Recipients)}
	m.Settled = 0
}

func (s *State) told(at sealed.Place, o *pb.TapOutcome) {
	if tap := s.Taps[o.Number]; tap != nil {
		tap.next(o.Sequence, at.Offset)
	}
	m := s.Tapped[o.MessageId]
	if m == nil {
		return
	}
	m.Told[told(o.Number, o.Hash)] = true
	open := 0
	for _, by := range m.By {
		by.Open = slices.DeleteFunc(by.Open, func(n uint32) bool { return slices.Contains(o.Settled, n) })
		open += len(by.Open)
	}
	if open == 0 {
		m.Settled = at.Written.UnixMilli()
	}
}

// told names an event of an order.
func told(number uint32, hash uint64) uint64 { return hash ^ uint64(number)*0x9e3779b97f4a7c15 }

// marksKept bounds the marks of a tap whose sink is dead.
const marksKept = 256

// next takes a sequence number, and remembers now and then where it stands.
func (t *Tap) next(sequence uint64, offset int64) {
	t.Sequence = max(t.Sequence, sequence)
	if n := len(t.marks); n == 0 || t.marks[n-1].sequence < sequence && t.marks[n-1].offset < offset {
		t.marks = append(t.marks, mark{sequence, offset})
	}
	if len(t.marks) > marksKept {
		kept := t.marks[:1]
		for i := 2; i < len(t.marks); i += 2 {
			kept = append(kept, t.marks[i])
		}
		t.marks = kept
	}
	t.open(offset)
}

func (t *Tap) acked(sequence uint64, offset int64) {
	t.Acked = max(t.Acked, min(sequence, t.Sequence))
	t.open(offset)
}

// open finds the newest mark at or before the first number that isn't acked.
func (t *Tap) open(offset int64) {
	for len(t.marks) > 1 && t.marks[1].sequence <= t.Acked+1 {
		t.marks = t.marks[1:]
	}
	switch {
	case t.Acked >= t.Sequence:
		t.marks, t.Open = nil, offset
	case len(t.marks) > 0:
		t.Open = t.marks[0].offset
	}
}

func placesOf(cs []*pb.TapCursor) map[uint32]int64 {
	if len(cs) == 0 {
		return nil
	}
	places := make(map[uint32]int64, len(cs))
	for _, c := range cs {
		places[c.Source] = c.Next
	}
	return places
}

func tappedOf(p *pb.VaultTapped) *Tapped {
	m := &Tapped{By: map[uint32]*By{}, Told: map[uint64]bool{}, AtMs: p.AtMs, Settled: p.SettledMs}
	for _, by := range p.By {
		m.By[by.Number] = &By{Recipients: by.Recipients, Open: by.Open}
	}
	for _, h := range p.Told {
		m.Told[h] = true
	}
	return m
}

// over reports whether a message needn't be remembered any more.
func (m *Tapped) over(nowMs int64) bool {
	return m.Settled > 0 && nowMs-m.Settled > settledKept || nowMs-m.AtMs > unsettledKept
}
