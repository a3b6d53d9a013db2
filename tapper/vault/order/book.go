package order

import (
	"fmt"
	"slices"
	"time"
)

// Entry is a statement as the vault took it.
type Entry struct {
	At     time.Time // when it was taken; of the vault, not of the officer
	Signed Signed
}

// Book is all that officers of a vault have said, in its order, and what follows
// from it. Who has the same founding and the same entries has the same book. Not
// safe for concurrent use; taps and matchers that it gave are.
type Book struct {
	founding  Founding
	vault     string
	officers  Officers
	changes   uint64 // of the officers
	taps      map[string]*Tap
	proposals map[string]*Proposal
	entries   []bookEntry
	matcher   *Matcher // of taps; nil: to be made
}

type bookEntry struct {
	Entry
	tap string // id of the order it is about; "" if it is about the officers
}

// NewBook is the book of a vault in which nothing was said yet.
func NewBook(f Founding) (*Book, error) {
	officers, err := f.check()
	if err != nil {
		return nil, err
	}
	return &Book{founding: f, vault: f.ID(), officers: officers, taps: map[string]*Tap{}, proposals: map[string]*Proposal{}}, nil
}

// Apply takes one entry. An error says why it is refused, and nothing has changed
// then: ErrForged, ErrStale, ErrOwn, ErrState, ErrNone, ErrRepeat or ErrInvalid.
func (b *Book) Apply(e Entry) error {
	e.At = e.At.UTC()
	st, err := e.Signed.open(b.vault)
	if err != nil {
		return err
	}
	if o, ok := b.officers[st.Officer]; !ok || !e.Signed.signedBy(o.Key) {
		return ErrForged
	}
	if d := e.At.Sub(st.At); d > Fresh || d < -Fresh {
		return fmt.Errorf("%w: it says %s; is the clock right?", ErrStale, st.At.Format(time.RFC3339))
	}
	said := Decision{By: st.Officer, At: e.At}
	tap := ""
	switch st.Subject {
	case SubjectOrder:
		tap, err = st.ID, b.order(st, said, e.Signed.Subject)
	case SubjectOfficer:
		err = b.officer(st, said, e.Signed.Subject)
	default:
		err = fmt.Errorf("%w: unknown subject", ErrForged)
	}
	if err == nil {
		b.entries = append(b.entries, bookEntry{e, tap})
	}
	return err
}

// order takes a statement about an order.
func (b *Book) order(st Statement, said Decision, subject []byte) error {
	t := b.taps[st.ID]
	if st.Verb == Request {
		o, err := Decode(subject)
		switch {
		case err != nil:
			return err
		case o.ID != st.ID:
			return fmt.Errorf("%w: it is about another order", ErrForged)
		case t != nil:
			return fmt.Errorf("%w: order %s", ErrRepeat, o.ID)
		case !said.At.Before(o.Until):
			return fmt.Errorf("%w: the order's time is over", ErrState)
		}
		b.set(&Tap{Order: o, Hash: st.Hash, Requested: said})
		return nil
	}
	if t == nil || t.Hash != st.Hash {
		return fmt.Errorf("%w: order of that id and hash", ErrNone)
	}
	next, state := *t, t.State(said.At)
	switch {
	case st.Verb == Approve && state != Requested:
		return fmt.Errorf("%w: the order is %s", ErrState, state)
	case st.Verb == Approve:
		if err := b.agrees(t.Requested, said); err != nil {
			return err
		}
		next.Approved = said
	case st.Verb == Revoke && state != Requested && state != Pending && state != InForce:
		return fmt.Errorf("%w: the order is %s", ErrState, state)
	case st.Verb == Revoke:
		next.Revoked = said
	default:
		return fmt.Errorf("%w: unknown verb", ErrForged)
	}
	b.set(&next)
	return nil
}

func (b *Book) set(t *Tap) { b.taps[t.Order.ID], b.matcher = t, nil }

// agrees is whether an approval makes four eyes: of another officer than the one
// who asked, who still is one.
func (b *Book) agrees(asked, said Decision) error {
	if asked.By == said.By {
		return ErrOwn
	}
	if _, ok := b.officers[asked.By]; !ok {
		return fmt.Errorf("%w: %s, who asked, is no officer any more", ErrState, asked.By)
	}
	return nil
}

// officer takes a statement about the officers.
func (b *Book) officer(st Statement, said Decision, subject []byte) error {
	p := b.proposals[st.ID]
	if st.Verb == Request {
		c, err := DecodeChange(subject)
		switch {
		case err != nil:
			return fmt.Errorf("%w: %w", ErrInvalid, err)
		case c.ID != st.ID:
			return fmt.Errorf("%w: it is about another change", ErrForged)
		case p != nil:
			return fmt.Errorf("%w: change %s", ErrRepeat, c.ID)
		case c.Base != b.changes:
			return fmt.Errorf("%w: the officers have changed meanwhile", ErrState)
		}
		if _, err := b.changed(c); err != nil {
			return fmt.Errorf("%w: %w", ErrState, err)
		}
		b.proposals[c.ID] = &Proposal{Change: c, Hash: st.Hash, Requested: said}
		return nil
	}
	if p == nil || p.Hash != st.Hash {
		return fmt.Errorf("%w: change of that id and hash", ErrNone)
	}
	if p.Approved.Made() || p.Revoked.Made() {
		return fmt.Errorf("%w: the change is settled", ErrState)
	}
	next := *p
	switch st.Verb {
	case Approve:
		switch {
		case p.Change.Base != b.changes:
			return fmt.Errorf("%w: the officers have changed since; ask for it again", ErrState)
		case said.At.Sub(p.Requested.At) > ApproveWithin:
			return fmt.Errorf("%w: the request has lapsed", ErrState)
		}
		if err := b.agrees(p.Requested, said); err != nil {
			return err
		}
		officers, err := b.changed(p.Change)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrState, err)
		}
		b.officers, next.Approved = officers, said
		b.changes++
	case Revoke:
		next.Revoked = said
	default:
		return fmt.Errorf("%w: unknown verb", ErrForged)
	}
	b.proposals[st.ID] = &next
	return nil
}

// changed are the officers after a change.
func (b *Book) changed(c Change) (Officers, error) {
	if c.Add != nil {
		return b.officers.with(*c.Add)
	}
	return b.officers.without(c.Remove)
}

// Vault is the ID of the vault.
func (b *Book) Vault() string { return b.vault }

// Officers are those of now. Don't change the map.
func (b *Book) Officers() Officers { return b.officers }

// Changes is how often the officers have changed.
func (b *Book) Changes() uint64 { return b.changes }

// Tap is an order by its id; nil if there is none.
func (b *Book) Tap(id string) *Tap { return b.taps[id] }

// Taps are all orders, the oldest request first.
func (b *Book) Taps() []*Tap {
	all := make([]*Tap, 0, len(b.taps))
	for _, t := range b.taps {
		all = append(all, t)
	}
	slices.SortFunc(all, func(x, y *Tap) int { return byAge(x.Requested, y.Requested, x.Order.ID, y.Order.ID) })
	return all
}

// Proposal is a change of the officers by its id; nil if there is none.
func (b *Book) Proposal(id string) *Proposal { return b.proposals[id] }

// Proposals are all changes of the officers, the oldest request first.
func (b *Book) Proposals() []*Proposal {
	all := make([]*Proposal, 0, len(b.proposals))
	for _, p := range b.proposals {
		all = append(all, p)
	}
	slices.SortFunc(all, func(x, y *Proposal) int { return byAge(x.Requested, y.Requested, x.Change.ID, y.Change.ID) })
	return all
}

func byAge(x, y Decision, idX, idY string) int {
	if c := x.At.Compare(y.At); c != 0 {
		return c
	}
	if idX < idY {
		return -1
	}
	return 1
}

// Matcher matches by the approved orders; times are asked when it matches.
func (b *Book) Matcher() *Matcher {
	if b.matcher == nil {
		b.matcher = Compile(b.Taps())
	}
	return b.matcher
}

// Entries are those that make the book again, without what is about orders that
// ended before a time: their statements stand in the audit.
func (b *Book) Entries(ended time.Time) []Entry {
	var kept []Entry
	for _, e := range b.entries {
		if t := b.taps[e.tap]; t == nil || !t.Ends().Before(ended) {
			kept = append(kept, e.Entry)
		}
	}
	return kept
}

// Fork is a book of its own with the same in it.
func (b *Book) Fork() *Book {
	f := *b
	f.taps, f.proposals = clone(b.taps), clone(b.proposals)
	f.entries = slices.Clip(b.entries)
	return &f
}

func clone[T any](m map[string]*T) map[string]*T {
	c := make(map[string]*T, len(m))
	for k, v := range m {
		c[k] = v
	}
	return c
}
