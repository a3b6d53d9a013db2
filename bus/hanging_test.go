package bus

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"hash/crc32"
	"slices"
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

// A transaction hangs in a topic of mail: it is ended as its coordinator's log says,
// once it has held up its partition for long, and what it holds comes, or doesn't, and
// what lies behind does. One that is open is left alone, and so is one of which
// nobody knows how it was to end.
func TestHangingMailIsEnded(t *testing.T) {
	r := newRig(t)
	if r.fake != nil {
		t.Skip("needs Apache Kafka: QSTREAM_TEST_KAFKA")
	}
	b := r.bus()
	const committed, aborted, open, doubtful, n = 0, 1, 2, 3, 4
	topic := schemas.Topic{Name: "qstream." + r.name, Partitions: n, Retention: time.Hour, MaxMessage: 1 << 20}
	if _, err := b.CreateTopics(t.Context(), []schemas.Topic{topic}, CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	end := openTransaction(t, b, topic.Name, open, []byte("open"))
	r.hangMail(topic.Name, doubtful)
	r.decide(topic.Name, committed, kmsg.TransactionStatePrepareCommit)
	r.decide(topic.Name, aborted, kmsg.TransactionStatePrepareAbort)
	for i := range int32(3 * n) {
		if err := b.Publish(t.Context(), &Record{Topic: topic.Name, Partition: i % n, Value: []byte("behind")}); err != nil {
			t.Fatal(err)
		}
	}
	h, now := b.Hanging(), time.Now()
	h.now = func() time.Time { return now }
	readable := func() (ends [n]int64) {
		t.Helper()
		of, err := b.listOffsets(t.Context(), newest, map[string][]int32{topic.Name: {0, 1, 2, 3}})
		if err != nil {
			t.Fatal(err)
		}
		for p := range ends {
			ends[p] = of[topic.Name][int32(p)]
		}
		return ends
	}
	for range 2 { // too early
		if ended, err := h.Look(t.Context()); err != nil || ended != 0 {
			t.Fatalf("ended %d, %v", ended, err)
		}
		now = now.Add(hangsAfter / 2)
	}
	if ends := readable(); ends != [n]int64{} {
		t.Fatalf("readable %d, want none", ends)
	}
	all := 0
	eventually(t, time.Minute, "end of two", func() bool {
		ended, err := h.Look(t.Context())
		if err != nil {
			t.Log(err)
		}
		all += ended
		return all == 2
	})
	if ended, err := h.Look(t.Context()); err != nil || ended != 0 {
		t.Errorf("ended %d more, %v", ended, err)
	}
	if ends := readable(); ends != [n]int64{5, 5, 0, 0} { // with the markers
		t.Errorf("readable up to %d", ends)
	}
	var got []string
	err := b.Read(t.Context(), []string{topic.Name}, Start{}, func(r Record) error { got = append(got, string(r.Value)); return nil })
	slices.Sort(got)
	if want := []string{"behind", "behind", "behind", "behind", "behind", "behind", "hangs"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("read %q, %v", got, err)
	}
	end(kgo.TryCommit)
	eventually(t, 30*time.Second, "end of the open transaction", func() bool { return readable()[open] == 5 })
}

// decide leaves a record in a partition pending, and how its transaction was to end
// in the coordinator's log.
func (r *rig) decide(topic string, partition int32, state kmsg.TransactionState) {
	r.t.Helper()
	id, who := r.hangMail(topic, partition)
	v := kmsg.NewTxnMetadataValue()
	v.Version, v.ProducerID, v.ProducerEpoch, v.TimeoutMillis = 1, who.ProducerID, who.ProducerEpoch+1, 30000
	v.State, v.ClientTransactionVersion = state, 2
	v.Topics = []kmsg.TxnMetadataValueTopic{{Topic: topic, Partitions: []int32{partition}}}
	key := kmsg.NewTxnMetadataKey()
	key.TransactionalID = id
	// Brokers let only this client write to topics of their own.
	cl, err := kgo.NewClient(kgo.SeedBrokers(r.seeds...), kgo.ClientID("__admin_client"), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		r.t.Fatal(err)
	}
	defer cl.Close()
	where := int32(-1) // the broker's own record of this id
	err = r.bus().Read(r.t.Context(), []string{statesTopic}, Start{}, func(rec Record) error {
		k := kmsg.NewTxnMetadataKey()
		if k.ReadFrom(rec.Key) == nil && k.TransactionalID == id {
			where = rec.Partition
		}
		return nil
	})
	if err != nil || where < 0 {
		r.t.Fatalf("the broker's record of %s: partition %d, %v", id, where, err)
	}
	said := &kgo.Record{Topic: statesTopic, Partition: where, Key: key.AppendTo(nil), Value: v.AppendTo(nil)}
	if err := cl.ProduceSync(r.t.Context(), said).FirstErr(); err != nil {
		r.t.Fatal(err)
	}
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

// hangMail leaves a record in a partition pending, of which nobody knows how it was
// to end.
func (r *rig) hangMail(topic string, partition int32) (owner string, who *kmsg.InitProducerIDResponse) {
	r.t.Helper()
	old := kafkaVersions()
	old.SetMaxKeyVersion(int16(kmsg.Produce), 9) // 12 joins the transaction by itself, 13 has no names
	r.unknown("qstream.router", old, func(cl *kgo.Client, id string, p *kmsg.InitProducerIDResponse) {
		owner, who = id, p
		req := kmsg.NewPtrProduceRequest()
		req.TransactionID, req.Acks, req.TimeoutMillis = kmsg.StringPtr(id), -1, 10000
		part := kmsg.NewProduceRequestTopicPartition()
		part.Partition, part.Records = partition, pending(p, []byte("hangs"))
		req.Topics = []kmsg.ProduceRequestTopic{{Topic: topic, Partitions: []kmsg.ProduceRequestTopicPartition{part}}}
		eventually(r.t, 20*time.Second, "record without a transaction", func() bool {
			resp, err := req.RequestWith(r.t.Context(), cl)
			return err == nil && resp.Topics[0].Partitions[0].ErrorCode == 0
		})
	})
	return owner, who
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
	value := func(version int16, id int64, epoch int16, state int8) kmsg.TxnMetadataValue {
		v := kmsg.NewTxnMetadataValue()
		v.Version, v.ProducerID, v.ProducerEpoch, v.TimeoutMillis, v.State = version, id, epoch, 30000, kmsg.TransactionState(state)
		v.Topics = []kmsg.TxnMetadataValueTopic{{Topic: "t", Partitions: []int32{0}}}
		return v
	}
	for name, c := range map[string]struct {
		value      kmsg.TxnMetadataValue
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
	} {
		if commit, ok := endOf(c.value, producer, epoch); commit != c.commit || ok != c.ok {
			t.Errorf("%s: %v, %v", name, commit, ok)
		}
	}
}

func TestPreparedOf(t *testing.T) {
	const producer, epoch = 4, 819
	hung := kadm.DescribedProducer{Topic: "t", Partition: 1, ProducerID: producer, ProducerEpoch: epoch}
	value := func(state kmsg.TransactionState, epoch int16, change func(*kmsg.TxnMetadataValue)) kmsg.TxnMetadataValue {
		v := kmsg.NewTxnMetadataValue()
		v.ProducerID, v.ProducerEpoch, v.State, v.ClientTransactionVersion = producer, epoch, state, 2
		v.Topics = []kmsg.TxnMetadataValueTopic{{Topic: "s", Partitions: []int32{0}}, {Topic: "t", Partitions: []int32{0, 1}}}
		if change != nil {
			change(&v)
		}
		return v
	}
	commit, abort := kmsg.TransactionStatePrepareCommit, kmsg.TransactionStatePrepareAbort
	for name, c := range map[string]struct {
		value      kmsg.TxnMetadataValue
		commit, ok bool
	}{
		"commit":                    {value(commit, epoch+1, nil), true, true},
		"abort":                     {value(abort, epoch+1, nil), false, true},
		"abort by a fence":          {value(abort, epoch+2, nil), false, true},
		"a commit two epochs later": {value(commit, epoch+2, nil), true, false},
		"the one before":            {value(commit, epoch, nil), true, false},
		"all share an epoch":        {value(commit, epoch+1, func(v *kmsg.TxnMetadataValue) { v.ClientTransactionVersion = 1 }), true, false},
		"of another partition":      {value(commit, epoch+1, func(v *kmsg.TxnMetadataValue) { v.Topics[1].Partitions = []int32{0} }), false, false},
		"of another topic":          {value(commit, epoch+1, func(v *kmsg.TxnMetadataValue) { v.Topics[1].Topic = "u" }), false, false},
		"of another producer":       {value(commit, epoch+1, func(v *kmsg.TxnMetadataValue) { v.ProducerID++ }), false, false},
		"under way":                 {value(kmsg.TransactionStateOngoing, epoch+1, nil), false, false},
		"complete, without places":  {value(kmsg.TransactionStateCompleteCommit, epoch+1, func(v *kmsg.TxnMetadataValue) { v.Topics = nil }), false, false},
	} {
		if commit, ok := preparedOf(c.value, hung); ok != c.ok || ok && commit != c.commit {
			t.Errorf("%s: %v, %v", name, commit, ok)
		}
	}
}

// TestStatesPartition is by Java's hashes: one is below 0, one has no opposite.
func TestStatesPartition(t *testing.T) {
	for id, want := range map[string]int32{"hello": 99162322 % 50, "qstream.router": 1239778138 % 50, "polygenelubricants": 0} {
		if got := statesPartition(id, 50); got != want {
			t.Errorf("%s: %d, want %d", id, got, want)
		}
	}
}
