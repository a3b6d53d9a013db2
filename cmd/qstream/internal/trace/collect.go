// Package trace reconstructs the lives of messages from their events and
// prints them for people. It reads nothing itself: see Reader.
//
// Guarantee: text that came from outside is made printable before it is shown.
package trace

import (
	"context"
	"slices"
	"strings"

	"qstream/mail"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
)

// Bounds of a search.
const (
	maxMessages = 200 // found by Message-ID or address: the newest
	maxDepth    = 5   // DSNs about DSNs that are followed
)

// Query says which messages are looked for; one field is set.
type Query struct {
	ID          string // message id
	MessageID   string // the Message-ID field, with or without brackets
	ReversePath string // address; case doesn't count
	Recipient   string // address; case doesn't count
}

// matches reports whether an event belongs to a message that is looked for.
func (q Query) matches(e *pb.Event) bool {
	switch {
	case q.ID != "":
		return e.MessageId == q.ID
	case q.MessageID != "":
		return e.HeaderMessageId != "" && bare(e.HeaderMessageId) == bare(q.MessageID)
	case q.ReversePath != "":
		return strings.EqualFold(e.ReversePath, q.ReversePath)
	}
	return slices.ContainsFunc(e.Outcomes, func(o *pb.Outcome) bool {
		return strings.EqualFold(o.Address, q.Recipient)
	})
}

func bare(messageID string) string { return strings.Trim(strings.TrimSpace(messageID), "<>") }

// Reader calls each for every event there is, a message's own in order. It is
// called several times.
type Reader func(ctx context.Context, each func(*pb.Event)) error

// Found are the messages of a search.
type Found struct {
	Roots []*Life // by age
	More  bool    // older ones were left out
}

// Collect finds the messages of a query and the DSNs about them.
func Collect(ctx context.Context, read Reader, q Query) (Found, error) {
	var found Found
	roots, err := q.roots(ctx, read)
	if err != nil || len(roots) == 0 {
		return found, err
	}
	if len(roots) > maxMessages {
		roots, found.More = roots[len(roots)-maxMessages:], true
	}
	c := collector{wanted: map[string]bool{}, lives: map[string]*Life{}}
	for _, id := range roots {
		c.wanted[id] = true
	}
	for range maxDepth {
		before := len(c.wanted)
		clear(c.lives)
		if err := read(ctx, c.take); err != nil {
			return found, err
		}
		if len(c.wanted) == before {
			break
		}
	}
	found.Roots = c.trees(roots)
	return found, nil
}

// roots are the ids of the messages that match, oldest first.
func (q Query) roots(ctx context.Context, read Reader) ([]string, error) {
	if q.ID != "" {
		return []string{q.ID}, nil
	}
	ids := map[string]bool{}
	err := read(ctx, func(e *pb.Event) {
		if q.matches(e) {
			ids[e.MessageId] = true
		}
	})
	roots := make([]string, 0, len(ids))
	for id := range ids {
		roots = append(roots, id)
	}
	slices.Sort(roots)
	return roots, err
}

// collector gathers the events of messages that are wanted, and learns of
// further ones: DSNs are named by the event that made them and by their own.
type collector struct {
	wanted map[string]bool
	lives  map[string]*Life
}

func (c *collector) take(e *pb.Event) {
	about := schemas.Generated(e.Origin) && c.wanted[e.ParentId]
	if !c.wanted[e.MessageId] && !about {
		return
	}
	if about {
		c.wanted[e.MessageId] = true
	}
	if e.ChildId != "" {
		c.wanted[e.ChildId] = true
	}
	l := c.lives[e.MessageId]
	if l == nil {
		l = newLife(e.MessageId)
		c.lives[e.MessageId] = l
	}
	l.add(e)
}

// trees hangs each DSN below its message. What was asked for itself and is
// also a DSN of another found message is shown once, below that.
func (c *collector) trees(roots []string) []*Life {
	below := map[string]bool{}
	for _, l := range c.lives {
		// Ids ascend with time: events that say otherwise make no circle.
		if parent := c.lives[l.Parent]; parent != nil && l.Parent < l.ID {
			parent.Children = append(parent.Children, l)
			below[l.ID] = true
		}
	}
	for _, l := range c.lives {
		slices.SortFunc(l.Children, func(a, b *Life) int { return strings.Compare(a.ID, b.ID) })
	}
	var out []*Life
	for _, id := range roots {
		if l := c.lives[id]; l != nil && !below[id] {
			out = append(out, l)
		}
	}
	return out
}

// printable is outside text on one line.
func printable(s string) string { return mail.Printable(s) }
