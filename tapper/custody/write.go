package custody

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"qstream/bus"
	"qstream/schemas"
	"qstream/schemas/chain"
	pb "qstream/schemas/qstream/v1"
)

// write writes checkpoints by the clock, and early where an interval is full.
func (c *Chain) write(ctx context.Context, checkpoints *bus.Follower) error {
	tick := time.NewTicker(c.cfg.Every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-c.full:
		}
		c.checkpoint(ctx, checkpoints)
	}
}

// checkpoint writes one, if there is anything to sign and nobody else does.
// What came of it shows when it is read back: whether it was published twice,
// late, or behind another's.
func (c *Chain) checkpoint(ctx context.Context, checkpoints *bus.Follower) {
	next := c.next()
	if next == nil {
		return
	}
	value, err := chain.Sign(next, c.cfg.Key)
	if err == nil {
		err = c.deps.Bus.Publish(ctx, &bus.Record{Topic: schemas.Checkpoint, Partition: 0, Value: value})
	}
	if err == nil {
		c.metrics.written.Inc()
		err = checkpoints.Sync(ctx)
	}
	if err != nil && ctx.Err() == nil {
		c.metrics.failed.Inc()
		c.deps.Log.Warn("checkpoint not written, trying again at the next", "err", err)
	}
}

// next is the checkpoint to be written; nil: none.
func (c *Chain) next() *pb.Chained {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.deps.Now()
	if now.Sub(c.others) < 3*c.cfg.Every && !c.crowded() {
		return nil
	}
	var links []*pb.Link
	fresh := false
	for _, p := range slices.SortedFunc(maps.Keys(c.open), byName) {
		i, at := c.open[p], c.state.Parts[p]
		from, next := max(at.Next, i.from), max(at.Next, i.from)
		if n := len(i.offsets); n > 0 {
			next = i.offsets[n-1] + 1
		}
		if from == next && c.state.Parts == nil && from == 0 {
			continue // nothing has ever been there
		}
		fresh = fresh || len(i.leaves) > 0
		links = append(links, chain.Extend(p, at.Head, from, next, i.leaves))
	}
	if !fresh {
		return nil
	}
	return c.state.Chain(now.UnixMilli(), c.writer, links)
}

// crowded reports that who writes doesn't keep up: an interval is full here.
func (c *Chain) crowded() bool {
	for _, i := range c.open {
		if len(i.leaves) >= c.cfg.Most {
			return true
		}
	}
	return false
}

func byName(a, b chain.Part) int {
	return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
}
