package control

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"

	"qstream/bus"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
)

// lookBack is how many records at the end are looked at for a pointer to the
// newest snapshot: most of them may be garbage.
const lookBack = 16

// errEnough ends a reading.
var errEnough = errors.New("enough is read")

// seek makes f start at the newest snapshot of the state, which every command
// names; what it names is trusted only if it is one. Without one f starts at
// the oldest record.
func (f *fold) seek(ctx context.Context, b *bus.Bus) error {
	ends, err := b.Ends(ctx, schemas.Control)
	if err != nil {
		return fmt.Errorf("find the end of the commands: %w", err)
	}
	newest := int64(0)
	err = b.Read(ctx, []string{schemas.Control}, at(max(ends[0]-lookBack, 0)), func(r bus.Record) error {
		if p, err := decode(r); err == nil && p.SnapshotOffset < r.Offset {
			newest = max(newest, p.SnapshotOffset)
		}
		return nil
	})
	if err != nil || newest == 0 {
		return err
	}
	err = b.Read(ctx, []string{schemas.Control}, at(newest), func(r bus.Record) error {
		p, err := decode(r)
		f.resume = err == nil && p.Verb == pb.Verb_VERB_SNAPSHOT && r.Offset == newest
		if f.resume {
			f.next = newest
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
	return bus.Start{Offset: map[string]map[int32]int64{schemas.Control: {0: offset}}}
}

func decode(r bus.Record) (*pb.Command, error) {
	p := &pb.Command{}
	if err := proto.Unmarshal(r.Value, p); err != nil {
		return nil, fmt.Errorf("%w: %w", errGarbage, err)
	}
	if p.Number == 0 || p.Number != p.Base+1 || p.Verb == pb.Verb_VERB_UNSPECIFIED {
		return nil, fmt.Errorf("%w: number %d on base %d, verb %d", errGarbage, p.Number, p.Base, p.Verb)
	}
	return p, nil
}
