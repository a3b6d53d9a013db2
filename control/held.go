package control

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"qstream/mail"
	pb "qstream/schemas/qstream/v1"
)

// Verbs about the quarantine. They stand for orderKept, so that one that is
// sent while no delay runs is obeyed when one does.
const (
	Release = "release" // held legs go on
	Delete  = "delete"  // held legs end as discarded
)

// Bounds of orders about the quarantine.
const (
	orderKept = 24 * time.Hour
	// MaxHeld is how many legs one command may name: it has to fit a record.
	MaxHeld = 5_000
)

// Held names a leg in quarantine.
type Held struct {
	MessageID string
	Leg       uint32
	Since     int64 // parked_ms of the leg: another stay is not meant
}

// Order is what somebody wants done with a leg in quarantine.
type Order struct {
	Verb       string   // Release or Delete
	Recipients []uint32 // numbers, ascending; empty: all
	Rescan     bool     // of a release
	At         time.Time
	Actor      string
	Reason     string
}

// Because is who did something, and why if he said so, for events' texts.
func Because(actor, reason string) string {
	if reason == "" {
		return actor
	}
	return actor + ": " + reason
}

// Of reports whether the order is about a recipient.
func (o Order) Of(number uint32) bool {
	if len(o.Recipients) == 0 {
		return true
	}
	_, ok := slices.BinarySearch(o.Recipients, number)
	return ok
}

// Orders are those about a held leg, the newest first: about a recipient the
// first counts that names him.
func (s *State) Orders(h Held) []Order { return s.orders[h] }

// before is what an older order is about beside a newer one; ok is false if
// that is nothing.
func (o Order) before(newer Order) (Order, bool) {
	switch {
	case len(newer.Recipients) == 0:
		return o, false
	case len(o.Recipients) == 0:
		return o, true
	}
	o.Recipients = slices.DeleteFunc(slices.Clone(o.Recipients), newer.Of)
	return o, len(o.Recipients) > 0
}

// with are the orders about a leg after a newer one.
func with(orders []Order, newer Order) []Order {
	all := []Order{newer}
	for _, o := range orders {
		if o, ok := o.before(newer); ok {
			all = append(all, o)
		}
	}
	return all
}

// ErrHeld is an order about the quarantine that names no leg, or too many.
var ErrHeld = errors.New("legs not possible")

// checkHeld checks what a command says of the quarantine.
func (c Command) checkHeld() error {
	if c.Verb == ScanAgain {
		return c.checkAgain()
	}
	about := c.Verb == Release || c.Verb == Delete
	switch {
	case about && c.Scope != (Scope{}):
		return fmt.Errorf("%w: %s takes legs, no scope", ErrScope, c.Verb)
	case !about && len(c.Held) > 0:
		return fmt.Errorf("%w: %s takes none", ErrHeld, c.Verb)
	case about && (len(c.Held) == 0 || len(c.Held) > MaxHeld):
		return fmt.Errorf("%w: %d of them, want 1 to %d", ErrHeld, len(c.Held), MaxHeld)
	}
	for _, h := range c.Held {
		if _, ok := mail.IDTime(h.MessageId); !ok || h.SinceMs <= 0 {
			return fmt.Errorf("%w: %s", ErrHeld, mail.Printable(h.MessageId))
		}
		slices.Sort(h.Recipients)
	}
	return nil
}

// ordered are the orders after a command: those it makes, and those that are
// not too old by then.
func ordered(before map[Held][]Order, p *pb.Command, c Command) map[Held][]Order {
	var commands []*pb.Command
	switch p.Verb {
	case pb.Verb_VERB_RELEASE, pb.Verb_VERB_DELETE:
		commands = []*pb.Command{p}
	case pb.Verb_VERB_SNAPSHOT:
		commands, before = p.Orders, nil
	default:
		if len(before) == 0 {
			return before
		}
	}
	now := map[Held][]Order{}
	maps.Copy(now, before)
	// In a snapshot an order about all of a leg is older than those about some of
	// its recipients: it would have ended them.
	for _, some := range []bool{false, true} {
		for _, p := range commands {
			if p.Verb == pb.Verb_VERB_SCAN_AGAIN {
				continue
			}
			o := Order{Verb: verbName(p.Verb), Rescan: p.Rescan, At: c.At, Actor: p.Actor, Reason: p.Reason}
			if p.AtMs > 0 && c.Verb == "" { // of a snapshot
				o.At = time.UnixMilli(p.AtMs)
			}
			for _, h := range p.Held {
				if o.Recipients = h.Recipients; some == (len(h.Recipients) > 0) {
					held := Held{h.MessageId, h.Leg, h.SinceMs}
					now[held] = with(now[held], o)
				}
			}
		}
	}
	old := func(o Order) bool { return c.At.Sub(o.At) > orderKept }
	for h, orders := range now {
		if !slices.ContainsFunc(orders, old) {
			continue
		}
		if now[h] = slices.DeleteFunc(slices.Clone(orders), old); len(now[h]) == 0 {
			delete(now, h)
		}
	}
	return now
}

// commands are the orders of a state as a snapshot keeps them, in an order of
// their own.
func (s *State) commands() []*pb.Command {
	type kind struct {
		verb, actor, reason string
		rescan              bool
		at                  int64
	}
	of := map[kind]*pb.Command{}
	var all []*pb.Command
	for h, orders := range s.orders {
		for _, o := range orders {
			k := kind{o.Verb, o.Actor, o.Reason, o.Rescan, o.At.UnixMilli()}
			c := of[k]
			if c == nil {
				c = &pb.Command{Verb: verbs[o.Verb], Rescan: o.Rescan, AtMs: k.at, Actor: o.Actor, Reason: o.Reason}
				of[k] = c
				all = append(all, c)
			}
			c.Held = append(c.Held, &pb.HeldLeg{MessageId: h.MessageID, Leg: h.Leg, SinceMs: h.Since, Recipients: o.Recipients})
		}
	}
	// The newest last: a process of an older version obeys that about a leg, and no other.
	slices.SortFunc(all, func(a, b *pb.Command) int { return cmp.Compare(a.AtMs, b.AtMs) })
	return all
}
