package sealed

import (
	"errors"

	"qstream/bus"
	pb "qstream/schemas/qstream/v1"
)

// log is one log of a set as its writer sees it. Not safe for concurrent use.
type log struct {
	Topic
	fold   *Fold
	closed int    // records that could not be opened
	next   int64  // offset behind the last that was read; 0: none was
	writer []byte // this process

	mine  *written // the record that was published and not read back yet
	queue []said   // what goes out next: entries that were begun first
	sweep sweep
}

// said is an entry that waits for its place.
type said struct {
	data    []byte
	begun   bool // a part of it is out
	first   bool // of a sweep
	lastOne bool // of a sweep
}

// sweep is how far the present sweep is.
type sweep struct {
	running bool
	told    bool   // the teller has said it all
	number  uint64 // where it began; 0: not out yet
	offset  int64

	doneNumber uint64 // where the last whole one began; 0: none
	doneOffset int64
}

// written is a record on its way.
type written struct {
	id           [idSize]byte
	number       uint64
	begins, ends bool // a sweep
}

func newLog(t Topic, keys *Keys, writer []byte) *log {
	return &log{Topic: t, fold: NewFold(t.Name, keys), writer: writer}
}

// build makes the next record, based on the head.
func (l *log) build(nowMs int64) (*bus.Record, error) {
	if l.mine != nil {
		l.drop() // whether it will count is not known
	}
	room := room(l.Size)
	l.ask(room)
	t := &pb.Tick{
		Number: l.fold.number + 1, Writer: l.writer, WrittenMs: nowMs,
		SweepNumber: l.fold.sweepNumber, SweepOffset: l.fold.sweepOffset, NewestKey: l.fold.codec.keys.top(),
	}
	t.NewestKeyPrint = l.fold.codec.keys.print(t.NewestKey)
	if l.fold.number > 0 {
		t.Follows = l.fold.id[:]
	}
	if l.sweep.doneNumber > 0 {
		t.SweepNumber, t.SweepOffset = l.sweep.doneNumber, l.sweep.doneOffset
	}
	mine := &written{number: t.Number}
	t.Pieces = l.pack(room, mine)
	value, err := l.fold.codec.seal(t, l.Size, l.fold.sealedBy())
	if err != nil {
		return nil, err
	}
	mine.id = idOf(value)
	l.mine = mine
	return record(l.Name, value), nil
}

// ask fills the queue up to a record's room. A quarter is the sweep's, and what
// else is left. Its part stands first, since it tells the state that the entries
// are based on; so there is none while an entry is only partly out.
func (l *log) ask(room int) {
	idle, reserve := len(l.queue) == 0, room/4
	for _, s := range l.queue {
		room -= Cost(s.data)
	}
	if room <= reserve {
		return
	}
	var live []said
	for _, entry := range l.Teller.Fill(room - reserve) {
		live = append(live, said{data: entry})
		room -= Cost(entry)
	}
	if idle {
		l.queue = l.part(room)
	}
	l.queue = append(l.queue, live...)
}

// part is the sweep's next part.
func (l *log) part(room int) []said {
	if l.sweep.running && l.sweep.told {
		return nil
	}
	first := !l.sweep.running
	if first {
		l.sweep.running, l.sweep.told, l.sweep.number = true, false, 0
	}
	entries, done := l.Teller.Sweep(first, max(room, leastSize/4))
	if len(entries) == 0 && (first || done) {
		entries = [][]byte{nil} // marks the place; a reader passes over it
	}
	var parts []said
	for i, entry := range entries {
		parts = append(parts, said{data: entry, first: first && i == 0, lastOne: done && i == len(entries)-1})
	}
	l.sweep.told = done
	return parts
}

// pack takes pieces off the queue.
func (l *log) pack(room int, mine *written) []*pb.Piece {
	var pieces []*pb.Piece
	for len(l.queue) > 0 && room > pieceFixed {
		s := &l.queue[0]
		n := min(len(s.data), room-pieceFixed)
		p := &pb.Piece{Data: s.data[:n], Continued: s.begun, More: n < len(s.data)}
		pieces = append(pieces, p)
		room -= pieceFixed + n
		mine.begins = mine.begins || s.first && !s.begun
		if p.More {
			s.data, s.begun = s.data[n:], true
			break
		}
		mine.ends = mine.ends || s.lastOne
		l.queue = l.queue[1:]
	}
	return pieces
}

// take reads a record of the log; foreign: it counts, and another process
// wrote it.
func (l *log) take(r bus.Record) (t Taken, foreign bool, err error) {
	t, err = l.fold.Take(r)
	if !errors.Is(err, ErrGarbage) {
		l.next = r.Offset + 1 // what can't be opened may be under a key that comes
	}
	own := l.mine != nil && l.mine.id == idOf(r.Value)
	if err != nil {
		if errors.Is(err, ErrGarbage) {
			l.closed++
		}
		if own {
			l.drop()
		}
		return t, false, err
	}
	for _, entry := range t.Entries {
		if len(entry) > 0 {
			l.Teller.Take(t.Place, entry)
		}
	}
	if !own {
		// What is on its way has lost its race now.
		l.drop()
		return t, t.Writer != writerName(l.writer), nil
	}
	if l.mine.begins {
		l.sweep.number, l.sweep.offset = t.Number, t.Offset
	}
	if l.mine.ends && l.sweep.number > 0 {
		l.sweep.doneNumber, l.sweep.doneOffset = l.sweep.number, l.sweep.offset
		l.sweep.running = false
	}
	l.mine = nil
	return t, false, nil
}

// drop plans anew: what was said and hasn't counted may never do.
func (l *log) drop() {
	l.mine, l.queue = nil, nil
	l.sweep.running, l.sweep.number = false, 0
	l.sweep.doneNumber = 0 // the head's own is carried on
	l.Teller.Drop()
}
