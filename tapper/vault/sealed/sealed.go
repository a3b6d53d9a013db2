// Package sealed is a log that tells nobody without its key whether it says
// anything: on a topic of one partition stands one record of one size for each
// beat of a clock, always, encrypted and filled up.
//
// Guarantee: an entry counts once, whoever writes: a record that doesn't follow
// the head doesn't count, everybody who reads sees that, its writer too. So
// there is no transaction, no group and no commit that a broker could describe.
// Guarantee: what was changed, repeated, brought from another topic or sealed
// with another key doesn't count and stops nobody, whatever key it claims; what
// is missing between two records is told.
// Guarantee: who lacks a key that others seal with learns that from a record
// that it can trust, before any is sealed so, and writes nothing until it has it.
// So does who has another key of its number, which its fingerprint tells.
// Guarantee: the number, the times and the sizes of records depend on the
// clock and on the settings alone.
//
// It doesn't hide that there is a vault, nor when its processes start and end.
package sealed

import (
	"errors"
	"fmt"
	"time"

	"qstream/bus"
)

// Errors of reading.
var (
	// ErrGarbage is a record that can't be opened.
	ErrGarbage = errors.New("record is not of this log")
	// ErrLost is a record that doesn't follow the head: another one won, or it
	// is there a second time.
	ErrLost = errors.New("record doesn't follow the head")
	// ErrKey is a key that is missing or wrong.
	ErrKey = errors.New("the vault's key doesn't open this log")
)

// idSize is how much of a record's hash names it.
const idSize = 16

// Place is where an entry stands.
type Place struct {
	Topic   string
	Number  uint64 // of the tick, from 1, without a gap
	Offset  int64
	At      time.Time // append time
	Written time.Time // by the writer's clock
	Writer  string    // the process, since its start
}

// Teller is who fills a log with entries, and learns which count. Its methods
// are not called concurrently, and must not block.
type Teller interface {
	// Take is told of each entry that counts, in order, whoever wrote it. It
	// is all that a state may be made of.
	Take(at Place, entry []byte)
	// Fill gives the next entries; together they take at most about room
	// bytes, each Cost of its own. An entry that is larger goes out in parts.
	Fill(room int) [][]byte
	// Drop says that what Fill gave and Take was not told of doesn't count, as
	// far as is known: it may do so later.
	Drop()
	// Sweep says again what holds, in entries, a part with each call; done: all
	// has been said since first. A part is as of the last Take and is taken before
	// what Fill gave last: it replaces whatever a reader knows of its subject. So
	// who begins to read at the first part knows everything after the last.
	Sweep(first bool, room int) (entries [][]byte, done bool)
}

// Limits of a record's size, in bytes.
const (
	leastSize = 512
	mostSize  = 512 << 10
)

// Topic is one log of a Set.
type Topic struct {
	Name   string
	Every  time.Duration // the clock's beat
	Size   int           // bytes of a record, 512 to 512 Ki
	Teller Teller
}

func (t Topic) check() error {
	switch {
	case t.Name == "" || t.Teller == nil:
		return errors.New("a log needs a topic and a teller")
	case t.Every < 10*time.Millisecond || t.Every > time.Hour:
		return fmt.Errorf("log %s: a beat of %v is not between 10ms and 1h", t.Name, t.Every)
	case t.Size < leastSize || t.Size > mostSize:
		return fmt.Errorf("log %s: records of %d bytes are not between %d and %d", t.Name, t.Size, leastSize, mostSize)
	}
	return nil
}

// record is the record of a sealed tick: nothing beside the value.
func record(topic string, value []byte) *bus.Record {
	return &bus.Record{Topic: topic, Partition: 0, Value: value}
}
