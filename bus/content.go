package bus

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/encoding/protowire"

	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
)

// InlineLimit is the largest content that travels in its received record.
const InlineLimit = 32 << 10

// ChunkSize is the largest piece of content in one record.
const ChunkSize = 512 << 10

// buffers are of a chunk's size.
var buffers = sync.Pool{New: func() any { b := make([]byte, 0, ChunkSize); return &b }}

// Create starts content of a message in a retention class. Write to it, then
// Commit or Abort. Content of schemas.HoldClass is never inline.
func (b *Bus) Create(ctx context.Context, messageID, class string) *Blob {
	if class == "" {
		class = schemas.DefaultClass
	}
	w := &Blob{b: b, began: time.Now(), id: messageID, class: class, sum: newDigest(), partition: AnyPartition}
	w.ctx, w.cancel = context.WithCancel(ctx)
	if class != schemas.HoldClass {
		w.err = b.admit()
	}
	return w
}

// Blob is content being stored. It keeps at most two chunks in memory: one
// that fills, one on its way. Not safe for concurrent use.
type Blob struct {
	b      *Bus
	began  time.Time // by the system's clock, as the flushes
	ctx    context.Context
	cancel context.CancelFunc
	id     string
	class  string
	err    error // sticky

	sum  digest
	size int64
	fill *[]byte // nil: none yet

	number    uint32
	sent      chan error // of the chunk on its way; nil: none
	chunk     *Record
	data      []byte  // of the chunk on its way
	hashed    *hashed // over it
	kept      []place // of chunks in memory
	partition int32
	last      int64
	offsets   []int64
	storedMs  int64
}

var errBlobDone = errors.New("content is committed or aborted")

// Write takes content. An error is final; one that wraps ErrFull says that
// there is no room for new mail.
func (w *Blob) Write(p []byte) (int, error) {
	if w.err != nil {
		return 0, w.err
	}
	n := len(p)
	for len(p) > 0 {
		if w.fill == nil {
			w.fill = buffers.Get().(*[]byte)
			*w.fill = (*w.fill)[:0]
		}
		room := min(ChunkSize-len(*w.fill), len(p))
		if room == 0 {
			if w.err = w.seal(); w.err != nil {
				return 0, w.err
			}
			continue
		}
		*w.fill = append(*w.fill, p[:room]...)
		p = p[room:]
	}
	return n, nil
}

// seal sends what has filled, after the chunk before it is stored.
func (w *Blob) seal() error {
	data := *w.fill
	hashed := w.sum.take(data)
	w.size += int64(len(data))
	value := encodeChunk(w.id, w.number, data, w.b.chunks == nil)
	*w.fill = data[:0]
	if err := w.await(); err != nil {
		return err
	}
	if w.b.chunks != nil && w.class != schemas.HoldClass { // held content is for later
		w.data, w.hashed = value[len(value)-len(data):], hashed
	}
	client, err := w.b.bulkClient()
	if err != nil {
		return err
	}
	w.chunk = &Record{
		Topic: schemas.Content(w.class), Partition: w.partition, Key: []byte(w.id), Value: value,
		Headers: headers(HeaderID, w.id),
	}
	w.number++
	sent, chunk := make(chan error, 1), w.chunk
	w.sent = sent
	go func() { sent <- w.b.publishChunk(w.ctx, client, chunk) }()
	return nil
}

// publishChunk publishes a chunk. The client gives up all that waits for a
// partition with a record whose context has ended: another message that was
// given up is no reason to lose this one. A chunk that is stored twice does
// no harm, since content is found by its places.
func (b *Bus) publishChunk(ctx context.Context, c *kgo.Client, chunk *Record) error {
	for began := time.Now(); ; {
		err := b.publish(ctx, c, []*Record{chunk}, later)
		if !errors.Is(err, context.Canceled) || ctx.Err() != nil || time.Since(began) > b.cfg.Timeout {
			return err
		}
	}
}

// await waits for the chunk on its way and notes where it is.
func (w *Blob) await() error {
	if w.sent == nil {
		return nil
	}
	err := <-w.sent
	w.sent = nil
	if err != nil {
		return err
	}
	at := w.chunk.Offset
	if len(w.offsets) == 0 {
		// The rest goes where the first is, even if partitions are added.
		w.partition, w.storedMs = w.chunk.Partition, w.chunk.Time.UnixMilli()
		w.offsets = append(w.offsets, at)
	} else {
		w.offsets = append(w.offsets, at-w.last)
	}
	w.keep(place{w.chunk.Topic, w.partition, at}, w.data, w.hashed)
	w.last, w.chunk, w.data = at, nil, nil
	return nil
}

// Commit makes the content durable (or returns it inline) with size and hash.
func (w *Blob) Commit() (*pb.Content, error) {
	defer w.finish()
	if w.err != nil {
		return nil, w.err
	}
	filled := 0
	if w.fill != nil {
		filled = len(*w.fill)
	}
	if w.number == 0 && filled <= InlineLimit && w.class != schemas.HoldClass {
		return w.inline(), nil
	}
	if filled > 0 || w.number == 0 {
		if w.fill == nil {
			w.fill = buffers.Get().(*[]byte)
			*w.fill = (*w.fill)[:0]
		}
		if err := w.seal(); err != nil {
			return nil, err
		}
	}
	if err := w.await(); err != nil {
		return nil, err
	}
	if err := w.durable(); err != nil {
		return nil, err
	}
	w.kept = nil // they are asked for from now on
	sum := w.sum.sum()
	ref := &pb.ContentRef{
		MessageId: w.id, Topic: schemas.Content(w.class), Partition: w.partition,
		Offsets: w.offsets, Size: w.size, Sha256: sum, StoredMs: w.storedMs,
	}
	return &pb.Content{Where: &pb.Content_Ref{Ref: ref}, Size: w.size, Sha256: sum}, nil
}

// durable flushes all chunks at once, before anything refers to them. A flush
// of others that failed meanwhile may have lost an early one for good.
func (w *Blob) durable() error {
	ctx, cancel := context.WithTimeout(w.ctx, w.b.cfg.Timeout)
	defer cancel()
	err := w.b.barrier(ctx)
	if err == nil && w.b.cfg.Lost != nil {
		err = w.b.cfg.Lost(w.began)
	}
	if err != nil {
		return fmt.Errorf("store content of %s: %w", w.id, err)
	}
	return nil
}

func (w *Blob) inline() *pb.Content {
	data := []byte{}
	if w.fill != nil {
		data = append(data, *w.fill...)
	}
	sum := sha256.Sum256(data)
	return &pb.Content{Where: &pb.Content_Inline{Inline: data}, Size: int64(len(data)), Sha256: sum[:]}
}

// Abort forgets the content; chunks already stored age out. After Commit it
// does nothing.
func (w *Blob) Abort() { w.finish() }

func (w *Blob) finish() {
	w.cancel()
	if w.sent != nil {
		<-w.sent
		w.sent = nil
	}
	w.drop()
	if w.fill != nil {
		buffers.Put(w.fill)
		w.fill = nil
	}
	if w.err == nil {
		w.err = errBlobDone
	}
}

// encodeChunk makes the value of a chunk record by hand: a message is large,
// and each copy of it counts.
func encodeChunk(id string, number uint32, data []byte, compress bool) []byte {
	compressed := false
	if compress {
		scratch := buffers.Get().(*[]byte)
		defer buffers.Put(scratch)
		packed := encoder().EncodeAll(data, (*scratch)[:0])
		if compressed = len(packed) < len(data); compressed {
			data = packed
		}
	}
	v := make([]byte, 0, len(data)+len(id)+32)
	v = protowire.AppendTag(v, 1, protowire.BytesType)
	v = protowire.AppendString(v, id)
	v = protowire.AppendTag(v, 2, protowire.VarintType)
	v = protowire.AppendVarint(v, uint64(number))
	if compressed {
		v = protowire.AppendTag(v, 4, protowire.VarintType)
		v = protowire.AppendVarint(v, 1)
	}
	v = protowire.AppendTag(v, 3, protowire.BytesType)
	return protowire.AppendBytes(v, data)
}

// bulkClient stores chunks. They are compressed already if they should be, and
// each is a batch of its own, so that reading one reads nothing else.
func (b *Bus) bulkClient() (*kgo.Client, error) {
	if _, err := b.client(); err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	compressor := kgo.Compressor(stored{})
	if b.within() {
		compressor = fastCompressor{}
	}
	c, err := b.make(&b.bulk,
		kgo.RecordDeliveryTimeout(b.cfg.Timeout),
		kgo.WithCompressor(compressor),
		kgo.ProducerBatchMaxBytes(ChunkSize+64<<10))
	if err != nil {
		return nil, fmt.Errorf("store content: %w", err)
	}
	return c, nil
}
