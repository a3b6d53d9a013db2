// Package roster holds the engines of the directory that are in use: made when
// they are first asked, with their slots and their health, and closed when their
// documents change.
//
// Guarantee: an engine that gives no verdicts is left alone for a while, and then
// asked by a probe: it costs mail no deadline.
package roster

import (
	"context"
	"errors"
	"log/slog"
	"reflect"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"qstream/directory"
	"qstream/engine"
)

// Roster are the engines of the directory, made when they are first asked and
// closed when their documents change. Safe for concurrent use.
type Roster struct {
	make  func(engine.Spec) (engine.Engine, error)
	now   func() time.Time
	log   *slog.Logger
	stage string // in logs

	mu      sync.Mutex
	byName  map[string]*Member
	closing sync.WaitGroup
}

// New makes a roster of no engines; it starts nothing. stage is whose it is, in
// logs.
func New(stage string, make func(engine.Spec) (engine.Engine, error), now func() time.Time, log *slog.Logger) *Roster {
	return &Roster{make: make, now: now, log: log, stage: stage, byName: map[string]*Member{}}
}

// Use finds the engine as the snapshot describes it. Call done when it isn't
// asked any more.
func (ms *Roster) Use(s *directory.Snapshot, name string) (m *Member, done func()) {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	m = ms.byName[name]
	doc := s.Engine(name)
	switch {
	case doc == nil && m == nil:
		m = ms.member(unmade{name, errNoEngine}, directory.Engine{Concurrency: 1})
	case m == nil || doc != nil && !reflect.DeepEqual(m.Doc, *doc):
		if m != nil {
			ms.retire(m)
		}
		m = ms.member(ms.made(doc), *doc)
		ms.byName[name] = m
	}
	m.users.Add(1)
	return m, m.users.Done
}

func (ms *Roster) made(doc *directory.Engine) engine.Engine {
	e, err := ms.make(doc.Spec)
	if err != nil {
		ms.log.Error("engine can't be made", "stage", ms.stage, "engine", doc.Name, "err", err)
		return unmade{doc.Name, err}
	}
	return e
}

// retire closes an engine after its last scan.
func (ms *Roster) retire(m *Member) {
	ms.closing.Go(func() {
		m.users.Wait()
		if err := m.Close(); err != nil {
			ms.log.Warn("engine not closed well", "stage", ms.stage, "engine", m.Name(), "err", err)
		}
	})
}

// Follow closes engines that the directory has no more.
func (ms *Roster) Follow(s *directory.Snapshot) {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	for name, m := range ms.byName {
		if s.Engine(name) == nil {
			delete(ms.byName, name)
			ms.retire(m)
		}
	}
}

// Close closes all; nothing may be asked any more.
func (ms *Roster) Close() {
	ms.mu.Lock()
	for name, m := range ms.byName {
		delete(ms.byName, name)
		ms.retire(m)
	}
	ms.mu.Unlock()
	ms.closing.Wait()
}

// Gauges tell of engines, each by its name.
type Gauges struct {
	Down  *prometheus.GaugeVec // 1: it is not asked
	Built *prometheus.GaugeVec // when its signatures were made, Unix seconds
	Age   *prometheus.GaugeVec // how old they are, in seconds
	Old   *prometheus.GaugeVec // 1: older than its max_age
}

// NewGauges makes them, their names beginning with prefix.
func NewGauges(r prometheus.Registerer, prefix string) Gauges {
	f := promauto.With(r)
	gauge := func(name, help string) *prometheus.GaugeVec {
		return f.NewGaugeVec(prometheus.GaugeOpts{Name: prefix + name, Help: help}, []string{"engine"})
	}
	return Gauges{
		Down:  gauge("engine_down", "1: the engine gives no verdicts, and is asked by a probe now and then."),
		Built: gauge("signatures_built_seconds", "When an engine's signatures were made, since 1970."),
		Age:   gauge("signatures_age_seconds", "How old an engine's signatures are, where it tells their date."),
		Old:   gauge("signatures_old", "1: an engine's signatures are older than its max_age."),
	}
}

// Watch asks each engine for its state and tells of it. Signatures that nobody
// renews are no scanner any more.
func (ms *Roster) Watch(ctx context.Context, g Gauges) {
	ms.mu.Lock()
	all := make([]*Member, 0, len(ms.byName))
	for _, x := range ms.byName {
		x.users.Add(1)
		all = append(all, x)
	}
	ms.mu.Unlock()
	for _, v := range []*prometheus.GaugeVec{g.Down, g.Built, g.Age, g.Old} {
		v.Reset()
	}
	for _, x := range all {
		state, err := x.known(ctx)
		if err != nil && !errors.Is(err, context.Canceled) {
			ms.log.Debug("engine doesn't tell its state", "stage", ms.stage, "engine", x.Name(), "err", err)
		}
		if !state.Built.IsZero() {
			g.Built.WithLabelValues(x.Name()).Set(float64(state.Built.Unix()))
			g.Age.WithLabelValues(x.Name()).Set(ms.now().Sub(state.Built).Seconds())
		}
		g.Old.WithLabelValues(x.Name()).Set(oneIf(x.aged(state)))
		g.Down.WithLabelValues(x.Name()).Set(oneIf(x.IsDown()))
		x.users.Done()
	}
}

func oneIf(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
