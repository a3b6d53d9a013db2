// Package quota counts the mail of tenants and users that have a quota, over
// all edges: each tells what it counted, minute by minute, by a compacted topic
// that all of them follow. The ledgers tell there what waits.
//
// Guarantee: what one edge took is counted by the others within ten seconds,
// while the broker answers, and by an edge that starts before it is ready; a
// kill forgets the last seconds of one edge.
// Guarantee: memory is bounded by Config.MaxScopes, and who has no quota costs
// nothing.
// Guarantee: what can't be told limits nobody for ever: figures that are too
// old are not used, and that is counted and logged.
//
// It only counts: intake asks, and says what follows. Transactions that run at
// the same moment don't see each other, so that a limit may be passed by as
// many messages as there are sessions at once, and by what the edges take
// before they hear of each other.
package quota

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"qstream/bus"
	"qstream/mail"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
)

// Kind is what is counted.
type Kind uint8

// Kinds of mail, as the usage topic has them.
const (
	In         = Kind(pb.UsageKind_USAGE_KIND_IN)
	Out        = Kind(pb.UsageKind_USAGE_KIND_OUT)
	ReportsIn  = Kind(pb.UsageKind_USAGE_KIND_REPORTS_IN)
	ReportsOut = Kind(pb.UsageKind_USAGE_KIND_REPORTS_OUT)
)

// String is the kind in words.
func (k Kind) String() string {
	switch k {
	case In:
		return "in"
	case Out:
		return "out"
	case ReportsIn:
		return "reports in"
	case ReportsOut:
		return "reports out"
	}
	return "unknown"
}

// Scope is whose mail of which kind is counted together.
type Scope struct {
	Tenant string
	User   string // empty: all of the tenant's
	Kind   Kind
}

// Config bounds a Book. Zero values take the defaults; Bus is required.
type Config struct {
	Bus  *bus.Bus
	Edge string // host name, for people
	// Wanted reports whether somebody has a quota; others' counts of who has
	// none are not kept. nil: all are.
	Wanted func(tenant, user string) bool

	MaxScopes int           // default 100,000; a scope takes up to 3 KB, most take little
	Every     time.Duration // how often the others are told; default 2 s
	Stale     time.Duration // how old a ledger's figures may be; default 60 s
	Patience  time.Duration // how long a start waits for the topic before it limits by what it has; default 30 s

	Now     func() time.Time
	Log     *slog.Logger
	Metrics prometheus.Registerer
}

// Book is what one edge counts and knows; safe for concurrent use.
type Book struct {
	cfg     Config
	writer  string
	begun   time.Time
	from    *bus.Follower
	metrics *metrics

	mu      sync.Mutex
	scopes  map[Scope]*account
	changed []Scope // with something to tell
	peers   map[peer]minute
	ledgers map[string]*figures
	blind   bool // no ledger's figures could be used when last asked
	full    bool // something wasn't counted for want of room
}

// account is what is known of a scope.
type account struct {
	all window // of all edges
	own []own  // minutes of this edge that aren't told in full, and the current one
}

// own is what this edge counted in a minute, and how much of it was told.
type own struct {
	minute
	told Use
}

// peer is a scope at another edge.
type peer struct {
	Scope
	writer string
}

// New checks cfg; it starts nothing.
func New(cfg Config) (*Book, error) {
	if cfg.Bus == nil {
		return nil, errors.New("quota: no bus")
	}
	if cfg.MaxScopes <= 0 {
		cfg.MaxScopes = 100_000
	}
	for _, d := range []struct {
		set   *time.Duration
		value time.Duration
	}{{&cfg.Every, 2 * time.Second}, {&cfg.Stale, time.Minute}, {&cfg.Patience, 30 * time.Second}} {
		if *d.set <= 0 {
			*d.set = d.value
		}
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Wanted == nil {
		cfg.Wanted = func(string, string) bool { return true }
	}
	b := &Book{
		cfg: cfg, begun: cfg.Now(), writer: cfg.Edge + " " + mail.NewID(cfg.Now()),
		scopes: map[Scope]*account{}, peers: map[peer]minute{}, ledgers: map[string]*figures{},
	}
	b.metrics = newMetrics(cfg.Metrics, b)
	b.from = cfg.Bus.Follow([]string{schemas.Usage}, bus.Start{Since: b.begun.Add(-span * time.Minute)}, b.take)
	return b, nil
}

// Run follows the topic and tells the others what is counted here, until ctx
// ends; then it tells the rest.
func (b *Book) Run(ctx context.Context) error {
	var telling sync.WaitGroup
	telling.Go(func() { b.telling(ctx) })
	defer telling.Wait()
	return b.from.Run(ctx)
}

// CaughtUp is closed once what was told before the start is known.
func (b *Book) CaughtUp() <-chan struct{} { return b.from.CaughtUp() }

// Known reports whether the counts can be used: what was told before the start
// is known, or it took longer than Config.Patience to read.
func (b *Book) Known() bool {
	select {
	case <-b.from.CaughtUp():
		return true
	default:
		return b.cfg.Now().Sub(b.begun) > b.cfg.Patience
	}
}

func minuteOf(t time.Time) int64 { return t.Unix() / 60 }

// Used is what the last hour brought a scope, at all edges as far as it is
// known.
func (b *Book) Used(s Scope) Use {
	now := minuteOf(b.cfg.Now())
	b.mu.Lock()
	defer b.mu.Unlock()
	a := b.scopes[s]
	if a == nil {
		return Use{}
	}
	a.all.advance(now)
	return a.all.sum
}

// Count counts mail that was taken here.
func (b *Book) Count(s Scope, u Use) {
	now := minuteOf(b.cfg.Now())
	b.mu.Lock()
	defer b.mu.Unlock()
	a := b.account(s)
	if a == nil {
		b.metrics.missed.WithLabelValues("room").Inc()
		return
	}
	a.all.add(now, u)
	if len(a.own) == 0 {
		b.changed = append(b.changed, s)
	}
	if n := len(a.own); n == 0 || a.own[n-1].at < now { // a clock set back counts on in its last minute
		a.own = append(a.own, own{minute: minute{at: now}})
	}
	last := &a.own[len(a.own)-1]
	last.use = last.use.plus(u)
}

// account is a scope's; nil if there is no room. b.mu is held.
func (b *Book) account(s Scope) *account {
	a := b.scopes[s]
	if a != nil {
		return a
	}
	if len(b.scopes) >= b.cfg.MaxScopes {
		if !b.full {
			b.full = true
			b.cfg.Log.Warn("too many tenants and users to count: some have no quota now", "stage", "ingest", "count", len(b.scopes))
		}
		return nil
	}
	a = &account{}
	b.scopes[s] = a
	return a
}

// sweep forgets scopes of which nothing counts any more, and edges and ledgers
// that fell silent.
func (b *Book) sweep() {
	now := b.cfg.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	for s, a := range b.scopes {
		a.all.advance(minuteOf(now))
		if a.all.empty() && len(a.own) == 0 || !b.cfg.Wanted(s.Tenant, s.User) && len(a.own) == 0 {
			delete(b.scopes, s)
		}
	}
	for p, last := range b.peers {
		if last.at <= minuteOf(now)-span || b.scopes[p.Scope] == nil {
			delete(b.peers, p)
		}
	}
	for writer, f := range b.ledgers {
		if now.Sub(f.heard) > forgotten {
			delete(b.ledgers, writer)
		}
	}
	b.full = b.full && len(b.scopes) >= b.cfg.MaxScopes
}

// Scopes is how many scopes are counted.
func (b *Book) Scopes() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.scopes)
}
