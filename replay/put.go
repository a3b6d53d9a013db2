package replay

import (
	"context"
	"time"

	"qstream/bus"
)

// batch is how many messages are published together.
const batch = 100

// putter publishes what a job makes, at a limited rate, and some of it together.
type putter struct {
	bus  *bus.Bus
	rate float64 // a second; 0: as fast as it goes
	// durable is called with how many were published, after them; then what was
	// put with each. Its error ends the job.
	durable func(n int)

	next    time.Time
	pending []put
}

type put struct {
	record bus.Record
	after  func() error
}

// pace waits until the next may go.
func (p *putter) pace(ctx context.Context) error {
	if p.rate <= 0 {
		return nil
	}
	now := time.Now()
	if p.next.Before(now) {
		p.next = now
	}
	wait := time.NewTimer(p.next.Sub(now))
	defer wait.Stop()
	p.next = p.next.Add(time.Duration(float64(time.Second) / p.rate))
	select {
	case <-wait.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// put publishes a record, perhaps with later ones.
func (p *putter) put(ctx context.Context, r bus.Record, after func() error) error {
	p.pending = append(p.pending, put{r, after})
	if len(p.pending) >= batch || p.rate > 0 && p.rate < 2*batch {
		return p.flush(ctx)
	}
	return nil
}

// flush publishes what is pending.
func (p *putter) flush(ctx context.Context) error {
	if len(p.pending) == 0 {
		return nil
	}
	records := make([]*bus.Record, len(p.pending))
	for i := range p.pending {
		records[i] = &p.pending[i].record
	}
	if err := p.bus.Publish(ctx, records...); err != nil {
		return err
	}
	published := p.pending
	p.pending = nil // whatever ends the job now
	p.durable(len(published))
	for _, one := range published {
		if one.after == nil {
			continue
		}
		if err := one.after(); err != nil {
			return err
		}
	}
	return nil
}
