package sealed

import (
	"context"
	"errors"
	"fmt"

	"qstream/bus"
)

// lookBack is how many records at the end of a log are looked at for the place
// where reading may start.
const lookBack = 16

// errEnough ends a reading.
var errEnough = errors.New("enough is read")

// seek finds where reading each log may start: the newest place from which on
// everything that holds is said again.
func (s *Set) seek(ctx context.Context) (bus.Start, error) {
	start := bus.Start{Offset: map[string]map[int32]int64{}}
	for _, l := range s.order {
		offset, ok, err := Seek(ctx, s.cfg.Bus, s.cfg.Keys, l.Name)
		if err != nil {
			return start, err
		}
		if ok {
			start.Offset[l.Name] = map[int32]int64{0: offset}
		}
	}
	return start, nil
}

// Seek is the newest offset of a log from which on everything that holds is
// said again; false: reading must start at the oldest record.
func Seek(ctx context.Context, b *bus.Bus, keys *Keys, topic string) (offset int64, ok bool, err error) {
	ends, err := b.Ends(ctx, topic)
	if err != nil {
		return 0, false, fmt.Errorf("find the end of %s: %w", topic, err)
	}
	c := newCodec(topic, keys)
	var number uint64
	err = b.Read(ctx, []string{topic}, at(topic, max(ends[0]-lookBack, 0)), func(r bus.Record) error {
		if t, _, err := c.open(r.Value); err == nil && t.SweepNumber > number && t.SweepOffset < r.Offset {
			number, offset = t.SweepNumber, t.SweepOffset
		}
		return nil
	})
	if err != nil || number == 0 {
		return 0, false, err
	}
	// A place that isn't what it is said to be, in a copy of the topic for
	// example, is none.
	err = b.Read(ctx, []string{topic}, at(topic, offset), func(r bus.Record) error {
		t, _, err := c.open(r.Value)
		ok = err == nil && r.Offset == offset && t.Number == number
		return errEnough
	})
	if err != nil && !errors.Is(err, errEnough) {
		return 0, false, err
	}
	return offset, ok, nil
}

// Read calls take for each record of a log that counts, from start up to its
// end at the time of the call. A record that can't be opened is passed over; a
// log of which none can, or that tells of a newer key than these, is ErrKey.
func Read(ctx context.Context, b *bus.Bus, keys *Keys, topic string, start bus.Start, take func(Taken) error) error {
	f := NewFold(topic, keys)
	closed := false
	err := b.Read(ctx, []string{topic}, start, func(r bus.Record) error {
		t, err := f.Take(r)
		if err != nil {
			closed = closed || errors.Is(err, ErrGarbage)
			return nil
		}
		if n := f.Lacks(); n > 0 {
			return fmt.Errorf("%s at offset %d: %w: key %d is not there", topic, r.Offset, ErrKey, n)
		}
		return take(t)
	})
	if err == nil && closed && !f.opened {
		return fmt.Errorf("%s: %w", topic, ErrKey)
	}
	return err
}

func at(topic string, offset int64) bus.Start {
	return bus.Start{Offset: map[string]map[int32]int64{topic: {0: offset}}}
}
