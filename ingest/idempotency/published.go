package idempotency

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"qstream/bus"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
)

// slack is how far clocks and append times may be apart. A process whose clock
// is farther from the broker's is not fit for work.
const slack = 35 * time.Second

// Published finds messages that were published under the claims before this
// one. It reads what all edges took while these held; one look goes on at a
// time.
func (c *Claim) Published(ctx context.Context) (map[string]*pb.Received, error) {
	found := map[string]*pb.Received{}
	if c.former.record == nil || len(c.former.record.ClaimedMs) == 0 {
		return found, nil
	}
	k := c.keys
	ctx, cancel := context.WithDeadline(ctx, c.deadline())
	defer cancel()
	select {
	case k.looking <- struct{}{}:
		defer func() { <-k.looking }()
	case <-ctx.Done():
		return nil, fmt.Errorf("look for messages: %w", context.Cause(ctx))
	}
	wanted := map[string]bool{}
	for _, id := range c.record.MessageIds {
		wanted[id] = true
	}
	for _, ms := range c.former.record.ClaimedMs {
		from := time.UnixMilli(ms).Add(-slack)
		start := bus.Start{Since: from, Until: time.UnixMilli(ms).Add(k.cfg.Lease + slack)}
		err := k.cfg.Bus.Read(ctx, []string{schemas.Received}, start, func(r bus.Record) error {
			if !wanted[string(r.Key)] {
				return nil
			}
			var m pb.Received
			if err := proto.Unmarshal(schemas.WithoutInline(r.Topic, r.Value), &m); err != nil {
				return fmt.Errorf("decode message: %w", err)
			}
			found[m.Id] = &m
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("look for messages: %w", err)
		}
	}
	return found, nil
}

// deadline is when the claim ends, by the system's clock.
func (c *Claim) deadline() time.Time {
	return time.Now().Add(c.until.Sub(c.keys.cfg.Now()))
}
