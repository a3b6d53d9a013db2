package directory

import (
	"context"
	"errors"
	"fmt"

	"qstream/bus"
	"qstream/schemas"
)

// lookBack is how many records at the end are looked at for a pointer to the
// newest full record: most of them may be garbage.
const lookBack = 16

// seek makes f start at the newest full record, so that a process reads at
// most some hundred records however long the history is. Every apply that was
// published names that record; what it names is trusted only if it is a full
// record. Without one f starts at the oldest record.
func (f *fold) seek(ctx context.Context, b *bus.Bus) error {
	ends, err := b.Ends(ctx, schemas.Directory)
	if err != nil {
		return fmt.Errorf("find the end of the directory: %w", err)
	}
	full := int64(-1)
	from := at(max(ends[0]-lookBack, 0))
	err = b.Read(ctx, []string{schemas.Directory}, from, func(r bus.Record) error {
		if a, err := decodeApply(r); err == nil && a.FullOffset < r.Offset {
			full = max(full, a.FullOffset)
		}
		return nil
	})
	if err != nil || full <= 0 {
		return err
	}
	err = b.Read(ctx, []string{schemas.Directory}, at(full), func(r bus.Record) error {
		a, err := decodeApply(r)
		if f.resume = err == nil && a.Full && r.Offset == full; f.resume {
			f.next = full
		}
		return errEnough
	})
	if !errors.Is(err, errEnough) {
		return err
	}
	return nil
}

// start is where f reads on.
func (f *fold) start() bus.Start {
	if f.next == 0 {
		return bus.Start{}
	}
	return at(f.next)
}

func at(offset int64) bus.Start {
	return bus.Start{Offset: map[string]map[int32]int64{schemas.Directory: {0: offset}}}
}
