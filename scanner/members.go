package scanner

import (
	"context"
	"errors"
	"log/slog"
	"reflect"
	"sync"
	"time"

	"qstream/directory"
	"qstream/engine"
)

// members are the engines of the directory, made when they are first asked and
// closed when their documents change. Safe for concurrent use.
type members struct {
	make func(engine.Spec) (engine.Engine, error)
	now  func() time.Time
	log  *slog.Logger

	mu      sync.Mutex
	byName  map[string]*member
	closing sync.WaitGroup
}

// use finds the engine as the snapshot describes it. Call done when it isn't
// asked any more.
func (ms *members) use(s *directory.Snapshot, name string) (m *member, done func()) {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	m = ms.byName[name]
	doc := s.Engine(name)
	switch {
	case doc == nil && m == nil:
		m = newMember(unmade{name, errNoEngine}, directory.Engine{Concurrency: 1}, ms.now, ms.log)
	case m == nil || doc != nil && !reflect.DeepEqual(m.doc, *doc):
		if m != nil {
			ms.retire(m)
		}
		m = newMember(ms.made(doc), *doc, ms.now, ms.log)
		ms.byName[name] = m
	}
	m.users.Add(1)
	return m, m.users.Done
}

func (ms *members) made(doc *directory.Engine) engine.Engine {
	e, err := ms.make(doc.Spec)
	if err != nil {
		ms.log.Error("engine can't be made", "stage", stageName, "engine", doc.Name, "err", err)
		return unmade{doc.Name, err}
	}
	return e
}

// retire closes an engine after its last scan.
func (ms *members) retire(m *member) {
	ms.closing.Go(func() {
		m.users.Wait()
		if err := m.Close(); err != nil {
			ms.log.Warn("engine not closed well", "stage", stageName, "engine", m.Name(), "err", err)
		}
	})
}

// follow closes engines that the directory has no more.
func (ms *members) follow(s *directory.Snapshot) {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	for name, m := range ms.byName {
		if s.Engine(name) == nil {
			delete(ms.byName, name)
			ms.retire(m)
		}
	}
}

// close closes all; nothing may be asked any more.
func (ms *members) close() {
	ms.mu.Lock()
	for name, m := range ms.byName {
		delete(ms.byName, name)
		ms.retire(m)
	}
	ms.mu.Unlock()
	ms.closing.Wait()
}

// watch asks each engine for its state, for the metrics: signatures that
// nobody renews are no scanner any more.
func (ms *members) watch(ctx context.Context, m *metrics) {
	ms.mu.Lock()
	all := make([]*member, 0, len(ms.byName))
	for _, x := range ms.byName {
		x.users.Add(1)
		all = append(all, x)
	}
	ms.mu.Unlock()
	m.down.Reset()
	m.built.Reset()
	m.age.Reset()
	m.old.Reset()
	for _, x := range all {
		state, err := x.known(ctx)
		if err != nil && !errors.Is(err, context.Canceled) {
			ms.log.Debug("engine doesn't tell its state", "stage", stageName, "engine", x.Name(), "err", err)
		}
		if !state.Built.IsZero() {
			m.built.WithLabelValues(x.Name()).Set(float64(state.Built.Unix()))
			m.age.WithLabelValues(x.Name()).Set(ms.now().Sub(state.Built).Seconds())
		}
		m.old.WithLabelValues(x.Name()).Set(oneIf(x.aged(state)))
		m.down.WithLabelValues(x.Name()).Set(oneIf(x.isDown()))
		x.users.Done()
	}
}

func oneIf(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
