package bus

import (
	"context"
	"io"

	pb "qstream/schemas/qstream/v1"
)

// InlineLimit is the largest content that travels in its received record.
const InlineLimit = 32 << 10

// Create starts content of a message in a retention class. Write to it, then
// Commit or Abort.
func (b *Bus) Create(ctx context.Context, messageID, class string) *Blob { panic("todo") }

// Blob is content being stored. It keeps at most two chunks in memory.
type Blob struct{}

func (w *Blob) Write(p []byte) (int, error) { panic("todo") }

// Commit makes the content durable (or returns it inline) with size and hash.
func (w *Blob) Commit() (*pb.Content, error) { panic("todo") }

// Abort forgets the content; chunks already stored age out.
func (w *Blob) Abort() { panic("todo") }

// Open reads stored content. The reader returns an error that wraps
// ErrContent instead of io.EOF when size or hash are not as stored.
func (b *Bus) Open(ctx context.Context, ref *pb.ContentRef) (io.ReadCloser, error) { panic("todo") }
