package bus

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/zstd"
	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/proto"

	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
)

// Open reads stored content. The reader returns an error that wraps
// ErrContent instead of io.EOF when size or hash are not as stored; it keeps
// one batch of chunks in memory. An error of the brokers doesn't wrap it.
func (b *Bus) Open(ctx context.Context, ref *pb.ContentRef) (io.ReadCloser, error) {
	at, err := places(ref)
	if err != nil {
		return nil, b.unreadable(ref, err)
	}
	if !ref.Inline {
		return &contentReader{b: b, ctx: ctx, ref: ref, all: at, at: at, sum: newDigest()}, nil
	}
	data, err := b.inlineContent(ctx, ref, at[0])
	if err != nil {
		return nil, b.unreadable(ref, err)
	}
	return io.NopCloser(bytes.NewReader(data)), nil
}

// unreadable counts and tells content that isn't as it was stored.
func (b *Bus) unreadable(ref *pb.ContentRef, err error) error {
	if errors.Is(err, ErrContent) {
		b.metrics.broken.Inc()
		b.log.Error("content unreadable", "msg_id", ref.GetMessageId(), "topic", ref.GetTopic(), "partition", ref.GetPartition(), "err", err)
	}
	return fmt.Errorf("read content of %s: %w", ref.GetMessageId(), err)
}

// places are the absolute offsets of a reference.
func places(ref *pb.ContentRef) ([]int64, error) {
	if ref == nil || ref.Topic == "" || len(ref.Offsets) == 0 || ref.Partition < 0 {
		return nil, fmt.Errorf("%w: no place given", ErrContent)
	}
	if ref.Inline && len(ref.Offsets) != 1 {
		return nil, fmt.Errorf("%w: %d offsets of inline content", ErrContent, len(ref.Offsets))
	}
	at := make([]int64, len(ref.Offsets))
	last := int64(0)
	for i, d := range ref.Offsets {
		// Chunks are stored one after the other: each lies behind the last.
		if d < 0 || i > 0 && d == 0 || last+d < last {
			return nil, fmt.Errorf("%w: offset %d of %d is %d behind %d", ErrContent, i, len(at), d, last)
		}
		last += d
		at[i] = last
	}
	return at, nil
}

// inlineContent is content that its own record carries.
func (b *Bus) inlineContent(ctx context.Context, ref *pb.ContentRef, offset int64) ([]byte, error) {
	at := place{ref.Topic, ref.Partition, offset}
	if data, ok, err := b.cachedContent(ref, at); ok {
		return data, err
	}
	done, err := b.cache.turn(ctx, topicPartition{ref.Topic, ref.Partition})
	if err != nil {
		return nil, err
	}
	defer done()
	if data, ok, err := b.cachedContent(ref, at); ok {
		return data, err
	}
	k, ahead, err := b.recordAt(ctx, ref, offset, nil)
	if err != nil {
		return nil, err
	}
	carried, err := schemas.Inline(ref.Topic, k.Value)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrContent, err)
	}
	if carried.ID != ref.MessageId {
		return nil, fmt.Errorf("%w: message %q is at offset %d", ErrContent, carried.ID, offset)
	}
	if err := checked(ref, carried.Inline); err != nil {
		return nil, err
	}
	data := bytes.Clone(carried.Inline)
	b.cache.put(&cached{at: at, id: carried.ID, content: data, sum: ref.Sha256, read: true})
	b.cache.neighbours(ahead)
	return data, nil
}

// cachedContent is content in memory. What this process made or checked the
// hash of isn't hashed again.
func (b *Bus) cachedContent(ref *pb.ContentRef, at place) (data []byte, ok bool, err error) {
	data, sum, ok := b.cache.get(at, ref.MessageId)
	if !ok {
		return nil, false, nil
	}
	if sum == nil {
		return data, true, checked(ref, data)
	}
	return data, true, verified(ref, int64(len(data)), sum)
}

func checked(ref *pb.ContentRef, data []byte) error {
	sum := sha256.Sum256(data)
	return verified(ref, int64(len(data)), sum[:])
}

func verified(ref *pb.ContentRef, size int64, sum []byte) error {
	if size != ref.Size {
		return fmt.Errorf("%w: %d bytes, stored were %d", ErrContent, size, ref.Size)
	}
	if subtle.ConstantTimeCompare(sum, ref.Sha256) != 1 {
		return fmt.Errorf("%w: sha256 %x, stored was %x", ErrContent, sum, ref.Sha256)
	}
	return nil
}

// recordAt is the record at exactly an offset: from those read before, or
// from the broker. It returns what was read behind it too.
func (b *Bus) recordAt(ctx context.Context, ref *pb.ContentRef, offset int64, ahead []*kgo.Record) (*kgo.Record, []*kgo.Record, error) {
	for i, k := range ahead {
		if k.Offset == offset {
			return k, ahead[i+1:], nil
		}
	}
	f, err := b.fetch(ctx, ref.Topic, ref.Partition, offset, 1)
	if errors.Is(err, errOutOfRange) {
		return nil, nil, fmt.Errorf("%w: offset %d is gone", ErrContent, offset)
	}
	if err != nil {
		return nil, nil, err
	}
	if len(f.records) == 0 {
		if err := b.settled(ctx, ref.Topic, ref.Partition, offset, f); err != nil {
			return nil, nil, err
		}
	}
	if len(f.records) == 0 || f.records[0].Offset != offset || f.records[0].Attrs.IsControl() {
		return nil, nil, fmt.Errorf("%w: no record at offset %d", ErrContent, offset)
	}
	return f.records[0], f.records[1:], nil
}

// contentReader streams chunks.
type contentReader struct {
	b     *Bus
	ctx   context.Context
	ref   *pb.ContentRef
	all   []int64 // offsets
	at    []int64 // those that are not read yet
	next  uint32
	left  []byte        // of the current chunk
	ahead []*kgo.Record // fetched with it
	sum   digest
	size  int64
	err   error
}

func (r *contentReader) Read(p []byte) (int, error) {
	for len(r.left) == 0 && r.err == nil {
		r.err = r.advance()
	}
	if len(r.left) == 0 {
		return 0, r.err
	}
	n := copy(p, r.left)
	r.left = r.left[n:]
	return n, nil
}

// advance reads the next chunk, or says how it ended.
func (r *contentReader) advance() error {
	if len(r.at) == 0 {
		if err := verified(r.ref, r.size, r.sum.sum()); err != nil {
			return r.b.unreadable(r.ref, err)
		}
		if r.b.cfg.Spent != nil {
			r.b.cfg.Spent(r.ref.Topic, r.ref.Partition, r.all)
		}
		return io.EOF
	}
	data, err := r.chunk()
	if err != nil {
		return r.b.unreadable(r.ref, err)
	}
	r.at, r.left, r.next = r.at[1:], data, r.next+1
	r.size += int64(len(data))
	if r.size > r.ref.Size {
		r.left = nil
		return r.b.unreadable(r.ref, fmt.Errorf("%w: more than %d bytes", ErrContent, r.ref.Size))
	}
	return nil
}

// chunk is the next one, counted into the hash: from memory if this process
// has just stored it, else from the broker.
func (r *contentReader) chunk() ([]byte, error) {
	if r.b.chunks != nil {
		if e, ok := r.b.chunks.look(place{r.ref.Topic, r.ref.Partition, r.at[0]}, r.ref.MessageId); ok {
			if !r.sum.skip(e.hashed) {
				r.sum.write(e.content)
			}
			return e.content, nil
		}
	}
	k, ahead, err := r.b.recordAt(r.ctx, r.ref, r.at[0], r.ahead)
	if err != nil {
		return nil, err
	}
	data, err := decodeChunk(r.ref.MessageId, r.next, k.Value)
	if err != nil {
		return nil, fmt.Errorf("offset %d: %w", r.at[0], err)
	}
	r.ahead = ahead
	r.sum.write(data)
	return data, nil
}

// Close ends reading.
func (r *contentReader) Close() error {
	r.at, r.left, r.ahead, r.err = nil, nil, nil, errBlobDone
	return nil
}

// decodeChunk is the data of one chunk, which must be this message's and this
// number.
func decodeChunk(id string, number uint32, value []byte) ([]byte, error) {
	var c pb.Chunk
	if err := proto.Unmarshal(value, &c); err != nil {
		return nil, fmt.Errorf("%w: decode chunk: %w", ErrContent, err)
	}
	if c.MessageId != id || c.Number != number {
		return nil, fmt.Errorf("%w: chunk %d of message %q, wanted chunk %d", ErrContent, c.Number, c.MessageId, number)
	}
	data := c.Data
	if c.Compressed {
		var err error
		if data, err = decoder().DecodeAll(c.Data, nil); err != nil {
			return nil, fmt.Errorf("%w: decompress chunk: %w", ErrContent, err)
		}
	}
	if len(data) > ChunkSize {
		return nil, fmt.Errorf("%w: chunk of %d bytes", ErrContent, len(data))
	}
	return data, nil
}

// decoder is shared: DecodeAll is safe for concurrent use. It refuses what
// grows beyond a chunk.
var decoder = sync.OnceValue(func() *zstd.Decoder {
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(2), zstd.WithDecoderMaxMemory(2*ChunkSize))
	if err != nil {
		panic(fmt.Sprintf("zstd options: %v", err)) // constants
	}
	return d
})
