package bus

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// producer is a transactional producer. Its id is fresh: on the embedded
// broker an id that is used again after a kill hides committed records.
type producer struct {
	client *kgo.Client
	id     string
}

func (e *engine) newProducer() (*producer, error) {
	id := e.group + "." + rand.Text()
	cl, err := kgo.NewClient(e.bus.clientOpts(
		patientOfEOF,
		kgo.TransactionalID(id),
		kgo.TransactionTimeout(transactionTimeout),
		kgo.MaxVersions(kafkaVersions()),
		kgo.RequestRetries(120),
		kgo.RetryBackoffFn(producerBackoff),
		kgo.ConcurrentTransactionsBackoff(2*time.Millisecond),
	)...)
	if err != nil {
		return nil, fmt.Errorf("transactional producer: %w", err)
	}
	return &producer{client: cl, id: id}, nil
}

// producerBackoff is short at first: a new transaction is refused for some
// milliseconds while the markers of the last one are being written.
func producerBackoff(try int) time.Duration {
	switch {
	case try < 30:
		return 4 * time.Millisecond
	case try < 60:
		return 30 * time.Millisecond
	default:
		return 300 * time.Millisecond
	}
}

// owner is the transactional id that this process commits under now.
func (e *engine) owner() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.producer == nil {
		return ""
	}
	return e.producer.id
}

// ensureProducer makes the producer if there is none, after the transactions
// of those before are ended.
func (e *engine) ensureProducer(ctx context.Context) error {
	for len(e.doubtful) > 0 {
		if err := fence(ctx, e.client, e.doubtful[0]); err != nil {
			return err
		}
		e.doubtful = e.doubtful[1:]
	}
	if e.producer != nil {
		return nil
	}
	p, err := e.newProducer()
	if err != nil {
		return err
	}
	e.mu.Lock()
	e.producer = p
	e.mu.Unlock()
	return nil
}

// begin begins a transaction. The client asks for its producer id without a
// context of ours, for as long as the broker says that an earlier transaction
// hasn't ended (a full disk may put that off for hours): when ctx ends it is
// closed, which ends the asking.
func (p *producer) begin(ctx context.Context) error {
	stop := context.AfterFunc(ctx, p.client.Close)
	err := p.client.BeginTransaction()
	if !stop() {
		return errors.Join(ctx.Err(), err)
	}
	return err
}

// abort ends a transaction that failed. A producer that can't is given up.
func (e *engine) abort(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortTime)
	defer cancel()
	err := e.producer.client.AbortBufferedRecords(ctx)
	if err == nil {
		err = e.producer.client.EndTransaction(ctx, kgo.TryAbort)
	}
	if err != nil {
		e.retire(ctx)
	}
}

// retire gives up a producer whose state is in doubt, and fences its id so
// that its transaction ends, one way or the other.
func (e *engine) retire(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortTime)
	defer cancel()
	p := e.producer
	e.mu.Lock()
	e.producer = nil
	e.mu.Unlock()
	p.client.Close()
	if err := fence(ctx, e.client, p.id); err != nil {
		e.log.Warn("producer not fenced", "err", err)
		e.doubtful = append(e.doubtful, p.id)
	}
}

const abortTime = 10 * time.Second

// produced is the outcome of producing a transaction's records.
type produced struct {
	mu   sync.Mutex
	err  error            // the first that isn't the record's fault
	bad  map[*result]bool // results with an output that can't be stored
	last error            // of one of those
}

func (p *produced) note(r *result, err error) {
	if err == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if r != nil && unstorable(err) {
		if p.bad == nil {
			p.bad = map[*result]bool{}
		}
		p.bad[r], p.last = true, err
		return
	}
	if p.err == nil {
		p.err = err
	}
}

// unstorable tells the fault of a record from that of a broker.
func unstorable(err error) bool {
	for _, e := range []error{kerr.MessageTooLarge, kerr.InvalidRecord, kerr.InvalidTopicException, kerr.RecordListTooLarge, kerr.UnknownTopicOrPartition} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// topicsLearnt is called between the flush of a transaction and its end. The
// client notes a topic that it didn't know only after it has handed over the
// records that waited for it, and these may be acknowledged before. A
// transaction of such topics alone it would take for empty: abort it, and
// report success. Nothing is buffered, so that nothing is aborted here: the
// call waits for the lock that is held until the topic is noted.
func topicsLearnt(ctx context.Context, c *kgo.Client) error {
	if err := c.AbortBufferedRecords(ctx); err != nil {
		return fmt.Errorf("learn topics: %w", err)
	}
	return nil
}

// commitOffsets adds the offsets to the producer's transaction. It comes
// after the flush: then the transaction exists. One request must fit one
// batch of the offsets topic.
func (p *producer) commitOffsets(ctx context.Context, group, member string, generation int32, cs []commit) error {
	id, epoch, err := p.client.ProducerID(ctx)
	if err != nil {
		return fmt.Errorf("producer id: %w", err)
	}
	for len(cs) > 0 {
		n, size := 0, 0
		for n < len(cs) && (n == 0 || size < commitBytes) {
			size += len(cs[n].metadata) + len(cs[n].topic) + 100
			n++
		}
		req := kmsg.NewPtrTxnOffsetCommitRequest()
		req.TransactionalID, req.Group = p.id, group
		req.ProducerID, req.ProducerEpoch = id, epoch
		req.MemberID, req.Generation = member, generation
		req.Topics = commitTopics(cs[:n])
		if err := p.requestCommit(ctx, req); err != nil {
			return fmt.Errorf("commit offsets of %s: %w", group, err)
		}
		cs = cs[n:]
	}
	return nil
}

const commitBytes = 700 << 10

func commitTopics(cs []commit) []kmsg.TxnOffsetCommitRequestTopic {
	byName := map[string]int{}
	var topics []kmsg.TxnOffsetCommitRequestTopic
	for _, c := range cs {
		i, ok := byName[c.topic]
		if !ok {
			i = len(topics)
			byName[c.topic] = i
			t := kmsg.NewTxnOffsetCommitRequestTopic()
			t.Topic = c.topic
			topics = append(topics, t)
		}
		p := kmsg.NewTxnOffsetCommitRequestTopicPartition()
		p.Partition, p.Offset, p.LeaderEpoch = c.partition, c.offset, -1
		p.Metadata = kmsg.StringPtr(c.metadata)
		topics[i].Partitions = append(topics[i].Partitions, p)
	}
	return topics
}

func (p *producer) requestCommit(ctx context.Context, req *kmsg.TxnOffsetCommitRequest) error {
	for try := 0; ; try++ {
		resp, err := req.RequestWith(ctx, p.client)
		if err == nil {
			err = commitError(resp)
		}
		if err == nil {
			return nil
		}
		if !kerr.IsRetriable(err) || errors.Is(err, kerr.UnknownTopicOrPartition) || try > 200 || !Pause(ctx, producerBackoff(try)) {
			return err
		}
	}
}

func commitError(resp *kmsg.TxnOffsetCommitResponse) error {
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
				return fmt.Errorf("%s %d: %w", t.Topic, p.Partition, err)
			}
		}
	}
	return nil
}
