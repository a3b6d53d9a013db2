package bus

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"hash/crc32"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"qstream/schemas"
)

// A commit hangs of a transaction that its coordinator knows nothing of: the
// next member ends it and goes on. Kafka makes one by itself only when a
// broker comes back at the wrong moment; here its check is off for a moment.
func TestHangingCommitIsEnded(t *testing.T) {
	r := newRig(t)
	if r.fake != nil {
		t.Skip("needs Apache Kafka: QSTREAM_TEST_KAFKA")
	}
	b := r.bus()
	group := "g." + r.name
	in, out := r.topic(group, "in", 1), r.topic("", "out", 1)
	r.put(b, in, 0, 10)
	r.hang(group, in)
	if _, err := requestCommits(t.Context(), r.plain, commitsRequest(group, map[string][]int32{in: {0}}, true)); err != kerr.UnstableOffsetCommit {
		t.Fatalf("commit is not held: %v", err)
	}
	began := time.Now()
	start(t, func(ctx context.Context) error { return b.Transform(ctx, group, NewTopics(in), copyTo(out)) })
	r.wantOnce(b, out, 10)
	t.Logf("ended and gone on after %s", time.Since(began).Round(time.Millisecond))
}

// A transaction that its coordinator knows nothing of hangs in a topic of mail:
// it is ended once it has held up its partition for long, and what it holds comes,
// with what lies behind. One that is open is left alone.
func TestHangingMailIsEnded(t *testing.T) {
	r := newRig(t)
	if r.fake != nil {
		t.Skip("needs Apache Kafka: QSTREAM_TEST_KAFKA")
	}
	b := r.bus()
	topic := schemas.Topic{Name: "qstream." + r.name, Partitions: 2, Retention: time.Hour, MaxMessage: 1 << 20}
	if _, err := b.CreateTopics(t.Context(), []schemas.Topic{topic}, CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	r.hangMail(topic.Name)
	end := openTransaction(t, b, topic.Name, 1, []byte("open"))
	for i := range int32(6) {
		if err := b.Publish(t.Context(), &Record{Topic: topic.Name, Partition: i % 2, Value: []byte("behind")}); err != nil {
			t.Fatal(err)
		}
	}
	h, now := b.Hanging(), time.Now()
	h.now = func() time.Time { return now }
	look := func(want int) {
		t.Helper()
		if ended, err := h.Look(t.Context()); err != nil || ended != want {
			t.Fatalf("ended %d, want %d, %v", ended, want, err)
		}
		now = now.Add(hangsAfter / 2)
	}
	readable := func() (n [2]int64) {
		t.Helper()
		ends, err := b.listOffsets(t.Context(), newest, map[string][]int32{topic.Name: {0, 1}})
		if err != nil {
			t.Fatal(err)
		}
		return [2]int64{ends[topic.Name][0], ends[topic.Name][1]}
	}
	look(0)
	look(0)
	if n := readable(); n != [2]int64{} {
		t.Fatalf("%d records are readable, want none", n)
	}
	look(1)
	look(0)
	if n := readable(); n != [2]int64{5, 0} { // with the marker
		t.Errorf("%d are readable, want 5 of the one and none of the other, which is open", n)
	}
	n := 0
	if err := b.Read(t.Context(), []string{topic.Name}, Start{}, func(Record) error { n++; return nil }); err != nil || n != 4 {
		t.Errorf("read %d, want 4, %v", n, err)
	}
	end(kgo.TryCommit)
	eventually(t, 30*time.Second, "end of the open transaction", func() bool { return readable()[1] == 5 })
}

// unknown calls f with a producer that has no transaction, while no broker checks
// whether it has.
func (r *rig) unknown(group string, versions *kversion.Versions, f func(cl *kgo.Client, id string, p *kmsg.InitProducerIDResponse)) {
	r.t.Helper()
	const check = "transaction.partition.verification.enable"
	r.brokerSetting(kadm.SetConfig, check, kadm.StringPtr("false"))
	defer r.brokerSetting(kadm.DeleteConfig, check, nil)
	cl, err := kgo.NewClient(kgo.SeedBrokers(r.seeds...), kgo.MaxVersions(versions))
	if err != nil {
		r.t.Fatal(err)
	}
	defer cl.Close()
	init := kmsg.NewPtrInitProducerIDRequest()
	init.TransactionalID = kmsg.StringPtr(group + "." + rand.Text())
	init.TransactionTimeoutMillis = 30000
	init.ProducerID, init.ProducerEpoch = -1, -1
	var p *kmsg.InitProducerIDResponse
	eventually(r.t, 20*time.Second, "producer id", func() bool {
		p, err = init.RequestWith(r.t.Context(), cl)
		return err == nil && p.ErrorCode == 0
	})
	f(cl, *init.TransactionalID, p)
}

// hang leaves a commit of the topic's partition 0 pending.
func (r *rig) hang(group, topic string) {
	r.t.Helper()
	old := kafkaVersions()
	old.SetMaxKeyVersion(int16(kmsg.TxnOffsetCommit), 4) // 5 joins the transaction by itself
	r.unknown(group, old, func(cl *kgo.Client, id string, who *kmsg.InitProducerIDResponse) {
		req := kmsg.NewPtrTxnOffsetCommitRequest()
		req.TransactionalID, req.Group = id, group
		req.ProducerID, req.ProducerEpoch, req.Generation = who.ProducerID, who.ProducerEpoch, -1
		p := kmsg.NewTxnOffsetCommitRequestTopicPartition()
		p.Offset = 5
		req.Topics = []kmsg.TxnOffsetCommitRequestTopic{{Topic: topic, Partitions: []kmsg.TxnOffsetCommitRequestTopicPartition{p}}}
		eventually(r.t, 20*time.Second, "commit without a transaction", func() bool {
			resp, err := req.RequestWith(r.t.Context(), cl)
			return err == nil && resp.Topics[0].Partitions[0].ErrorCode == 0
		})
	})
}

// hangMail leaves a record in the topic's partition 0 pending.
func (r *rig) hangMail(topic string) {
	r.t.Helper()
	old := kafkaVersions()
	old.SetMaxKeyVersion(int16(kmsg.Produce), 9) // 12 joins the transaction by itself, 13 has no names
	r.unknown("qstream.router", old, func(cl *kgo.Client, id string, who *kmsg.InitProducerIDResponse) {
		req := kmsg.NewPtrProduceRequest()
		req.TransactionID, req.Acks, req.TimeoutMillis = kmsg.StringPtr(id), -1, 10000
		p := kmsg.NewProduceRequestTopicPartition()
		p.Records = pending(who, []byte("hangs"))
		req.Topics = []kmsg.ProduceRequestTopic{{Topic: topic, Partitions: []kmsg.ProduceRequestTopicPartition{p}}}
		eventually(r.t, 20*time.Second, "record without a transaction", func() bool {
			resp, err := req.RequestWith(r.t.Context(), cl)
			return err == nil && resp.Topics[0].Partitions[0].ErrorCode == 0
		})
	})
}

// pending is a batch of one record of a transaction.
func pending(who *kmsg.InitProducerIDResponse, value []byte) []byte {
	record := kmsg.Record{Value: value}
	record.Length = int32(len(record.AppendTo(nil)) - 1)
	b := kmsg.RecordBatch{
		PartitionLeaderEpoch: -1, Magic: 2, Attributes: 1 << 4,
		FirstTimestamp: time.Now().UnixMilli(), MaxTimestamp: time.Now().UnixMilli(),
		ProducerID: who.ProducerID, ProducerEpoch: who.ProducerEpoch, NumRecords: 1, Records: record.AppendTo(nil),
	}
	const length, crc, summed = 8, 17, 21 // where they stand
	raw := b.AppendTo(nil)
	binary.BigEndian.PutUint32(raw[length:], uint32(len(raw)-length-4))
	binary.BigEndian.PutUint32(raw[crc:], crc32.Checksum(raw[summed:], crc32.MakeTable(crc32.Castagnoli)))
	return raw
}

// brokerSetting changes a setting of all brokers while they run.
func (r *rig) brokerSetting(op kadm.IncrementalOp, name string, value *string) {
	r.t.Helper()
	rs, err := r.admin.AlterBrokerConfigs(context.WithoutCancel(r.t.Context()), []kadm.AlterConfig{{Op: op, Name: name, Value: value}})
	for _, resp := range rs {
		if err == nil {
			err = resp.Err
		}
	}
	if err != nil {
		r.t.Fatalf("broker setting %s: %v", name, err)
	}
}

func TestEndOf(t *testing.T) {
	const producer, epoch = 4, 819
	value := func(version int16, id int64, epoch int16, state int8) []byte {
		v := kmsg.NewTxnMetadataValue()
		v.Version, v.ProducerID, v.ProducerEpoch, v.TimeoutMillis, v.State = version, id, epoch, 30000, kmsg.TransactionState(state)
		v.Topics = []kmsg.TxnMetadataValueTopic{{Topic: "t", Partitions: []int32{0}}}
		return v.AppendTo(nil)
	}
	for name, c := range map[string]struct {
		value      []byte
		commit, ok bool
	}{
		"prepared to commit, next epoch": {value(1, producer, epoch+1, 2), true, true},
		"prepared to commit, same epoch": {value(0, producer, epoch, 2), true, true},
		"committed":                      {value(1, producer, epoch+1, 4), true, true},
		"prepared to abort":              {value(1, producer, epoch+1, 3), false, true},
		"aborted":                        {value(0, producer, epoch, 5), false, true},
		"under way":                      {value(1, producer, epoch, 1), false, false},
		"empty":                          {value(1, producer, epoch+1, 0), false, false},
		"an earlier one":                 {value(1, producer, epoch-1, 4), false, false},
		"a later one":                    {value(1, producer, epoch+2, 4), false, false},
		"another producer's":             {value(1, producer+1, epoch, 4), false, false},
		"nothing":                        {nil, false, false},
		"garbage":                        {binary.BigEndian.AppendUint64(nil, 1<<60), false, false},
	} {
		if commit, ok := endOf(c.value, producer, epoch); commit != c.commit || ok != c.ok {
			t.Errorf("%s: %v, %v", name, commit, ok)
		}
	}
}
