package directory

import (
	"context"

	"qstream/bus"
	"qstream/schemas"
)

// seek makes f start at the newest full record, so that a process reads at
// most some hundred records however long the history is. Every apply that was
// published names that record. Without one f starts at the oldest record.
func (f *fold) seek(ctx context.Context, b *bus.Bus) error {
	offset, err := b.Whole(ctx, schemas.Directory,
		func(r bus.Record) (int64, error) { a, err := decodeApply(r); return a.GetFullOffset(), err },
		func(r bus.Record) bool { a, err := decodeApply(r); return err == nil && a.Full })
	if offset > 0 {
		f.next, f.resume = offset, true
	}
	return err
}

// start is where f reads on.
func (f *fold) start() bus.Start { return bus.From(schemas.Directory, f.next) }
