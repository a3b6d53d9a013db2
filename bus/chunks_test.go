package bus

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
)

// newMemoryBus is a content bus that keeps chunks, as beside its broker.
func newMemoryBus(t *testing.T) *Bus {
	t.Helper()
	b := newContentBus(t)
	b.chunks = newContentCache(chunkBytes)
	return b
}

// TestDigestIsSHA256 whatever of the data others have hashed.
func TestDigestIsSHA256(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		maker, reader, all := newDigest(), newDigest(), []byte{}
		for range rapid.IntRange(0, 8).Draw(t, "pieces") {
			piece := rapid.SliceOfN(rapid.Byte(), 0, 200).Draw(t, "piece")
			by := maker.take(piece)
			all = append(all, piece...)
			if rapid.Bool().Draw(t, "known") && reader.skip(by) {
				continue
			}
			reader.write(piece)
		}
		want := sha256.Sum256(all)
		if !bytes.Equal(maker.sum(), want[:]) || !bytes.Equal(reader.sum(), want[:]) {
			t.Fatalf("%x and %x, want %x", maker.sum(), reader.sum(), want)
		}
	})
}

// TestContentFromMemory: it comes back exact whichever chunks are still in
// memory, and only if the reference names its hash.
func TestContentFromMemory(t *testing.T) {
	b := newMemoryBus(t)
	data := message(3, 3*ChunkSize+99)
	ref := store(t, b, "M", "", data).GetRef()
	at, err := places(ref)
	if err != nil {
		t.Fatal(err)
	}
	whole := b.chunks
	for missing := range 1 << len(at) {
		b.chunks = newContentCache(chunkBytes)
		for i, o := range at {
			if e, ok := whole.look(place{ref.Topic, ref.Partition, o}, "M"); ok && missing>>i&1 == 0 {
				again := *e
				b.chunks.put(&again)
			} else if !ok {
				t.Fatalf("chunk %d is not in memory", i)
			}
		}
		if got, err := load(b, t, ref); err != nil || !bytes.Equal(got, data) {
			t.Fatalf("without %b: %d bytes, %v", missing, len(got), err)
		}
		wrong := proto.Clone(ref).(*pb.ContentRef)
		wrong.Sha256[0]++
		if _, err := load(b, t, wrong); !errors.Is(err, ErrContent) {
			t.Fatalf("without %b, another hash: %v", missing, err)
		}
	}
}

// TestMemoryOfOtherContent is hashed as any other, and found out.
func TestMemoryOfOtherContent(t *testing.T) {
	b := newMemoryBus(t)
	ref := store(t, b, "M", "", message(1, 2*ChunkSize)).GetRef()
	other := store(t, b, "OTHER", "", message(2, 2*ChunkSize)).GetRef()
	at, from := place{ref.Topic, ref.Partition, ref.Offsets[0] + ref.Offsets[1]}, place{other.Topic, other.Partition, other.Offsets[0] + other.Offsets[1]}
	e, ok := b.chunks.look(from, "OTHER")
	if !ok {
		t.Fatal("nothing in memory")
	}
	b.chunks.drop(at)
	b.chunks.put(&cached{at: at, id: "M", content: e.content, hashed: e.hashed})
	if _, err := load(b, t, ref); !errors.Is(err, ErrContent) {
		t.Fatalf("error %v, want ErrContent", err)
	}
}

// TestStoredContentIsReadFromMemory, which the broker's copy can't show any
// more.
func TestStoredContentIsReadFromMemory(t *testing.T) {
	b := newMemoryBus(t)
	data := message(1, 3*ChunkSize)
	ref := store(t, b, "M", "", data).GetRef()
	if err := b.Trim(t.Context(), ref.Topic, map[int32]int64{ref.Partition: ref.Offsets[0] + 2}); err != nil {
		t.Fatal(err)
	}
	if got, err := load(b, t, ref); err != nil || !bytes.Equal(got, data) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	b.chunks = newContentCache(chunkBytes)
	if _, err := load(b, t, ref); !errors.Is(err, ErrContent) {
		t.Fatalf("error %v, want ErrContent", err)
	}
}

// TestWhatIsKeptInMemory is bounded for each message, and nothing of content
// that was given up or is meant for later.
func TestWhatIsKeptInMemory(t *testing.T) {
	b := newMemoryBus(t)
	data := message(1, (chunksKept+4)*ChunkSize)
	ref := store(t, b, "LARGE", "", data).GetRef()
	if n := len(b.chunks.found); n != chunksKept {
		t.Errorf("%d chunks of a large message, want %d", n, chunksKept)
	}
	if got, err := load(b, t, ref); err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	store(t, b, "HELD", schemas.HoldClass, data)
	w := b.Create(t.Context(), "ABORTED", "")
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	w.Abort()
	b.cfg.Barrier = func(context.Context) error { return errors.New("disk on fire") }
	w = b.Create(t.Context(), "LOST", "")
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Commit(); err == nil {
		t.Error("commit without a flush")
	}
	if n := len(b.chunks.found); n != chunksKept {
		t.Errorf("%d chunks in memory, want %d", n, chunksKept)
	}
}

// TestSpentIsToldAtTheGoodEnd only.
func TestSpentIsToldAtTheGoodEnd(t *testing.T) {
	b := newMemoryBus(t)
	var told [][]int64
	b.cfg.Spent = func(_ string, _ int32, offsets []int64) { told = append(told, offsets) }
	ref := store(t, b, "M", "", message(1, 3*ChunkSize)).GetRef()
	r, err := b.Open(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Read(make([]byte, ChunkSize)); err != nil {
		t.Fatal(err)
	}
	r.Close()
	wrong := proto.Clone(ref).(*pb.ContentRef)
	wrong.Sha256[0]++
	_, _ = load(b, t, wrong)
	if len(told) > 0 {
		t.Fatalf("told of %v", told)
	}
	if _, err := load(b, t, ref); err != nil {
		t.Fatal(err)
	}
	if len(told) != 1 || len(told[0]) != 3 {
		t.Errorf("told of %v, want three chunks", told)
	}
}
