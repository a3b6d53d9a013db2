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
	if len(s.again) == 0 {
		return 0, false
	}
	for _, r := range recipients {
		number = max(number, s.again[meant{messageID, r.Number}].number)
	}
	return number, number > 0
}

// covers reports whether everything that a command orders is ordered already by
// the same undertaking.
func (s *State) covers(c Command) bool {
	for _, h := range c.Held {
		for _, n := range h.Recipients {
			if o, ok := s.again[meant{h.MessageId, n}]; !ok || o.job != c.Job {
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

// againAfter are the orders to scan again after a command.
func againAfter(before map[meant]again, p *pb.Command, c Command) map[meant]again {
	var commands []*pb.Command
	switch p.Verb {
	case pb.Verb_VERB_SCAN_AGAIN:
		commands = []*pb.Command{p}
	case pb.Verb_VERB_SNAPSHOT:
		commands, before = p.Orders, nil
	default:
		return before
	}
	after := map[meant]again{}
	maps.Copy(after, before)
	for _, p := range commands {
		if p.Verb != pb.Verb_VERB_SCAN_AGAIN {
			continue
		}
		o := again{number: p.Number, job: p.Job, at: c.At}
		if p.AtMs > 0 && c.Verb == "" { // of a snapshot
			o.at = time.UnixMilli(p.AtMs)
		}
		for _, h := range p.Held {
			for _, n := range h.Recipients {
				after[meant{h.MessageId, n}] = o
			}
		}
	}
	maps.DeleteFunc(after, func(_ meant, o again) bool { return c.At.Sub(o.at) > againKept })
	return after
}

// againCommands are the orders as a snapshot keeps them.
func (s *State) againCommands() []*pb.Command {
	of := map[uint64]*pb.Command{}
	legs := map[string]*pb.HeldLeg{} // by message, of one order
	var all []*pb.Command
	for m, o := range s.again {
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
