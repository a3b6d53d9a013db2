// Package custody reads the chain of custody: it proves by the checkpoints that
// a record stood where it stood, and compares the log with what was signed of
// it.
//
// Guarantee: a record that was changed, removed or added after its checkpoint
// is reported, as the interval in which it is. What the log no longer has at its
// begin is counted apart: age removes it, and so may who can delete records.
//
// Whose key may sign checkpoints is the caller's to say; without one every key
// will do, and what is proved is only that the log agrees with itself.
package custody

import (
	"bytes"
	"cmp"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"time"

	"qstream/bus"
	"qstream/schemas"
	"qstream/schemas/chain"
	pb "qstream/schemas/qstream/v1"
)

// Options are what is verified, and how.
type Options struct {
	Since time.Time                    // checkpoints from then on; zero: all
	Trust func(ed25519.PublicKey) bool // nil: any key
	Pace  *bus.Pace                    // of reading; nil: as fast as it goes
	Now   func() time.Time             // default time.Now
}

// quiet is for how long a site may have had nothing to sign before what age has
// removed of its checkpoints is taken for removed by hand.
const quiet = 7 * 24 * time.Hour

// aged reports whether checkpoints before one of that time may be gone by age.
func (o Options) aged(ctx context.Context, b *bus.Bus, at time.Time) (bool, error) {
	kept, err := b.Retention(ctx, schemas.Checkpoint)
	if err != nil || kept < 0 {
		return false, err
	}
	now := time.Now
	if o.Now != nil {
		now = o.Now
	}
	return at.Before(now().Add(quiet - kept)), nil
}

// Report is what Verify found.
type Report struct {
	Checkpoints int       `json:"checkpoints"`
	Oldest      time.Time `json:"oldest,omitzero"`
	Newest      time.Time `json:"newest,omitzero"`
	Ignored     int       `json:"ignored"`    // that came second
	Keys        []string  `json:"keys"`       // fingerprints of those that signed
	Parts       []*Part   `json:"partitions"` // by topic and number
	Wrong       []Wrong   `json:"wrong"`      // by topic, partition and offset
}

// Part is a partition.
type Part struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Intervals int    `json:"intervals"` // that are as they were signed
	Records   int64  `json:"records"`   // in these
	Gone      int    `json:"gone"`      // intervals before the log's begin, or across it
	Unsigned  int64  `json:"unsigned"`  // records behind the newest checkpoint

	links  []*pb.Link // not compared yet
	leaves []chain.Hash
}

// Wrong is a difference between the log and what was signed.
type Wrong struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	From      int64  `json:"from"`
	Next      int64  `json:"next"` // the first offset behind it
	What      string `json:"what"`
	Signed    int64  `json:"signed,omitzero"` // records of an interval
	There     int64  `json:"there,omitzero"`  // of these
	Times     int    `json:"-"`               // of a summary: how many differences these are
}

func differs(topic string, partition int32, from, next int64, what string) Wrong {
	return Wrong{Topic: topic, Partition: partition, From: from, Next: next, What: what, Times: 1}
}

func (w Wrong) String() string {
	text := fmt.Sprintf("%s/%d, offsets %d to %d", w.Topic, w.Partition, w.From, w.Next-1)
	if w.Times > 1 {
		text += fmt.Sprintf(", %d times", w.Times)
	}
	text += ": " + w.What
	if w.Signed > 0 {
		text += fmt.Sprintf(" (%d signed, %d there)", w.Signed, w.There)
	}
	return text
}

// Summary tells each kind of difference once for each partition, from the first
// such place to the last.
func (r *Report) Summary() []Wrong {
	var all []Wrong
	for _, w := range r.Wrong {
		i := slices.IndexFunc(all, func(x Wrong) bool {
			return x.Topic == w.Topic && x.Partition == w.Partition && x.What == w.What
		})
		if i < 0 {
			all = append(all, w)
			continue
		}
		x := &all[i]
		x.From, x.Next = min(x.From, w.From), max(x.Next, w.Next)
		x.Signed, x.There, x.Times = x.Signed+w.Signed, x.There+w.There, x.Times+w.Times
	}
	return all
}

// Verify compares the log with its checkpoints.
func Verify(ctx context.Context, b *bus.Bus, o Options) (*Report, error) {
	v := &verifier{parts: map[chain.Part]*Part{}}
	if err := v.checkpoints(ctx, b, o); err != nil {
		return nil, err
	}
	if len(v.parts) == 0 {
		return v.end(), nil
	}
	start, topics := bus.Start{Pace: o.Pace, Offset: map[string]map[int32]int64{}}, []string{}
	for _, p := range v.report.Parts {
		if start.Offset[p.Topic] == nil {
			start.Offset[p.Topic] = map[int32]int64{}
			topics = append(topics, p.Topic)
		}
		start.Offset[p.Topic][p.Partition] = p.links[0].From
	}
	for _, topic := range topics {
		oldest, err := b.Since(ctx, topic, time.UnixMilli(0))
		if err != nil {
			return nil, fmt.Errorf("find the begin of %s: %w", topic, err)
		}
		for partition, offset := range oldest {
			if p := v.parts[chain.Part{Topic: topic, Partition: partition}]; p != nil {
				p.expire(offset)
			}
		}
	}
	err := b.Read(ctx, topics, start, func(r bus.Record) error {
		if p := v.parts[chain.Part{Topic: r.Topic, Partition: r.Partition}]; p != nil {
			v.record(p, r)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the log: %w", err)
	}
	return v.end(), nil
}

type verifier struct {
	report Report
	parts  map[chain.Part]*Part
}

// checkpoints reads all links.
func (v *verifier) checkpoints(ctx context.Context, b *bus.Bus, o Options) error {
	state, keys := chain.State{Trust: o.Trust, Late: !o.Since.IsZero()}, map[string]bool{}
	err := b.Read(ctx, []string{schemas.Checkpoint}, bus.Start{Since: o.Since}, func(r bus.Record) error {
		before := state.Parts
		c, err := state.Take(r.Value, r.Time)
		switch {
		case errors.Is(err, chain.ErrLost):
			v.report.Ignored++
			return nil
		case errors.Is(err, chain.ErrKey):
			v.wrong(differs(r.Topic, r.Partition, r.Offset, r.Offset+1, "a checkpoint that another key signed"))
			return nil
		case err != nil:
			v.wrong(differs(r.Topic, r.Partition, r.Offset, r.Offset+1, err.Error()))
			return nil
		}
		at := time.UnixMilli(c.AtMs).UTC()
		if c.First {
			v.report.Ignored += v.report.Checkpoints
			v.report.Checkpoints, v.report.Parts, v.parts, before = 0, nil, map[chain.Part]*Part{}, nil
			clear(keys)
		}
		if v.report.Checkpoints == 0 {
			v.report.Oldest = at
			aged, err := o.aged(ctx, b, at)
			if err != nil {
				return err
			}
			if c.Number > 1 && o.Since.IsZero() && !aged {
				v.wrong(differs(r.Topic, r.Partition, r.Offset, r.Offset+1, fmt.Sprintf("the oldest checkpoint is number %d: those before it are gone", c.Number)))
			}
		}
		v.report.Checkpoints++
		v.report.Newest = at
		keys[Fingerprint(c.Key)] = true
		for _, l := range c.Links {
			v.link(before, l)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read checkpoints: %w", err)
	}
	for k := range keys {
		v.report.Keys = append(v.report.Keys, k)
	}
	slices.Sort(v.report.Keys)
	return nil
}

// link notes an interval to be compared.
func (v *verifier) link(before map[chain.Part]chain.Place, l *pb.Link) {
	if l.Count == 0 {
		return
	}
	id := chain.PartOf(l)
	p := v.parts[id]
	if p == nil {
		p = &Part{Topic: l.Topic, Partition: l.Partition}
		v.parts[id] = p
		v.report.Parts = append(v.report.Parts, p)
	} else if next := before[id].Next; l.From > next {
		v.wrong(differs(l.Topic, l.Partition, next, l.From, "records were deleted before anybody had hashed them"))
	}
	p.links = append(p.links, l)
}

// Fingerprint is a public key's SHA-256, by which people compare keys.
func Fingerprint(key ed25519.PublicKey) string { return fmt.Sprintf("%x", sha256.Sum256(key)) }

func (v *verifier) wrong(w Wrong) { v.report.Wrong = append(v.report.Wrong, w) }

// expire passes over intervals whose begin the log no longer has.
func (p *Part) expire(oldest int64) {
	for len(p.links) > 0 && p.links[0].From < oldest {
		p.links = p.links[1:]
		p.Gone++
	}
}

// record compares what is before it, if that is complete.
func (v *verifier) record(p *Part, r bus.Record) {
	for len(p.links) > 0 && r.Offset >= p.links[0].Next {
		v.compare(p)
	}
	switch {
	case len(p.links) == 0:
		p.Unsigned++
	case r.Offset >= p.links[0].From:
		p.leaves = append(p.leaves, r.Leaf().Hash())
	}
}

// compare ends the oldest interval of a partition.
func (v *verifier) compare(p *Part) {
	l := p.links[0]
	found := chain.Extend(chain.PartOf(l), chain.Hash{}, l.From, l.Next, p.leaves)
	switch n := int64(len(p.leaves)); {
	case n != l.Count:
		w := differs(l.Topic, l.Partition, l.From, l.Next, "not as many records as were signed")
		w.Signed, w.There = l.Count, n
		v.wrong(w)
	case !bytes.Equal(found.Root, l.Root): // which is signed, and in a head that continues the chain
		w := differs(l.Topic, l.Partition, l.From, l.Next, "one record, or more, isn't what was signed")
		w.Signed, w.There = l.Count, n
		v.wrong(w)
	default:
		p.Intervals++
		p.Records += n
	}
	p.links, p.leaves = p.links[1:], p.leaves[:0]
}

func (v *verifier) end() *Report {
	for _, p := range v.report.Parts {
		for len(p.links) > 0 {
			v.compare(p)
		}
	}
	slices.SortFunc(v.report.Parts, func(a, b *Part) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
	slices.SortStableFunc(v.report.Wrong, func(a, b Wrong) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition), cmp.Compare(a.From, b.From))
	})
	return &v.report
}
