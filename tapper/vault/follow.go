package vault

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/proto"

	"qstream/bus"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
	"qstream/tapper/vault/lane"
	"qstream/tapper/vault/order"
)

// kinds are the topics that lanes read, by kind of source.
var kinds = []string{lane.OfReceived: schemas.Received, lane.OfReinject: schemas.Reinject, lane.OfEvents: schemas.Events}

// follow reads mail as it comes, from where the lanes' logs say.
func (v *Vault) follow(ctx context.Context) error {
	if err := v.bear(ctx); err != nil {
		return err
	}
	start := bus.Start{Offset: map[string]map[int32]int64{}}
	for _, topic := range kinds {
		start.Offset[topic] = map[int32]int64{}
	}
	for _, l := range v.lanes {
		l.Start(0, nil)
		for source, next := range l.Cursors(0) {
			kind, partition := lane.Split(source)
			start.Offset[kinds[kind]][partition] = next
		}
	}
	if err := v.missed(ctx, start.Offset); err != nil {
		return err
	}
	mails := v.apart.Follow(kinds[:lane.OfEvents], start, func(r bus.Record) error {
		if err := v.gate(ctx, r.Time); err != nil {
			return err
		}
		return v.hand(ctx, 0, r, "")
	})
	held := make(chan heldEvent, mostHeld)
	events := v.apart.Follow(kinds[lane.OfEvents:], start, func(r bus.Record) error {
		select {
		case held <- heldEvent{r, v.deps.Now()}:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return mails.Run(ctx) })
	g.Go(func() error { return events.Run(ctx) })
	g.Go(func() error { return v.release(ctx, mails, held) })
	return g.Wait()
}

// mostHeld bounds the events that wait for their messages to be read.
const mostHeld = 10000

// heldEvent is an event, and when it was read.
type heldEvent struct {
	bus.Record
	at time.Time
}

// release hands events on once all mail is read that was there when they were:
// their messages are known then, if orders cover them.
func (v *Vault) release(ctx context.Context, mails *bus.Follower, held <-chan heldEvent) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case e := <-held:
			err := v.await(ctx, "mail", func() bool { return mails.Fresh().After(e.at) })
			if err == nil {
				err = v.hand(ctx, 0, e.Record, "")
			}
			if err != nil {
				return err
			}
		}
	}
}

// bear gives lanes without a beginning one: the first vault of all begins with
// what comes from now on; a partition that comes later is read from its start.
func (v *Vault) bear(ctx context.Context) error {
	first := true
	for _, l := range v.lanes {
		first = first && !l.Born()
	}
	cursors := make([][]*pb.TapCursor, len(v.lanes))
	for kind, topic := range kinds {
		if !first {
			break
		}
		ends, err := v.apart.Ends(ctx, topic)
		if err != nil {
			return err
		}
		for partition, end := range ends {
			n := int(partition) % len(v.lanes)
			cursors[n] = append(cursors[n], &pb.TapCursor{Source: lane.Source(kind, partition), Next: end})
		}
	}
	for n, l := range v.lanes {
		l.Bear(cursors[n])
	}
	return v.await(ctx, "the lanes' beginning", func() bool {
		for _, l := range v.lanes {
			if !l.Born() {
				return false
			}
		}
		return true
	})
}

// missed puts into the lanes what is gone before they read it.
func (v *Vault) missed(ctx context.Context, at map[string]map[int32]int64) error {
	for kind, topic := range kinds {
		oldest, err := v.apart.Starts(ctx, topic)
		if err != nil {
			return err
		}
		for partition, next := range at[topic] {
			if to, ok := oldest[partition]; ok && to > next {
				v.lane(partition).Gap(0, lane.Source(kind, partition), next, to)
			}
		}
	}
	return nil
}

// gate waits until it is known which orders were there at a time.
func (v *Vault) gate(ctx context.Context, at time.Time) error {
	for {
		v.mu.Lock()
		known, opened := v.known, v.opened
		v.mu.Unlock()
		if at.Before(known) {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-opened:
		}
	}
}

// learn follows the orders: lanes know them before mail is matched by them.
func (v *Vault) learn(ctx context.Context) error {
	var begun *order.Matcher
	for {
		m, _, known := v.docket.Orders()
		var err error
		if m != begun {
			err = v.begin(ctx, m)
		}
		if err == nil {
			begun = m
			v.mu.Lock()
			if known.After(v.known) {
				v.matcher, v.known = m, known
				close(v.opened)
				v.opened = make(chan struct{})
			}
			v.mu.Unlock()
		}
		if !bus.Pause(ctx, v.cfg.LaneBeat/4) {
			return nil
		}
	}
}

// begin makes every lane know every order.
func (v *Vault) begin(ctx context.Context, m *order.Matcher) error {
	for _, t := range m.Taps() {
		var past []map[uint32]int64
		for n, l := range v.lanes {
			if !l.Born() || l.Knows(t.Order.ID) {
				continue
			}
			if past == nil {
				var err error
				if past, err = v.past(ctx, t); err != nil {
					return err
				}
			}
			l.Begin(t.Order.ID, past[n])
			if !l.Knows(t.Order.ID) {
				return fmt.Errorf("lane %d reads nothing yet", n)
			}
		}
	}
	return nil
}

// past is where reading what an order covers of the past begins, by lane.
func (v *Vault) past(ctx context.Context, t *order.Tap) ([]map[uint32]int64, error) {
	past := make([]map[uint32]int64, len(v.lanes))
	if !t.Order.Retro {
		return past, nil
	}
	for kind, topic := range kinds {
		since, err := v.apart.Since(ctx, topic, t.Order.From)
		if err != nil {
			return nil, err
		}
		for partition, offset := range since {
			n := int(partition) % len(v.lanes)
			if past[n] == nil {
				past[n] = map[uint32]int64{}
			}
			past[n][lane.Source(kind, partition)] = offset
		}
	}
	return past, nil
}

// hand gives a record to its lane; only: the one order that is asked for.
func (v *Vault) hand(ctx context.Context, stream uint32, r bus.Record, only string) error {
	l := v.lane(r.Partition)
	source := sourceOf(r)
	if stream == 0 {
		v.window.put(r)
	}
	if r.Topic == schemas.Events {
		e := &pb.Event{}
		if proto.Unmarshal(r.Value, e) != nil {
			l.Passed(stream, source, r.Offset+1)
			return nil
		}
		return l.Event(ctx, stream, source, r.Offset, e)
	}
	m, err := Mail(r)
	if err != nil {
		l.Passed(stream, source, r.Offset+1)
		return nil
	}
	return l.Message(ctx, stream, source, r.Offset, m.Id, func() []lane.Match {
		v.mu.Lock()
		matcher := v.matcher
		v.mu.Unlock()
		return Matches(matcher, m, v.owner(), only)
	})
}

func (v *Vault) owner() func(string) string {
	s := v.deps.Directory.Snapshot()
	return func(domain string) string {
		if t := s.Owner(domain); t != nil {
			return t.Name
		}
		return ""
	}
}

// Accepted is a message as orders look at it.
type Accepted struct {
	*pb.Received
	At     time.Time
	Tenant string
}

// Mail reads a record of received or reinject. What was put in again counts as
// accepted when it was first.
func Mail(r bus.Record) (Accepted, error) {
	if r.Topic == schemas.Received {
		m := &pb.Received{}
		err := proto.Unmarshal(r.Value, m)
		return Accepted{m, r.Time, m.GetSession().GetTenant()}, err
	}
	p := &pb.Reinject{}
	if err := proto.Unmarshal(r.Value, p); err != nil {
		return Accepted{}, err
	}
	at := r.Time
	if p.BornMs > 0 {
		at = time.UnixMilli(p.BornMs)
	}
	return Accepted{&pb.Received{
		Id: p.Id, Session: p.Session, Envelope: p.Envelope, Content: p.Content, Prepend: p.Prepend,
		Directory: p.Directory, HeaderMessageId: p.HeaderMessageId, AcceptedMs: at.UnixMilli(),
	}, at, p.Tenant}, nil
}

// Matches are the orders that cover a message, as lanes say it.
func Matches(m *order.Matcher, a Accepted, owner func(string) string, only string) []lane.Match {
	if m == nil || a.Envelope == nil {
		return nil
	}
	msg := order.Message{ReversePath: a.Envelope.ReversePath, Tenant: a.Tenant, Owner: owner}
	for _, rcpt := range a.Envelope.Recipients {
		msg.Recipients = append(msg.Recipients, rcpt.Address)
	}
	var found []lane.Match
	add := func(matches []order.Match, past bool) {
		for _, match := range matches {
			if only != "" && match.Tap.Order.ID != only {
				continue
			}
			of := lane.Match{Order: match.Tap.Order.ID, Bare: match.Tap.Order.What == order.Envelope, Past: past}
			for _, i := range match.Recipients {
				of.Recipients = append(of.Recipients, a.Envelope.Recipients[i].Number)
			}
			found = append(found, of)
		}
	}
	add(m.Match(msg, a.At), false)
	add(m.MatchPast(msg, a.At), true)
	return found
}
