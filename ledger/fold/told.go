package fold

import (
	"encoding/binary"
	"errors"

	pb "qstream/schemas/qstream/v1"
)

// Told are the events about a message that were folded: where each stands, and
// what identifies it, packed. One takes about six bytes.
//
// An entry is, as unsigned varints unless said otherwise: the type times four,
// plus one if a partition follows, plus two if a recipient's number follows;
// the partition; the offset less the offset before (signed); leg; step; number.
// The first entry always has a partition.
type Told struct {
	packed []byte
	last   mark
	seen   map[mark]bool // of identities; nil while there are few
	count  int
}

// mark is one event: its place, and its identity among a message's events.
type mark struct {
	Partition int32
	Offset    int64
	Type      pb.EventType
	Leg       uint32
	Step      uint64
	First     int64 // number of the first recipient; -1: it names none
}

// identity is what two events have in common of which one repeats the other.
func (k mark) identity() mark {
	k.Partition, k.Offset = 0, 0
	return k
}

var errPacked = errors.New("packed events are damaged")

// Unpack reads what Packed gave.
func Unpack(packed []byte) (Told, error) {
	t := Told{packed: packed}
	err := t.each(func(k mark) bool {
		t.last = k
		t.count++
		return true
	})
	return t, err
}

// Packed is the whole in bytes. They are not to be changed.
func (t *Told) Packed() []byte { return t.packed }

// Len is how many events there are.
func (t *Told) Len() int { return t.count }

// Each calls f for the place of every event, in the order in which they were
// folded.
func (t *Told) Each(f func(partition int32, offset int64)) error {
	return t.each(func(k mark) bool {
		f(k.Partition, k.Offset)
		return true
	})
}

// few is how many events are searched without an index.
const few = 16

// add notes an event; it returns false if it repeats one.
func (t *Told) add(k mark) bool {
	if t.has(k.identity()) {
		return false
	}
	if t.seen != nil {
		t.seen[k.identity()] = true
	}
	head := uint64(k.Type) << 2
	if len(t.packed) == 0 || k.Partition != t.last.Partition {
		head |= 1
	}
	if k.First >= 0 {
		head |= 2
	}
	t.packed = binary.AppendUvarint(t.packed, head)
	if head&1 != 0 {
		t.packed = binary.AppendUvarint(t.packed, uint64(uint32(k.Partition)))
	}
	t.packed = binary.AppendVarint(t.packed, k.Offset-t.last.Offset)
	t.packed = binary.AppendUvarint(t.packed, uint64(k.Leg))
	t.packed = binary.AppendUvarint(t.packed, k.Step)
	if k.First >= 0 {
		t.packed = binary.AppendUvarint(t.packed, uint64(k.First))
	}
	t.last = k
	t.count++
	return true
}

func (t *Told) has(identity mark) bool {
	if t.count > few && t.seen == nil {
		t.seen = make(map[mark]bool, t.count+few)
		_ = t.each(func(k mark) bool { // what is here was read before
			t.seen[k.identity()] = true
			return true
		})
	}
	if t.seen != nil {
		return t.seen[identity]
	}
	found := false
	_ = t.each(func(k mark) bool {
		found = k.identity() == identity
		return !found
	})
	return found
}

// each reads the entries until f returns false.
func (t *Told) each(f func(mark) bool) error {
	var k mark
	for rest := t.packed; len(rest) > 0; {
		var err error
		if k, rest, err = unpack(rest, k, len(rest) == len(t.packed)); err != nil {
			return err
		}
		if !f(k) {
			return nil
		}
	}
	return nil
}

// unpack reads one entry that follows another.
func unpack(b []byte, before mark, first bool) (mark, []byte, error) {
	k, bad := before, false
	next := func() uint64 {
		v, n := binary.Uvarint(b)
		if n <= 0 {
			bad = true
			return 0
		}
		b = b[n:]
		return v
	}
	head := next()
	if first && head&1 == 0 {
		return k, nil, errPacked
	}
	k.Type = pb.EventType(head >> 2)
	if head&1 != 0 {
		k.Partition = int32(uint32(next()))
	}
	delta, n := binary.Varint(b)
	if n <= 0 {
		return k, nil, errPacked
	}
	b = b[n:]
	k.Offset += delta
	k.Leg, k.Step, k.First = uint32(next()), next(), -1
	if head&2 != 0 {
		k.First = int64(uint32(next()))
	}
	if bad {
		return k, nil, errPacked
	}
	return k, b, nil
}
