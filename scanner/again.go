package scanner

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"qstream/bus"
	"qstream/control"
	"qstream/directory"
	"qstream/directory/roster"
	"qstream/directory/ruling"
	"qstream/engine"
	"qstream/mail"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
)

// Of the past that is offered to be scanned again.
const (
	heldAgain  = 1024 // offers that are held, most of them for an engine
	keptAgain  = 4    // the share of verdicts kept for them: one part of so many
	againFirst = 10 * time.Second
	againLast  = 5 * time.Minute
	// unreadableAfter is how often content is looked for that can't be read.
	unreadableAfter = 3
	orderWithin     = 30 * time.Second
	orderedAtOnce   = 1000 // messages of one order
)

// workAgain scans what is offered, in a group of its own: whatever lies in its
// topic keeps no mail from being read.
func (s *Scanner) workAgain(ctx context.Context) error {
	err := s.deps.Bus.Work(ctx, bus.WorkConfig{
		Group: schemas.RescanGroup, From: bus.NewTopics(schemas.Rescan), Stage: stageName, MaxHeld: heldAgain, Drain: s.cfg.Drain,
	}, s.takeAgain)
	if err != nil {
		return fmt.Errorf("scanner of the past: %w", err)
	}
	return nil
}

// takeAgain is given each record by the bus; it doesn't block.
func (s *Scanner) takeAgain(job *bus.Job) {
	o, err := decodeOffer(job.Record)
	switch {
	case err != nil: // no mail is lost with it: whoever counts misses an answer
		s.metrics.poison.Inc()
		s.deps.Log.Error("offer can't be read", "stage", stageName, "topic", job.Record.Topic,
			"partition", job.Record.Partition, "offset", job.Record.Offset, "err", err)
		job.Finish()
	case o.Result != nil, s.seenAgain.Repeated(job.Record, offerID(o)):
		job.Finish()
	default:
		s.tasks.Go(func() { s.runAgain(job, o) })
	}
}

func decodeOffer(r bus.Record) (*pb.Rescan, error) {
	var o pb.Rescan
	err := proto.Unmarshal(r.Value, &o)
	switch {
	case err != nil:
	case o.Result != nil:
	case o.Job == "" || o.GetLeg().GetMessageId() == "":
		err = errors.New("no job or no message id")
	case len(o.Leg.Recipients) == 0 || o.Leg.Content == nil:
		err = errors.New("no recipients or no content")
	default: // no order could name another one, nor be waited for without end
		if _, ok := mail.IDTime(o.Leg.MessageId); !ok {
			err = errors.New("no message id")
		}
	}
	return &o, err
}

// offerID is the same for two records only if one repeats the other.
func offerID(o *pb.Rescan) string {
	return fmt.Sprintf("%s %s %d %v %s %d %d", o.Job, o.Leg.MessageId, o.Leg.Number, o.Waiting, o.Found, o.Leg.Recipients[0].Number, o.Leg.GetScan().GetWaits())
}

// runAgain takes an offer to its end here.
func (s *Scanner) runAgain(job *bus.Job, o *pb.Rescan) {
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	defer context.AfterFunc(job.Revoked(), cancel)()
	// None is put off for longer than againLast, whatever a record says.
	if !bus.Pause(ctx, min(time.UnixMilli(o.DueMs).Sub(s.deps.Now()), againLast)) || !s.past.slots.Enter(ctx, o.Leg.Tenant, s.cfg.Again) {
		return
	}
	defer s.past.slots.Leave(o.Leg.Tenant)
	held, ok := job.Begin(ctx)
	if !ok {
		return
	}
	defer context.AfterFunc(held, cancel)()
	out, err := s.scanAgain(ctx, o)
	if err != nil && ctx.Err() == nil {
		s.deps.Log.Error("what waits can't be held back", "stage", stageName, "msg_id", o.Leg.MessageId, "tenant", o.Leg.Tenant, "err", err)
		bus.Pause(ctx, time.Second)
	}
	if err != nil || ctx.Err() != nil {
		job.Abandon()
		return
	}
	job.Finish(out...)
}

// past asks about what was offered: with verdicts that its job made, and engine
// slots that nobody else wants.
type past struct {
	asker
	slots *roster.Gate // of this process
}

// scanAgain is what follows from an offer. An error says that nothing may
// follow yet.
func (s *Scanner) scanAgain(ctx context.Context, o *pb.Rescan) ([]bus.Record, error) {
	began, snap := s.deps.Now(), s.deps.Directory.Snapshot()
	policy := snap.Scan(snap.Decide(directory.QuestionOf(o.Leg, o.Leg.Recipients[0])).Scan)
	if policy == nil {
		return s.answered(o, &pb.RescanResult{Outcome: schemas.OfferUnwanted}), nil
	}
	ask := s.past.asker
	ask.job = o.Job
	a := ask.ask(ctx, o.Leg, snap, policy)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	sc := scene{snap: snap, policy: policy, began: began, now: s.deps.Now()}
	f := findAgain(o, a, sc)
	if f.again != nil {
		s.metrics.rescans.WithLabelValues(directory.ActWait).Inc()
		return []bus.Record{bus.NewRescan(f.again)}, nil
	}
	if o.Waiting && len(f.bad) > 0 {
		if err := s.holdBack(o, f.bad); err != nil {
			return nil, err
		}
	}
	var out []bus.Record
	for _, e := range f.events {
		out = append(out, bus.NewEvent(e))
	}
	s.log(o.Leg, a)
	return append(out, s.answered(o, f.result)...), nil
}

// answered is the record of a result.
func (s *Scanner) answered(o *pb.Rescan, r *pb.RescanResult) []bus.Record {
	s.metrics.rescans.WithLabelValues(r.Outcome).Inc()
	l := &pb.Leg{MessageId: o.Leg.MessageId, Number: o.Leg.Number, Tenant: o.Leg.Tenant, Queue: o.Leg.Queue, Recipients: o.Leg.Recipients}
	return []bus.Record{bus.NewRescan(&pb.Rescan{Job: o.Job, Leg: l, Waiting: o.Waiting, OfferedMs: o.OfferedMs, Result: r})}
}

// batch is what offers of a job order together: while one order is given, those
// that come meanwhile gather.
type batch struct {
	held  []*pb.HeldLeg
	given bool
	err   error
}

// holdBack orders that what still waits is scanned before it is delivered. It
// is ordered before it is told: a repetition finds the order standing.
func (s *Scanner) holdBack(o *pb.Rescan, bad []uint32) error {
	b := s.gather(o.Job, &pb.HeldLeg{MessageId: o.Leg.MessageId, Recipients: bad})
	s.ordering.Lock() // else this process would race with itself for the head
	defer s.ordering.Unlock()
	if b.given {
		return b.err
	}
	s.gathering.Lock()
	if s.batches[o.Job] == b {
		delete(s.batches, o.Job)
	}
	s.gathering.Unlock()
	ctx, cancel := context.WithTimeout(s.ctx, orderWithin) // it is given for others, too
	defer cancel()
	_, b.err = control.Send(ctx, s.deps.Bus, control.Command{
		Verb: control.ScanAgain, Actor: stageName, Job: o.Job, Reason: "found bad by job " + o.Job, Held: b.held,
	})
	b.given = true
	return b.err
}

// gather adds to the batch of a job that isn't given yet.
func (s *Scanner) gather(job string, held *pb.HeldLeg) *batch {
	s.gathering.Lock()
	defer s.gathering.Unlock()
	b := s.batches[job]
	if b == nil || len(b.held) >= orderedAtOnce {
		b = &batch{}
		s.batches[job] = b
	}
	b.held = append(b.held, held)
	return b
}

// noVerdict reports an engine that gave none, whatever a rule makes of that: of
// the past nobody may be told clean what only some engines looked at.
func noVerdict(v ruling.Said) bool { return v.Outcome == engine.Failed && !v.Poison }
