package control

import (
	"context"
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"

	"qstream/bus"
	"qstream/mail"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
)

// Audit publishes who does something by hand; it returns once that is durable,
// so that nothing is done that isn't told.
func Audit(ctx context.Context, b *bus.Bus, a *pb.Act) error {
	for _, text := range []*string{&a.Actor, &a.Reason, &a.Error} {
		*text = mail.Printable(strings.ToValidUTF8(*text, "?"))
	}
	value, err := proto.Marshal(a)
	if err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	if err := b.Publish(ctx, &bus.Record{Topic: schemas.Audit, Partition: 0, Key: []byte(a.Actor), Value: value}); err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	return nil
}

// Acts calls each for what has been told by Audit since start; garbage is
// passed over.
func Acts(ctx context.Context, b *bus.Bus, start bus.Start, each func(*pb.Act)) error {
	return b.Read(ctx, []string{schemas.Audit}, start, func(r bus.Record) error {
		var a pb.Act
		if proto.Unmarshal(r.Value, &a) == nil {
			each(&a)
		}
		return nil
	})
}
