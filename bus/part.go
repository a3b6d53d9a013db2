package bus

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// part is a partition that this process owns. Everything in it is under the
// engine's lock; a part that is dropped is never owned again: a partition
// that comes back is a new part.
type part struct {
	topic     string
	partition int32

	track     *tracker
	window    window        // track, or the shape's own
	backlog   []*kgo.Record // polled and not yet handed out
	queued    int           // bytes of their values
	results   []*result     // finished and in no transaction that stands
	state     []byte        // Transform's, after the last step
	committed int64         // offset of the last commit
	saved     []byte        // state of the last commit
	sequence  uint64
	metadata  int // length the last metadata would have had
	journal   journalMark
	at        time.Time // of the last commit

	claimed   bool // a commit under our name stands
	draining  bool // nothing new is handed out
	releasing bool // drained: the next commit lets go
	released  bool
	dropped   bool
	paused    bool
	held      int             // jobs handed out and not ended
	bytes     int             // of their values
	begun     int             // jobs that passed Begin and have not ended
	revoked   context.Context // ends when draining starts
	revoke    context.CancelFunc
	cut       context.Context // ends when the drain's time is over
	cutOff    context.CancelFunc
	wake      chan struct{} // of capacity 1: backlog or room came
	own       any           // the shape's
}

// result is what one finished record leaves behind until it is committed.
type result struct {
	part   *part
	offset int64
	source Record // for deadletter
	out    []Record
	state  []byte // Transform's state after it
	at     time.Time
	slot   bool // holds one of WorkConfig.MaxOpen
	alone  bool // shared a batch with an output that can't be stored
	tries  int
	dead   bool // out is the deadletter record that an unstorable output became
	bytes  int
	// ended is told once it is committed (true) or dropped (false).
	ended func(bool)
}

// window is what a commit asks of a partition's progress.
type window interface {
	set(offset int64, s slotState)
	base() int64
	finished() []span
	compact()
}

type topicPartition struct {
	topic     string
	partition int32
}

func newPart(topic string, partition int32) *part {
	p := &part{
		topic: topic, partition: partition, wake: make(chan struct{}, 1),
		journal: journalMark{part: -1, floor: noFloor},
	}
	p.revoked, p.revoke = context.WithCancel(context.Background())
	p.cut, p.cutOff = context.WithCancel(context.Background())
	return p
}

func (p *part) key() topicPartition { return topicPartition{p.topic, p.partition} }

// poke wakes the part's own goroutine, if it has one.
func (p *part) poke() { poke(p.wake) }

// stop begins the drain.
func (p *part) stop() {
	if p.draining {
		return
	}
	p.draining = true
	p.backlog, p.queued = nil, 0
	p.revoke()
	p.poke()
}
