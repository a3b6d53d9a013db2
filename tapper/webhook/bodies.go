package webhook

import (
	"sync"

	pb "qstream/schemas/qstream/v1"
)

// Bounds of the bodies that are kept, in octets and in all. Webhooks that keep
// up are near each other in the log: what one posts the others post next.
const (
	maxBodies     = 4 << 20
	maxBodiesHeld = 4096
)

// bodies are the newest messages that were written, for the other webhooks that
// post the same. Safe for concurrent use.
type bodies struct {
	mu     sync.Mutex
	kept   map[place]written
	order  []place // of kept, the oldest first
	octets int
}

// written is a message as message makes it. It is never changed.
type written struct {
	id   string
	body []byte
}

func newBodies() *bodies { return &bodies{kept: map[place]written{}} }

// message is that of the event at a place, which every caller is told whole.
func (b *bodies) message(at place, e *pb.Event) (id string, body []byte, err error) {
	b.mu.Lock()
	w, ok := b.kept[at]
	b.mu.Unlock()
	if ok {
		return w.id, w.body, nil
	}
	if id, body, err = message(e); err == nil {
		b.keep(at, written{id, body})
	}
	return id, body, err
}

func (b *bodies) keep(at place, w written) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, ok := b.kept[at]; ok {
		return
	}
	b.kept[at] = w
	b.order = append(b.order, at)
	b.octets += len(w.body)
	for len(b.order) > maxBodiesHeld || b.octets > maxBodies {
		b.octets -= len(b.kept[b.order[0]].body)
		delete(b.kept, b.order[0])
		b.order = b.order[1:]
	}
}
