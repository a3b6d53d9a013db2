package auth

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
)

// turns bounds the checks of passwords that run at once, and their memory.
type turns struct {
	checks *semaphore.Weighted
	memory *semaphore.Weighted // KiB
	room   int64               // all of memory
	wait   time.Duration
	queue  chan struct{} // one for each that waits
}

// maxWaiting is how many wait for a turn; others are put off at once.
const maxWaiting = 256

func newTurns(checks int, memory int64, wait time.Duration) *turns {
	room := max(memory>>10, 1)
	return &turns{
		checks: semaphore.NewWeighted(int64(checks)), memory: semaphore.NewWeighted(room), room: room,
		wait: wait, queue: make(chan struct{}, maxWaiting),
	}
}

// take does work that needs so many KiB, when it is its turn. A check that
// needs more than there is has all of it for itself.
func (t *turns) take(ctx context.Context, kib uint32, work func()) error {
	select {
	case t.queue <- struct{}{}:
	default:
		return ErrBusy
	}
	defer func() { <-t.queue }()
	ctx, cancel := context.WithTimeout(ctx, t.wait)
	defer cancel()
	if t.checks.Acquire(ctx, 1) != nil {
		return ErrBusy
	}
	defer t.checks.Release(1)
	n := min(int64(kib), t.room)
	if t.memory.Acquire(ctx, n) != nil {
		return ErrBusy
	}
	defer t.memory.Release(n)
	work()
	return nil
}

// known remembers passwords that matched, so that clients that sign in for
// each message pay once, and go on while strangers flood the edge. It keeps
// them under a key of this process alone; a new stored hash is a new entry.
type known struct {
	key []byte
	mu  sync.Mutex
	at  map[[sha256.Size]byte]time.Time
}

const (
	knownFor = 10 * time.Minute
	knownMax = 10_000
)

func newKnown() *known {
	k := &known{key: make([]byte, 32), at: map[[sha256.Size]byte]time.Time{}}
	_, _ = rand.Read(k.key) // never fails
	return k
}

func (k *known) entry(stored, prepared string) (e [sha256.Size]byte) {
	m := hmac.New(sha256.New, k.key)
	m.Write([]byte(stored + "\x00" + prepared))
	m.Sum(e[:0])
	return e
}

func (k *known) has(stored, prepared string, now time.Time) bool {
	e := k.entry(stored, prepared)
	k.mu.Lock()
	defer k.mu.Unlock()
	at, ok := k.at[e]
	return ok && now.Sub(at) < knownFor
}

func (k *known) add(stored, prepared string, now time.Time) {
	e := k.entry(stored, prepared)
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.at) >= knownMax {
		clear(k.at)
	}
	k.at[e] = now
}

// penalties counts failures of networks: an IPv4 address, an IPv6 /64. Each
// is forgotten after a while.
type penalties struct {
	mu    sync.Mutex
	count map[netip.Prefix]penalty
}

type penalty struct {
	level float64 // failures not yet forgotten
	at    time.Time
}

const (
	forget       = 12 * time.Second // until one failure is forgotten
	bar          = 50               // failures from which on a network is barred
	maxPenalties = 10_000
	maxTimes     = 5 // of the delay
)

func newPenalties() *penalties { return &penalties{count: map[netip.Prefix]penalty{}} }

func network(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	bits := 32
	if a.Is6() {
		bits = 64
	}
	p, _ := a.Prefix(bits) // an address that isn't valid counts as one network
	return p
}

func (p penalty) now(now time.Time) float64 {
	return max(0, p.level-float64(now.Sub(p.at))/float64(forget))
}

// barred reports a network with too many failures.
func (p *penalties) barred(a netip.Addr, now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.count[network(a)].now(now) >= bar
}

// add counts a failure, and says by how many delays it is answered.
func (p *penalties) add(a netip.Addr, now time.Time) (times int) {
	n := network(a)
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.count[n]; !ok && len(p.count) >= maxPenalties {
		p.trim(now)
	}
	level := p.count[n].now(now) + 1
	p.count[n] = penalty{level, now}
	return min(1+int(level)/10, maxTimes)
}

// trim makes room: what is forgotten goes, and if nothing is, all.
func (p *penalties) trim(now time.Time) {
	for n, c := range p.count {
		if c.now(now) == 0 {
			delete(p.count, n)
		}
	}
	if len(p.count) >= maxPenalties {
		clear(p.count)
	}
}
