package bus

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
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
		if !Pause(ctx, 10*time.Millisecond) {
			return fmt.Errorf("fence %s: %w", id, err)
		}
	}
}

// openTime is how long an open transaction may hold up a take-over before it
// is looked for by name.
const openTime = 3 * time.Second

// openAgain is how long after that it is looked for again.
const openAgain = 500 * time.Millisecond

// settleOpen waits for transactions that hold a commit of these partitions.
// One that stays open is an owner's that died before its first commit, which
// would have told its id, stood; or it hangs.
func (e *engine) settleOpen(ctx context.Context, cl *kgo.Client, parts map[string][]int32) error {
	for began := time.Now(); ; {
		_, err := requestCommits(ctx, cl, commitsRequest(e.group, parts, true))
		if !errors.Is(err, kerr.UnstableOffsetCommit) {
			return err
		}
		wait := commitTick
		if time.Since(began) > openTime {
			if err := errors.Join(e.fenceOpen(ctx, cl), e.endHanging(ctx, cl)); err != nil {
				return err
			}
			wait = openAgain
		}
		if !Pause(ctx, wait) {
			return err
		}
	}
}

// fenceOpen fences transactions of this group's engines that are open for too
// long. One of a live process that is just slow costs it a new producer.
func (e *engine) fenceOpen(ctx context.Context, cl *kgo.Client) error {
	req := kmsg.NewPtrListTransactionsRequest()
	req.StateFilters = []string{"Ongoing"}
	req.DurationFilterMillis = openTime.Milliseconds()
	var failed error
	for _, shard := range cl.RequestSharded(ctx, req) {
		if shard.Err != nil {
			failed = errors.Join(failed, fmt.Errorf("list transactions: %w", shard.Err))
			continue
		}
		for _, tx := range shard.Resp.(*kmsg.ListTransactionsResponse).TransactionStates {
			if id := tx.TransactionalID; e.ours(id) && id != e.owner() {
				e.log.Warn("transaction of a dead owner ended", "owner", id)
				failed = errors.Join(failed, fence(ctx, cl, id))
			}
		}
	}
	return failed
}

// ours tells the transactional ids that newProducer makes for this group.
func (e *engine) ours(id string) bool {
	random, ok := strings.CutPrefix(id, e.group+".")
	return ok && len(random) == len(rand.Text())
}

// commit is what a group has committed for a partition.
type commit struct {
	topicPartition
	offset   int64 // -1: none
	metadata string
}

// fetchCommits reads commits; stable waits for transactions that hold one.
func fetchCommits(ctx context.Context, cl *kgo.Client, group string, parts map[string][]int32, stable bool) ([]commit, error) {
	req := commitsRequest(group, parts, stable)
	for {
		cs, err := requestCommits(ctx, cl, req)
		if err == nil {
			return cs, nil
		}
		if !errors.Is(err, kerr.UnstableOffsetCommit) && !kerr.IsRetriable(err) || !Pause(ctx, 20*time.Millisecond) {
			return nil, fmt.Errorf("fetch commits of %s: %w", group, err)
		}
	}
}

func commitsRequest(group string, parts map[string][]int32, stable bool) *kmsg.OffsetFetchRequest {
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
	return req
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
