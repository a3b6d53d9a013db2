package fold

import (
	pb "qstream/schemas/qstream/v1"
)

// Note tells of a message that waits in front of the router: a DSN by the
// event that made it, or a record of the received or reinject topic that no
// router has read for a while.
type Note struct {
	ID          ID
	Place       Place
	Opened      Opened
	Tenant      string
	Parent      ID
	BornMs      int64 // 0: as the id tells
	ReversePath string
	HeaderID    string
	Size        int64
	Recipients  []*pb.Outcome
	At          At // Offset: of the record; of a DSN's event none
}

// ChildOf is the note about the DSN, or the forwarded message, that an event made; ok is false if it made
// none.
func ChildOf(e *pb.Event, seq int64) (n Note, ok bool) {
	if e.Type != pb.EventType_EVENT_TYPE_DSN && e.Type != pb.EventType_EVENT_TYPE_FORWARDED {
		return n, false
	}
	if n.ID, ok = ParseID(e.ChildId); !ok {
		return n, false
	}
	parent, _ := ParseID(e.MessageId)
	// To whom it goes, the router tells.
	n.Place, n.Opened, n.Tenant, n.Parent = Reinject, Generated, e.Tenant, parent
	n.Recipients, n.At = []*pb.Outcome{{}}, At{Offset: -1, Seq: seq}
	return n, true
}

// Note takes a note. Of a message that is known already, by its own events or
// by a note, it only tells what nobody has told.
func (m *Message) Note(n Note) {
	if m.Parent == (ID{}) && n.Parent != m.ID && n.Parent != (ID{}) {
		m.Parent, m.changed = n.Parent, true
	}
	if m.stored || len(m.Recipients) > 0 {
		if m.Told.Len() == 0 {
			m.fill(n)
		}
		return
	}
	m.changed = true
	m.Opened = n.Opened
	m.fill(n)
	for _, o := range n.Recipients {
		r := m.recipient(o, n.Opened)
		r.Tenant, r.Offset, r.Seq, r.LastMs = n.Tenant, n.At.Offset, n.At.Seq, m.BornMs
	}
	l := m.leg(Unrouted)
	l.Place, l.Tenant, l.SinceMs, l.Offset, l.Seq = n.Place, n.Tenant, m.BornMs, n.At.Offset, n.At.Seq
}

// fill takes what a note tells about the message itself.
func (m *Message) fill(n Note) {
	if n.BornMs > 0 {
		m.BornMs, m.changed = n.BornMs, true
	}
	if m.HeaderID == "" && n.HeaderID != "" {
		m.HeaderID, m.changed = bounded(n.HeaderID), true
	}
	if m.ReversePath == "" && n.ReversePath != "" {
		m.ReversePath, m.changed = bounded(n.ReversePath), true
	}
	if m.Size == 0 && n.Size > 0 {
		m.Size, m.changed = n.Size, true
	}
	for _, o := range n.Recipients {
		if i, ok := m.find(o.Number); ok && m.Recipients[i].Address == "" && o.Address != "" {
			m.Recipients[i].Address, m.Recipients[i].changed = bounded(o.Address), true
		}
	}
}
