package docket

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
	"qstream/tapper/vault/order"
	"qstream/tapper/vault/sealed"
)

// Say puts an officer's statement into the log and returns once it counts. The
// error is that of order.Book.Apply, ErrBusy, or ctx's: then it may count later.
func (d *Docket) Say(ctx context.Context, s order.Signed) error {
	if err := d.Try(s); err != nil {
		return err
	}
	nonce := make([]byte, 16)
	_, _ = rand.Read(nonce) // never fails
	statement := statementOf(s)
	statement.Nonce = nonce
	entry, err := proto.Marshal(&pb.TapEntry{Says: &pb.TapEntry_Said{Said: statement}})
	if err != nil {
		return fmt.Errorf("encode the statement: %w", err)
	}
	d.mu.Lock()
	d.said[string(nonce)] = nil
	d.mu.Unlock()
	err = d.wait(ctx, d.orders, entry)
	d.mu.Lock()
	defer d.mu.Unlock()
	if err == nil {
		err = d.said[string(nonce)]
	}
	delete(d.said, string(nonce))
	return err
}

// Try is what Say would come to now, without saying it.
func (d *Docket) Try(s order.Signed) error {
	return d.Book().Apply(order.Entry{At: d.cfg.Now(), Signed: s})
}

func statementOf(s order.Signed) *pb.TapStatement {
	return &pb.TapStatement{Statement: s.Statement, Signature: s.Signature, Subject: s.Subject}
}

func signedOf(s *pb.TapStatement) order.Signed {
	return order.Signed{Statement: s.Statement, Signature: s.Signature, Subject: s.Subject}
}

// live is a statement that was read as it was said.
type live struct {
	number uint64
	entry  order.Entry
}

// reading is what a reader that began at a sweep needs until its end: what was
// said before that end, and what the sweep says.
type reading struct {
	later bool // it didn't begin with the first record of all
	done  bool // a whole sweep was read
	open  bool
	asOf  uint64
	again []order.Entry
	live  []live
}

// take is told of each entry that counts. What can't be read, or is refused,
// changes nothing.
func (d *Docket) take(at sealed.Place, entry []byte) {
	e := &pb.TapEntry{}
	if proto.Unmarshal(entry, e) != nil {
		return // of a later version
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.at, d.known = at.Number, at.At
	if !d.begun {
		d.begun, d.read.later = true, at.Number > 1
	}
	switch says := e.Says.(type) {
	case *pb.TapEntry_Said:
		d.hear(live{at.Number, order.Entry{At: at.At, Signed: signedOf(says.Said)}}, string(says.Said.GetNonce()))
	case *pb.TapEntry_Begin:
		d.read.open, d.read.asOf, d.read.again = true, says.Begin.GetAsOf(), nil
	case *pb.TapEntry_Again:
		if d.read.open && !d.read.done {
			d.read.again = append(d.read.again, order.Entry{At: time.UnixMilli(says.Again.GetTakenMs()), Signed: signedOf(says.Again)})
		}
	case *pb.TapEntry_End:
		d.swept(says.End.GetStatements())
	}
}

// partial is whether what was read so far makes no book.
func (r reading) partial() bool { return r.later && !r.done }

// ErrPartial is a log of which neither the beginning is there nor a place that
// says again what held: who is an officer, and what was ordered, isn't known.
var ErrPartial = errors.New("the beginning of the vault's orders is missing, and nothing says them again: bring back the records of " + schemas.VaultOrders)

// Whole is ErrPartial if what was read so far doesn't make a book. What such a
// book says must not be said again: it would be taken for all there is.
func (d *Docket) Whole() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.read.partial() {
		return ErrPartial
	}
	return nil
}

// hear applies what is said; who said it here learns what it came to.
func (d *Docket) hear(l live, nonce string) {
	err := d.book.Apply(l.entry)
	if _, ok := d.said[nonce]; ok {
		d.said[nonce] = err
	}
	if !d.read.done {
		d.read.live = append(d.read.live, l)
	}
	if err == nil {
		d.changed()
	}
}

func (d *Docket) changed() {
	close(d.on)
	d.on = make(chan struct{})
}

// swept makes the book from the first whole sweep that is read and what was said
// since it was made. A reader that knows everything already makes the same again.
func (d *Docket) swept(statements uint64) {
	r := d.read
	if r.done || !r.open {
		return
	}
	d.read.open, d.read.again = false, nil
	book, err := order.NewBook(d.cfg.Folder.Founding)
	if err != nil || uint64(len(r.again)) != statements {
		return // a part of it is missing; there will be another sweep
	}
	for _, e := range r.again {
		if book.Apply(e) != nil {
			return
		}
	}
	for _, l := range r.live {
		if l.number > r.asOf {
			_ = book.Apply(l.entry) // as hear did
		}
	}
	d.book, d.read = book, reading{done: true}
	d.changed()
}

// sweep is how far the present one is, as this process writes it.
type sweep struct {
	entries []order.Entry
	next    int
}

// again says again what holds, as of the newest record that was taken.
func (d *Docket) again(first bool, room int) (entries [][]byte, done bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	put := func(e *pb.TapEntry) {
		entry, err := proto.Marshal(e)
		if err == nil { // of a statement that was read: can't fail
			entries = append(entries, entry)
			room -= sealed.Cost(entry)
		}
	}
	if d.read.partial() {
		return nil, false
	}
	s := &d.sweep
	if first {
		*s = sweep{entries: d.book.Entries(d.cfg.Now().Add(-keepEnded))}
		put(&pb.TapEntry{Says: &pb.TapEntry_Begin{Begin: &pb.TapSweep{AsOf: d.at}}})
	}
	for room > 0 && s.next < len(s.entries) {
		e := s.entries[s.next]
		s.next++
		statement := statementOf(e.Signed)
		statement.TakenMs = e.At.UnixMilli()
		put(&pb.TapEntry{Says: &pb.TapEntry_Again{Again: statement}})
	}
	if done = s.next == len(s.entries); done {
		put(&pb.TapEntry{Says: &pb.TapEntry_End{End: &pb.TapSwept{Statements: uint64(len(s.entries))}}})
		*s = sweep{}
	}
	return entries, done
}
