package bus

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
)

// A record that is larger than the deadletter topic takes, which compression
// makes possible, goes there by its beginning; the next ones pass.
func TestRecordTooLargeForDeadletter(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := r.bus()
	group := "g." + r.name
	in, out := r.topic(group, "in", 1), r.topic("", "out", 1)
	big, err := kgo.NewClient(kgo.SeedBrokers(r.seeds...), kgo.ProducerBatchCompression(kgo.ZstdCompression()),
		kgo.ProducerBatchMaxBytes(32<<20), kgo.RecordPartitioner(partitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer big.Close()
	k := &kgo.Record{
		Topic: in, Value: bytes.Repeat([]byte("x"), 8<<20),
		Headers: []kgo.RecordHeader{{Key: "small", Value: []byte("kept")}, {Key: "large", Value: make([]byte, 8<<20)}},
	}
	if err := big.ProduceSync(t.Context(), k).FirstErr(); err != nil {
		t.Fatal(err)
	}
	r.put(b, in, 1, 3)
	poison := func(_ context.Context, _ []byte, rec Record) ([]Record, []byte, error) {
		if rec.Offset == 0 {
			return nil, nil, fmt.Errorf("%w: %s", ErrPoison, rec.Value)
		}
		return []Record{{Topic: out, Partition: AnyPartition, Value: rec.Value}}, nil, nil
	}
	start(t, func(ctx context.Context) error { return b.Transform(ctx, group, NewTopics(in), poison) })
	r.wantOnce(b, out, 3)
	var found []Dead
	_, err = b.Dead(t.Context(), func(d Dead) error {
		if d.Record.Topic == in {
			found = append(found, d)
		}
		return nil
	})
	if err != nil || len(found) != 1 {
		t.Fatalf("%d dead records, %v", len(found), err)
	}
	d := found[0].Record
	if kept := len(d.Value); kept == 0 || !bytes.HasPrefix(k.Value, d.Value) || d.Cut < int64(len(k.Value)-kept) {
		t.Errorf("%d bytes kept, %d cut", len(d.Value), d.Cut)
	}
	if err := b.Retry(t.Context(), found[0], "test"); !errors.Is(err, ErrCut) {
		t.Errorf("retry: %v", err)
	}
}

// What doesn't need cutting is kept whole.
func TestDeadletterKeepsRecords(t *testing.T) {
	e := &engine{stage: "stage"}
	rec := Record{Topic: "t", Key: []byte("k"), Value: make([]byte, 1<<20), Headers: []Header{{Key: "a", Value: []byte("b")}}}
	m, err := schemas.Decode(schemas.Deadletter, "", e.deadletter(rec, errors.New("why"), deadRoom).Value)
	if err != nil {
		t.Fatal(err)
	}
	if d := m.(*pb.DeadletterRecord).GetDead(); d == nil || d.Cut != 0 || len(d.Value) != 1<<20 || len(d.Headers) != 1 || d.Error != "why" {
		t.Errorf("%d bytes, %d cut", len(d.GetValue()), d.GetCut())
	}
}
