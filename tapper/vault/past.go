package vault

import (
	"context"
	"errors"

	"qstream/bus"
	"qstream/tapper/vault/lane"
)

// errReached ends the reading of the past.
var errReached = errors.New("what comes is followed from here")

// reachBack reads the past for orders that cover it, one after the other.
func (v *Vault) reachBack(ctx context.Context) error {
	for {
		for _, id := range v.unread() {
			if err := v.readPast(ctx, id); err != nil && ctx.Err() == nil {
				break // again in a moment, from where the lanes say
			}
		}
		if !bus.Pause(ctx, v.cfg.LaneBeat) {
			return nil
		}
	}
}

// unread are the orders whose past some lane has not read.
func (v *Vault) unread() (orders []string) {
	seen := map[string]bool{}
	for _, l := range v.lanes {
		for _, t := range l.Taps() {
			if t.Past != nil && !seen[t.Order] {
				seen[t.Order] = true
				orders = append(orders, t.Order)
			}
		}
	}
	return orders
}

// reach is a lane's part in the reading of an order's past.
type reach struct {
	*lane.Lane
	lane.Tap
}

func (v *Vault) readPast(ctx context.Context, id string) error {
	reaches := map[int]reach{}
	for n, l := range v.lanes {
		for _, t := range l.Taps() {
			if t.Order == id && t.Past != nil {
				l.Start(t.Number, nil)
				reaches[n] = reach{l, t}
			}
		}
	}
	defer func() {
		for _, r := range reaches {
			r.Stop(r.Tap.Number)
		}
	}()
	// Messages first: which events are theirs follows from them.
	for _, kind := range []int{lane.OfReceived, lane.OfReinject} {
		ends := map[uint32]int64{}
		for _, r := range reaches {
			for source, end := range r.Live {
				if k, _ := lane.Split(source); k == kind {
					ends[source] = end
				}
			}
		}
		if err := v.readPastOf(ctx, kind, reaches, ends, id); err != nil {
			return err
		}
	}
	// An event behind these ends is read as it comes, its message being known.
	now, err := v.apart.Ends(ctx, kinds[lane.OfEvents])
	if err != nil {
		return err
	}
	ends := map[uint32]int64{}
	for partition, end := range now {
		ends[lane.Source(lane.OfEvents, partition)] = end
	}
	if err := v.readPastOf(ctx, lane.OfEvents, reaches, ends, id); err != nil {
		return err
	}
	for _, r := range reaches {
		r.Caught(r.Tap.Number)
	}
	return v.await(ctx, "an order's past", func() bool {
		for _, r := range reaches {
			if r.Cursors(r.Tap.Number) != nil {
				return false
			}
		}
		return true
	})
}

// readPastOf reads one topic up to the ends, and waits until the lanes say so.
func (v *Vault) readPastOf(ctx context.Context, kind int, reaches map[int]reach, ends map[uint32]int64, id string) error {
	start := map[int32]int64{}
	for _, r := range reaches {
		for source, next := range r.Past {
			if k, partition := lane.Split(source); k == kind && next < ends[source] {
				start[partition] = next
			}
		}
	}
	left := len(start)
	if left > 0 {
		reached := map[int32]bool{}
		err := v.apart.Read(ctx, []string{kinds[kind]}, bus.Start{Offset: map[string]map[int32]int64{kinds[kind]: start}}, func(r bus.Record) error {
			part, ok := reaches[int(r.Partition)%len(v.lanes)]
			if !ok || reached[r.Partition] {
				return nil
			}
			if r.Offset >= ends[lane.Source(kind, r.Partition)] {
				reached[r.Partition] = true
				if left--; left <= 0 {
					return errReached
				}
				return nil
			}
			return v.hand(ctx, part.Tap.Number, r, id)
		})
		if err != nil && !errors.Is(err, errReached) {
			return err
		}
	}
	for _, r := range reaches {
		mine := map[uint32]int64{}
		for source := range r.Past {
			if k, _ := lane.Split(source); k == kind && ends[source] > 0 {
				mine[source] = ends[source]
				r.Passed(r.Tap.Number, source, ends[source])
			}
		}
		if err := r.Settled(ctx, r.Tap.Number, mine); err != nil {
			return err
		}
	}
	return nil
}
