package custody

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"qstream/bus"
	"qstream/schemas"
	"qstream/schemas/chain"
	pb "qstream/schemas/qstream/v1"
)

// Proof is what a record's value lacks to show that it stood in its place when
// a checkpoint was signed.
type Proof struct {
	Topic      string         `json:"topic"`
	Partition  int32          `json:"partition"`
	Offset     int64          `json:"offset"`
	AtMs       int64          `json:"at_ms"`
	Key        []byte         `json:"key"`
	Headers    []chain.Header `json:"headers"`
	Checkpoint uint64         `json:"checkpoint"` // its number
	Index      int64          `json:"index"`      // of the record in its interval
	Path       []chain.Hash   `json:"path"`
}

// Check checks a proof about a value, of which value is the SHA-256. c is the
// checkpoint that the proof names.
func (p *Proof) Check(value chain.Hash, c *chain.Signed) error {
	l := c.Link(chain.Part{Topic: p.Topic, Partition: p.Partition}, p.Offset)
	if l == nil || c.Number != p.Checkpoint {
		return fmt.Errorf("checkpoint %d tells nothing of %s/%d at %d: %w", c.Number, p.Topic, p.Partition, p.Offset, chain.ErrFalse)
	}
	leaf := chain.Leaf{
		Topic: p.Topic, Partition: p.Partition, Offset: p.Offset, AtMs: p.AtMs,
		Key: p.Key, Headers: p.Headers, Value: value,
	}
	return chain.Check(l, leaf.Hash(), p.Index, p.Path)
}

// Proofs are proofs of records, and the checkpoints that they name.
type Proofs struct {
	Proofs      []*Proof
	Checkpoints [][]byte // values of the checkpoint topic, in its order
	Unsigned    int      // records that no checkpoint covers, yet or any more
}

// errEnough ends reading.
var errEnough = errors.New("read enough")

// Prove proves records, named by their offsets, by the checkpoints since a
// time; trust says whose count, nil: any. It reads each interval in which a
// record is.
func Prove(ctx context.Context, b *bus.Bus, records map[chain.Part]map[int64]bool, since time.Time, trust func(ed25519.PublicKey) bool) (*Proofs, error) {
	var out Proofs
	state := chain.State{Trust: trust, Late: !since.IsZero()}
	type covered struct {
		link   *pb.Link
		number uint64
	}
	var links []covered
	wanted, found := 0, 0
	ordered := map[chain.Part][]int64{} // an interval is looked up a thousand times a day
	for p, offsets := range records {
		wanted += len(offsets)
		ordered[p] = slices.Sorted(maps.Keys(offsets))
	}
	err := b.Read(ctx, []string{schemas.Checkpoint}, bus.Start{Since: since}, func(r bus.Record) error {
		c, err := state.Take(r.Value, r.Time)
		if err != nil {
			return nil // ignored by all
		}
		if c.First {
			links, found, out.Checkpoints = nil, 0, nil
		}
		used := false
		for _, l := range c.Links {
			if n := inside(ordered[chain.PartOf(l)], l); n > 0 {
				links = append(links, covered{l, c.Number})
				found += n
				used = true
			}
		}
		if used {
			out.Checkpoints = append(out.Checkpoints, r.Value)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read checkpoints: %w", err)
	}
	for _, c := range links {
		proofs, err := prove(ctx, b, c.link, c.number, records[chain.PartOf(c.link)])
		if err != nil {
			return nil, err
		}
		out.Proofs = append(out.Proofs, proofs...)
	}
	out.Unsigned = wanted - found
	return &out, nil
}

// inside is how many of the offsets, in their order, lie in a link's interval.
func inside(offsets []int64, l *pb.Link) int {
	from, _ := slices.BinarySearch(offsets, l.From)
	next, _ := slices.BinarySearch(offsets, l.Next)
	return next - from
}

// prove proves records of one interval.
func prove(ctx context.Context, b *bus.Bus, l *pb.Link, number uint64, offsets map[int64]bool) ([]*Proof, error) {
	var leaves []chain.Hash
	var proofs []*Proof
	start := bus.Start{End: true, Offset: map[string]map[int32]int64{l.Topic: {l.Partition: l.From}}}
	err := b.Read(ctx, []string{l.Topic}, start, func(r bus.Record) error {
		switch {
		case r.Partition != l.Partition:
			return nil
		case r.Offset >= l.Next:
			return errEnough
		}
		leaf := r.Leaf()
		if offsets[r.Offset] {
			proofs = append(proofs, &Proof{
				Topic: r.Topic, Partition: r.Partition, Offset: r.Offset, AtMs: leaf.AtMs,
				Key: leaf.Key, Headers: leaf.Headers, Checkpoint: number, Index: int64(len(leaves)),
			})
		}
		leaves = append(leaves, leaf.Hash())
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) {
		return nil, fmt.Errorf("read %s: %w", l.Topic, err)
	}
	if int64(len(leaves)) != l.Count {
		return nil, fmt.Errorf("%s/%d, offsets %d to %d: %d records were signed, %d are there: %w", l.Topic, l.Partition, l.From, l.Next-1, l.Count, len(leaves), chain.ErrFalse)
	}
	for _, p := range proofs {
		path, err := chain.Prove(leaves, int(p.Index))
		if err != nil {
			return nil, err
		}
		p.Path = path
		if err := chain.Check(l, leaves[p.Index], p.Index, path); err != nil {
			return nil, fmt.Errorf("%s/%d, offsets %d to %d: %w", l.Topic, l.Partition, l.From, l.Next-1, err)
		}
	}
	return proofs, nil
}
