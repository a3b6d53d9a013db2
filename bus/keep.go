package bus

import (
	"context"
	"fmt"
	"io"

	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
)

// Keep copies stored content to the hold topic, for who needs it longer than
// its own keeps it, and returns the reference of the copy. An error wraps
// ErrContent if the content isn't what was stored.
func (b *Bus) Keep(ctx context.Context, ref *pb.ContentRef) (*pb.ContentRef, error) {
	from, err := b.Open(ctx, ref)
	if err != nil {
		return nil, fmt.Errorf("open content: %w", err)
	}
	defer from.Close()
	to := b.Create(ctx, ref.MessageId, schemas.HoldClass)
	if _, err := io.Copy(to, from); err != nil {
		to.Abort()
		return nil, fmt.Errorf("copy content to %s: %w", schemas.Hold, err)
	}
	c, err := to.Commit()
	if err != nil {
		return nil, fmt.Errorf("store content in %s: %w", schemas.Hold, err)
	}
	if c.GetRef() == nil {
		return nil, fmt.Errorf("store content in %s: it came back inline", schemas.Hold)
	}
	return c.GetRef(), nil
}
