package bus

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/proto"

	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
)

// newContentBus is a Bus with the topics that content needs.
func newContentBus(t *testing.T) *Bus {
	t.Helper()
	b, _ := newTestBus(t)
	if _, err := b.CreateTopics(t.Context(), schemas.FixedTopics(), CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	return b
}

// message makes content like a mail with an attachment, the same for a seed.
func message(seed uint64, size int) []byte {
	raw := make([]byte, size*3/4+3)
	r := rand.New(rand.NewPCG(seed, 1))
	for i := range raw {
		raw[i] = byte(r.Uint32())
	}
	return []byte(base64.StdEncoding.EncodeToString(raw))[:size]
}

func store(t *testing.T, b *Bus, id, class string, data []byte) *pb.Content {
	t.Helper()
	w := b.Create(t.Context(), id, class)
	defer w.Abort()
	for p := data; len(p) > 0; {
		n := min(len(p), 9000)
		if _, err := w.Write(p[:n]); err != nil {
			t.Fatal(err)
		}
		p = p[n:]
	}
	c, err := w.Commit()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func load(b *Bus, t *testing.T, ref *pb.ContentRef) ([]byte, error) {
	t.Helper()
	r, err := b.Open(t.Context(), ref)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

func TestContentComesBackExact(t *testing.T) {
	t.Parallel()
	b := newContentBus(t)
	for _, size := range []int{0, 1, InlineLimit, InlineLimit + 1, ChunkSize, ChunkSize + 1, 3*ChunkSize + 7, 30 << 20} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			id := fmt.Sprintf("M%d", size)
			data := message(uint64(size), size)
			c := store(t, b, id, "", data)
			if inline := size <= InlineLimit; inline != (c.GetRef() == nil) {
				t.Fatalf("inline: %v", c.GetRef() == nil)
			}
			ref := c.GetRef()
			if ref == nil {
				r := NewReceived(&pb.Received{Id: id, Content: c})
				if err := b.Publish(t.Context(), &r); err != nil {
					t.Fatal(err)
				}
				ref = &pb.ContentRef{MessageId: id, Topic: r.Topic, Partition: r.Partition, Offsets: []int64{r.Offset}, Inline: true, Size: c.Size, Sha256: c.Sha256}
			}
			for _, cold := range []bool{false, true} {
				if cold {
					b.cache = newContentCache(cacheBytes)
				}
				got, err := load(b, t, ref)
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(got, data) {
					t.Fatalf("%d bytes, not as stored", len(got))
				}
			}
		})
	}
}

func TestContentOfManyMessagesInterleaves(t *testing.T) {
	t.Parallel()
	b := newContentBus(t)
	var all sync.WaitGroup
	for i := range 12 {
		all.Go(func() {
			id, data := fmt.Sprintf("M%d", i), message(uint64(i), 2*ChunkSize+i*1000)
			got, err := load(b, t, store(t, b, id, "", data).GetRef())
			if err != nil || !bytes.Equal(got, data) {
				t.Errorf("%s: %d bytes, %v", id, len(got), err)
			}
		})
	}
	all.Wait()
}

func TestHeldContentIsNeverInline(t *testing.T) {
	t.Parallel()
	b := newContentBus(t)
	c := store(t, b, "M", schemas.HoldClass, []byte("small"))
	if c.GetRef().GetTopic() != schemas.Hold {
		t.Fatalf("stored on %q", c.GetRef().GetTopic())
	}
	if got, err := load(b, t, c.GetRef()); err != nil || string(got) != "small" {
		t.Fatalf("%q, %v", got, err)
	}
}

func TestContentNeverComesBackWrong(t *testing.T) {
	t.Parallel()
	b := newContentBus(t)
	data := message(7, 2*ChunkSize+5)
	ref := store(t, b, "M", "", data).GetRef()
	store(t, b, "OTHER", "", data)
	wrong := map[string]func(*pb.ContentRef){
		"hash":            func(r *pb.ContentRef) { r.Sha256[0]++ },
		"size, too small": func(r *pb.ContentRef) { r.Size-- },
		"size, too large": func(r *pb.ContentRef) { r.Size++ },
		"message id":      func(r *pb.ContentRef) { r.MessageId = "OTHER" },
		"chunk left out":  func(r *pb.ContentRef) { r.Offsets = r.Offsets[:2] },
		"chunk repeated":  func(r *pb.ContentRef) { r.Offsets[1] = 0 },
		"negative offset": func(r *pb.ContentRef) { r.Offsets[0] = -1 },
		"beyond the end":  func(r *pb.ContentRef) { r.Offsets[2] = 1000 },
		"no offsets":      func(r *pb.ContentRef) { r.Offsets = nil },
		"inline":          func(r *pb.ContentRef) { r.Inline, r.Offsets = true, r.Offsets[:1] },
	}
	for name, spoil := range wrong {
		t.Run(name, func(t *testing.T) {
			r := proto.Clone(ref).(*pb.ContentRef)
			spoil(r)
			if _, err := load(b, t, r); !errors.Is(err, ErrContent) {
				t.Fatalf("error %v, want ErrContent", err)
			}
		})
	}
}

// TestTrimmedContentIsUnreadable has a class of its own: on a real broker the
// trials beside it still read what lies in the default one.
func TestTrimmedContentIsUnreadable(t *testing.T) {
	t.Parallel()
	b, _ := newTestBus(t)
	const class = "trimmed"
	if _, err := b.CreateTopics(t.Context(), schemas.ContentTopics(class), CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	ref := store(t, b, "M", class, message(1, 3*ChunkSize)).GetRef()
	if err := b.Trim(t.Context(), ref.Topic, map[int32]int64{ref.Partition: ref.Offsets[0] + 1}); err != nil {
		t.Fatal(err)
	}
	if _, err := load(b, t, ref); !errors.Is(err, ErrContent) {
		t.Fatalf("error %v, want ErrContent", err)
	}
}

// TestContentThatIsNotReadableYet isn't taken for content that is gone: a leader
// that is new doesn't show all that is stored at once. Here a transaction in front
// of it does the same.
func TestContentThatIsNotReadableYet(t *testing.T) {
	t.Parallel()
	b, _ := newTestBus(t)
	const class = "hidden"
	topics := schemas.ContentTopics(class)
	for i := range topics {
		topics[i].Partitions = 1
	}
	if _, err := b.CreateTopics(t.Context(), topics, CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	end := openTransaction(t, b, schemas.Content(class), 0, []byte("open"))
	data := message(1, 2*ChunkSize)
	ref := store(t, b, "M", class, data).GetRef()
	if _, err := load(b, t, ref); err == nil || errors.Is(err, ErrContent) {
		t.Fatalf("error %v, want one that isn't ErrContent", err)
	}
	end(kgo.TryAbort)
	var got []byte
	eventually(t, 30*time.Second, "end of the transaction", func() (read bool) { // its marker comes by itself
		var err error
		got, err = load(b, t, ref)
		if errors.Is(err, ErrContent) {
			t.Fatal(err)
		}
		return err == nil
	})
	if !bytes.Equal(got, data) {
		t.Fatalf("%d bytes, not as stored", len(got))
	}
}

func TestFullStorageRefusesContent(t *testing.T) {
	t.Parallel()
	b := newContentBus(t)
	b.cfg.Admit = func() error { return ErrFull }
	w := b.Create(t.Context(), "M", "")
	defer w.Abort()
	if _, err := w.Write([]byte("x")); !errors.Is(err, ErrFull) {
		t.Fatalf("error %v, want ErrFull", err)
	}
}

func TestAbortLeavesNothingRunning(t *testing.T) {
	t.Parallel()
	b := newContentBus(t)
	w := b.Create(t.Context(), "M", "")
	if _, err := w.Write(message(1, 3*ChunkSize)); err != nil {
		t.Fatal(err)
	}
	w.Abort()
	if _, err := w.Write([]byte("x")); err == nil {
		t.Error("a write after Abort succeeded")
	}
	if _, err := w.Commit(); err == nil {
		t.Error("a commit after Abort succeeded")
	}
}

// TestContentPassesOneBarrier counts: all chunks are flushed at once, after
// the last of them was acknowledged, and content that wasn't is none.
func TestContentPassesOneBarrier(t *testing.T) {
	t.Parallel()
	b := newContentBus(t)
	var barriers int
	var broken error
	b.cfg.Barrier = func(context.Context) error { barriers++; return broken }
	store(t, b, "M1", "", message(1, 5*ChunkSize))
	if barriers != 1 {
		t.Errorf("%d barriers", barriers)
	}
	broken = errors.New("disk on fire")
	w := b.Create(t.Context(), "M2", "")
	if _, err := w.Write(message(2, 2*ChunkSize)); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Commit(); !errors.Is(err, broken) {
		t.Errorf("commit: %v", err)
	}
}

// TestContentIsNotTrustedAfterAFailedFlush: the system forgets what it could
// not write, so that a barrier that passes later says nothing of a chunk that
// was acknowledged before.
func TestContentIsNotTrustedAfterAFailedFlush(t *testing.T) {
	t.Parallel()
	b := newContentBus(t)
	var failed time.Time
	lost := errors.New("a flush failed")
	b.cfg.Lost = func(since time.Time) error {
		if failed.Before(since) {
			return nil
		}
		return lost
	}
	w := b.Create(t.Context(), "M1", "")
	if _, err := w.Write(message(1, 2*ChunkSize)); err != nil {
		t.Fatal(err)
	}
	failed = time.Now()
	if _, err := w.Commit(); !errors.Is(err, lost) {
		t.Errorf("commit: %v", err)
	}
	store(t, b, "M2", "", message(2, 2*ChunkSize))
}

func FuzzDecodeChunk(f *testing.F) {
	f.Add(encodeChunk("M", 3, message(1, 1000), true))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, value []byte) {
		data, err := decodeChunk("M", 3, value)
		if err == nil && len(data) > ChunkSize {
			t.Fatalf("chunk of %d bytes", len(data))
		}
		if err != nil && !errors.Is(err, ErrContent) {
			t.Fatal(err)
		}
	})
}

func FuzzPlaces(f *testing.F) {
	ref, _ := proto.Marshal(&pb.ContentRef{MessageId: "M", Topic: "t", Offsets: []int64{5, 1, 9}})
	f.Add(ref)
	f.Fuzz(func(t *testing.T, value []byte) {
		var ref pb.ContentRef
		if proto.Unmarshal(value, &ref) != nil {
			return
		}
		at, err := places(&ref)
		if err != nil {
			return
		}
		for i := range at {
			if at[i] < 0 || i > 0 && at[i] <= at[i-1] {
				t.Fatalf("offsets %v", at)
			}
		}
	})
}

// Messages that are given up amid their content take no other's down.
func TestAbortedContentHarmsNoOther(t *testing.T) {
	t.Parallel()
	b := newContentBus(t)
	data := bytes.Repeat([]byte("0123456789abcdef"), 3*ChunkSize/16)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range 25 {
				w := b.Create(t.Context(), fmt.Sprintf("%026d", i), "")
				if _, err := w.Write(data); err != nil {
					t.Errorf("write: %v", err)
				}
				if i%5 < 4 {
					w.Abort()
					continue
				}
				if _, err := w.Commit(); err != nil {
					t.Errorf("commit: %v", err)
				}
			}
		})
	}
	wg.Wait()
}
