// Package fold turns the events of a message into what is known of it now:
// its recipients, and the legs that are not finished. It is pure.
//
// Guarantee: events of one partition in their order give the same messages,
// however they are cut into batches, and in whatever order partitions are read.
//
// Guarantee: an event that repeats another (message, leg, step, type and first
// recipient are the same) changes nothing and is told apart.
//
// A message may be folded in part: only the recipients and legs that the events
// name have to be there, see Wanted.
package fold

import (
	"cmp"
	"slices"
	"strings"

	"github.com/oklog/ulid/v2"

	pb "qstream/schemas/qstream/v1"
)

// ID is a message id in its 16 bytes: in the order of time.
type ID = ulid.ULID

// ParseID reads a message id; ok is false if it is none of ours.
func ParseID(text string) (ID, bool) {
	id, err := ulid.ParseStrict(text)
	return id, err == nil
}

// Hour is the hour of a message's birth since 1970, by its id: every record
// of the message tells the same.
func Hour(id ID) int64 { return int64(id.Time()) / 3_600_000 }

// Opened is how a recipient came to be.
type Opened uint8

// Ways in which a recipient is opened.
const (
	// Unopened: an event told of it that no opening preceded.
	Unopened Opened = iota
	// Accepted by an edge.
	Accepted
	// Generated here: the recipient of a DSN.
	Generated
)

// State is what became of a recipient.
type State uint8

// States of a recipient.
const (
	Open State = iota
	Delivered
	Bounced
	Expired
	Discarded
)

// Place is where an unfinished leg is.
type Place uint8

// Places of legs. Received and Reinject are in front of the router: the first
// and DSNs have no leg yet and stand under the number Unrouted.
const (
	Received Place = iota
	Reinject
	Queue
	Delay
	Parked
	Deadletter
	Scan       // waits for a verdict
	Quarantine // held back by a scan policy
)

// Unrouted is the number of the leg that holds recipients without one.
const Unrouted = -1

// Message is what is known of a message.
type Message struct {
	ID          ID
	BornMs      int64 // append time of its received record; else by its id
	Opened      Opened
	ReversePath string
	HeaderID    string
	Size        int64
	Parent      ID // of a DSN; zero: none
	Told        Told
	Recipients  []Recipient // by number
	Legs        []Leg       // by number

	stored, changed bool
	// As stored: reverse-path and Message-ID, by which it is found, and parent.
	was    string
	parent ID
}

// Recipient is one recipient's fate.
type Recipient struct {
	Number  uint32
	Address string // may be empty until the router has seen a DSN
	Tenant  string
	Opened  Opened
	Leg     int64 // the leg it is in, or was in at its end
	State   State
	EndedMs int64
	Ends    int // different events that ended it; more than 1 is a duplicate

	// The last event that touched it.
	Last   pb.EventType
	LastMs int64
	Offset int64 // in the message's partition of the events topic
	Seq    int64 // the view's count of events at that time

	changed bool
	before  *Recipient // as stored; nil: it wasn't
}

// Leg is an unfinished leg: open recipients that go together.
type Leg struct {
	Number      int64
	Tenant      string
	Queue       string
	Destination string
	Step        uint64
	Attempt     uint32
	Place       Place
	SinceMs     int64 // at this place
	DueMs       int64 // 0: not by the clock
	Reason      pb.Reason
	Code        uint32 // of the last reply; 0: none
	Reply       string // enhanced code and text; hostile
	Host        string // of the last attempt
	Recipients  int    // open ones
	Offset      int64  // of the last event about it
	Seq         int64
	User        string // who handed it in, if somebody had signed in
	Size        int64  // of the content
	Report      bool   // null reverse-path

	stored, changed bool
	was             counted // as stored
}

// New is a message of which nothing is known.
func New(id ID) *Message {
	return &Message{ID: id, BornMs: int64(id.Time())}
}

// Stored says that a message, with the recipients and legs that are in it, is
// as a store has it.
func (m *Message) Stored() {
	m.sort()
	m.stored, m.changed, m.was, m.parent = true, false, m.names(), m.Parent
	for i := range m.Recipients {
		r := &m.Recipients[i]
		was := *r
		was.before, was.changed = nil, false
		r.before, r.changed = &was, false
	}
	for i := range m.Legs {
		m.Legs[i].stored, m.Legs[i].changed = true, false
		m.Legs[i].was = m.Legs[i].counts(m.BornMs)
	}
}

func (m *Message) names() string { return m.ReversePath + "\x00" + m.HeaderID }

// find is a recipient's place in the message.
func (m *Message) find(number uint32) (int, bool) {
	if n := len(m.Recipients); n == 0 || m.Recipients[n-1].Number < number {
		return n, false
	}
	return slices.BinarySearchFunc(m.Recipients, number, func(r Recipient, n uint32) int { return cmp.Compare(r.Number, n) })
}

// recipient is the one of an outcome; it is made if the message lacks it.
func (m *Message) recipient(o *pb.Outcome, opened Opened) *Recipient {
	i, ok := m.find(o.Number)
	if !ok {
		m.Recipients = slices.Insert(m.Recipients, i, Recipient{Number: o.Number, Leg: Unrouted, Opened: opened})
		leg := m.leg(Unrouted)
		leg.Recipients++
	}
	r := &m.Recipients[i]
	if o.Address != "" {
		r.Address = bounded(o.Address)
	}
	if r.Opened == Unopened {
		r.Opened = opened
	}
	r.changed = true
	return r
}

// leg is the leg of a number; it is made if the message lacks it.
func (m *Message) leg(number int64) *Leg {
	i, ok := slices.BinarySearchFunc(m.Legs, number, func(l Leg, n int64) int { return cmp.Compare(l.Number, n) })
	if !ok {
		m.Legs = slices.Insert(m.Legs, i, Leg{Number: number, SinceMs: m.BornMs})
	}
	m.Legs[i].changed = true
	return &m.Legs[i]
}

// known is the leg of a number, or nil.
func (m *Message) known(number int64) *Leg {
	i, ok := slices.BinarySearchFunc(m.Legs, number, func(l Leg, n int64) int { return cmp.Compare(l.Number, n) })
	if !ok {
		return nil
	}
	m.Legs[i].changed = true
	return &m.Legs[i]
}

// textBound is how much of an outside text is kept.
const textBound = 512

func bounded(text string) string {
	if len(text) <= textBound {
		return text
	}
	return strings.ToValidUTF8(text[:textBound], "")
}

// sort brings the parts into the order of their numbers.
func (m *Message) sort() {
	slices.SortFunc(m.Recipients, func(a, b Recipient) int { return cmp.Compare(a.Number, b.Number) })
	slices.SortFunc(m.Legs, func(a, b Leg) int { return cmp.Compare(a.Number, b.Number) })
}
