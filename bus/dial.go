package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
	"github.com/twmb/franz-go/plugin/kslog"

	"qstream/schemas"
)

// Bounds of every client.
const (
	// maxBuffered bounds what waits for brokers that don't answer; Publish
	// waits for room beyond it, until its time is over.
	maxBuffered = 64 << 20
)

// Bus is a process's connection to its broker, safe for concurrent use.
type Bus struct {
	cfg     Config
	log     *slog.Logger
	metrics *metrics
	cache   *contentCache
	chunks  *contentCache // of large content; nil unless the broker is in this process

	mu     sync.Mutex
	plain  *kgo.Client // publishes, asks and administers; made at first use
	bulk   *kgo.Client // stores chunks; made at first use
	closed bool

	routes sync.Map // topic name -> *layout, for fetches by offset
	skew   skew
	said   said // warnings of the clients

	engines engines // the shapes that run
}

// ErrClosed is returned by a Bus that was closed.
var ErrClosed = errors.New("bus is closed")

// Dial connects lazily: it validates cfg and starts nothing.
func Dial(cfg Config) (*Bus, error) {
	if len(cfg.Seeds) == 0 {
		return nil, errors.New("no seed broker given")
	}
	for _, seed := range cfg.Seeds {
		if _, _, err := net.SplitHostPort(seed); err != nil {
			return nil, fmt.Errorf("seed broker %q: want host:port: %w", seed, err)
		}
	}
	cfg = withDefaults(cfg)
	b := &Bus{cfg: cfg, log: cfg.Log, metrics: newMetrics(cfg.Registerer), cache: newContentCache(cacheBytes)}
	b.said.now = cfg.Now
	if b.within() {
		b.chunks = newContentCache(chunkBytes)
	}
	if _, err := mechanism(cfg.SASL); err != nil {
		return nil, err
	}
	if err := kgo.ValidateOpts(b.clientOpts()...); err != nil {
		return nil, fmt.Errorf("broker settings: %w", err)
	}
	if cfg.Registerer != nil {
		cfg.Registerer.MustRegister(&b.engines)
	}
	return b, nil
}

func withDefaults(cfg Config) Config {
	if cfg.ClientID == "" {
		cfg.ClientID = "qstream"
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = 15 * time.Second
	}
	if cfg.Session <= 0 {
		cfg.Session = 6 * time.Second
	}
	if cfg.Release <= 0 {
		cfg.Release = 20 * time.Second
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Failpoint == nil {
		cfg.Failpoint = func(string) {}
	}
	return cfg
}

// clientOpts are the options of every client of this process: how to reach
// the brokers, what to tell about it, and how records are produced.
func (b *Bus) clientOpts(extra ...kgo.Opt) []kgo.Opt {
	opts := []kgo.Opt{
		kgo.SeedBrokers(b.cfg.Seeds...),
		kgo.ClientID(b.cfg.ClientID),
		kgo.WithLogger(quiet{kslog.New(b.log), &b.said}),
		kgo.DisableClientMetrics(),
		kgo.DialTimeout(5 * time.Second),
		kgo.MetadataMinAge(250 * time.Millisecond),
		kgo.MetadataMaxAge(30 * time.Second),
		kgo.RecordPartitioner(partitioner()),
		kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.ProducerLinger(0),
		kgo.ProducerBatchMaxBytesFn(maxBatch),
		kgo.MaxBufferedBytes(maxBuffered),
		kgo.WithCompressor(batchCompressor{}),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.FetchMaxWait(500 * time.Millisecond),
		// The embedded broker bounds an answer by its partitions alone.
		kgo.BrokerMaxReadBytes(1 << 30),
	}
	if b.within() {
		opts = append(opts, kgo.Dialer(b.cfg.Dial), kgo.WithCompressor(fastCompressor{}), kgo.MaxVersions(oneAtATime()))
	}
	if b.cfg.TLS != nil {
		opts = append(opts, kgo.DialTLSConfig(b.cfg.TLS.Clone()))
	}
	if m, err := mechanism(b.cfg.SASL); err == nil && m != nil {
		opts = append(opts, m)
	}
	if b.metrics.hook != nil {
		opts = append(opts, kgo.WithHooks(b.metrics.hook))
	}
	return append(opts, extra...)
}

// patientOfEOF is for clients that begin once brokers have answered others: a
// connection that ends before its first answer is then no wrong setting but a
// broker that stops or is killed. The client would take it for final: give up
// its membership of a group, with all that is under way, and fail records.
var patientOfEOF = kgo.AlwaysRetryEOF()

// oneAtATime are the versions of requests that a broker in this process is
// asked in. The library has five produce requests under way from version 4 on,
// and one before: what comes meanwhile shares the next.
func oneAtATime() *kversion.Versions {
	v := kversion.Stable()
	v.SetMaxKeyVersion(int16(kmsg.Produce), 3)
	return v
}

// within reports whether the broker is in this process.
func (b *Bus) within() bool { return b.cfg.Dial != nil }

func mechanism(s SASL) (kgo.Opt, error) {
	auth := scram.Auth{User: s.User, Pass: s.Password}
	switch s.Mechanism {
	case "":
		return nil, nil
	case "PLAIN":
		return kgo.SASL(plain.Auth{User: s.User, Pass: s.Password}.AsMechanism()), nil
	case "SCRAM-SHA-256":
		return kgo.SASL(auth.AsSha256Mechanism()), nil
	case "SCRAM-SHA-512":
		return kgo.SASL(auth.AsSha512Mechanism()), nil
	}
	return nil, fmt.Errorf("SASL mechanism %q is none of PLAIN, SCRAM-SHA-256, SCRAM-SHA-512", s.Mechanism)
}

// client is the shared client. It is the first one made, so that the metrics
// of buffered records are its own.
func (b *Bus) client() (*kgo.Client, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.make(&b.plain, kgo.RecordDeliveryTimeout(b.cfg.Timeout))
}

// make needs b.mu.
func (b *Bus) make(at **kgo.Client, extra ...kgo.Opt) (*kgo.Client, error) {
	if b.closed {
		return nil, ErrClosed
	}
	if *at == nil {
		c, err := kgo.NewClient(b.clientOpts(extra...)...)
		if err != nil {
			return nil, fmt.Errorf("make broker client: %w", err)
		}
		*at = c
	}
	return *at, nil
}

func (b *Bus) admin() (*kadm.Client, error) {
	c, err := b.client()
	if err != nil {
		return nil, err
	}
	return kadm.NewClient(c), nil
}

// Close disconnects; the shapes must have returned before. What Publish gave
// up on and what is still buffered is dropped.
func (b *Bus) Close() {
	b.mu.Lock()
	b.closed = true
	clients := []*kgo.Client{b.plain, b.bulk}
	b.mu.Unlock()
	for _, c := range clients {
		if c != nil {
			c.Close()
		}
	}
}

// Ping reports whether a broker answers. Called again and again it keeps Skew.
func (b *Bus) Ping(ctx context.Context) error {
	c, err := b.client()
	if err != nil {
		return err
	}
	if err := c.Ping(ctx); err != nil {
		return fmt.Errorf("ping broker: %w", err)
	}
	if b.cfg.Barrier == nil && b.skew.due() {
		if err := b.measure(ctx); err != nil {
			b.log.Warn("clock not compared", "err", err)
		}
	}
	return nil
}

// maxBatch leaves room for a batch's own header.
func maxBatch(topic string) int32 { return int32(schemas.MaxMessage(topic)) - 4<<10 }
