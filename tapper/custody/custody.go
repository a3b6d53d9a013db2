// Package custody keeps the log's chain of custody: it hashes the records of
// the mail topics as they come, and signs the heads of all partitions' chains
// on the checkpoint topic.
//
// Guarantee: each committed record of the topics is in exactly one interval of
// the chain, or in a gap that the chain shows; a stop, a crash or a second
// process changes nothing of that.
//
// Several processes may run: a checkpoint counts if it follows the newest one,
// so one of them writes and the others only look. What they see differently
// is an alarm. Records younger than Every are not under a checkpoint yet.
package custody

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"qstream/bus"
	"qstream/schemas"
	"qstream/schemas/chain"
	pb "qstream/schemas/qstream/v1"
)

// Topics are those that are chained.
var Topics = []string{schemas.Received, schemas.Reinject, schemas.Events}

// Config are the settings of a Chain. Key is required; the others have
// defaults.
type Config struct {
	Key   ed25519.PrivateKey // signs
	Every time.Duration      // between checkpoints; default 1 min
	Most  int                // records of a partition in one interval, at most; default 16,384
}

// Deps are what a Chain works with. Bus is required.
type Deps struct {
	Bus     *bus.Bus
	Log     *slog.Logger          // default: discards
	Metrics prometheus.Registerer // default: none
	Now     func() time.Time      // default time.Now
}

// window is how far back reading begins for the newest checkpoint.
const window = time.Hour

// Chain is a part of the tapper.
type Chain struct {
	cfg     Config
	deps    Deps
	metrics *metrics
	writer  string
	full    chan struct{} // a partition has Most records

	mu      sync.Mutex
	state   chain.State
	open    map[chain.Part]*interval
	others  time.Time // when another's checkpoint was last seen
	room    chan struct{}
	started bool
}

// interval is what was read of a partition and is not under a checkpoint.
type interval struct {
	from    int64 // where it begins, if the chain isn't there yet
	offsets []int64
	leaves  []chain.Hash
}

// New checks cfg and deps; it starts nothing.
func New(cfg Config, d Deps) (*Chain, error) {
	if d.Bus == nil {
		return nil, errors.New("custody: a bus is required")
	}
	if len(cfg.Key) != ed25519.PrivateKeySize {
		return nil, errors.New("custody: an Ed25519 key is required")
	}
	if cfg.Every < 0 || cfg.Most < 0 {
		return nil, errors.New("custody: settings must not be negative")
	}
	if cfg.Every == 0 {
		cfg.Every = time.Minute
	}
	if cfg.Most == 0 {
		cfg.Most = 16384
	}
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	if d.Now == nil {
		d.Now = time.Now
	}
	id := make([]byte, 8)
	_, _ = rand.Read(id) // it never fails
	c := &Chain{
		cfg: cfg, deps: d, writer: hex.EncodeToString(id), full: make(chan struct{}, 1),
		open: map[chain.Part]*interval{}, room: make(chan struct{}),
	}
	c.state.Trust = c.own
	c.metrics = newMetrics(d.Metrics, c.unsigned)
	return c, nil
}

// own reports this process's key. A checkpoint of another is nobody's: who may
// write to the topic must not be able to lead the chain astray. After a change
// of keys a chain of the new one begins, with what the log still has.
func (c *Chain) own(key ed25519.PublicKey) bool { return key.Equal(c.cfg.Key.Public()) }

// Run chains until ctx ends.
func (c *Chain) Run(ctx context.Context) error {
	start, err := c.begin(ctx)
	if err != nil {
		return ended(ctx, err)
	}
	g, ctx := errgroup.WithContext(ctx)
	checkpoints := c.deps.Bus.Follow([]string{schemas.Checkpoint}, start, c.take)
	g.Go(func() error { return checkpoints.Run(ctx) })
	select {
	case <-checkpoints.CaughtUp():
	case <-ctx.Done():
		return g.Wait()
	}
	from, err := c.from(ctx)
	if err != nil {
		return errors.Join(ended(ctx, err), g.Wait())
	}
	mail := c.deps.Bus.Follow(Topics, from, func(r bus.Record) error { return c.add(ctx, r) })
	g.Go(func() error { return mail.Run(ctx) })
	g.Go(func() error { return c.write(ctx, checkpoints) })
	return g.Wait()
}

// ended is err unless ctx has ended, which is how a part stops.
func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// Ready is nil once the chain goes on where it had stopped.
func (c *Chain) Ready() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.started {
		return errors.New("the newest checkpoint isn't known yet")
	}
	return nil
}

// begin is where to read checkpoints from: those of the last hour, if there
// are any that hold, else all.
func (c *Chain) begin(ctx context.Context) (bus.Start, error) {
	late := bus.Start{Since: c.deps.Now().Add(-window)}
	s := chain.State{Trust: c.own, Late: true}
	err := c.deps.Bus.Read(ctx, []string{schemas.Checkpoint}, late, func(r bus.Record) error {
		_, _ = s.Take(r.Value, r.Time)
		return nil
	})
	if err != nil {
		return late, fmt.Errorf("read the newest checkpoint: %w", err)
	}
	if s.Number == 0 {
		return bus.Start{}, nil
	}
	c.state.Late = true
	return late, nil
}

// from is where each partition goes on, and notes where those begin of which
// nothing is chained, or of which something has been deleted meanwhile.
func (c *Chain) from(ctx context.Context) (bus.Start, error) {
	start := bus.Start{Offset: map[string]map[int32]int64{}}
	for _, topic := range Topics {
		oldest, err := c.deps.Bus.Since(ctx, topic, time.UnixMilli(0))
		if err != nil {
			return start, fmt.Errorf("find the begin of %s: %w", topic, err)
		}
		start.Offset[topic] = map[int32]int64{}
		for partition, offset := range oldest {
			p := chain.Part{Topic: topic, Partition: partition}
			c.mu.Lock()
			at, known := c.state.Parts[p]
			if known && at.Next < offset {
				c.deps.Log.Error("records were deleted before they were chained", "topic", topic, "partition", partition, "from", at.Next, "offset", offset)
				c.metrics.gaps.Inc()
			}
			from := max(at.Next, offset)
			c.open[p] = &interval{from: from}
			c.mu.Unlock()
			start.Offset[topic][partition] = from
		}
	}
	c.mu.Lock()
	c.started = true
	c.mu.Unlock()
	return start, nil
}

// add takes a record of mail. It waits while an interval is full.
func (c *Chain) add(ctx context.Context, r bus.Record) error {
	leaf := r.Leaf().Hash()
	p := chain.Part{Topic: r.Topic, Partition: r.Partition}
	for {
		c.mu.Lock()
		i := c.open[p]
		if i == nil { // a partition that is new
			i = &interval{}
			c.open[p] = i
		}
		if r.Offset < max(c.state.Parts[p].Next, i.from) {
			c.mu.Unlock()
			return nil // another's checkpoint has it
		}
		if len(i.leaves) < c.cfg.Most {
			i.offsets, i.leaves = append(i.offsets, r.Offset), append(i.leaves, leaf)
			c.mu.Unlock()
			return nil
		}
		room := c.room
		c.mu.Unlock()
		select {
		case c.full <- struct{}{}:
		default:
		}
		select {
		case <-room:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// take is a record of the checkpoint topic.
func (c *Chain) take(r bus.Record) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	before := c.state.Parts
	got, err := c.state.Take(r.Value, r.Time)
	switch {
	case errors.Is(err, chain.ErrLost):
		c.deps.Log.Debug("checkpoint ignored", "offset", r.Offset, "err", err)
		return nil
	case err != nil:
		c.metrics.wrong.Inc()
		c.deps.Log.Error("checkpoint is none", "topic", r.Topic, "offset", r.Offset, "err", err)
		return nil
	}
	if got.Writer != c.writer && c.started {
		c.others = c.deps.Now()
	}
	for _, l := range got.Links {
		c.settle(before, l)
	}
	close(c.room)
	c.room = make(chan struct{})
	c.metrics.newest.Set(float64(got.AtMs) / 1000)
	return nil
}

// settle lets go of what a link covers, once more comparing it with what was
// read here.
func (c *Chain) settle(before map[chain.Part]chain.Place, l *pb.Link) {
	p := chain.PartOf(l)
	i := c.open[p]
	if i == nil {
		return
	}
	n := 0
	for n < len(i.offsets) && i.offsets[n] < l.Next {
		n++
	}
	whole := len(i.offsets) > 0 && i.offsets[len(i.offsets)-1] >= l.Next-1 && l.From >= i.from && l.From == before[p].Next
	if whole && chain.Head(before[p].Head, l) != chain.Hash(chain.Extend(p, before[p].Head, l.From, l.Next, i.leaves[:n]).Head) {
		c.metrics.disagreed.Inc()
		c.deps.Log.Error("another's checkpoint tells of other records than those read here", "topic", l.Topic, "partition", l.Partition, "from", l.From, "offset", l.Next)
	}
	i.offsets, i.leaves = append([]int64(nil), i.offsets[n:]...), append([]chain.Hash(nil), i.leaves[n:]...)
}

// unsigned is how many records aren't under a checkpoint.
func (c *Chain) unsigned() float64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for _, i := range c.open {
		n += len(i.leaves)
	}
	return float64(n)
}
