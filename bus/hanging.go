package bus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// A transaction hangs when its coordinator has ended it, but a partition never
// got the marker that says so. Apache Kafka leaves one behind when brokers
// come back: while a partition has no leader for a moment, the coordinator
// takes it for deleted and passes it over (seen with 4.3.0: "these partitions
// are likely deleted already"). Where that is the partition of the group's
// commits nobody can take over what the commit is of, ever.

const (
	commitsTopic = "__consumer_offsets"
	statesTopic  = "__transaction_state"
	// statesBefore is how long before its last record the end of a
	// transaction is looked for: clocks of brokers differ.
	statesBefore = 5 * time.Minute
	statesTime   = 3 * time.Second // for reading it
)

// endHanging gives the markers that are missing to what hangs of this group's
// engines. The marker is the one that the coordinator decided for; if its
// record is gone already, an abort: what was committed elsewhere is then made
// again, and dropped by its readers as seen.
func (e *engine) endHanging(ctx context.Context, cl *kgo.Client) error {
	admin := kadm.NewClient(cl)
	open, err := openCommits(ctx, admin)
	if err != nil || len(open) == 0 {
		return err
	}
	listed, err := admin.ListTransactions(ctx, nil, nil)
	if err != nil {
		return fmt.Errorf("list transactions: %w", err)
	}
	ended := map[int64]string{} // transactional id by producer id
	for id, tx := range listed {
		if e.ours(id) && id != e.owner() && endedState(tx.State) {
			ended[tx.ProducerID] = id
		}
	}
	// Looked at again after the list: what ended in between isn't open now.
	still, err := openCommits(ctx, admin)
	if err != nil {
		return err
	}
	var failed error
	for at, p := range still {
		id, ok := ended[p.ProducerID]
		if was, seen := open[at]; ok && seen && was.CurrentTxnStartOffset == p.CurrentTxnStartOffset {
			failed = errors.Join(failed, e.endOne(ctx, cl, id, p))
		}
	}
	return failed
}

// endedState tells the states that a coordinator takes a transaction into only
// when all its partitions have their markers, as far as it knows.
func endedState(s string) bool {
	return s == "Empty" || s == "CompleteCommit" || s == "CompleteAbort" || s == "Dead"
}

// openProducer is a producer with an open transaction on a partition.
type openProducer struct {
	partition int32
	producer  int64
}

// openCommits are the open transactions that hold commits of any group.
func openCommits(ctx context.Context, admin *kadm.Client) (map[openProducer]kadm.DescribedProducer, error) {
	var all kadm.TopicsSet
	all.Add(commitsTopic)
	topics, err := admin.DescribeProducers(ctx, all)
	if err != nil {
		return nil, fmt.Errorf("describe producers of %s: %w", commitsTopic, err)
	}
	open := map[openProducer]kadm.DescribedProducer{}
	topics.EachPartition(func(p kadm.DescribedProducersPartition) {
		err = errors.Join(err, p.Err)
		p.ActiveProducers.Each(func(d kadm.DescribedProducer) {
			if d.CurrentTxnStartOffset >= 0 {
				open[openProducer{d.Partition, d.ProducerID}] = d
			}
		})
	})
	if err != nil {
		return nil, fmt.Errorf("describe producers of %s: %w", commitsTopic, err)
	}
	return open, nil
}

// endOne writes the marker that a partition of commits misses.
func (e *engine) endOne(ctx context.Context, cl *kgo.Client, id string, p kadm.DescribedProducer) error {
	commit, known, err := e.decided(ctx, id, p)
	if err != nil {
		return err
	}
	e.log.Warn("hanging transaction ended", "owner", id, "topic", p.Topic, "partition", p.Partition,
		"offset", p.CurrentTxnStartOffset, "committed", commit, "decision_known", known)
	var where kadm.TopicsSet
	where.Add(p.Topic, p.Partition)
	answers, err := kadm.NewClient(cl).WriteTxnMarkers(ctx, kadm.TxnMarkers{
		ProducerID: p.ProducerID, ProducerEpoch: p.ProducerEpoch, Commit: commit,
		CoordinatorEpoch: max(p.CoordinatorEpoch, 0), Topics: where,
	})
	answers.EachPartition(func(r kadm.TxnMarkersPartitionResponse) { err = errors.Join(err, r.Err) })
	if err != nil {
		return fmt.Errorf("end hanging transaction of %s (an operator can: kafka-transactions.sh abort): %w", id, err)
	}
	return nil
}

// decided is how the coordinator ended the transaction, as its log has it; not
// known if the record has been compacted away.
func (e *engine) decided(ctx context.Context, id string, p kadm.DescribedProducer) (commit, known bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, statesTime)
	defer cancel()
	since := Start{Since: time.UnixMilli(p.LastTimestamp).Add(-statesBefore)}
	err = e.bus.Read(ctx, []string{statesTopic}, since, func(r Record) error {
		key := kmsg.NewTxnMetadataKey()
		if key.ReadFrom(r.Key) != nil || key.TransactionalID != id {
			return nil
		}
		if c, ok := endOf(r.Value, p.ProducerID, p.ProducerEpoch); ok {
			commit, known = c, true
		}
		return nil
	})
	if err != nil {
		return false, false, fmt.Errorf("read how %s ended: %w", id, err)
	}
	return commit, known, nil
}

// endOf finds the decision in a record of the coordinator's log: of a
// transaction of this producer, with the epoch of its records or, from
// transaction.version 2 on, the next (KIP-890).
func endOf(value []byte, producer int64, epoch int16) (commit, ok bool) {
	v := kmsg.NewTxnMetadataValue()
	if v.ReadFrom(value) != nil || v.ProducerID != producer || v.ProducerEpoch != epoch && v.ProducerEpoch != epoch+1 {
		return false, false
	}
	switch v.State {
	case kmsg.TransactionStatePrepareCommit, kmsg.TransactionStateCompleteCommit:
		return true, true
	case kmsg.TransactionStatePrepareAbort, kmsg.TransactionStateCompleteAbort:
		return false, true
	}
	return false, false
}
