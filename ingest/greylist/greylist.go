// Package greylist defers mail of clients that were never seen with a sender
// and a recipient until they come back: who sends spam from a stolen machine
// rarely does. What was seen is told by a compacted topic that every edge
// follows, so that a client may come back to another edge; there is no server.
//
// Guarantee: a deferral is answered only after the other edges can know of it.
// Guarantee: memory is bounded by Config.MaxTriples, and time by
// Config.Timeout.
// Guarantee: while the topic can't be read to its end, or written, nothing is
// deferred unless the rules want that.
//
// Counts of edges that write at the same moment may come short by one. It asks
// a postgrey server instead where that is wanted: see Postgrey.
package greylist

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"

	"qstream/bus"
	"qstream/mail"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
)

// Rules are how long clients have to wait. Zero values take the defaults.
type Rules struct {
	Delay      time.Duration // until a client may come back; default 5 min
	Window     time.Duration // within which it has to; default 2 d
	Lifetime   time.Duration // how long it passes since it last did; default 35 d, at most MaxLifetime
	AutoAllow  int           // triples of a network that came back until all its mail passes; default 5, below 0: never
	DeferFault bool          // defer while nobody can tell, instead of letting pass
}

// MaxLifetime is what the topic's retention covers.
const MaxLifetime = 60 * 24 * time.Hour

func (r Rules) withDefaults() Rules {
	if r.Delay <= 0 {
		r.Delay = 5 * time.Minute
	}
	if r.Window <= 0 {
		r.Window = 48 * time.Hour
	}
	if r.Lifetime <= 0 {
		r.Lifetime = 35 * 24 * time.Hour
	}
	r.Lifetime = min(r.Lifetime, MaxLifetime)
	if r.AutoAllow == 0 {
		r.AutoAllow = 5
	}
	return r
}

// Triple is what is recognised.
type Triple struct {
	Client      netip.Addr
	ReversePath string // empty: the null path
	Recipient   string
}

// Answer is what follows for a recipient.
type Answer struct {
	Pass  bool
	Fault bool          // nobody can tell; Pass is what the rules say for it
	Wait  time.Duration // how long the client should wait, if it is deferred
	Text  string        // for the client, where a server gave one; hostile
}

// Status is the reply to a client that is deferred.
func (a Answer) Status() mail.Status {
	text := "greylisted, try again later"
	if a.Text != "" {
		text = mail.Printable(a.Text)
	}
	return mail.Status{Code: 450, Enhanced: "4.7.1", Text: text}
}

// Config bounds the list. Zero values take the defaults; Bus is required.
type Config struct {
	Bus        *bus.Bus
	MaxTriples int           // about 100 octets each; default 500,000
	Timeout    time.Duration // for a write; default 2 s
	Stale      time.Duration // after which a topic that isn't known to be read to its end is no longer trusted; default 10 s
	Now        func() time.Time
	Log        *slog.Logger
	Metrics    prometheus.Registerer
}

// List is what one edge knows; safe for concurrent use.
type List struct {
	cfg     Config
	from    *bus.Follower
	answers *prometheus.CounterVec
	writing chan struct{}

	mu   sync.Mutex
	seen map[key]entry
	full int // how often something was forgotten for want of room
}

// New checks cfg; it starts nothing.
func New(cfg Config) (*List, error) {
	if cfg.Bus == nil {
		return nil, errors.New("greylist: no bus")
	}
	if cfg.MaxTriples <= 0 {
		cfg.MaxTriples = 500_000
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = 2 * time.Second
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
	l := &List{cfg: cfg, seen: map[key]entry{}, writing: make(chan struct{}, 64)}
	l.answers = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "qstream_ingest_greylist_answers_total",
		Help: "Recipients that were looked up in the greylist, by answer: pass, defer, or fault if nobody could tell."}, []string{"answer"})
	if cfg.Metrics != nil {
		triples := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "qstream_ingest_greylist_triples",
			Help: "Triples and networks that this edge remembers."}, func() float64 { return float64(l.Len()) })
		cfg.Metrics.MustRegister(l.answers, triples)
	}
	l.from = cfg.Bus.Follow([]string{schemas.Greylist}, bus.Start{Since: cfg.Now().Add(-MaxLifetime)}, l.take)
	return l, nil
}

// Run follows the topic until ctx ends.
func (l *List) Run(ctx context.Context) error { return l.from.Run(ctx) }

// CaughtUp is closed once what was there at the start is known.
func (l *List) CaughtUp() <-chan struct{} { return l.from.CaughtUp() }

// Len is how many triples and networks are remembered.
func (l *List) Len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.seen)
}

// Ask looks a triple up, and notes that it was seen.
func (l *List) Ask(ctx context.Context, t Triple, r Rules) Answer {
	a := l.ask(ctx, t, r.withDefaults())
	switch {
	case a.Fault:
		l.answers.WithLabelValues("fault").Inc()
	case a.Pass:
		l.answers.WithLabelValues("pass").Inc()
	default:
		l.answers.WithLabelValues("defer").Inc()
	}
	return a
}

func (l *List) ask(ctx context.Context, t Triple, r Rules) Answer {
	fault := Answer{Pass: !r.DeferFault, Fault: true, Wait: r.Delay}
	now := l.cfg.Now()
	if now.Sub(l.from.Fresh()) > l.cfg.Stale {
		return fault
	}
	t = normal(t)
	network, triple := nameOf(t.network()), nameOf(t.network(), t.ReversePath, t.Recipient)
	l.mu.Lock()
	of, known := l.seen[network], l.seen[triple]
	l.mu.Unlock()
	if r.AutoAllow > 0 && int(of.passes) >= r.AutoAllow && now.Sub(unix(of.passed)) < r.Lifetime {
		if of.stale(now, r) {
			of.passed = now.UnixMilli()
			l.note(ctx, network, of, Triple{}, t.network()) // for its lifetime only
		}
		return Answer{Pass: true}
	}
	next, wait, write := known.decide(now, r)
	if wait > 0 {
		if write && l.note(ctx, triple, next, t, t.network()) != nil {
			return fault
		}
		return Answer{Wait: wait}
	}
	if write {
		l.note(ctx, triple, next, t, t.network())
		if known.passes == 0 {
			of.passed, of.passes = now.UnixMilli(), min(of.passes, 1<<20)+1
			if of.first == 0 {
				of.first = now.UnixMilli()
			}
			l.note(ctx, network, of, Triple{}, t.network())
		}
	}
	return Answer{Pass: true}
}

// key is a triple or network, hashed so that each takes the same room.
type key [16]byte

func nameOf(parts ...string) key {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return key(sum[:16])
}

// entry is what is known of a key; times are Unix milliseconds, 0 is never.
type entry struct {
	first, passed int64
	passes        uint32
}

func unix(ms int64) time.Time { return time.UnixMilli(ms) }

// decide is what follows for a triple: how long it has to wait, 0 if it may
// pass, what is known then, and whether others have to be told.
func (e entry) decide(now time.Time, r Rules) (next entry, wait time.Duration, write bool) {
	switch {
	case e.passed != 0 && now.Sub(unix(e.passed)) < r.Lifetime:
		write = e.stale(now, r)
	case e.passed != 0, e.first == 0, now.Sub(unix(e.first)) >= r.Window:
		return entry{first: now.UnixMilli()}, r.Delay, true
	default:
		if wait := r.Delay - now.Sub(unix(e.first)); wait > 0 {
			return e, min(wait, r.Delay), false
		}
		write = true
	}
	if write {
		e.passed, e.passes = now.UnixMilli(), min(e.passes, 1<<20)+1
	}
	return e, 0, write
}

// stale reports an entry whose last pass has to be told anew: not each one is.
func (e entry) stale(now time.Time, r Rules) bool {
	return now.Sub(unix(e.passed)) > r.Lifetime/16
}

// note remembers an entry here, and tells the other edges.
func (l *List) note(ctx context.Context, k key, e entry, t Triple, network string) error {
	l.put(k, e)
	select {
	case l.writing <- struct{}{}:
		defer func() { <-l.writing }()
	default:
		return errors.New("greylist: too many writes at once")
	}
	value, err := proto.Marshal(&pb.Greylisted{
		Network: network, ReversePath: strings.ToValidUTF8(t.ReversePath, "?"), Recipient: strings.ToValidUTF8(t.Recipient, "?"),
		FirstMs: e.first, PassedMs: e.passed, Passes: e.passes,
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, l.cfg.Timeout)
	defer cancel()
	err = l.cfg.Bus.Publish(ctx, &bus.Record{
		Topic: schemas.Greylist, Partition: bus.AnyPartition, Key: []byte(hex.EncodeToString(k[:])), Value: value,
	})
	if err != nil {
		l.cfg.Log.Warn("greylist not written", "stage", "ingest", "topic", schemas.Greylist, "err", err)
	}
	return err
}

// take applies a record of the topic, one of our own included.
func (l *List) take(r bus.Record) error {
	var k key
	var g pb.Greylisted
	if n, err := hex.Decode(k[:], r.Key[:min(len(r.Key), 2*len(k))]); err != nil || n != len(k) || proto.Unmarshal(r.Value, &g) != nil {
		l.cfg.Log.Warn("greylist record skipped", "stage", "ingest", "topic", r.Topic, "partition", r.Partition, "offset", r.Offset)
		return nil
	}
	l.put(k, entry{first: g.FirstMs, passed: g.PassedMs, passes: g.Passes})
	return nil
}

// put remembers an entry. Of two edges' the one that lets pass earlier counts.
func (l *List) put(k key, e entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	old, ok := l.seen[k]
	if !ok && len(l.seen) >= l.cfg.MaxTriples {
		l.shrink()
	}
	if ok && e.passed == 0 && old.passed == 0 && abs(e.first-old.first) < time.Minute.Milliseconds() {
		e.first = min(e.first, old.first)
	}
	if ok && e.passed < old.passed && e.first <= old.first {
		e.passed = old.passed
	}
	if ok && e.passed != 0 {
		e.passes = max(e.passes, old.passes)
	}
	l.seen[k] = e
}

func abs(n int64) int64 { return max(n, -n) }

// shrink makes room for a tenth: what never came back goes first, it is what a
// flood is made of.
func (l *List) shrink() {
	l.full++
	room := l.cfg.MaxTriples - max(l.cfg.MaxTriples/10, 1)
	for _, passed := range []bool{false, true} {
		for k, e := range l.seen {
			if len(l.seen) <= room {
				return
			}
			if (e.passed != 0) == passed {
				delete(l.seen, k)
			}
		}
	}
}
