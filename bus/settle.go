package bus

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
)

// commit sets a group's offsets from outside. A group that has members takes
// such a commit only as part of a transaction, which isn't checked against
// the membership.
func (b *Bus) commit(ctx context.Context, group string, at offsets) error {
	if len(at) == 0 {
		return nil
	}
	for try := 0; ; try++ {
		err := b.commitPlain(ctx, group, at)
		if errors.Is(err, kerr.UnknownMemberID) || errors.Is(err, kerr.IllegalGeneration) || errors.Is(err, kerr.StaleMemberEpoch) {
			err = b.commitTransactional(ctx, group, at)
		}
		if err == nil {
			return nil
		}
		// The coordinator of a new cluster takes some seconds, and hears of a
		// topic made just now later than others.
		if !kerr.IsRetriable(err) || try == commitTries || !Pause(ctx, 200*time.Millisecond) {
			return fmt.Errorf("commit offsets of %s: %w", group, err)
		}
	}
}

const commitTries = 50

func (b *Bus) commitPlain(ctx context.Context, group string, at offsets) error {
	c, err := b.client()
	if err != nil {
		return err
	}
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Group, req.Generation = group, -1
	for topic, ps := range at {
		t := kmsg.NewOffsetCommitRequestTopic()
		t.Topic = topic
		if to, err := b.route(ctx, topic); err == nil {
			t.TopicID = to.id
		}
		for p, o := range ps {
			part := kmsg.NewOffsetCommitRequestTopicPartition()
			part.Partition, part.Offset = p, o
			t.Partitions = append(t.Partitions, part)
		}
		req.Topics = append(req.Topics, t)
	}
	resp, err := req.RequestWith(ctx, c)
	if err != nil {
		return err
	}
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
				return err
			}
		}
	}
	return nil
}

// commitTransactional commits in a transaction of its own that holds nothing
// else, by hand: the client ends no transaction in which it produced nothing.
func (b *Bus) commitTransactional(ctx context.Context, group string, at offsets) error {
	id := "qstream.commit." + rand.Text()
	c, err := kgo.NewClient(b.clientOpts(kgo.TransactionalID(id), kgo.TransactionTimeout(30*time.Second),
		kgo.MaxVersions(plainTransactions()))...)
	if err != nil {
		return err
	}
	defer c.Close()
	pid, epoch, err := c.ProducerID(ctx)
	if err != nil {
		return fmt.Errorf("get producer id: %w", err)
	}
	add := kmsg.NewPtrAddOffsetsToTxnRequest()
	add.TransactionalID, add.ProducerID, add.ProducerEpoch, add.Group = id, pid, epoch, group
	added, err := add.RequestWith(ctx, c)
	if err == nil {
		err = kerr.ErrorForCode(added.ErrorCode)
	}
	if err != nil {
		return fmt.Errorf("add offsets to transaction: %w", err)
	}
	err = commitInTransaction(ctx, c, txnOffsets(id, pid, epoch, group, at))
	end := kmsg.NewPtrEndTxnRequest()
	end.TransactionalID, end.ProducerID, end.ProducerEpoch, end.Commit = id, pid, epoch, err == nil
	ended, endErr := end.RequestWith(ctx, c)
	if endErr == nil {
		endErr = kerr.ErrorForCode(ended.ErrorCode)
	}
	if err := errors.Join(err, endErr); err != nil {
		return err
	}
	return b.awaitCommit(ctx, group, at)
}

// awaitCommit waits until commits are seen: the end of a transaction is
// acknowledged before the group's own log has it.
func (b *Bus) awaitCommit(ctx context.Context, group string, at offsets) error {
	for try := 0; ; try++ {
		have, err := b.committed(ctx, group, at.keys())
		if err != nil {
			return err
		}
		if len(missing(at.keys(), have)) == 0 {
			return nil
		}
		if try == 200 {
			return errors.New("commit isn't seen after 10 s")
		}
		if !Pause(ctx, 50*time.Millisecond) {
			return ctx.Err()
		}
	}
}

func txnOffsets(id string, pid int64, epoch int16, group string, at offsets) *kmsg.TxnOffsetCommitRequest {
	req := kmsg.NewPtrTxnOffsetCommitRequest()
	req.TransactionalID, req.ProducerID, req.ProducerEpoch = id, pid, epoch
	req.Group, req.Generation = group, -1
	for topic, ps := range at {
		t := kmsg.NewTxnOffsetCommitRequestTopic()
		t.Topic = topic
		for p, o := range ps {
			part := kmsg.NewTxnOffsetCommitRequestTopicPartition()
			part.Partition, part.Offset = p, o
			t.Partitions = append(t.Partitions, part)
		}
		req.Topics = append(req.Topics, t)
	}
	return req
}

func commitInTransaction(ctx context.Context, c *kgo.Client, req *kmsg.TxnOffsetCommitRequest) error {
	for try := 0; ; try++ {
		resp, err := req.RequestWith(ctx, c)
		if err != nil {
			return err
		}
		for _, t := range resp.Topics {
			for _, p := range t.Partitions {
				if e := kerr.ErrorForCode(p.ErrorCode); e != nil {
					err = e
				}
			}
		}
		if !errors.Is(err, kerr.ConcurrentTransactions) || try == 100 {
			return err
		}
		if !Pause(ctx, 10*time.Millisecond) {
			return ctx.Err()
		}
	}
}

// plainTransactions are the versions of Kafka 3: later ones tie a commit to
// what the client itself produced, and name topics by id only.
func plainTransactions() *kversion.Versions {
	v := kversion.Stable()
	for _, key := range []kmsg.Key{kmsg.AddOffsetsToTxn, kmsg.EndTxn, kmsg.TxnOffsetCommit} {
		v.SetMaxKeyVersion(int16(key), 3)
	}
	return v
}
