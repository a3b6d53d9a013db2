package control

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"qstream/bus"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
)

// snapshotEvery is after how many commands the standing state is written as a
// whole.
const snapshotEvery = 100

// keptResumed is how long a resume of held mail is told: longer than the
// parked topic keeps legs.
const keptResumed = 500 * 24 * time.Hour

// attempts bounds how often a command goes after a moving head.
const attempts = 50

// Send publishes a command based on the head and waits until it is applied;
// when others are faster it tries again on theirs. Suspending what is
// suspended, or having scanned again what the same undertaking ordered so,
// changes nothing and returns the head's number. The error
// may be ErrNotSuspended or ErrScope; after any other the command may have
// been applied.
func Send(ctx context.Context, b *bus.Bus, c Command) (number uint64, err error) {
	if c, err = c.complete(); err != nil {
		return 0, err
	}
	head := newFold()
	for range attempts {
		if err := head.read(ctx, b); err != nil {
			return 0, err
		}
		_, standing := head.state.standing[c.Scope]
		switch {
		case c.Verb == Suspend && standing:
			return head.state.Number, nil
		case c.Verb == PauseWebhook && head.state.Webhook(c.Webhook).Paused():
			return head.state.Number, nil
		case c.Verb == PauseWebhook && c.Before > 0 && head.state.Webhook(c.Webhook).Resumed >= c.Before:
			return 0, fmt.Errorf("%w: %s", ErrResumed, c.Webhook)
		case c.Verb == ResumeWebhook && !head.state.Webhook(c.Webhook).Paused():
			return 0, fmt.Errorf("%w: %s", ErrNotPaused, c.Webhook)
		case c.Verb == Resume && !standing:
			return 0, fmt.Errorf("%w: %s", ErrNotSuspended, c.Scope)
		case c.Verb == ScanAgain && head.state.covers(c):
			return head.state.Number, nil
		}
		record := &pb.Command{
			Verb: verbs[c.Verb], Scope: c.Scope.proto(), Actor: c.Actor, Reason: c.Reason, Held: c.Held, Rescan: c.Rescan, Job: c.Job,
			Webhook: c.Webhook, SinceMs: millis(c.Since),
		}
		won, err := head.publish(ctx, b, record)
		if err != nil {
			return 0, err
		}
		if won {
			return record.Number, head.condense(ctx, b)
		}
	}
	return 0, fmt.Errorf("%s %s: others were faster %d times", c.Verb, c.Scope, attempts)
}

// Read is the state at the head of the topic.
func Read(ctx context.Context, b *bus.Bus) (*State, error) {
	head := newFold()
	err := head.read(ctx, b)
	return head.state, err
}

// publish sends a record based on the head, reads on, and says whether it
// counted.
func (f *fold) publish(ctx context.Context, b *bus.Bus, record *pb.Command) (won bool, err error) {
	record.Base, record.Number = f.state.Number, f.state.Number+1
	record.SnapshotOffset = f.snapshot
	value, err := proto.Marshal(record)
	if err != nil {
		return false, fmt.Errorf("encode the command: %w", err)
	}
	r := bus.Record{Topic: schemas.Control, Partition: 0, Value: value}
	if err := b.Publish(ctx, &r); err != nil {
		return false, fmt.Errorf("publish the command: %w", err)
	}
	if err := f.read(ctx, b); err != nil {
		return false, err
	}
	return f.won[r.Offset], nil
}

// condense writes the standing state as a whole when it is time. Losing
// against another sender is no matter: one of the next does it.
func (f *fold) condense(ctx context.Context, b *bus.Bus) error {
	if f.since < snapshotEvery {
		return nil
	}
	record := &pb.Command{Verb: pb.Verb_VERB_SNAPSHOT, Actor: "qstream"}
	for _, s := range f.state.Suspensions() {
		record.Suspensions = append(record.Suspensions, &pb.Suspension{
			Scope: s.Scope.proto(), SinceMs: s.Since.UnixMilli(), Actor: s.Actor, Reason: s.Reason,
		})
	}
	record.Orders = append(f.state.commands(), f.state.againCommands(f.at)...)
	record.Webhooks = f.state.webhookOrders()
	for scope, at := range f.state.resumed {
		if f.at.Sub(at) < keptResumed { // else no leg is that old
			record.Resumed = append(record.Resumed, &pb.Resumed{Scope: scope.proto(), AtMs: at.UnixMilli()})
		}
	}
	if proto.Size(record) > schemas.MaxMessage(schemas.Control)-4096 {
		return nil // the commands themselves still tell it
	}
	_, err := f.publish(ctx, b, record)
	return err
}
