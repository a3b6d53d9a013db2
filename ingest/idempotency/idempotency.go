// Package idempotency makes a submission that is repeated happen once: by a
// key of the client's, which every edge follows on a compacted topic.
//
// An edge claims a key before it publishes the submission's messages, and
// settles it with the answer. The claim holds the messages' ids: who takes over
// from an edge that died in between first looks whether they were published,
// and publishes under the same ids what was not.
//
// Guarantee: of edges that claim a key at the same time one goes on: that
// whose claim stands first in the log.
// Guarantee: a claim ends by itself, after its lease; nobody publishes under it
// in the lease's second half.
// Guarantee: memory is bounded by Config.MaxKeys; beyond it keys are refused,
// never forgotten.
//
// A process that was frozen between its last look at the clock and its publish
// may publish under a lease that is over; readers drop an id that they have
// seen lately.
package idempotency

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"

	"qstream/bus"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
)

// Errors of keys.
var (
	// ErrTaken is a key that another request has claimed, or settled
	// meanwhile.
	ErrTaken = errors.New("another request with this key is under way")
	// ErrBehind is an edge that doesn't know yet, or can't keep, what it has
	// to: it is temporary.
	ErrBehind = errors.New("keys can't be looked up at the moment")
)

// Config bounds keys. Zero values take the defaults; Bus is required.
type Config struct {
	Bus     *bus.Bus
	Edge    string
	MaxKeys int           // default 1,000,000, up to 120 octets each
	Lease   time.Duration // of a claim; default 60 s. Must exceed twice what a publish may take
	Stale   time.Duration // after which a topic that isn't known to be read to its end is no longer trusted; default 10 s
	Now     func() time.Time
	Log     *slog.Logger
	Metrics prometheus.Registerer
}

// Key is a scope and a client's key, hashed so that each takes the same room.
type Key [16]byte

// KeyOf makes a key. Two scopes have nothing in common.
func KeyOf(scope, key string) Key {
	sum := sha256.New()
	for _, part := range []string{scope, key} {
		one := sha256.Sum256([]byte(part))
		sum.Write(one[:])
	}
	return Key(sum.Sum(nil)[:16])
}

// nonce names a claim.
type nonce [16]byte

// Keys is what one edge knows; safe for concurrent use.
type Keys struct {
	cfg     Config
	from    *bus.Follower
	metrics *metrics
	looking chan struct{} // one look at what was published at a time

	mu      sync.Mutex
	known   map[Key]entry
	trimmed time.Time
	waiting map[nonce]chan claimed
}

// claimed is how a claim of ours came out.
type claimed struct {
	offset int64
	counts bool
}

// New checks cfg; it starts nothing.
func New(cfg Config) (*Keys, error) {
	if cfg.Bus == nil {
		return nil, errors.New("idempotency: no bus")
	}
	if cfg.MaxKeys <= 0 {
		cfg.MaxKeys = 1_000_000
	}
	if cfg.Lease <= 0 {
		cfg.Lease = time.Minute
	}
	if cfg.Stale <= 0 {
		cfg.Stale = 10 * time.Second
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	k := &Keys{cfg: cfg, known: map[Key]entry{}, waiting: map[nonce]chan claimed{}, looking: make(chan struct{}, 1)}
	k.metrics = newMetrics(cfg.Metrics, k.Len)
	k.from = cfg.Bus.Follow([]string{schemas.Idempotency}, bus.Start{Since: cfg.Now().Add(-Kept - time.Hour)}, k.take)
	return k, nil
}

// Run follows the topic until ctx ends.
func (k *Keys) Run(ctx context.Context) error { return k.from.Run(ctx) }

// CaughtUp is closed once what was there at the start is known.
func (k *Keys) CaughtUp() <-chan struct{} { return k.from.CaughtUp() }

// Len is how many keys are remembered.
func (k *Keys) Len() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.known)
}

// take applies a record of the topic, one of our own included.
func (k *Keys) take(r bus.Record) error {
	var s pb.Submission
	if err := proto.Unmarshal(r.Value, &s); err != nil || len(s.Key) != len(Key{}) {
		k.cfg.Log.Warn("idempotency record skipped", "stage", "ingest", "topic", r.Topic, "partition", r.Partition, "offset", r.Offset)
		return nil
	}
	key := Key(s.Key)
	k.mu.Lock()
	defer k.mu.Unlock()
	var was *entry
	if e, ok := k.known[key]; ok {
		was = &e
	}
	is, counts := fold(was, record{
		state: s.State, base: s.Base - 1, lease: time.Duration(s.LeaseMs) * time.Millisecond, offset: r.Offset, at: r.Time,
	})
	if counts {
		k.known[key] = is
	}
	if len(s.Nonce) == len(nonce{}) {
		if told, ours := k.waiting[nonce(s.Nonce)]; ours {
			told <- claimed{r.Offset, counts}
			delete(k.waiting, nonce(s.Nonce))
		}
	}
	k.trim()
	return nil
}

// trimEvery is how often expired keys are looked for: that passes all of them.
const trimEvery = 10 * time.Minute

func (k *Keys) trim() {
	now := k.cfg.Now()
	if now.Sub(k.trimmed) < trimEvery {
		return
	}
	k.trimmed = now
	for key, e := range k.known {
		if seconds(now) >= e.expires {
			delete(k.known, key)
		}
	}
}

// expect waits for a claim of ours in the log.
func (k *Keys) expect() (n nonce, told chan claimed) {
	_, _ = rand.Read(n[:]) // never fails
	told = make(chan claimed, 1)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.waiting[n] = told
	return n, told
}

func (k *Keys) forget(n nonce) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.waiting, n)
}
