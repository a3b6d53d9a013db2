// Package then explains decisions of the past: it makes each decision about a
// message again, with the directory as it was at that moment, and compares the
// outcome with what was recorded.
//
// Guarantee: history is only read. Guarantee: what can't be made again, for a
// snapshot, a record or a fact that isn't kept is missing, is told as unknown,
// never as the same or as different.
//
// Made again are: whether the edge may take a recipient; tenant, queue,
// destination, route, scan policy or refusal at each routing and attempt; what
// a scan policy made of the recorded verdicts; and when a deferred leg was due.
package then

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"qstream/bus"
	"qstream/directory"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
)

// ErrNoMessage says that nothing is known of an id.
var ErrNoMessage = errors.New("no such message in the events and records that are kept")

// Answer is what was decided; empty fields mean none.
type Answer struct {
	Tenant      string `json:"tenant,omitempty"`
	Queue       string `json:"queue,omitempty"`
	Destination string `json:"destination,omitempty"`
	Route       string `json:"route,omitempty"`
	Scan        string `json:"scan,omitempty"`    // scan policy
	Refusal     string `json:"refusal,omitempty"` // reply
	Action      string `json:"action,omitempty"`  // of a scan policy
	Finding     string `json:"finding,omitempty"`
	Due         string `json:"due,omitempty"` // RFC 3339
}

// Result is how a decision of the past compares with itself.
type Result string

const (
	Same      Result = "same"
	Different Result = "different"
	Unknown   Result = "unknown"
)

// Decision is one decision about a recipient.
type Decision struct {
	At        time.Time `json:"at"`
	Event     string    `json:"event"` // routed, delivered...
	Leg       uint32    `json:"leg"`
	Attempt   uint32    `json:"attempt,omitempty"`
	Number    uint64    `json:"directory"` // number of the snapshot that decided
	Recipient string    `json:"recipient"`
	Recorded  Answer    `json:"recorded"`
	Again     *Answer   `json:"again,omitempty"` // nil: unknown
	Now       *Answer   `json:"now,omitempty"`   // by the newest directory, where that was asked for
	Steps     []string  `json:"steps,omitempty"`
	Result    Result    `json:"result"`
	Why       string    `json:"why,omitempty"` // it is different or unknown
}

// Message is what is explained.
type Message struct {
	ID          string     `json:"id"`
	ReversePath string     `json:"reverse_path"`
	Numbers     []uint64   `json:"numbers"` // of the directory's snapshots that decided
	Decisions   []Decision `json:"decisions"`
}

// Differences are how many decisions aren't what was recorded.
func (m *Message) Differences() int {
	n := 0
	for _, d := range m.Decisions {
		if d.Result == Different {
			n++
		}
	}
	return n
}

// Options say what is asked.
type Options struct {
	Since time.Time // where reading begins
	Now   bool      // also what the newest directory would decide
}

// Explain makes the decisions about a message again.
func Explain(ctx context.Context, b *bus.Bus, id string, o Options) (*Message, error) {
	h := &history{id: id}
	start := bus.Start{Since: o.Since}
	for topic, take := range map[string]func(bus.Record) error{
		schemas.Events: h.event, schemas.Received: h.received, schemas.Reinject: h.reinject,
	} {
		if err := b.Read(ctx, []string{topic}, start, take); err != nil {
			return nil, fmt.Errorf("read %s: %w", topic, err)
		}
	}
	if len(h.events) == 0 {
		return nil, fmt.Errorf("%w: %s", ErrNoMessage, id)
	}
	snapshots, err := directory.ReadNumbers(ctx, b, h.numbers())
	if err != nil {
		return nil, err
	}
	h.snapshots = snapshots
	if o.Now {
		if h.now, err = directory.Read(ctx, b); err != nil {
			return nil, err
		}
	}
	return h.explain(), nil
}

// entry is a record by which a message came to the router.
type entry struct {
	origin     pb.Origin
	tenant     string // whose mail it is, for domains that nobody owns
	queue      string // that a scan policy sent it to
	nullSender bool
	born       time.Time
	stopped    time.Duration
	reroutes   uint32
	session    *pb.Session
	verified   bool
	byRoute    string   // that somebody chose
	scan       *pb.Scan // what the edge's scan, or an earlier one, said
}

// history is what the log knows of a message.
type history struct {
	id        string
	events    []*pb.Event // in the log's order
	entries   []entry
	snapshots map[uint64]*directory.Snapshot
	now       *directory.Snapshot // nil: not asked for
}

func (h *history) event(r bus.Record) error {
	var e pb.Event
	if proto.Unmarshal(r.Value, &e) == nil && e.MessageId == h.id {
		h.events = append(h.events, &e)
	}
	return nil
}

func (h *history) received(r bus.Record) error {
	var p pb.Received
	if string(r.Key) != h.id || proto.Unmarshal(schemas.WithoutInline(r.Topic, r.Value), &p) != nil || p.Id != h.id {
		return nil
	}
	h.entries = append(h.entries, entry{
		tenant: p.Session.GetTenant(), nullSender: p.Envelope.GetReversePath() == "", born: r.Time,
		session: p.Session, verified: directory.Verified(p.Envelope, p.Checks), scan: p.Scan,
	})
	return nil
}

func (h *history) reinject(r bus.Record) error {
	var p pb.Reinject
	if string(r.Key) != h.id || proto.Unmarshal(schemas.WithoutInline(r.Topic, r.Value), &p) != nil || p.Id != h.id {
		return nil
	}
	e := entry{
		origin: p.Origin, tenant: p.Tenant, queue: p.Scan.GetQueue(), nullSender: p.Envelope.GetReversePath() == "", born: r.Time,
		stopped: time.Duration(p.StoppedMs) * time.Millisecond, reroutes: p.Reroutes, session: p.Session, verified: p.Verified,
		byRoute: p.ByRoute,
		scan:    p.Scan,
	}
	if p.BornMs != 0 {
		e.born = time.UnixMilli(p.BornMs)
	}
	h.entries = append(h.entries, e)
	return nil
}

// numbers are those of the snapshots that decided.
func (h *history) numbers() map[uint64]bool {
	all := map[uint64]bool{}
	for _, e := range h.events {
		if e.Directory > 0 {
			all[e.Directory] = true
		}
	}
	return all
}

// byRoute is the route that somebody chose for the message, which each of its
// records names.
func (h *history) byRoute() string {
	for _, in := range h.entries {
		if in.byRoute != "" {
			return in.byRoute
		}
	}
	return ""
}

// entryOf is the record that a leg was made of; nil: it isn't kept.
func (h *history) entryOf(e *pb.Event) *entry {
	reroutes := e.Leg % schemas.SplitLegs / schemas.RerouteSpan
	for i := range h.entries {
		if in := &h.entries[i]; in.origin == e.Origin && (e.Origin != pb.Origin_ORIGIN_REROUTE || in.reroutes == reroutes) {
			return in
		}
	}
	return nil
}
