package bus

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
)

// A broker that goes away for good in the middle of a Read ends it, if the
// caller has set how long it would wait.
func TestReadEndsWithoutBroker(t *testing.T) {
	t.Parallel()
	c, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	b, err := Dial(Config{Seeds: c.ListenAddrs(), Patience: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	topic := newTopic(t, b, 1)
	publishN(t, b, topic.Name, 1)
	r, err := b.newReader(offsets{topic.Name: {0: 0}})
	if err != nil {
		t.Fatal(err)
	}
	defer r.close()
	r.patience = b.cfg.Patience
	c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for err == nil {
		err = r.poll(ctx, func(Record) error { return nil })
	}
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() != nil {
		t.Fatalf("still reading after 30 s: %v", err)
	}
}
