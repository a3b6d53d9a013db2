// Package embedded is a broker inside the process, for trying out, developing
// and small sites: a single copy on one disk.
//
// Guarantee: what Barrier returned for is on the disk, power loss included.
// Guarantee: a data directory has one broker; a second is refused (ErrLocked).
// Guarantee: a full disk or a reached size cap refuses new mail only, and ends
// by itself once there is room. While others leave it less than 4 MiB, mail
// stands still; if they were faster still and took the last byte from under the
// end of a transaction, the process ends (Config.Fail) rather than forget what
// it moved.
//
// It does not replicate. Records keep the producer's time, which is this
// machine's clock. A kill of the process may repeat records and undoes
// trimming; transactional ids must be fresh for every producer.
package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"qstream/bus/dirlock"
)

// Config says where the broker keeps its data and listens.
type Config struct {
	Dir      string // required; made if missing
	Addr     string // host:port on loopback; "": a free port
	MaxBytes int64  // new mail is refused above it; default 2 GiB
	MinFree  int64  // bytes of the disk that new mail must leave; default 64 MiB
	// SlowSync lets each flush take so much longer, as a bad disk would: for
	// tests.
	SlowSync time.Duration
	Log      *slog.Logger
	// Fail is called when the disk refused the end of a transaction. It has to
	// end the process at once, as a kill would, and not return; default: panic.
	Fail func(error)
}

const (
	defaultMaxBytes = 2 << 30
	defaultMinFree  = 64 << 20
	// Recovery reads whole segments, and trimming removes whole ones.
	segmentBytes = "16777216"
	// The broker's own cleaner: Keep does its work (ten years, in ms).
	never = "315360000000"
)

// ErrLocked is a data directory that another process has open.
var ErrLocked = errors.New("data directory is in use")

// Broker is a running broker.
type Broker struct {
	cfg      Config
	cluster  *kfake.Cluster
	listener *listener
	lock     *dirlock.Lock
	group    *groupCommit
	room     *room
	spent    *spent
}

// Start opens the data and serves it until Close.
func Start(cfg Config) (*Broker, error) {
	if cfg.Dir == "" {
		return nil, errors.New("no data directory given")
	}
	if cfg.MaxBytes == 0 {
		cfg.MaxBytes = defaultMaxBytes
	}
	if cfg.MinFree == 0 {
		cfg.MinFree = defaultMinFree
	}
	if cfg.Fail == nil {
		cfg.Fail = func(err error) { panic(err) }
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make data directory: %w", err)
	}
	lock, err := lockDir(cfg.Dir)
	if err != nil {
		return nil, err
	}
	b, err := start(cfg, lock)
	if err != nil {
		_ = lock.LetGo()
		return nil, err
	}
	return b, nil
}

func start(cfg Config, lock *dirlock.Lock) (*Broker, error) {
	dir := dataDir(cfg.Dir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make data directory: %w", err)
	}
	if err := mendAll(dir); err != nil {
		return nil, err
	}
	syncer, err := openSyncer(dir)
	if err != nil {
		return nil, err
	}
	b := &Broker{
		cfg: cfg, lock: lock,
		group: newGroupCommit(syncer, cfg.SlowSync),
		room:  newRoom(dir, cfg.MaxBytes, cfg.MinFree),
		spent: newSpent(releasePages, func(err error) {
			cfg.Log.Warn("memory of delivered content not given back", "err", err)
		}),
	}
	b.cluster, err = kfake.NewCluster(
		kfake.NumBrokers(1),
		kfake.ClusterID("qstream"),
		kfake.DataDir(dir),
		kfake.ListenFn(b.listen),
		kfake.WithLogger(logger{cfg.Log, cfg.Fail}),
		kfake.BrokerConfigs(map[string]string{
			"log.segment.bytes":                    segmentBytes,
			"log.cleaner.backoff.ms":               never,
			"group.consumer.session.timeout.ms":    "6000",
			"group.consumer.heartbeat.interval.ms": "1500",
			"group.min.session.timeout.ms":         "1000",
			"offsets.retention.minutes":            "525600",
			"transaction.max.timeout.ms":           "900000",
		}),
	)
	if err != nil {
		syncer.close()
		return nil, fmt.Errorf("start broker on %s: %w", cfg.Dir, err)
	}
	boundFetches(b.cluster)
	guardEnds(b.cluster, func() (int64, error) { return freeBytes(dir) }, cfg.Log)
	return b, nil
}

func dataDir(dir string) string { return filepath.Join(dir, "broker") }

// listen makes the broker's listener; it is called once, while the broker
// starts.
func (b *Broker) listen(network, free string) (net.Listener, error) {
	if b.cfg.Addr != "" {
		free = b.cfg.Addr
	}
	tcp, err := net.Listen(network, free)
	if err != nil {
		return nil, err
	}
	b.listener = newListener(tcp)
	return b.listener, nil
}

// Dial is bus.Config.Dial: it connects within this process, whatever address
// it is given. Other processes connect to Addr.
func (b *Broker) Dial(ctx context.Context, _, _ string) (net.Conn, error) {
	return b.listener.dial(ctx)
}

// Addr is where the broker listens, as clients dial it.
func (b *Broker) Addr() string { return b.cluster.ListenAddrs()[0] }

// Seeds are what bus.Config.Seeds takes.
func (b *Broker) Seeds() []string { return b.cluster.ListenAddrs() }

// Close stops serving, makes everything durable and lets the directory go.
func (b *Broker) Close() error {
	b.cluster.Close()
	err := b.group.close()
	return errors.Join(err, b.lock.LetGo())
}

// logger passes the broker's warnings on, and mends what one is about.
type logger struct {
	log  *slog.Logger
	fail func(error)
}

// halfEnded begins what the broker says when it could not write the end of a
// transaction to one of its partitions. It goes on nevertheless: it records
// the progress and answers that all is well, and the next kill undoes the
// outputs of that partition, but not the progress. Here, before the progress
// is recorded, the process can still end without a loss: the next one makes
// the outputs again.
const halfEnded = "endTx: failed to persist control batch"

func (l logger) Logf(level kfake.LogLevel, format string, args ...any) {
	if strings.HasPrefix(format, halfEnded) {
		l.fail(fmt.Errorf("the disk refused the end of a transaction: "+format, args...))
	}
	switch level {
	case kfake.LogLevelError, kfake.LogLevelWarn:
		l.log.Warn("embedded broker warns", "err", fmt.Sprintf(format, args...))
		if err := mendWritten(args); err != nil {
			l.log.Error("file of the embedded broker is torn and can't be mended", "err", err)
		}
	}
}
