// Package vault is the tapper's part for lawful tapping: it copies what orders
// cover from received and reinject to sixteen sealed lanes, with what becomes of
// it, and hands it to the orders' sinks.
//
// Guarantee: no edge, queue or verdict passes it by: it reads what was accepted.
// Guarantee: whoever has no key of the vault sees the same whether there are
// orders or not: records, sizes, groups, metrics, logs; what it reads beside, it
// reads apart (bus.Apart).
// Guarantee: a copy is in its lane once; its sink gets it at least once, with one
// id, and in order. A dead sink delays neither mail nor lanes nor other sinks.
//
// What is not hidden: that there is a vault, what its process uses of the
// machine, and traffic from it to sinks and from brokers to it.
package vault

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"qstream/bus"
	"qstream/directory"
	"qstream/schemas"
	"qstream/tapper/vault/docket"
	"qstream/tapper/vault/lane"
	"qstream/tapper/vault/office"
	"qstream/tapper/vault/order"
	"qstream/tapper/vault/sealed"
)

// Config are the settings of a vault. Dir and Me are required. Beat and sizes
// show outside: they must not depend on orders.
type Config struct {
	Dir string // its folder, made by "qstream tap init"
	Me  string // name of this system, for sinks
	// Beat is how often the logs of orders and audit say something; default 5 s.
	// A copy waits for it, so that the orders are known that were there before.
	Beat time.Duration
	// LaneBeat is how often each lane does; default a fifth of Beat.
	LaneBeat time.Duration
	Size     int         // bytes of each record; default 4096
	Listen   string      // an address for officers of other hosts; empty: none
	TLS      *tls.Config // for that: our certificate, and who signs the officers'
	// Keeps is for how long mail is kept at least, whatever its topics say; 0, and
	// the default: as they do. Alarms go by it.
	Keeps func() time.Duration
}

// Deps are what a vault works with; zero values as the tapper's.
type Deps struct {
	Bus       *bus.Bus
	Directory *directory.Follower
	Log       *slog.Logger
	Metrics   prometheus.Registerer
	Now       func() time.Time
}

// Defaults of a Config.
const (
	defaultBeat = 5 * time.Second
	defaultSize = 4096
	lanesFaster = 5
)

// Vault is the part.
type Vault struct {
	cfg    Config
	deps   Deps
	folder docket.Folder
	apart  *bus.Bus
	docket *docket.Docket
	office *office.Server
	set    *sealed.Set
	lanes  []*lane.Lane
	runner *runner
	window *window

	mu      sync.Mutex
	matcher *order.Matcher
	known   time.Time     // mail accepted before is decided by the matcher
	opened  chan struct{} // closed and made anew when known moves
	keeps   retentions    // as the broker told last; nil: it never did

	keepless bool // it doesn't tell of all at the moment
}

// New checks cfg and reads the vault's folder; it starts nothing.
func New(cfg Config, d Deps) (*Vault, error) {
	if cfg.Beat == 0 {
		cfg.Beat = defaultBeat
	}
	if cfg.LaneBeat == 0 {
		cfg.LaneBeat = cfg.Beat / lanesFaster
	}
	if cfg.Size == 0 {
		cfg.Size = defaultSize
	}
	if cfg.Keeps == nil {
		cfg.Keeps = func() time.Duration { return 0 }
	}
	folder, err := docket.Open(cfg.Dir)
	if err != nil {
		return nil, err
	}
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	v := &Vault{cfg: cfg, deps: d, folder: folder, opened: make(chan struct{}), window: newWindow(windowBytes)}
	if v.docket, err = docket.New(docket.Config{
		Bus: d.Bus, Folder: folder, Every: cfg.Beat, Size: cfg.Size, Now: d.Now,
	}); err != nil {
		return nil, err
	}
	if v.apart, err = d.Bus.Apart(); err != nil {
		return nil, err
	}
	v.runner = newRunner(v)
	logs := v.docket.Logs()
	self := func() string { return v.set.Writer() }
	for n := range schemas.VaultLanes {
		l := lane.New(n, self, func(s lane.Said) { v.runner.said(n, s) })
		v.lanes = append(v.lanes, l)
		logs = append(logs, sealed.Topic{Name: schemas.VaultLane(n), Every: cfg.LaneBeat, Size: cfg.Size, Teller: l})
	}
	if v.set, err = sealed.New(sealed.Config{
		Bus: d.Bus, Keys: folder.Keys, Logs: logs, Now: d.Now, Log: d.Log, Metrics: d.Metrics,
	}); err != nil {
		return nil, err
	}
	if err := v.register(d.Metrics); err != nil {
		return nil, err
	}
	v.office, err = office.New(office.Config{
		Docket: v.docket, Folder: folder, Active: v.set.Active, Listen: cfg.Listen, TLS: cfg.TLS, Gaps: v.gaps, Now: d.Now, Log: d.Log,
	})
	return v, err
}

// gaps is what officers get who ask for the gap report of an order.
func (v *Vault) gaps(ctx context.Context, order string) (any, error) { return v.Gaps(ctx, order) }

// Run runs until ctx ends. Call it once.
func (v *Vault) Run(ctx context.Context) error {
	defer v.apart.Close()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		if err := v.set.Run(ctx); err != nil {
			return err
		}
		if ctx.Err() == nil {
			return errors.New("the vault's logs ended")
		}
		return nil
	})
	g.Go(func() error {
		select {
		case <-ctx.Done():
			return nil
		case <-v.set.CaughtUp():
		}
		if err := v.docket.Whole(); err != nil {
			return err
		}
		return v.office.Run(ctx) // it opens once the orders are known
	})
	g.Go(func() error { v.work(ctx); return nil })
	g.Go(func() error { v.keep(ctx); return nil })
	return g.Wait()
}

// Ready is nil once the vault's logs are read.
func (v *Vault) Ready() error {
	select {
	case <-v.set.CaughtUp():
		return v.office.Ready()
	default:
		return errors.New("the vault's topics are not read yet")
	}
}

// work reads and copies whenever this process is the one that writes.
func (v *Vault) work(ctx context.Context) {
	select {
	case <-ctx.Done():
		return
	case <-v.set.CaughtUp():
	}
	for ctx.Err() == nil {
		if v.set.Active() {
			v.stint(ctx)
		}
		bus.Pause(ctx, v.cfg.LaneBeat/4)
	}
}

// stint works until another process writes, or something fails: then
// everything starts again from what the logs say. Nothing of it is told: it may
// depend on orders.
func (v *Vault) stint(ctx context.Context) {
	v.clear()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	foreign := v.foreign()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		for v.set.Active() && v.foreign() == foreign {
			if !bus.Pause(ctx, v.cfg.LaneBeat/4) {
				return nil
			}
		}
		return errYield
	})
	g.Go(func() error { return v.follow(ctx) })
	g.Go(func() error { return v.learn(ctx) })
	g.Go(func() error { return v.reachBack(ctx) })
	g.Go(func() error { return v.runner.run(ctx) })
	_ = g.Wait()
}

// clear begins anew: no mail passes until this stint has told its lanes of the
// orders, which an earlier one may not have got to say.
func (v *Vault) clear() {
	for _, l := range v.lanes {
		l.Clear()
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.matcher, v.known = nil, time.Time{}
}

// errYield ends a stint.
var errYield = errors.New("another tapper writes")

func (v *Vault) foreign() (n uint64) {
	for _, l := range v.lanes {
		n += l.Foreign()
	}
	return n
}

// lane is the lane of a partition.
func (v *Vault) lane(partition int32) *lane.Lane { return v.lanes[int(partition)%len(v.lanes)] }

// await asks again and again until ok.
func (v *Vault) await(ctx context.Context, what string, ok func() bool) error {
	for !ok() {
		if !bus.Pause(ctx, v.cfg.LaneBeat/10) {
			return fmt.Errorf("wait for %s: %w", what, ctx.Err())
		}
	}
	return nil
}
