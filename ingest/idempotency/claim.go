package idempotency

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"qstream/bus"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
)

// Former is what is known of a key from before.
type Former struct {
	record *pb.Submission // nil: the key is new
	claim  int64
	wait   time.Duration
}

// Taken is how long another request may yet have the key, at most; 0: none
// has it.
func (f *Former) Taken() time.Duration { return f.wait }

// Done reports that the answer stands, and which: HTTP status and body.
func (f *Former) Done() (status int, answer []byte, done bool) {
	if f.record == nil || f.record.State != pb.SubmissionState_SUBMISSION_STATE_DONE {
		return 0, nil, false
	}
	return int(f.record.Status), f.record.Answer, true
}

// Unfinished are the ids of a submission that has no answer yet, and what was
// answered when it was left open; nil if it wasn't.
func (f *Former) Unfinished() (ids []string, answer []byte) {
	if f.record == nil {
		return nil, nil
	}
	return f.record.MessageIds, f.record.Answer
}

// Same reports whether a request is the one that the key was used for.
func (f *Former) Same(fingerprint []byte) bool {
	return f.record == nil || string(f.record.Fingerprint) == string(fingerprint)
}

// Look looks a key up.
func (k *Keys) Look(ctx context.Context, key Key) (*Former, error) {
	f, result, err := k.look(ctx, key)
	k.metrics.lookups.WithLabelValues(result).Inc()
	return f, err
}

func (k *Keys) look(ctx context.Context, key Key) (f *Former, result string, err error) {
	now := k.cfg.Now()
	if now.Sub(k.from.Fresh()) > k.cfg.Stale {
		return nil, "fault", ErrBehind
	}
	k.mu.Lock()
	k.trim() // here too: with no room left no record comes that makes any
	e, ok := k.known[key]
	full := len(k.known) >= k.cfg.MaxKeys
	k.mu.Unlock()
	switch {
	case (!ok || seconds(now) >= e.expires) && full:
		k.cfg.Log.Error("no room for another idempotency key", "stage", "ingest")
		return nil, "fault", ErrBehind
	case !ok || seconds(now) >= e.expires:
		return &Former{claim: -1}, "new", nil
	case e.state == pb.SubmissionState_SUBMISSION_STATE_CLAIMED && !e.free(now):
		return &Former{wait: max(time.Unix(int64(e.lease), 0).Sub(now), time.Second)}, "taken", nil
	}
	r, err := k.read(ctx, key, e.at)
	if err != nil {
		k.cfg.Log.Warn("idempotency key not read", "stage", "ingest", "offset", e.at, "err", err)
		return nil, "fault", fmt.Errorf("%w: %w", ErrBehind, err)
	}
	result = "unfinished"
	if e.state == pb.SubmissionState_SUBMISSION_STATE_DONE {
		result = "done"
	}
	return &Former{record: r, claim: e.claim}, result, nil
}

// read finds the record that tells more of a key.
func (k *Keys) read(ctx context.Context, key Key, at int64) (*pb.Submission, error) {
	ctx, cancel := context.WithTimeout(ctx, k.cfg.Lease/4)
	defer cancel()
	var found *pb.Submission
	err := k.cfg.Bus.At(ctx, schemas.Idempotency, map[int32][]int64{0: {at}}, func(r bus.Record) error {
		s := &pb.Submission{}
		if err := proto.Unmarshal(r.Value, s); err != nil {
			return err
		}
		if string(s.Key) == string(key[:]) {
			found = s
		}
		return nil
	})
	if err == nil && found == nil {
		err = errors.New("a newer record has replaced it")
	}
	return found, err
}

// Claim is a key that is ours until its lease ends.
type Claim struct {
	keys   *Keys
	key    Key
	record *pb.Submission
	former *Former
	offset int64
	until  time.Time // no message is published under it later
}

// Claim claims a key for the request with this fingerprint and these message
// ids, which have to be the former ones if there were any. It wraps ErrTaken if
// somebody else was first.
func (k *Keys) Claim(ctx context.Context, key Key, former *Former, ids []string, fingerprint []byte) (*Claim, error) {
	now := k.cfg.Now()
	n, told := k.expect()
	defer k.forget(n)
	s := &pb.Submission{
		State: pb.SubmissionState_SUBMISSION_STATE_CLAIMED, Key: key[:], Nonce: n[:], Base: former.claim + 1, Fingerprint: fingerprint,
		MessageIds: ids, LeaseMs: k.cfg.Lease.Milliseconds(), Edge: k.cfg.Edge,
	}
	if former.record != nil {
		s.ClaimedMs, s.Answer = former.record.ClaimedMs, former.record.Answer
	}
	s.ClaimedMs = append(s.ClaimedMs[:len(s.ClaimedMs):len(s.ClaimedMs)], now.UnixMilli())
	c := &Claim{keys: k, key: key, record: s, former: former, until: now.Add(k.cfg.Lease / 2)}
	// A key of its own: a claim that does not count must not displace what
	// does when the topic is compacted.
	if err := k.publish(ctx, hex.EncodeToString(key[:])+"."+hex.EncodeToString(n[:]), s); err != nil {
		return nil, fmt.Errorf("claim a key: %w", err)
	}
	select {
	case how := <-told:
		if !how.counts {
			return nil, ErrTaken
		}
		c.offset = how.offset
		return c, nil
	case <-time.After(k.cfg.Lease / 4):
		return nil, ErrBehind
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// Holds reports whether messages may still be published under the claim. One
// that is begun then has to end within half of the lease.
func (c *Claim) Holds() bool { return c.keys.cfg.Now().Before(c.until) }

// Done settles the claim with the answer.
func (c *Claim) Done(ctx context.Context, status int, answer []byte) error {
	return c.settle(ctx, pb.SubmissionState_SUBMISSION_STATE_DONE, status, answer)
}

// Open gives the claim up: what of the answer isn't final may be tried again
// at once. Nothing may be on its way any more.
func (c *Claim) Open(ctx context.Context, answer []byte) error {
	return c.settle(ctx, pb.SubmissionState_SUBMISSION_STATE_OPEN, 0, answer)
}

func (c *Claim) settle(ctx context.Context, state pb.SubmissionState, status int, answer []byte) error {
	s := &pb.Submission{
		State: state, Key: c.key[:], Base: c.offset + 1, Fingerprint: c.record.Fingerprint, MessageIds: c.record.MessageIds,
		ClaimedMs: c.record.ClaimedMs, Edge: c.record.Edge, Status: uint32(status), Answer: answer,
	}
	if err := c.keys.publish(ctx, hex.EncodeToString(c.key[:]), s); err != nil {
		return fmt.Errorf("settle a key: %w", err)
	}
	return nil
}

func (k *Keys) publish(ctx context.Context, key string, s *pb.Submission) error {
	value, err := proto.Marshal(s)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, k.cfg.Lease/4)
	defer cancel()
	return k.cfg.Bus.Publish(ctx, &bus.Record{Topic: schemas.Idempotency, Partition: 0, Key: []byte(key), Value: value})
}
