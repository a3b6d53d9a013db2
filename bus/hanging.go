package bus

import (
	"context"
	"errors"
	"fmt"
	"math"
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
)

// How long reading the coordinator's log may take: somebody waits for a take-over.
const (
	takeOverRead = 3 * time.Second
	lookRead     = time.Minute
)

// endHanging gives the markers that are missing to what hangs of this group's
// engines.
func (e *engine) endHanging(ctx context.Context, cl *kgo.Client) error {
	var where kadm.TopicsSet
	where.Add(commitsTopic)
	whose := func(id string) bool { return e.ours(id) && id != e.owner() }
	_, err := e.bus.endHanging(ctx, cl, where, whose, takeOverRead)
	return err
}

// Hanging finds transactions that hang in qstream's topics, and ends them as their
// coordinator's log says that they were to end. Where it doesn't say, nothing is done
// but told: a wrong guess would lose mail, or repeat it. Not for concurrent use; two
// processes that look at once do no harm.
type Hanging struct {
	b    *Bus
	now  func() time.Time
	held map[topicPartition]heldUp
}

// heldUp is since when a partition's committed end has stood below its end.
type heldUp struct {
	at    int64
	since time.Time
	told  bool
}

// hangsAfter is how long a transaction must have held up a partition before it is
// asked for: twice of what an open one may.
const hangsAfter = 2 * transactionTimeout

// Hanging looks for nothing yet.
func (b *Bus) Hanging() *Hanging {
	return &Hanging{b: b, now: time.Now, held: map[topicPartition]heldUp{}}
}

// Look ends what has hung since an earlier look, at least a minute ago, and counts
// its partitions; of what still holds up a partition it warns. While nothing hangs it
// costs each broker two small requests. The embedded broker makes nothing that hangs.
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
	over, err := h.b.endHanging(ctx, cl, where, func(string) bool { return true }, lookRead)
	for at := range over {
		delete(h.held, at)
	}
	h.tell(where)
	return len(over), err
}

// tell warns, once, of what holds up a partition and was not ended.
func (h *Hanging) tell(where kadm.TopicsSet) {
	where.Each(func(topic string, p int32) {
		at := topicPartition{topic, p}
		is, held := h.held[at]
		if !held || is.told {
			return
		}
		is.told = true
		h.held[at] = is
		h.b.log.Error("a transaction holds up a partition: it is still open, or it hangs and how it was to end isn't known; nothing behind the offset is read (kafka-transactions.sh describe-producers shows it)",
			"topic", topic, "partition", p, "offset", is.at, "since", is.since)
	})
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
			for p, leader := range l.leaders {
				if leader >= 0 { // the others can't be asked, nor mended
					parts[topic] = append(parts[topic], p)
				}
			}
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
			is := heldUp{at: at, since: now}
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
// of the transactional ids that whose picks, and names those where it did. Reading how
// each was to end may take so long.
func (b *Bus) endHanging(ctx context.Context, cl *kgo.Client, where kadm.TopicsSet, whose func(id string) bool, read time.Duration) (map[topicPartition]bool, error) {
	admin := kadm.NewClient(cl)
	open, err := openProducers(ctx, admin, where)
	if err != nil || len(open) == 0 {
		return nil, err
	}
	listed, err := admin.ListTransactions(ctx, nil, nil)
	if err != nil {
		return nil, fmt.Errorf("list transactions: %w", err)
	}
	over := map[int64]string{} // transactional id by producer id
	for id, tx := range listed {
		if whose(id) && endedState(tx.State) {
			over[tx.ProducerID] = id
		}
	}
	// Looked at again after the list: what ended in between isn't open now, and what
	// its owner has written to since isn't over.
	still, err := openProducers(ctx, admin, where)
	if err != nil {
		return nil, err
	}
	ended := map[topicPartition]bool{}
	var failed error
	for at, p := range still {
		id, ok := over[p.ProducerID]
		if was, seen := open[at]; !ok || !seen || was != p {
			continue
		}
		done, err := b.endOne(ctx, cl, id, p, read)
		failed = errors.Join(failed, err)
		if done {
			ended[at.at] = true
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
// which, a commit of a group's is aborted: what was committed elsewhere is then made
// again, and dropped by its readers as seen. Anything else is left.
func (b *Bus) endOne(ctx context.Context, cl *kgo.Client, id string, p kadm.DescribedProducer, read time.Duration) (done bool, err error) {
	commit, known, err := b.decision(ctx, id, p, read)
	if err != nil || !known && p.Topic != commitsTopic {
		return false, err
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
		return false, fmt.Errorf("end hanging transaction of %s in %s/%d, which was to commit: %v: %w", id, p.Topic, p.Partition, commit, err)
	}
	return true, nil
}

// decision is how the coordinator ended the transaction, as its log has it; not
// known if the records have been compacted away.
func (b *Bus) decision(ctx context.Context, id string, p kadm.DescribedProducer, within time.Duration) (commit, known bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	parts, err := b.partitions(ctx, []string{statesTopic})
	if err != nil {
		return false, false, fmt.Errorf("read how %s ended: %w", id, err)
	}
	start := Start{Since: time.UnixMilli(p.LastTimestamp).Add(-statesBefore), Offset: map[string]map[int32]int64{statesTopic: {}}}
	for _, other := range parts[statesTopic] {
		if other != statesPartition(id, len(parts[statesTopic])) {
			start.Offset[statesTopic][other] = math.MaxInt64 // nothing is read of it
		}
	}
	prepared := false
	err = b.Read(ctx, []string{statesTopic}, start, func(r Record) error {
		key := kmsg.NewTxnMetadataKey()
		if key.ReadFrom(r.Key) != nil || key.TransactionalID != id {
			return nil
		}
		v := kmsg.NewTxnMetadataValue()
		if v.ReadFrom(r.Value) != nil {
			return nil
		}
		if c, ok := preparedOf(v, p); ok {
			commit, known, prepared = c, true, true
		} else if c, ok := endOf(v, p.ProducerID, p.ProducerEpoch); ok && !prepared && p.Topic == commitsTopic {
			commit, known = c, true
		}
		return nil
	})
	if err != nil {
		return false, false, fmt.Errorf("read how %s ended: %w", id, err)
	}
	return commit, known, nil
}

// statesPartition is where the coordinator keeps a transactional id: by Java's
// hash of it without its sign, which is over UTF-16; our ids are ASCII.
func statesPartition(id string, n int) int32 {
	h := int32(0)
	for _, c := range []byte(id) {
		h = 31*h + int32(c)
	}
	if h == math.MinInt32 {
		return 0
	}
	return max(h, -h) % int32(n)
}

// preparedOf finds the decision about the transaction that a partition holds open,
// in a record that names this partition: of the next epoch, as from
// transaction.version 2 on (KIP-890), where no other transaction has it. A fence, or
// a time-out, may have raised it once more before it aborted.
func preparedOf(v kmsg.TxnMetadataValue, p kadm.DescribedProducer) (commit, ok bool) {
	named := slices.ContainsFunc(v.Topics, func(t kmsg.TxnMetadataValueTopic) bool {
		return t.Topic == p.Topic && slices.Contains(t.Partitions, p.Partition)
	})
	if !named || v.ProducerID != p.ProducerID {
		return false, false
	}
	switch v.State {
	case kmsg.TransactionStatePrepareCommit:
		return true, v.ProducerEpoch == p.ProducerEpoch+1 && v.ClientTransactionVersion >= 2
	case kmsg.TransactionStatePrepareAbort:
		return false, v.ProducerEpoch == p.ProducerEpoch+1 || v.ProducerEpoch == p.ProducerEpoch+2
	}
	return false, false
}

// endOf finds the decision in a record of the coordinator's log, whatever partitions
// it was about: of a transaction of this producer, with the epoch of its records or,
// from transaction.version 2 on, the next.
func endOf(v kmsg.TxnMetadataValue, producer int64, epoch int16) (commit, ok bool) {
	if v.ProducerID != producer || v.ProducerEpoch != epoch && v.ProducerEpoch != epoch+1 {
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
