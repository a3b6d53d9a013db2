package sealed

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"time"

	"qstream/bus"
	pb "qstream/schemas/qstream/v1"
)

// mostEntry bounds an entry that is put together from pieces.
const mostEntry = 8 << 20

// Fold reads the records of one log in their order and says what counts.
type Fold struct {
	codec *codec

	number  uint64 // of the head; 0: none yet
	id      [idSize]byte
	follows uint64 // how many counted since the first that was taken as it is
	opened  bool   // a record of the log was seen
	newest  uint32 // key that a record that counts told of; 0: none yet
	print   []byte // of that key, as the newest record that tells says; nil: none does

	part []byte // of an entry that isn't whole yet
	open bool

	sweepNumber uint64 // where everything that holds is said, as the head has it
	sweepOffset int64
}

// Taken is what a record that counts says.
type Taken struct {
	Place
	Entries [][]byte
	Missing uint64 // records that must have stood before it and are not there
	id      [idSize]byte
}

// NewFold makes a fold of a topic.
func NewFold(topic string, keys *Keys) *Fold { return &Fold{codec: newCodec(topic, keys)} }

// Take reads a record. An error is ErrGarbage or ErrLost and means that it
// changed nothing.
func (f *Fold) Take(r bus.Record) (Taken, error) {
	t, by, err := f.codec.open(r.Value)
	if err != nil {
		return Taken{}, err
	}
	f.opened = true
	done := Taken{id: idOf(r.Value), Place: Place{
		Topic: r.Topic, Number: t.Number, Offset: r.Offset, At: r.Time,
		Written: time.UnixMilli(t.WrittenMs), Writer: hex.EncodeToString(t.Writer),
	}}
	switch {
	case by < f.newest && t.Number > f.number:
		// Whoever knows the head seals with the newest key: an older one that got
		// out is good for nothing that follows.
		return done, fmt.Errorf("%w: sealed with key %d after %d", ErrGarbage, by, f.newest)
	case f.number == 0: // reading starts here
		f.follows = 0
		if t.Number == 1 {
			f.follows = 1 // nothing can stand before it
		}
	case t.Number == f.number+1 && [idSize]byte(t.Follows) == f.id:
		f.follows++
	case t.Number == f.number+1 && f.follows == 0:
		// What reading started at had lost its race, to one that is gone.
		f.part, f.open = nil, false
	case t.Number > f.number+1:
		done.Missing = t.Number - f.number - 1
		f.part, f.open = nil, false
		f.follows = 0
	default:
		return done, fmt.Errorf("%w: number %d, the head is %d", ErrLost, t.Number, f.number)
	}
	f.number, f.id = t.Number, done.id
	f.sweepNumber, f.sweepOffset = t.SweepNumber, t.SweepOffset
	f.told(t, by)
	for _, p := range t.Pieces {
		if entry, whole := f.join(p); whole {
			done.Entries = append(done.Entries, entry)
		}
	}
	return done, nil
}

// told notes the newest key that a record tells of.
func (f *Fold) told(t *pb.Tick, by uint32) {
	if t.NewestKey < f.newest {
		return
	}
	f.newest = t.NewestKey
	switch {
	case by == t.NewestKey:
		f.print = f.codec.keys.print(by) // it has opened the record
	case len(t.NewestKeyPrint) == printSize:
		f.print = t.NewestKeyPrint
	default:
		f.print = nil // written before there were prints
	}
}

// join puts a piece to those before it.
func (f *Fold) join(p *pb.Piece) (entry []byte, whole bool) {
	if !p.Continued {
		f.part, f.open = []byte{}, true // what was begun before has lost its writer
	}
	if !f.open {
		return nil, false // its beginning isn't known
	}
	f.part = append(f.part, p.Data...)
	if p.More {
		f.open = len(f.part) <= mostEntry
		return nil, false
	}
	entry = f.part
	f.part, f.open = nil, false
	return entry, true
}

// Head is the number of the newest record that counts; 0: none.
func (f *Fold) Head() uint64 { return f.number }

// Lacks is the number of a key that the log's writers have and this process
// doesn't: what comes may not be readable here. 0: none.
func (f *Fold) Lacks() uint32 {
	if f.newest > f.codec.keys.top() {
		return f.newest
	}
	return 0
}

// Other is a key that the log's writers go on with, of which this process has
// another one of the same number: what they seal is garbage here, and what it
// seals is garbage there. 0: none.
func (f *Fold) Other() (number uint32, print []byte) {
	if f.newest == 0 || f.newest != f.codec.keys.top() || f.print == nil || bytes.Equal(f.print, f.codec.keys.print(f.newest)) {
		return 0, nil
	}
	return f.newest, f.print
}

// sealedBy is the key of the next record. A newer one than it is told of first,
// so that a reader who lacks that learns it from a record that it can trust.
func (f *Fold) sealedBy() uint32 { return max(f.newest, 1) }
