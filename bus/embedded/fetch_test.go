package embedded

import (
	"crypto/rand"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"qstream/bus"
	"qstream/schemas"
)

// TestReadsNothingAborted reads so many partitions at once that an answer is
// full: what was aborted in them is never told as committed.
func TestReadsNothingAborted(t *testing.T) {
	t.Parallel()
	k, b := open(t, Config{Dir: t.TempDir(), MinFree: 1})
	defer k.Close()
	defer b.Close()
	const places, large = 24, 700 << 10
	topic := schemas.Topic{Name: "qstream.test.v1", Partitions: places, Retention: time.Hour, MaxMessage: 2 << 20}
	if _, err := b.CreateTopics(t.Context(), []schemas.Topic{topic}, bus.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	abort(t, k, topic.Name, places, large)
	for i := range 2 * places {
		r := &bus.Record{Topic: topic.Name, Partition: int32(i % places), Value: []byte("committed")}
		if err := b.Publish(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	read, aborted := 0, 0
	err := b.Read(t.Context(), []string{topic.Name}, bus.Start{}, func(r bus.Record) error {
		read++
		if len(r.Value) >= large {
			aborted++
		}
		return nil
	})
	if read != 2*places || aborted > 0 || err != nil {
		t.Errorf("read %d records, %d of them aborted, want %d: %v", read, aborted, 2*places, err)
	}
}

// abort writes two records of a size to each partition and takes them back.
func abort(t *testing.T, k *Broker, topic string, places, size int) {
	t.Helper()
	c, err := kgo.NewClient(kgo.SeedBrokers(k.Addr()), kgo.TransactionalID(rand.Text()), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	for i := range 2 * places {
		v := make([]byte, size)
		_, _ = rand.Read(v)
		if err := c.ProduceSync(t.Context(), &kgo.Record{Topic: topic, Partition: int32(i % places), Value: v}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.EndTransaction(t.Context(), kgo.TryAbort); err != nil {
		t.Fatal(err)
	}
}
