package bus

import (
	"container/list"
	"sync"
)

// cacheBytes bounds the inline content that is kept in memory.
const cacheBytes = 32 << 20

// contentCache keeps the inline content of records published or read lately,
// so that a process that has just accepted a message needn't fetch it. The
// least recently used goes first. Safe for concurrent use.
type contentCache struct {
	limit int

	mu    sync.Mutex
	size  int
	order *list.List // of *cached, most recently used first
	found map[place]*list.Element
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
}

func newContentCache(limit int) *contentCache {
	return &contentCache{limit: limit, order: list.New(), found: map[place]*list.Element{}}
}

// publish remembers the content of a received or reinject record.
func (c *contentCache) publish(r *Record) {
	id, content, err := carried(r.Topic, r.Value)
	if err != nil {
		return
	}
	if len(content.GetInline()) > 0 {
		c.put(place{r.Topic, r.Partition, r.Offset}, id, content.GetInline())
	}
}

func (c *contentCache) put(at place, id string, content []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.found[at]; ok || len(content) > c.limit {
		return
	}
	c.found[at] = c.order.PushFront(&cached{at, id, content})
	c.size += len(content)
	for c.size > c.limit {
		oldest := c.order.Remove(c.order.Back()).(*cached)
		delete(c.found, oldest.at)
		c.size -= len(oldest.content)
	}
}

// get returns content that no one may change.
func (c *contentCache) get(at place) (id string, content []byte, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.found[at]
	if !ok {
		return "", nil, false
	}
	c.order.MoveToFront(e)
	found := e.Value.(*cached)
	return found.id, found.content, true
}
