package quarantine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"qstream/bus"
	"qstream/control"
	"qstream/directory"
	"qstream/mail"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
)

// Who is who orders something, and why.
type Who struct {
	Actor, Reason string
	Now           time.Time
}

// held names the selected part of a leg in an order.
func (l Leg) held() *pb.HeldLeg {
	h := &pb.HeldLeg{MessageId: l.MessageId, Leg: l.Number, SinceMs: l.ParkedMs}
	if len(l.Meant) < len(l.Recipients) {
		for _, r := range l.Meant {
			h.Recipients = append(h.Recipients, r.Number)
		}
	}
	return h
}

// ErrNobodyScans is an order to scan again what no policy has scanned any more:
// it would go on as it is.
var ErrNobodyScans = errors.New("no policy has its mail scanned any more")

// scannable reports whether the leg would be scanned if it was let go for that.
func (l Leg) scannable(s *directory.Snapshot) bool {
	if done := l.GetScan(); done.GetOfRule() && s.Scan(done.GetPolicy()) != nil {
		return true
	}
	for _, r := range l.Meant {
		if d := s.Decide(directory.QuestionOf(l.Leg, r)); d.Refusal == nil && d.Scan == "" {
			return false
		}
	}
	return true
}

// Order lets legs be released or deleted (verbs of control), and returns how
// many are ordered so; after an error those are, and the others are not.
// Rescan has released ones scanned again first; if nobody would scan one of them
// nothing is ordered, and the error is ErrNobodyScans. An order is obeyed within a
// second where delay runs, or as soon as it does, for a day.
func Order(ctx context.Context, b *bus.Bus, verb string, legs []Leg, rescan bool, who Who) (int, error) {
	if rescan {
		s, err := directory.Read(ctx, b)
		if err != nil {
			return 0, err
		}
		for _, l := range legs {
			if !l.scannable(s) {
				return 0, fmt.Errorf("%s of tenant %s: %w: name one for its tenant or queue, or release it as it is", l.ID(), mail.Printable(l.Tenant), ErrNobodyScans)
			}
		}
	}
	n := 0
	for part := range slices.Chunk(legs, control.MaxHeld) {
		c := control.Command{Verb: verb, Actor: who.Actor, Reason: who.Reason, Rescan: rescan}
		for _, l := range part {
			c.Held = append(c.Held, l.held())
		}
		if _, err := control.Send(ctx, b, c); err != nil {
			return n, err
		}
		n += len(part)
	}
	return n, nil
}

// Forward sends copies of held messages to an address; they remain in
// quarantine. The copies are not scanned. It returns the ids of the new
// messages.
func Forward(ctx context.Context, b *bus.Bus, legs []Leg, to mail.Address, who Who) ([]string, error) {
	s, err := directory.Read(ctx, b)
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, l := range legs {
		id := mail.NewID(who.Now)
		re := schemas.Forward(l.Leg, id, to.String(), "by hand", nil, l.GetScan().GetFinding(), s.Number)
		e := &pb.Event{
			Type: pb.EventType_EVENT_TYPE_FORWARDED, AtMs: who.Now.UnixMilli(), MessageId: l.MessageId, Leg: l.Number, Step: l.Step,
			Id:     l.MessageId + "." + id, // may be done twice in a step
			Tenant: l.Tenant, Queue: l.Queue, Destination: l.Destination, Directory: s.Number, ChildId: id, Stage: "quarantine",
			Text: mail.Printable("a copy, forwarded from quarantine by " + control.Because(who.Actor, who.Reason)),
		}
		copied, told := bus.NewReinject(re), bus.NewEvent(e)
		if err := b.Publish(ctx, &copied, &told); err != nil {
			return ids, err
		}
		ids = append(ids, id)
	}
	return ids, nil
}

// Open reads a held message as it would be delivered, without the changes that
// its policy wants.
func Open(ctx context.Context, b *bus.Bus, l Leg) (io.ReadCloser, error) {
	body, err := b.Open(ctx, l.Content)
	if err != nil {
		return nil, err
	}
	return mail.Prepended(l.Prepend, body), nil
}
