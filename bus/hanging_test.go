package bus

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
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

// hang leaves a commit of the topic's partition 0 pending.
func (r *rig) hang(group, topic string) {
	r.t.Helper()
	const check = "transaction.partition.verification.enable"
	r.brokerSetting(kadm.SetConfig, check, kadm.StringPtr("false"))
	defer r.brokerSetting(kadm.DeleteConfig, check, nil)
	old := kafkaVersions()
	old.SetMaxKeyVersion(int16(kmsg.TxnOffsetCommit), 4) // 5 joins the transaction by itself
	cl, err := kgo.NewClient(kgo.SeedBrokers(r.seeds...), kgo.MaxVersions(old))
	if err != nil {
		r.t.Fatal(err)
	}
	defer cl.Close()
	init := kmsg.NewPtrInitProducerIDRequest()
	init.TransactionalID = kmsg.StringPtr(group + "." + rand.Text())
	init.TransactionTimeoutMillis = 30000
	init.ProducerID, init.ProducerEpoch = -1, -1
	var id *kmsg.InitProducerIDResponse
	eventually(r.t, 20*time.Second, "producer id", func() bool {
		id, err = init.RequestWith(r.t.Context(), cl)
		return err == nil && id.ErrorCode == 0
	})
	req := kmsg.NewPtrTxnOffsetCommitRequest()
	req.TransactionalID, req.Group = *init.TransactionalID, group
	req.ProducerID, req.ProducerEpoch, req.Generation = id.ProducerID, id.ProducerEpoch, -1
	p := kmsg.NewTxnOffsetCommitRequestTopicPartition()
	p.Offset = 5
	req.Topics = []kmsg.TxnOffsetCommitRequestTopic{{Topic: topic, Partitions: []kmsg.TxnOffsetCommitRequestTopicPartition{p}}}
	eventually(r.t, 20*time.Second, "commit without a transaction", func() bool {
		resp, rerr := req.RequestWith(r.t.Context(), cl)
		return rerr == nil && resp.Topics[0].Partitions[0].ErrorCode == 0
	})
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
