package bus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// transactionTimeout is above a broker failover (12 s measured), which a
// shorter one would turn into aborts. What died is fenced, not timed out.
const transactionTimeout = 30 * time.Second

// fenceOwners ends the open transactions of owners that have not let go.
func (e *engine) fenceOwners(ctx context.Context, cl *kgo.Client, parts map[string][]int32) error {
	commits, err := fetchCommits(ctx, cl, e.group, parts, false)
	if err != nil {
		return err
	}
	owners := map[string]bool{}
	for _, c := range commits {
		was, err := decodeProgress(c.offset, c.metadata)
		if err == nil && !was.released && was.owner != "" && was.owner != e.owner() {
			owners[was.owner] = true
		}
	}
	for id := range owners {
		if ferr := fence(ctx, cl, id); ferr != nil {
			err = errors.Join(err, ferr)
		}
	}
	return err
}

// fence takes a transactional id from whoever holds it: an open transaction
// is aborted at once, one that is being committed ends first. The id is never
// used again. Fencing a live process by mistake costs it a new producer.
func fence(ctx context.Context, cl *kgo.Client, id string) error {
	req := kmsg.NewPtrInitProducerIDRequest()
	req.TransactionalID = kmsg.StringPtr(id)
	req.TransactionTimeoutMillis = int32(transactionTimeout.Milliseconds())
	req.ProducerID, req.ProducerEpoch = -1, -1
	for {
		resp, err := req.RequestWith(ctx, cl)
		if err == nil {
			err = kerr.ErrorForCode(resp.ErrorCode)
		}
		if err == nil {
			return nil
		}
		if !errors.Is(err, kerr.ConcurrentTransactions) && !kerr.IsRetriable(err) {
			return fmt.Errorf("fence %s: %w", id, err)
		}
		if !pause(ctx, 10*time.Millisecond) {
			return fmt.Errorf("fence %s: %w", id, err)
		}
	}
}

// commit is what a group has committed for a partition.
type commit struct {
	topicPartition
	offset   int64 // -1: none
	metadata string
}

// fetchCommits reads commits; stable waits for transactions that hold one.
func fetchCommits(ctx context.Context, cl *kgo.Client, group string, parts map[string][]int32, stable bool) ([]commit, error) {
	req := kmsg.NewPtrOffsetFetchRequest()
	req.RequireStable = stable
	g := kmsg.NewOffsetFetchRequestGroup()
	g.Group = group
	for topic, ps := range parts {
		t := kmsg.NewOffsetFetchRequestGroupTopic()
		t.Topic, t.Partitions = topic, ps
		g.Topics = append(g.Topics, t)
	}
	req.Groups = append(req.Groups, g)
	for {
		cs, err := requestCommits(ctx, cl, req)
		if err == nil {
			return cs, nil
		}
		if !errors.Is(err, kerr.UnstableOffsetCommit) && !kerr.IsRetriable(err) || !pause(ctx, 20*time.Millisecond) {
			return nil, fmt.Errorf("fetch commits of %s: %w", group, err)
		}
	}
}

func requestCommits(ctx context.Context, cl *kgo.Client, req *kmsg.OffsetFetchRequest) ([]commit, error) {
	resp, err := req.RequestWith(ctx, cl)
	if err != nil {
		return nil, err
	}
	var cs []commit
	for _, g := range resp.Groups {
		err := kerr.ErrorForCode(g.ErrorCode)
		if errors.Is(err, kerr.GroupIDNotFound) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		for _, t := range g.Topics {
			for _, p := range t.Partitions {
				if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
					return nil, err
				}
				c := commit{topicPartition: topicPartition{t.Topic, p.Partition}, offset: p.Offset}
				if p.Metadata != nil {
					c.metadata = *p.Metadata
				}
				cs = append(cs, c)
			}
		}
	}
	return cs, nil
}
