package fold

import (
	pb "qstream/schemas/qstream/v1"
)

// Batch are events and notes in the order in which they are to be folded.
// Not safe for concurrent use.
type Batch struct {
	entries []entry
	ids     map[ID]bool
	events  int
}

type entry struct {
	id    ID
	event *pb.Event // nil: a note
	note  *Note
	at    At
}

// Len is how much the batch holds.
func (b *Batch) Len() int { return len(b.entries) }

// Add adds an event; false: it is about no message of ours.
func (b *Batch) Add(e *pb.Event, at At) bool {
	id, ok := ParseID(e.MessageId)
	if !ok {
		return false
	}
	b.add(entry{id: id, event: e, at: at})
	b.events++
	if n, ok := ChildOf(e, at.Seq); ok {
		b.AddNote(n)
	}
	return true
}

// AddNote adds a note.
func (b *Batch) AddNote(n Note) { b.add(entry{id: n.ID, note: &n, at: n.At}) }

func (b *Batch) add(e entry) {
	if b.ids == nil {
		b.ids = map[ID]bool{}
	}
	b.ids[e.id] = true
	b.entries = append(b.entries, e)
}

// IDs are the messages that the batch is about, in no order.
func (b *Batch) IDs() []ID {
	ids := make([]ID, 0, len(b.ids))
	for id := range b.ids {
		ids = append(ids, id)
	}
	return ids
}

// Wanted are the parts of a message that have to be there: the recipients of
// these numbers, the legs that those are in, and the legs of these numbers.
type Wanted struct {
	Recipients map[uint32]bool
	Legs       map[int64]bool
}

// Wants are the parts of the given messages that the batch needs.
func (b *Batch) Wants(known map[ID]*Message) map[ID]*Wanted {
	wants := make(map[ID]*Wanted, len(known))
	for id := range known {
		wants[id] = &Wanted{Recipients: map[uint32]bool{}, Legs: map[int64]bool{Unrouted: true}}
	}
	for _, e := range b.entries {
		w := wants[e.id]
		if w == nil {
			continue
		}
		var outcomes []*pb.Outcome
		if e.event != nil {
			outcomes = e.event.Outcomes
			w.Legs[int64(e.event.Leg)] = true
		} else {
			outcomes = e.note.Recipients
		}
		for _, o := range outcomes {
			w.Recipients[o.Number] = true
		}
	}
	return wants
}

// Result is what a batch has changed.
type Result struct {
	Messages []*Message // those that changed
	Accounts map[Account]*Sums
	Rates    Rates
	Waits    Waits
	Repeated int // events that repeat others
}

// Fold folds the batch into the messages that are known, with the parts that
// it wants; it changes them. Minutes before since count in no rate.
func (b *Batch) Fold(known map[ID]*Message, since int64) Result {
	res := Result{Accounts: map[Account]*Sums{}, Rates: Rates{Since: since}, Waits: Waits{}}
	messages := make(map[ID]*Message, len(b.ids))
	for _, e := range b.entries {
		m := messages[e.id]
		if m == nil {
			if m = known[e.id]; m == nil {
				m = New(e.id)
			}
			messages[e.id] = m
			res.Messages = append(res.Messages, m)
		}
		switch {
		case e.event == nil:
			m.Note(*e.note)
		case !m.Apply(e.event, e.at, &res.Rates):
			res.Repeated++
		}
	}
	for _, m := range res.Messages {
		m.account(res.Accounts)
		m.wait(res.Waits)
	}
	return res
}
