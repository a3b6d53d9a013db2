package fold

// What a store asks to know what it has to write.

// Changed reports whether the message's own row has to be written.
func (m *Message) Changed() bool { return m.changed }

// Changed reports whether the recipient has to be written.
func (r *Recipient) Changed() bool { return r.changed }

// Changed reports whether the leg has to be written, or to be deleted.
func (l *Leg) Changed() bool { return l.changed }

// Gone reports whether the leg has no open recipients: it is to be deleted
// where it is stored.
func (l *Leg) Gone() bool { return l.Recipients == 0 }

// Kind is by what a message can be found.
type Kind byte

// Kinds of names.
const (
	ByHeaderID    Kind = 'm' // the Message-ID field, without brackets
	ByReversePath Kind = 'f'
	ByRecipient   Kind = 't'
)

// NewNames calls f for what the message can be found by since it was changed.
func (m *Message) NewNames(f func(Kind, string)) {
	if !m.stored || m.was != m.names() {
		f(ByHeaderID, m.HeaderID)
		f(ByReversePath, m.ReversePath)
	}
	for i := range m.Recipients {
		if r := &m.Recipients[i]; r.changed && (r.before == nil || r.before.Address != r.Address) {
			f(ByRecipient, r.Address)
		}
	}
}

// NewParent reports whether the message became a child since it was stored.
func (m *Message) NewParent() bool { return m.Parent != (ID{}) && m.Parent != m.parent }
