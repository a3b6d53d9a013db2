package control

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"qstream/bus"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
)

var (
	// errGarbage is a record that can't be read as a command.
	errGarbage = errors.New("record is no command")
	// errLost is a command whose base isn't the head: another one won.
	errLost = errors.New("command is not based on the head")
)

// fold is the state as the records of the topic make it, one by one.
type fold struct {
	state    *State
	snapshot int64 // offset of the newest snapshot of the state, -1: none
	since    int   // commands since that
	resume   bool  // the next record may be a snapshot of any base: reading starts there

	at   time.Time      // append time of the newest record
	next int64          // offset to read on from
	won  map[int64]bool // records that counted in the last read
}

func newFold() *fold { return &fold{state: newState(0, nil, nil), snapshot: -1} }

// take applies a record. An error means that it changed nothing; a snapshot
// returns a command without a verb.
func (f *fold) take(r bus.Record) (Command, error) {
	p, err := decode(r)
	if err != nil {
		return Command{}, err
	}
	first := f.resume && p.Verb == pb.Verb_VERB_SNAPSHOT
	if !first && p.Base != f.state.Number {
		return Command{}, fmt.Errorf("%w: number %d is based on %d, the head is %d", errLost, p.Number, p.Base, f.state.Number)
	}
	f.resume, f.at = false, r.Time
	c := Command{
		Number: p.Number, Verb: verbName(p.Verb), Scope: scopeOf(p.Scope),
		At: r.Time, Actor: p.Actor, Reason: p.Reason, Held: p.Held, Rescan: p.Rescan, Job: p.Job,
		Webhook: p.Webhook, Since: timeOf(p.SinceMs),
	}
	f.since++
	if p.Verb == pb.Verb_VERB_SNAPSHOT {
		f.snapshot, f.since = r.Offset, 0
	}
	resumed, anew, webhooks := f.resumed(p, c), againAfter(f.state.again, p, c), f.webhooks(p, c)
	f.state = newState(c.Number, f.standing(p, c), ordered(f.state.orders, p, c))
	f.state.resumed, f.state.again, f.state.webhooks = resumed, anew, webhooks
	return c, nil
}

// standing is what stands after a command.
func (f *fold) standing(p *pb.Command, c Command) map[Scope]Suspension {
	switch p.Verb {
	case pb.Verb_VERB_SUSPEND:
		if _, ok := f.state.standing[c.Scope]; ok {
			return f.state.standing
		}
		after := maps.Clone(f.state.standing)
		if after == nil {
			after = map[Scope]Suspension{}
		}
		after[c.Scope] = Suspension{Scope: c.Scope, Since: c.At, Actor: c.Actor, Reason: c.Reason}
		return after
	case pb.Verb_VERB_RESUME:
		after := maps.Clone(f.state.standing)
		delete(after, c.Scope)
		return after
	case pb.Verb_VERB_SNAPSHOT:
		after := make(map[Scope]Suspension, len(p.Suspensions))
		for _, s := range p.Suspensions {
			scope := scopeOf(s.Scope)
			after[scope] = Suspension{Scope: scope, Since: time.UnixMilli(s.SinceMs), Actor: s.Actor, Reason: s.Reason}
		}
		return after
	}
	// A flush, or a verb of a later version, changes nothing that stands.
	return f.state.standing
}

// resumed is up to when held mail goes on after a command.
func (f *fold) resumed(p *pb.Command, c Command) map[Scope]time.Time {
	switch p.Verb {
	case pb.Verb_VERB_RESUME_HELD:
		after := maps.Clone(f.state.resumed)
		if after == nil {
			after = map[Scope]time.Time{}
		}
		after[c.Scope] = c.At
		return after
	case pb.Verb_VERB_SNAPSHOT:
		after := make(map[Scope]time.Time, len(p.Resumed))
		for _, r := range p.Resumed {
			after[scopeOf(r.Scope)] = time.UnixMilli(r.AtMs)
		}
		return after
	}
	return f.state.resumed
}

// read takes what was published since the last read, and remembers which
// records counted.
func (f *fold) read(ctx context.Context, b *bus.Bus) error {
	f.won = map[int64]bool{}
	if f.state.Number == 0 {
		if err := f.seek(ctx, b); err != nil {
			return err
		}
	}
	err := b.Read(ctx, []string{schemas.Control}, f.start(), func(r bus.Record) error {
		if _, err := f.take(r); err == nil {
			f.won[r.Offset] = true
		}
		f.next = r.Offset + 1
		return nil
	})
	if err != nil {
		return fmt.Errorf("read the commands: %w", err)
	}
	return nil
}

func scopeOf(s *pb.Scope) Scope {
	return Scope{s.GetTenant(), s.GetQueue(), s.GetDestination(), s.GetMessageId()}
}

func (s Scope) proto() *pb.Scope {
	return &pb.Scope{Tenant: s.Tenant, Queue: s.Queue, Destination: s.Destination, MessageId: s.MessageID}
}
