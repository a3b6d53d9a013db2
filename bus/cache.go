package bus

import (
	"bytes"
	"container/list"
	"context"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"qstream/schemas"
)

// cacheBytes bounds the inline content that is kept in memory.
const cacheBytes = 32 << 20

// cacheUnread is how long content that nobody has read keeps its room against
// newer: it is read in about the order in which it was published, so that of
// a backlog above the bound the oldest is the next to be asked for.
const cacheUnread = 30 * time.Second

// contentCache keeps the inline content of records published or read lately,
// so that a process that has just accepted a message needn't fetch it. What
// was read goes first, the least recently read before others. Safe for
// concurrent use.
type contentCache struct {
	limit int
	now   func() time.Time

	mu     sync.Mutex
	size   int
	read   *list.List // of *cached, most recently read first
	unread *list.List // of *cached, newest first
	found  map[place]*list.Element
	turns  map[topicPartition]chan struct{}
}

// place is where a record is.
type place struct {
	topic     string
	partition int32
	offset    int64
}

type cached struct {
	at      place
	id      string // message id
	content []byte
	sum     []byte  // of content, checked or made by this process
	hashed  *hashed // of a chunk, made by this process
	put     time.Time
	read    bool
}

func newContentCache(limit int) *contentCache {
	return &contentCache{
		limit: limit, now: time.Now, read: list.New(), unread: list.New(),
		found: map[place]*list.Element{}, turns: map[topicPartition]chan struct{}{},
	}
}

// publish remembers the content of a received or reinject record, whose hash
// was made of it a moment ago. It keeps the record's value.
func (c *contentCache) publish(r *Record) {
	carried, err := schemas.Inline(r.Topic, r.Value)
	if err == nil && len(carried.Inline) > 0 {
		c.put(&cached{at: place{r.Topic, r.Partition, r.Offset}, id: carried.ID, content: carried.Inline, sum: carried.Sha256})
	}
}

// put keeps content if there is room, or less needed content to give up.
func (c *contentCache) put(e *cached) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.found[e.at]; ok || !c.makeRoom(len(e.content)) {
		return
	}
	e.put = c.now()
	among := c.unread
	if e.read {
		among = c.read
	}
	c.found[e.at] = among.PushFront(e)
	c.size += len(e.content)
}

// makeRoom gives up what was read, then what was not asked for in time. mu is
// held.
func (c *contentCache) makeRoom(n int) bool {
	for c.size+n > c.limit {
		oldest := c.read.Back()
		if oldest == nil {
			oldest = c.unread.Back()
			if oldest == nil || c.now().Sub(oldest.Value.(*cached).put) < cacheUnread {
				return false
			}
		}
		c.remove(oldest)
	}
	return true
}

func (c *contentCache) remove(at *list.Element) {
	e := at.Value.(*cached)
	if e.read {
		c.read.Remove(at)
	} else {
		c.unread.Remove(at)
	}
	delete(c.found, e.at)
	c.size -= len(e.content)
}

// get returns content that no one may change, and its hash.
func (c *contentCache) get(at place, id string) (content, sum []byte, ok bool) {
	e, ok := c.look(at, id)
	if !ok {
		return nil, nil, false
	}
	return e.content, e.sum, true
}

// look returns what is there; no one may change it.
func (c *contentCache) look(at place, id string) (*cached, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	found, ok := c.found[at]
	if !ok || found.Value.(*cached).id != id {
		return nil, false
	}
	e := found.Value.(*cached)
	if e.read {
		c.read.MoveToFront(found)
	} else {
		c.unread.Remove(found)
		e.read = true
		c.found[at] = c.read.PushFront(e)
	}
	return e, true
}

// drop forgets what is at a place.
func (c *contentCache) drop(at place) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if found, ok := c.found[at]; ok {
		c.remove(found)
	}
}

// neighbours remembers the content of records that came with one asked for:
// reading one reads its batch, and those beside it are asked for next.
func (c *contentCache) neighbours(rs []*kgo.Record) {
	for _, k := range rs {
		carried, err := schemas.Inline(k.Topic, k.Value)
		if err != nil || len(carried.Inline) == 0 || k.Attrs.IsControl() {
			continue
		}
		// A copy: what was read shares the memory of its whole batch. The hash
		// is left out, since nobody has compared it yet.
		c.put(&cached{at: place{k.Topic, k.Partition, k.Offset}, id: carried.ID, content: bytes.Clone(carried.Inline)})
	}
}

// turn lets one reader at a time fetch from a partition, so that those who
// want neighbours find them here afterwards. Call done in the end.
func (c *contentCache) turn(ctx context.Context, of topicPartition) (done func(), err error) {
	c.mu.Lock()
	turn := c.turns[of]
	if turn == nil {
		turn = make(chan struct{}, 1)
		c.turns[of] = turn
	}
	c.mu.Unlock()
	select {
	case turn <- struct{}{}:
		return func() { <-turn }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
