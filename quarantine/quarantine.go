// Package quarantine lists what scan policies hold back, and turns a person's
// choice of it into orders, copies and digests. It keeps nothing: what is held
// stands on the quarantine topic, delay releases and ends it.
//
// Guarantee: an order names legs by their stay in quarantine: the same list
// means the same legs, however long it takes and whatever comes meanwhile.
// Guarantee: texts of senders and engines are shown printable; a digest tells a
// recipient of his own mail only.
package quarantine

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"qstream/bus"
	"qstream/mail"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
)

// Leg is a leg in quarantine, with the recipients that were selected.
type Leg struct {
	*pb.Leg
	Meant []*pb.Recipient
}

// ID is what people name the leg by: message id and number.
func (l Leg) ID() string { return l.MessageId + "." + strconv.FormatUint(uint64(l.Number), 10) }

// Since is when it was held back.
func (l Leg) Since() time.Time { return time.UnixMilli(l.ParkedMs) }

// Until is when its policy ends its stay.
func (l Leg) Until() time.Time { return time.UnixMilli(l.DueMs) }

// Found is what was found, and by which engine: the verdict that its finding is
// called after, else the first that isn't clean.
func (l Leg) Found() (engine, name string) {
	vs := l.GetScan().GetVerdicts()
	i := slices.IndexFunc(vs, func(v *pb.Verdict) bool { return v.Outcome == l.GetScan().GetFinding() })
	if i < 0 {
		i = slices.IndexFunc(vs, func(v *pb.Verdict) bool { return v.Outcome != "clean" })
	}
	if i < 0 {
		return "", ""
	}
	return vs[i].Engine, cmp.Or(vs[i].Name, vs[i].Reason)
}

// Selection says which legs, and which of their recipients, are meant; what is
// empty means any. All of it must fit.
type Selection struct {
	IDs           []string // message ids, or ids of legs: ID.NUMBER
	Tenant, Queue string
	ReversePath   mail.Pattern
	Recipient     mail.Pattern
	Finding       string // malware, spam, ...
	Name          string // part of what was found; case doesn't count
	Since, Until  time.Time
}

// Empty reports whether everything is meant.
func (s Selection) Empty() bool {
	return len(s.IDs) == 0 && s.Tenant+s.Queue+string(s.ReversePath+s.Recipient)+s.Finding+s.Name == "" && s.Since.IsZero() && s.Until.IsZero()
}

// Complete checks the selection and writes it as records do.
func (s Selection) Complete() (Selection, error) {
	for _, id := range s.IDs {
		message, number, leg := strings.Cut(id, ".")
		_, ok := mail.IDTime(message)
		if leg && ok {
			_, err := strconv.ParseUint(number, 10, 32)
			ok = err == nil
		}
		if !ok {
			return s, fmt.Errorf("%s: want the id of a message, or of a leg as list shows it", mail.Printable(id))
		}
	}
	var err error
	if s.ReversePath, err = mail.ParsePattern(string(s.ReversePath)); err != nil {
		return s, err
	}
	s.Recipient, err = mail.ParsePattern(string(s.Recipient))
	return s, err
}

// of is the selected part of a leg; ok is false if none of it is meant.
func (s Selection) of(l *pb.Leg) (found Leg, ok bool) {
	found = Leg{Leg: l}
	_, name := found.Found()
	switch {
	case len(s.IDs) > 0 && !slices.Contains(s.IDs, l.MessageId) && !slices.Contains(s.IDs, found.ID()),
		s.Tenant != "" && l.Tenant != s.Tenant,
		s.Queue != "" && l.Queue != s.Queue,
		!s.ReversePath.Matches(l.ReversePath),
		s.Finding != "" && l.GetScan().GetFinding() != s.Finding,
		s.Name != "" && !strings.Contains(strings.ToLower(name), strings.ToLower(s.Name)),
		found.Since().Before(s.Since),
		!s.Until.IsZero() && !found.Since().Before(s.Until):
		return found, false
	}
	for _, r := range l.Recipients {
		if s.Recipient.Matches(r.Address) {
			found.Meant = append(found.Meant, r)
		}
	}
	return found, len(found.Meant) > 0
}

// List calls each for what is in quarantine and meant, the longest held first
// in each partition. A leg that moves meanwhile may be told as it was.
func List(ctx context.Context, b *bus.Bus, s Selection, each func(Leg) error) error {
	s, err := s.Complete()
	if err != nil {
		return err
	}
	err = b.Waiting(ctx, schemas.DelayGroup, []string{schemas.Quarantine}, bus.Look{}, func(r bus.Record) error {
		var l pb.Leg
		if proto.Unmarshal(r.Value, &l) != nil || l.MessageId == "" {
			return nil // it is on its way to the deadletter topic
		}
		if found, ok := s.of(&l); ok {
			return each(found)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read the quarantine: %w", err)
	}
	return nil
}

// All are the legs that List tells, by the time they were held back.
func All(ctx context.Context, b *bus.Bus, s Selection) ([]Leg, error) {
	var all []Leg
	err := List(ctx, b, s, func(l Leg) error {
		all = append(all, l)
		return nil
	})
	slices.SortStableFunc(all, func(x, y Leg) int { return int(min(max(x.ParkedMs-y.ParkedMs, -1), 1)) })
	return all, err
}
