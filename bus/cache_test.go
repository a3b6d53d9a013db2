package bus

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
)

func cacheOf(limit int) (*contentCache, *time.Time) {
	c, now := newContentCache(limit), time.Unix(1000, 0)
	c.now = func() time.Time { return now }
	return c, &now
}

func (c *contentCache) has(offset int64) bool {
	_, _, ok := c.get(place{"t", 0, offset}, "m")
	return ok
}

func TestCacheIsBounded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.IntRange(1, 200).Draw(t, "limit")
		c, now := cacheOf(limit)
		for i, n := range rapid.SliceOf(rapid.IntRange(0, 100)).Draw(t, "sizes") {
			c.put(&cached{at: place{"t", 0, int64(i)}, id: "m", content: make([]byte, n), read: rapid.Bool().Draw(t, "read")})
			*now = now.Add(time.Duration(rapid.IntRange(0, 40).Draw(t, "seconds")) * time.Second)
			c.has(int64(rapid.IntRange(0, i).Draw(t, "asked")))
			total := 0
			for at, e := range c.found {
				total += len(e.Value.(*cached).content)
				if e.Value.(*cached).at != at {
					t.Fatalf("%v is found at %v", e.Value.(*cached).at, at)
				}
			}
			if c.size > limit || c.size != total || len(c.found) != c.read.Len()+c.unread.Len() {
				t.Fatalf("%d bytes (%d) of at most %d in %d of %d and %d", c.size, total, limit, len(c.found), c.read.Len(), c.unread.Len())
			}
		}
	})
}

// TestBacklogKeepsItsOldest: what is asked for next is the oldest that was not
// read, so that newer mail must not push it out.
func TestBacklogKeepsItsOldest(t *testing.T) {
	c, now := cacheOf(10)
	fill := func(from, to int64) {
		for i := from; i < to; i++ {
			c.put(&cached{at: place{"t", 0, i}, id: "m", content: []byte("x")})
		}
	}
	fill(0, 20)
	if !c.has(0) || c.has(10) {
		t.Fatal("the newest of a backlog took the room of the oldest")
	}
	fill(20, 21)
	if c.has(0) || !c.has(20) {
		t.Error("what was read keeps its room against what was not")
	}
	*now = now.Add(cacheUnread)
	fill(30, 31)
	if c.has(1) && c.has(2) && !c.has(30) {
		t.Error("content that nobody asked for keeps its room for ever")
	}
	if c.has(30) == false {
		t.Error("newer content found no room after a while")
	}
}

// TestNeighboursComeWithOne: a batch is read once, not once for each of its
// messages. What is published together may be sent in a few batches.
func TestNeighboursComeWithOne(t *testing.T) {
	t.Parallel()
	b := newContentBus(t)
	var rs []*Record
	for i := range 20 {
		id := fmt.Sprintf("M%d", i)
		w := b.Create(t.Context(), id, "")
		if _, err := w.Write(message(uint64(i), 1000)); err != nil {
			t.Fatal(err)
		}
		content, err := w.Commit()
		if err != nil {
			t.Fatal(err)
		}
		r := NewReceived(&pb.Received{Id: id, Content: content})
		r.Partition = 0
		rs = append(rs, &r)
	}
	if err := b.Publish(t.Context(), rs...); err != nil {
		t.Fatal(err)
	}
	b.cache = newContentCache(cacheBytes)
	reads := 0
	for i, r := range rs {
		carried, err := schemas.Inline(r.Topic, r.Value)
		if err != nil {
			t.Fatal(err)
		}
		at := place{r.Topic, r.Partition, r.Offset}
		if _, known := b.cache.found[at]; !known {
			reads++
		}
		ref := &pb.ContentRef{MessageId: carried.ID, Topic: r.Topic, Partition: r.Partition, Offsets: []int64{r.Offset}, Inline: true, Size: int64(len(carried.Inline)), Sha256: carried.Sha256}
		if got, err := load(b, t, ref); err != nil || string(got) != string(carried.Inline) {
			t.Errorf("message %d: %d bytes, %v", i, len(got), err)
		}
		ref.Sha256 = []byte("another")
		if _, err := load(b, t, ref); err == nil {
			t.Errorf("message %d: another hash was taken", i)
		}
	}
	if reads == 0 || reads > len(rs)/2 {
		t.Errorf("read %d times for %d messages", reads, len(rs))
	}
}
