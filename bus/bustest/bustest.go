// Package bustest is the broker of tests: in memory, in the test's process,
// speaking the real protocol, with every fixed topic made.
//
// It does not replicate, keeps the producer's timestamps and does not enforce
// everything that Apache Kafka does; the conformance suite of bus runs on both.
package bustest

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"qstream/bus"
	"qstream/schemas"
)

// patience is how long a test waits for what must come.
const patience = time.Minute

// Broker is a broker in memory that several buses of a test may share.
type Broker struct {
	Cluster *kfake.Cluster // for faults
	Seeds   []string
}

// Start starts a broker with the fixed topics and one queue, "default". It
// ends with the test.
func Start(t testing.TB) *Broker {
	t.Helper()
	return StartSized(t, schemas.Sizing{})
}

// StartSized is Start with topics of chosen sizes. Retention is applied when
// the test calls Cluster.ApplyRetention.
func StartSized(t testing.TB, size schemas.Sizing) *Broker {
	t.Helper()
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.BrokerConfigs(map[string]string{
		"group.consumer.heartbeat.interval.ms": "300",
		"group.consumer.session.timeout.ms":    "6000",
		"group.min.session.timeout.ms":         "1000",
	}))
	if err != nil {
		t.Fatalf("start broker: %v", err)
	}
	t.Cleanup(c.Close)
	b := &Broker{Cluster: c, Seeds: c.ListenAddrs()}
	b.create(t, size.Fixed())
	b.create(t, schemas.QueueTopics("default", 1, schemas.DefaultPool, 3))
	return b
}

func (b *Broker) create(t testing.TB, topics []schemas.Topic) {
	t.Helper()
	d, err := bus.Dial(bus.Config{Seeds: b.Seeds})
	if err != nil {
		t.Fatalf("dial: %v", err)
	}
	defer d.Close()
	if _, err := d.CreateTopics(t.Context(), topics, bus.CreateOptions{}); err != nil {
		t.Fatalf("create topics: %v", err)
	}
}

// Dial connects another bus, closed at the test's end. Seeds are filled in,
// and a barrier, which also says that records keep this machine's time.
func (b *Broker) Dial(t testing.TB, cfg bus.Config) *bus.Bus {
	t.Helper()
	cfg.Seeds = b.Seeds
	if cfg.Barrier == nil {
		cfg.Barrier = func(context.Context) error { return nil }
	}
	d, err := bus.Dial(cfg)
	if err != nil {
		t.Fatalf("dial: %v", err)
	}
	t.Cleanup(d.Close)
	return d
}

// New is a bus on a broker of its own, closed at the test's end.
func New(t testing.TB) *bus.Bus {
	t.Helper()
	return Start(t).Dial(t, bus.Config{})
}

// Queue makes the topics of a queue in the default pool, three partitions,
// and names its topic.
func Queue(t testing.TB, b *bus.Bus, name string) string {
	t.Helper()
	topics := schemas.QueueTopics(name, 1, schemas.DefaultPool, 3)
	if _, err := b.CreateTopics(t.Context(), topics, bus.CreateOptions{}); err != nil {
		t.Fatalf("create queue %s: %v", name, err)
	}
	return schemas.Queue(name, 1)
}

// Put publishes records, in order.
func Put(t testing.TB, b *bus.Bus, records ...bus.Record) {
	t.Helper()
	for i := range records {
		if err := b.Publish(t.Context(), &records[i]); err != nil {
			t.Fatalf("put record %d on %s: %v", i, records[i].Topic, err)
		}
	}
}

// Records are the committed records that are on a topic now.
func Records(t testing.TB, b *bus.Bus, topic string) []bus.Record {
	t.Helper()
	var rs []bus.Record
	err := b.Read(t.Context(), []string{topic}, bus.Start{}, func(r bus.Record) error {
		rs = append(rs, r)
		return nil
	})
	if err != nil {
		t.Fatalf("read %s: %v", topic, err)
	}
	return rs
}

// Want waits until a topic holds n committed records and returns all it holds
// then; the test fails after 20 s.
func Want(t testing.TB, b *bus.Bus, topic string, n int) []bus.Record {
	t.Helper()
	return WantMatch(t, b, topic, n, func(bus.Record) bool { return true })
}

// WantMatch waits until a topic holds n committed records that match.
func WantMatch(t testing.TB, b *bus.Bus, topic string, n int, match func(bus.Record) bool) []bus.Record {
	t.Helper()
	if n == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var (
		mu  sync.Mutex
		got []bus.Record
	)
	f := b.Follow([]string{topic}, bus.Start{}, func(r bus.Record) error {
		mu.Lock()
		defer mu.Unlock()
		if match(r) {
			got = append(got, r)
		}
		if len(got) >= n {
			cancel()
		}
		return nil
	})
	err := f.Run(ctx)
	mu.Lock()
	defer mu.Unlock()
	if len(got) < n {
		t.Fatalf("%d records on %s after %v, want %d (%v)", len(got), topic, patience, n, err)
	}
	return got
}
