package control

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"qstream/mail"
	pb "qstream/schemas/qstream/v1"
)

// ScanAgain has what still waits of some messages scanned before anything of
// it is delivered, though it was scanned before. It stands for againKept.
const ScanAgain = "scan again"

// againKept is how long: as the mail in queue topics outlives its lifetime.
const againKept = 30 * 24 * time.Hour

// meant names a recipient, whatever leg it is in by now.
type meant struct {
	messageID string
	number    uint32
}

// again is an order to scan again.
type again struct {
	number uint64
	job    string
	at     time.Time
}

// ScanAgain is the number of the newest order to scan again that names any of a
// message's recipients.
func (s *State) ScanAgain(messageID string, recipients []*pb.Recipient) (number uint64, ok bool) {
	if s.again.none() {
		return 0, false
	}
	for _, r := range recipients {
		o, _ := s.again.of(meant{messageID, r.Number})
		number = max(number, o.number)
	}
	return number, number > 0
}

// covers reports whether everything that a command orders is ordered already by
// the same undertaking.
func (s *State) covers(c Command) bool {
	for _, h := range c.Held {
		for _, n := range h.Recipients {
			if o, ok := s.again.of(meant{h.MessageId, n}); !ok || o.job != c.Job {
				return false
			}
		}
	}
	return true
}

// checkAgain checks what an order to scan again names.
func (c Command) checkAgain() error {
	if c.Scope != (Scope{}) {
		return fmt.Errorf("%w: %s takes recipients of messages, no scope", ErrScope, c.Verb)
	}
	if len(c.Held) == 0 || len(c.Held) > MaxHeld {
		return fmt.Errorf("%w: %d messages, want 1 to %d", ErrHeld, len(c.Held), MaxHeld)
	}
	for _, h := range c.Held {
		if _, ok := mail.IDTime(h.MessageId); !ok || len(h.Recipients) == 0 {
			return fmt.Errorf("%w: %s", ErrHeld, mail.Printable(h.MessageId))
		}
		slices.Sort(h.Recipients)
	}
	return nil
}

// agains are orders to scan again; immutable. There may be tens of thousands,
// each by a command of its own: a command copies only those of the newest
// commands, and all of them seldom.
type agains struct {
	most   map[meant]again
	newest map[meant]again // stand before most
	oldest time.Time       // none of most is older
}

func (a agains) none() bool { return len(a.most) == 0 && len(a.newest) == 0 }

func (a agains) of(m meant) (o again, ok bool) {
	if o, ok = a.newest[m]; !ok {
		o, ok = a.most[m]
	}
	return o, ok
}

// all are the orders, those that stood too long at a time left out.
func (a agains) all(now time.Time) map[meant]again {
	all := make(map[meant]again, len(a.most)+len(a.newest))
	maps.Copy(all, a.most)
	maps.Copy(all, a.newest)
	maps.DeleteFunc(all, func(_ meant, o again) bool { return now.Sub(o.at) > againKept })
	return all
}

// againNewest is how many orders are copied by each command, at least; of many,
// as many as the square root of them.
const againNewest = 64

// gathered has few newest ones, and none that stood much too long.
func (a agains) gathered(now time.Time) agains {
	n := len(a.newest)
	if (n <= againNewest || n*n <= len(a.most)) && (len(a.most) == 0 || now.Sub(a.oldest) <= againKept+time.Hour) {
		return a
	}
	all := agains{most: a.all(now), oldest: now}
	for _, o := range all.most {
		if o.at.Before(all.oldest) {
			all.oldest = o.at
		}
	}
	return all
}

// againAfter are the orders to scan again after a command.
func againAfter(before agains, p *pb.Command, c Command) agains {
	var commands []*pb.Command
	switch p.Verb {
	case pb.Verb_VERB_SCAN_AGAIN:
		commands = []*pb.Command{p}
	case pb.Verb_VERB_SNAPSHOT:
		commands, before = p.Orders, agains{}
	default:
		return before
	}
	after := agains{most: before.most, newest: maps.Clone(before.newest), oldest: before.oldest}
	if after.newest == nil {
		after.newest = map[meant]again{}
	}
	for _, p := range commands {
		if p.Verb != pb.Verb_VERB_SCAN_AGAIN {
			continue
		}
		o := again{number: p.Number, job: p.Job, at: c.At}
		if p.AtMs > 0 && c.Verb == "" { // of a snapshot
			o.at = time.UnixMilli(p.AtMs)
		}
		if c.At.Sub(o.at) > againKept {
			continue
		}
		for _, h := range p.Held {
			for _, n := range h.Recipients {
				after.newest[meant{h.MessageId, n}] = o
			}
		}
	}
	return after.gathered(c.At)
}

// againCommands are the orders as a snapshot keeps them that is made at a time.
func (s *State) againCommands(now time.Time) []*pb.Command {
	of := map[uint64]*pb.Command{}
	legs := map[string]*pb.HeldLeg{} // by message, of one order
	var all []*pb.Command
	for m, o := range s.again.all(now) {
		c := of[o.number]
		if c == nil {
			c = &pb.Command{Number: o.number, Verb: pb.Verb_VERB_SCAN_AGAIN, Job: o.job, AtMs: o.at.UnixMilli()}
			of[o.number] = c
			all = append(all, c)
		}
		k := fmt.Sprintf("%d %s", o.number, m.messageID)
		if legs[k] == nil {
			legs[k] = &pb.HeldLeg{MessageId: m.messageID}
			c.Held = append(c.Held, legs[k])
		}
		legs[k].Recipients = append(legs[k].Recipients, m.number)
	}
	return all
}
