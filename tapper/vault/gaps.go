package vault

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"qstream/bus"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
	"qstream/tapper/vault/lane"
	"qstream/tapper/vault/order"
	"qstream/tapper/vault/sealed"
)

// What a gap report finds.
const (
	GapRecords  = "records missing"  // of a lane: their numbers aren't there
	GapSequence = "sequence broken"  // of the order's numbers in a lane
	GapTwice    = "copied twice"     // one message
	GapCopy     = "not copied"       // a message that the order covers
	GapMessage  = "message missing"  // a copy whose message isn't in its topic, though older ones are
	GapUnread   = "gone before read" // a stretch of a topic, trimmed before the lane came to it
	GapLost     = "lost to the sink" // content that was gone before the sink took it
	GapUnknown  = "order not begun"  // a lane that doesn't know the order
	GapLeaving  = "leaves retention" // a copy that the sink hasn't, whose content goes soon
)

// Gap is one finding.
type Gap struct {
	What   string `json:"what"`
	Lane   int    `json:"lane"`
	Detail string `json:"detail"`
}

// Report says whether an order's copies are complete: they are if Gaps is
// empty and nothing is open.
type Report struct {
	Order    string    `json:"order"`
	Since    time.Time `json:"since"`    // of what is covered
	Copies   int       `json:"copies"`   // messages
	Outcomes int       `json:"outcomes"` // of them
	Unread   int       `json:"unread"`   // messages that the lanes have not come to
	Open     uint64    `json:"open"`     // copies and outcomes that the sink doesn't have yet
	Gaps     []Gap     `json:"gaps,omitempty"`
}

// Audit makes a gap report of records alone: first those of the lanes, then
// those of received and reinject, each partition in order. It may be given
// copies of the topics.
type Audit struct {
	tap   *order.Tap
	match *order.Matcher
	now   time.Time
	lanes map[int]*laneAudit
	kept  retentions
	gaps  []Gap

	unread int
}

// laneAudit is what a lane says about the order.
type laneAudit struct {
	number   uint32
	sequence uint64
	acked    uint64
	copies   map[string]*copied
	outcomes int
	live     map[uint32]int64
	begun    map[uint32]int64 // where live reading began for the order
	past     map[uint32]int64 // nil: read
}

type copied struct {
	source   uint32
	offset   int64
	sequence uint64
	bare     bool
	stands   []stand // as the lane says; from its message on, as that does
	seen     bool
}

// NewAudit makes an audit of an order as it stands.
func NewAudit(t *order.Tap, now time.Time) *Audit {
	a := &Audit{tap: t, match: order.Compile([]*order.Tap{t}), now: now, lanes: map[int]*laneAudit{}}
	for n := range schemas.VaultLanes {
		a.lanes[n] = &laneAudit{copies: map[string]*copied{}, live: map[uint32]int64{}}
	}
	return a
}

// Since is from when on lanes and mail are needed.
func (a *Audit) Since() time.Time {
	if a.tap.Order.Retro && a.tap.Order.From.Before(a.tap.Approved.At) {
		return a.tap.Order.From
	}
	return a.tap.Approved.At
}

func (a *Audit) find(what string, n int, format string, args ...any) {
	a.gaps = append(a.gaps, Gap{what, n, fmt.Sprintf(format, args...)})
}

// Lane takes the next record of a lane that counts.
func (a *Audit) Lane(n int, t sealed.Taken) {
	if t.Missing > 0 {
		a.find(GapRecords, n, "%d before number %d at offset %d", t.Missing, t.Number, t.Offset)
	}
	for _, entry := range t.Entries {
		tick := &pb.TapTick{}
		if len(entry) > 0 && proto.Unmarshal(entry, tick) == nil {
			a.tick(n, t.Place, tick)
		}
	}
}

func (a *Audit) tick(n int, at sealed.Place, tick *pb.TapTick) {
	l := a.lanes[n]
	for _, b := range tick.Begins {
		if b.Order == a.tap.Order.ID && l.number == 0 {
			l.number, l.begun = b.Number, places(b.Live)
			if len(b.Past) > 0 {
				l.past = places(b.Past)
			}
		}
	}
	for _, c := range tick.Cursors {
		switch {
		case c.Stream == 0:
			l.live[c.Source] = max(l.live[c.Source], c.Next)
		case c.Stream == l.number && l.past != nil:
			l.past[c.Source] = max(l.past[c.Source], c.Next)
		}
	}
	for _, g := range tick.Gaps {
		if kind, partition := lane.Split(g.Source); kind != lane.OfEvents {
			a.find(GapUnread, n, "%s partition %d, offsets %d to %d", kinds[kind], partition, g.From, g.To-1)
		}
	}
	if l.number == 0 {
		return
	}
	var sequences []uint64
	for _, c := range tick.Copies {
		if c.Number != l.number {
			continue
		}
		sequences = append(sequences, c.Sequence)
		if had := l.copies[c.MessageId]; had != nil {
			a.find(GapTwice, n, "message %s as numbers %d and %d", c.MessageId, had.sequence, c.Sequence)
		}
		kind, _ := lane.Split(c.Source)
		l.copies[c.MessageId] = &copied{
			source: c.Source, offset: c.Offset, sequence: c.Sequence, bare: c.Bare, stands: []stand{{kinds[kind], at.At}},
		}
	}
	for _, o := range tick.Outcomes {
		if o.Number == l.number {
			sequences = append(sequences, o.Sequence)
			l.outcomes++
		}
	}
	slices.Sort(sequences)
	for _, s := range sequences {
		a.next(n, s)
	}
	for _, ack := range tick.Acks {
		if ack.Number != l.number {
			continue
		}
		l.acked = max(l.acked, ack.Sequence)
		for _, lost := range ack.Lost {
			a.find(GapLost, n, "number %d", lost)
		}
	}
	if slices.Contains(tick.Caught, l.number) {
		l.past = nil
	}
}

func (a *Audit) next(n int, sequence uint64) {
	l := a.lanes[n]
	if sequence != l.sequence+1 {
		a.find(GapSequence, n, "number %d follows %d", sequence, l.sequence)
	}
	l.sequence = max(l.sequence, sequence)
}

func places(cs []*pb.TapCursor) map[uint32]int64 {
	m := map[uint32]int64{}
	for _, c := range cs {
		m[c.Source] = c.Next
	}
	return m
}

// Mail takes the next record of received or reinject.
func (a *Audit) Mail(r bus.Record, owner func(domain string) string) {
	m, err := Mail(r)
	if err != nil {
		return // the router's deadletter tells of it
	}
	kind := slices.Index(kinds, r.Topic)
	n := int(r.Partition) % schemas.VaultLanes
	l, source := a.lanes[n], lane.Source(kind, r.Partition)
	if c := l.copies[m.Id]; c != nil {
		if c.source == source && c.offset == r.Offset {
			c.seen, c.stands = true, standsOf(r, m.Content, c.bare)
		}
		return
	}
	if len(Matches(a.match, m, owner, "")) == 0 {
		return
	}
	if r.Offset >= l.live[source] || l.past != nil && r.Offset < l.begun[source] && r.Offset >= l.past[source] {
		a.unread++
		return
	}
	a.find(GapCopy, n, "message %s at %s partition %d offset %d", m.Id, r.Topic, r.Partition, r.Offset)
}

// Report is what was found; oldest are the oldest offsets that a topic still
// has, by partition.
func (a *Audit) Report(oldest map[string]map[int32]int64) *Report {
	rep := &Report{Order: a.tap.Order.ID, Since: a.Since(), Unread: a.unread}
	for n := range schemas.VaultLanes {
		l := a.lanes[n]
		if l.number == 0 {
			a.find(GapUnknown, n, "it has not been told of it")
			continue
		}
		rep.Copies += len(l.copies)
		rep.Outcomes += l.outcomes
		rep.Open += l.sequence - min(l.acked, l.sequence)
		for id, c := range l.copies {
			kind, partition := lane.Split(c.source)
			if start, ok := oldest[kinds[kind]][partition]; ok && !c.seen && c.offset >= start {
				a.find(GapMessage, n, "message %s at %s partition %d offset %d", id, kinds[kind], partition, c.offset)
			}
			if leaves, soon := a.kept.leaves(c.stands, a.now); soon && c.sequence > l.acked {
				a.find(GapLeaving, n, "number %d, message %s: at %s", c.sequence, id, leaves.UTC().Format(time.RFC3339))
			}
		}
	}
	rep.Gaps = slices.Clone(a.gaps)
	slices.SortStableFunc(rep.Gaps, func(x, y Gap) int {
		if x.Lane != y.Lane {
			return x.Lane - y.Lane
		}
		return strings.Compare(x.What+x.Detail, y.What+y.Detail)
	})
	return rep
}

// Gaps reads the topics and reports on an order.
func (v *Vault) Gaps(ctx context.Context, id string) (*Report, error) {
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-v.set.CaughtUp():
	}
	tap := v.docket.Book().Tap(id)
	now := v.deps.Now()
	if tap == nil {
		return nil, fmt.Errorf("%w: order %s", order.ErrNone, id)
	}
	if !tap.Approved.Made() {
		return nil, fmt.Errorf("%w: order %s is %s and was never approved: there are no copies to check", order.ErrState, id, tap.State(now))
	}
	a := NewAudit(tap, now)
	a.kept = v.kept()
	// A lane's records are stamped after the approval that they follow.
	for n := range v.lanes {
		start := bus.Start{Since: tap.Approved.At.Add(-time.Minute)}
		err := sealed.Read(ctx, v.apart, v.folder.Keys, schemas.VaultLane(n), start, func(t sealed.Taken) error {
			a.Lane(n, t)
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	owner, oldest := v.owner(), map[string]map[int32]int64{}
	for _, topic := range kinds[:lane.OfEvents] {
		starts, err := v.apart.Starts(ctx, topic)
		if err != nil {
			return nil, err
		}
		oldest[topic] = starts
	}
	err := v.apart.Read(ctx, kinds[:lane.OfEvents], bus.Start{Since: a.Since()}, func(r bus.Record) error {
		a.Mail(r, owner)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return a.Report(oldest), nil
}
