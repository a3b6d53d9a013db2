package control

import (
	"context"
	"fmt"

	"google.golang.org/protobuf/proto"

	"qstream/bus"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
)

// seek makes f start at the newest snapshot of the state, which every command
// names. Without one f starts at the oldest record.
func (f *fold) seek(ctx context.Context, b *bus.Bus) error {
	offset, err := b.Whole(ctx, schemas.Control,
		func(r bus.Record) (int64, error) { p, err := decode(r); return p.GetSnapshotOffset(), err },
		func(r bus.Record) bool { p, err := decode(r); return err == nil && p.Verb == pb.Verb_VERB_SNAPSHOT })
	if offset > 0 {
		f.next, f.resume = offset, true
	}
	return err
}

// start is where f reads on.
func (f *fold) start() bus.Start { return bus.From(schemas.Control, f.next) }

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
