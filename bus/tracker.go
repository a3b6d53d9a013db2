package bus

import "sort"

// span is a range of offsets, the end excluded.
type span struct{ from, to int64 }

// tracker knows which offsets of a partition are unfinished. Everything below
// next that isn't held is finished, so that transaction markers and gaps of
// compaction count by themselves. It isn't safe for concurrent use.
//
// Guarantee: base never passes an unfinished offset.
// Guarantee: an offset that the metadata tells finished was marked so.
type tracker struct {
	next  int64  // first offset not seen yet
	held  []slot // ascending; the first one is open, or there is none
	tail  bool   // something finished lies between the last slot and next
	known []span // finished by an earlier owner, at or above next
}

type slot struct {
	offset int64
	state  slotState
	gap    bool // something finished lies between the slot before and this
}

type slotState uint8

const (
	open  slotState = iota
	taken           // finished, in a transaction that hasn't ended
	done            // finished and committed
)

// newTracker starts at a committed offset, with what its metadata tells
// finished above it.
func newTracker(base int64, known []span) *tracker {
	return &tracker{next: base, known: known}
}

// add holds a record's offset; false if an earlier owner has finished it, or
// it was seen before.
func (t *tracker) add(offset int64) bool {
	if offset < t.next {
		return false
	}
	was := t.knows(offset)
	t.advance(offset + 1)
	if was {
		return false
	}
	t.held = append(t.held, slot{offset: offset, gap: t.tail && len(t.held) > 0})
	t.tail = false
	return true
}

// skip passes an offset that holds no record to work on.
func (t *tracker) skip(offset int64) {
	if offset >= t.next {
		t.advance(offset + 1)
	}
}

// advance moves next, over what an earlier owner has finished.
func (t *tracker) advance(next int64) {
	t.next = next
	for len(t.known) > 0 && t.known[0].from < next {
		t.tail = true
		if t.known[0].to > next {
			t.known[0].from = next
			return
		}
		t.known = t.known[1:]
	}
}

// find is the slot of a held offset, or nil.
func (t *tracker) find(offset int64) *slot {
	i := sort.Search(len(t.held), func(i int) bool { return t.held[i].offset >= offset })
	if i < len(t.held) && t.held[i].offset == offset {
		return &t.held[i]
	}
	return nil
}

// set changes the state of a held offset.
func (t *tracker) set(offset int64, s slotState) {
	if at := t.find(offset); at != nil {
		at.state = s
	}
}

// isOpen reports whether a commit now would leave the offset unfinished.
func (t *tracker) isOpen(offset int64) bool {
	if offset >= t.next {
		return !t.knows(offset)
	}
	at := t.find(offset)
	return at != nil && at.state == open
}

// holds reports whether the offset isn't finished for good.
func (t *tracker) holds(offset int64) bool { return t.find(offset) != nil }

// knows reports whether an offset not seen yet was finished by an earlier
// owner, or lies below where this one started.
func (t *tracker) knows(offset int64) bool {
	if offset < t.next {
		return true
	}
	for _, s := range t.known {
		if s.from <= offset && offset < s.to {
			return true
		}
	}
	return false
}

// base is the lowest unfinished offset: what is taken counts as finished.
func (t *tracker) base() int64 {
	for i := range t.held {
		if t.held[i].state == open {
			return t.held[i].offset
		}
	}
	return t.next
}

// finished are the ranges above base that are finished. A gap between two
// unfinished offsets in which no record was finished is left out: it costs
// room and tells nothing.
func (t *tracker) finished() []span {
	var out []span
	last, between := int64(-1), false // last open offset; finished since then?
	for i := range t.held {
		s := &t.held[i]
		between = between || s.gap
		if s.state != open {
			between = true
			continue
		}
		if last >= 0 && between {
			out = append(out, span{last + 1, s.offset})
		}
		last, between = s.offset, false
	}
	if last >= 0 && (between || t.tail) && last+1 < t.next {
		out = append(out, span{last + 1, t.next})
	}
	return append(out, t.known...)
}

// compact forgets what is done, so that memory follows what is unfinished and
// not the span that one slow record holds open.
func (t *tracker) compact() {
	kept, gap := t.held[:0], false
	for _, s := range t.held {
		if s.state == done {
			gap = true
			continue
		}
		s.gap = (s.gap || gap) && len(kept) > 0
		kept, gap = append(kept, s), false
	}
	t.tail = (t.tail || gap) && len(kept) > 0
	t.held = kept
}
