package bus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// stoppedLook is how often a partition that stands still is looked at again.
const stoppedLook = 5 * time.Second

// Stopped is nil unless a partition that this process should work on stands
// still, because its commit is missing or out of the log's range. It never
// resets by itself; Resume mends it.
func (b *Bus) Stopped() error {
	for _, e := range b.engines.all() {
		if err := e.stoppedError(); err != nil {
			return err
		}
	}
	return nil
}

func (e *engine) stoppedError() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	for tp, why := range e.stopped {
		return fmt.Errorf("group %s, %s/%d stands still: %s", e.group, tp.topic, tp.partition, why)
	}
	return nil
}

// fetchFailed logs; a partition that can't go on is marked.
func (e *engine) fetchFailed(topic string, partition int32, err error) {
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded), errors.Is(err, kgo.ErrClientClosed):
	case errors.Is(err, kerr.OffsetOutOfRange), isLoss(err):
		e.stop(topicPartition{topic, partition}, "the commit is out of the log's range")
	default:
		e.log.Warn("fetch failed", "topic", topic, "partition", partition, "err", err)
	}
}

func isLoss(err error) bool {
	var loss *kgo.ErrDataLoss
	return errors.As(err, &loss)
}

func (e *engine) stop(tp topicPartition, why string) {
	e.mu.Lock()
	_, known := e.stopped[tp]
	e.stopped[tp] = why
	e.mu.Unlock()
	if !known {
		e.log.Error("partition stands still", "topic", tp.topic, "partition", tp.partition, "err", why)
	}
}

// retryStopped takes a stopped partition up again once its commit is mended.
// The client can't set the position of a partition that it never consumed, so
// its topic is given up and subscribed to again.
func (e *engine) retryStopped() {
	e.mu.Lock()
	look := map[string][]int32{}
	if len(e.stopped) > 0 && time.Since(e.looked) >= stoppedLook {
		e.looked = time.Now()
		for tp := range e.stopped {
			look[tp.topic] = append(look[tp.topic], tp.partition)
		}
	}
	e.mu.Unlock()
	if len(look) == 0 {
		return
	}
	e.workers.Add(1)
	go func() { defer e.workers.Done(); e.takeUp(look) }()
}

func (e *engine) takeUp(look map[string][]int32) {
	ctx, cancel := context.WithTimeout(context.Background(), stoppedLook)
	defer cancel()
	commits, err := fetchCommits(ctx, e.client, e.group, look, true)
	if err != nil {
		return
	}
	starts, err := e.bus.listOffsets(ctx, oldest, look)
	if err != nil {
		return
	}
	ends, err := e.bus.listOffsetsAs(ctx, newest, uncommitted, look)
	if err != nil {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, c := range commits {
		if c.offset >= 0 && c.offset >= starts[c.topic][c.partition] && c.offset <= ends[c.topic][c.partition] {
			e.log.Info("commit is mended, topic is taken up again", "topic", c.topic, "partition", c.partition, "offset", c.offset)
			e.again[c.topic] = true
		}
	}
}
