package bus

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
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
// commits nobody can take over what the commit is of, ever; where it is one of
// mail, nobody reads what lies behind.

const (
	commitsTopic = "__consumer_offsets"
	statesTopic  = "__transaction_state"
	// statesBefore is how long before its last record the end of a
	// transaction is looked for: clocks of brokers differ.
	statesBefore = 5 * time.Minute
	statesTime   = 3 * time.Second // for reading it
)

// endHanging gives the markers that are missing to what hangs of this group's
// engines.
func (e *engine) endHanging(ctx context.Context, cl *kgo.Client) error {
	var where kadm.TopicsSet
	where.Add(commitsTopic)
	_, err := e.bus.endHanging(ctx, cl, where, func(id string) bool { return e.ours(id) && id != e.owner() })
	return err
}

// Hanging finds transactions that hang in qstream's topics, and ends them: as
// their coordinator decided, if its record still tells, or else by a commit, since
// what is read twice is dropped as seen, and what an abort hides is lost. Not for
// concurrent use; two processes that look at once do no harm.
type Hanging struct {
	b    *Bus
	now  func() time.Time
	held map[topicPartition]heldUp
}

// heldUp is since when a partition's committed end has stood below its end.
type heldUp struct {
	at    int64
	since time.Time
}

// hangsAfter is how long a transaction must have held up a partition before it is
// asked for: twice of what an open one may.
const hangsAfter = 2 * transactionTimeout

// Hanging looks for nothing yet.
func (b *Bus) Hanging() *Hanging {
	return &Hanging{b: b, now: time.Now, held: map[topicPartition]heldUp{}}
}

// Look ends what has hung since an earlier look, at least a minute ago, and counts
// its partitions. While nothing hangs it costs each broker two small requests.
// The embedded broker makes nothing that hangs.
func (h *Hanging) Look(ctx context.Context) (ended int, err error) {
	if h.b.within() {
		return 0, nil
	}
	where, err := h.look(ctx)
	if err != nil || len(where) == 0 {
		return 0, err
	}
	cl, err := h.b.client()
	if err != nil {
		return 0, err
	}
	return h.b.endHanging(ctx, cl, where, func(string) bool { return true })
}

// look notes what is held up, and returns what has been for long.
func (h *Hanging) look(ctx context.Context) (long kadm.TopicsSet, err error) {
	layouts, err := h.b.layouts(ctx)
	if err != nil {
		return nil, err
	}
	parts := map[string][]int32{}
	for topic, l := range layouts {
		if strings.HasPrefix(topic, "qstream.") {
			parts[topic] = slices.Sorted(maps.Keys(l.leaders))
		}
	}
	stable, err := h.b.listOffsets(ctx, newest, parts)
	if err != nil {
		return nil, err
	}
	ends, err := h.b.listOffsetsAs(ctx, newest, uncommitted, parts)
	if err != nil {
		return nil, err
	}
	was, now := h.held, h.now()
	h.held = map[topicPartition]heldUp{}
	for topic, ps := range stable {
		for p, at := range ps {
			if at >= ends[topic][p] {
				continue
			}
			is := heldUp{at, now}
			if before, ok := was[topicPartition{topic, p}]; ok && before.at == at {
				is = before
			}
			h.held[topicPartition{topic, p}] = is
			if now.Sub(is.since) >= hangsAfter {
				long.Add(topic, p)
			}
		}
	}
	return long, nil
}

// endHanging gives the markers that are missing to what hangs in some partitions,
// of the transactional ids that whose picks, and counts them.
func (b *Bus) endHanging(ctx context.Context, cl *kgo.Client, where kadm.TopicsSet, whose func(id string) bool) (ended int, err error) {
	admin := kadm.NewClient(cl)
	open, err := openProducers(ctx, admin, where)
	if err != nil || len(open) == 0 {
		return 0, err
	}
	listed, err := admin.ListTransactions(ctx, nil, nil)
	if err != nil {
		return 0, fmt.Errorf("list transactions: %w", err)
	}
	over := map[int64]string{} // transactional id by producer id
	for id, tx := range listed {
		if whose(id) && endedState(tx.State) {
			over[tx.ProducerID] = id
		}
	}
	// Looked at again after the list: what ended in between isn't open now.
	still, err := openProducers(ctx, admin, where)
	if err != nil {
		return 0, err
	}
	var failed error
	for at, p := range still {
		id, ok := over[p.ProducerID]
		was, seen := open[at]
		if !ok || !seen || was.CurrentTxnStartOffset != p.CurrentTxnStartOffset {
			continue
		}
		if err := b.endOne(ctx, cl, id, p); err != nil {
			failed = errors.Join(failed, err)
		} else {
			ended++
		}
	}
	return ended, failed
}

// endedState tells the states that a coordinator takes a transaction into only
// when all its partitions have their markers, as far as it knows.
func endedState(s string) bool {
	return s == "Empty" || s == "CompleteCommit" || s == "CompleteAbort" || s == "Dead"
}

// openProducer is a producer with an open transaction on a partition.
type openProducer struct {
	at       topicPartition
	producer int64
}

// openProducers are the open transactions in some partitions.
func openProducers(ctx context.Context, admin *kadm.Client, where kadm.TopicsSet) (map[openProducer]kadm.DescribedProducer, error) {
	topics, err := admin.DescribeProducers(ctx, where)
	if err != nil {
		return nil, fmt.Errorf("describe producers: %w", err)
	}
	open := map[openProducer]kadm.DescribedProducer{}
	topics.EachPartition(func(p kadm.DescribedProducersPartition) {
		err = errors.Join(err, p.Err)
		p.ActiveProducers.Each(func(d kadm.DescribedProducer) {
			if d.CurrentTxnStartOffset >= 0 {
				open[openProducer{topicPartition{d.Topic, d.Partition}, d.ProducerID}] = d
			}
		})
	})
	if err != nil {
		return nil, fmt.Errorf("describe producers: %w", err)
	}
	return open, nil
}

// endOne writes the marker that a partition misses. If nobody knows any more
// which, commits are aborted: what was committed elsewhere is then made again, and
// dropped by its readers as seen. Mail is committed.
func (b *Bus) endOne(ctx context.Context, cl *kgo.Client, id string, p kadm.DescribedProducer) error {
	commit, known, err := b.decision(ctx, id, p)
	if err != nil {
		return err
	}
	if !known {
		commit = p.Topic != commitsTopic
	}
	b.log.Warn("hanging transaction ended", "owner", id, "topic", p.Topic, "partition", p.Partition,
		"offset", p.CurrentTxnStartOffset, "committed", commit, "decision_known", known)
	var where kadm.TopicsSet
	where.Add(p.Topic, p.Partition)
	answers, err := kadm.NewClient(cl).WriteTxnMarkers(ctx, kadm.TxnMarkers{
		ProducerID: p.ProducerID, ProducerEpoch: p.ProducerEpoch, Commit: commit,
		CoordinatorEpoch: max(p.CoordinatorEpoch, 0), Topics: where,
	})
	answers.EachPartition(func(r kadm.TxnMarkersPartitionResponse) { err = errors.Join(err, r.Err) })
	if err != nil {
		return fmt.Errorf("end hanging transaction of %s in %s/%d (an operator can: kafka-transactions.sh abort): %w", id, p.Topic, p.Partition, err)
	}
	return nil
}

// decision is how the coordinator ended the transaction, as its log has it; not
// known if the record has been compacted away.
func (b *Bus) decision(ctx context.Context, id string, p kadm.DescribedProducer) (commit, known bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, statesTime)
	defer cancel()
	since := Start{Since: time.UnixMilli(p.LastTimestamp).Add(-statesBefore)}
	err = b.Read(ctx, []string{statesTopic}, since, func(r Record) error {
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
