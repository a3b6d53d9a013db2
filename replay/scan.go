package replay

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"qstream/bus"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
)

// Bounds of a job's patience: offers are kept for a day.
const (
	DefaultPatience = 6 * time.Hour
	MaxPatience     = 20 * time.Hour
)

// Offering is how far a job is that has mail of the past scanned again.
type Offering struct {
	Selected   int `json:"messages"`
	Recipients int `json:"recipients"` // of them, that are meant
	Offered    int `json:"offered"`    // legs, by this run
	Before     int `json:"before"`     // that the job had offered earlier
	Held       int `json:"held"`       // recipients that are in quarantine already
	Ended      int `json:"ended"`      // that nothing was delivered to, nor will be
}

// Offer has the selected messages scanned again: what was delivered, and what
// waits. A job that has no end in time offers nothing that was accepted after
// its begin. What comes of it is told by Follow and Tell.
//
// A leg is offered once by a job, however often that is run.
func (h *History) Offer(ctx context.Context, j *Job) (Offering, error) {
	o := &offering{h: h, job: j}
	if j.Patience == 0 {
		j.Patience = DefaultPatience
	}
	if j.Patience < 0 || j.Patience > MaxPatience {
		return o.Offering, fmt.Errorf("a patience of %s: want at most %s", j.Patience, MaxPatience)
	}
	j.Action = ActionScan
	made, err := h.begin(ctx, j)
	if err != nil {
		return o.Offering, err
	}
	err = o.run(ctx, made)
	return o.Offering, h.end(ctx, j, o.Offering, err)
}

// offering is one run of a job.
type offering struct {
	Offering
	h    *History
	job  *Job
	told told
	done map[string]bool // what was offered
	out  putter
}

func (o *offering) run(ctx context.Context, made time.Time) error {
	o.done, o.told.places = map[string]bool{}, map[recipient]*place{}
	o.out = putter{bus: o.h.Bus, rate: o.job.Rate, durable: func(n int) {
		if o.Offered += n; o.job.Offered != nil {
			o.job.Offered(o.Offering)
		}
	}}
	err := o.h.Bus.Read(ctx, []string{schemas.Rescan}, bus.Start{Since: made.Add(-clocks)}, func(r bus.Record) error {
		var p pb.Rescan
		if proto.Unmarshal(r.Value, &p) == nil && p.Job == o.job.ID {
			o.done[offerKey(&p)] = true
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read what is offered: %w", err)
	}
	err = o.h.choose(ctx, o.job.Selection, &o.told, func(m *Message) error { return o.take(ctx, m) })
	if err != nil {
		return errors.Join(err, o.out.flush(context.WithoutCancel(ctx)))
	}
	return o.out.flush(ctx)
}

// offerKey names an offer of a job.
func offerKey(r *pb.Rescan) string {
	key := fmt.Sprintf("%s %d", r.GetLeg().GetMessageId(), r.GetLeg().GetNumber())
	for _, to := range r.GetLeg().GetRecipients()[:min(1, len(r.GetLeg().GetRecipients()))] {
		key += fmt.Sprintf(" %d", to.Number)
	}
	return key
}

func (o *offering) take(ctx context.Context, m *Message) error {
	o.Selected++
	o.Recipients += len(m.Recipients)
	for _, r := range o.offers(m) {
		key := offerKey(r)
		if o.done[key] {
			o.Before++
			continue
		}
		o.done[key] = true
		if err := o.out.pace(ctx); err != nil {
			return err
		}
		now := o.job.Now()
		r.OfferedMs, r.UntilMs = now.UnixMilli(), now.Add(o.job.Patience).UnixMilli()
		if err := o.out.put(ctx, bus.NewRescan(r), nil); err != nil {
			return err
		}
	}
	return nil
}

// offers are a message's legs that are to be scanned again.
func (o *offering) offers(m *Message) []*pb.Rescan {
	type kind struct {
		leg            uint32
		tenant, queue  string
		waiting        bool
		found, toWhich string
	}
	of := map[kind]*pb.Rescan{}
	var all []*pb.Rescan
	for _, to := range m.Recipients {
		p, outcome := o.told.where(m.ID(), to.Number)
		switch {
		case p == nil || outcome != Delivered && outcome != Waiting:
			o.Ended++
			continue
		case outcome == Waiting && p.held:
			o.Held++
			continue
		}
		k := kind{p.leg, p.tenant, p.queue, outcome == Waiting, p.found, p.destination}
		r := of[k]
		if r == nil {
			r = &pb.Rescan{Job: o.job.ID, Leg: m.leg(p), Waiting: k.waiting, Found: p.found}
			of[k] = r
			all = append(all, r)
		}
		r.Leg.Recipients = append(r.Leg.Recipients, &pb.Recipient{Number: to.Number, Address: to.Address})
	}
	return all
}

// leg is a message's leg as the events told of it.
func (m *Message) leg(p *place) *pb.Leg {
	r := m.Received
	return &pb.Leg{
		MessageId: r.Id, Number: p.leg, Step: p.step, Tenant: p.tenant, Queue: p.queue, Destination: p.destination, Route: p.route,
		ReversePath: r.GetEnvelope().GetReversePath(), Content: m.Content, Prepend: r.Prepend, BornMs: m.Accepted.UnixMilli(),
		Directory: r.Directory, HeaderMessageId: r.HeaderMessageId, Session: r.Session,
	}
}
