package sealed

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"qstream/bus"
)

// patience is how many beats of the slowest log another process may be silent
// before this one takes its place.
const patience = 3

// garbageQuiet is for how long the log isn't told of another record that can't be
// opened: under a wrong key each is one.
const garbageQuiet = time.Minute

// Config is what a Set works with. Bus, Keys and Logs are required.
type Config struct {
	Bus     *bus.Bus
	Keys    *Keys
	Logs    []Topic
	Now     func() time.Time      // default time.Now
	Log     *slog.Logger          // default: discards
	Metrics prometheus.Registerer // default: none
}

// Set writes and follows some logs together. Of several processes one writes,
// the others stand by; that is for economy, no guarantee hangs on it.
type Set struct {
	cfg    Config
	beat   time.Duration // the shortest beat
	quiet  time.Duration // how long another process must be silent
	caught chan struct{} // closed once all is read that was there
	once   sync.Once     // of caught

	mu      sync.Mutex
	logs    map[string]*log
	order   []*log
	due     map[string]time.Time
	writer  []byte
	other   time.Time // when a record of another process was last read
	active  bool
	lacking uint32        // a key that others have; 0: none
	print   []byte        // of that key, where ours of its number is another; else nil
	read    bool          // all is read that was there
	told    time.Time     // when the log was last told of a record that can't be opened
	changed chan struct{} // closed and made anew whenever something was read
	metrics *metrics
}

// New checks cfg; it starts nothing.
func New(cfg Config) (*Set, error) {
	if cfg.Bus == nil || cfg.Keys == nil || len(cfg.Logs) == 0 {
		return nil, errors.New("sealed: bus, keys and logs are required")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	s := &Set{
		cfg: cfg, logs: map[string]*log{}, due: map[string]time.Time{}, writer: make([]byte, idSize),
		caught: make(chan struct{}), changed: make(chan struct{}),
	}
	_, _ = rand.Read(s.writer) // never fails
	for _, t := range cfg.Logs {
		if err := t.check(); err != nil {
			return nil, fmt.Errorf("sealed: %w", err)
		}
		if s.logs[t.Name] != nil {
			return nil, fmt.Errorf("sealed: log %s is there twice", t.Name)
		}
		l := newLog(t, cfg.Keys, s.writer)
		s.logs[t.Name], s.order = l, append(s.order, l)
		s.quiet = max(s.quiet, patience*t.Every)
		if s.beat == 0 || t.Every < s.beat {
			s.beat = t.Every
		}
	}
	var err error
	if s.metrics, err = newMetrics(cfg.Metrics, s); err != nil {
		return nil, fmt.Errorf("sealed: %w", err)
	}
	return s, nil
}

// CaughtUp is closed once everything that was there at the start is read.
func (s *Set) CaughtUp() <-chan struct{} { return s.caught }

// Active reports whether this process is the one that writes.
func (s *Set) Active() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.active
}

// Writer names this process as Place.Writer does.
func (s *Set) Writer() string { return writerName(s.writer) }

func writerName(id []byte) string { return hex.EncodeToString(id) }

// Run follows and writes until ctx ends; while the folder of the keys lacks one
// that others seal with, it stands by. Call it once. The error is ErrKey, of a
// key that opens nothing, or that of a reading.
func (s *Set) Run(ctx context.Context) error {
	start, err := s.seek(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	for {
		err := s.follow(ctx, start)
		if ctx.Err() != nil || !errors.Is(err, errNewer) {
			return err
		}
		if !s.awaitKey(ctx) {
			return nil
		}
		start = s.places(start)
	}
}

// follow is Run up to a record that tells of a key that isn't there.
func (s *Set) follow(ctx context.Context, start bus.Start) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	from := s.cfg.Bus.Follow(s.topics(), start, s.take)
	var (
		ticking sync.WaitGroup
		failed  error
	)
	ticking.Go(func() {
		defer stop()
		failed = s.write(ctx, from.CaughtUp())
	})
	err := from.Run(ctx)
	stop()
	ticking.Wait()
	return errors.Join(failed, err)
}

func (s *Set) topics() []string {
	var names []string
	for _, l := range s.order {
		names = append(names, l.Name)
	}
	return names
}

// take is called for each record, never concurrently.
func (s *Set) take(r bus.Record) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.wake()
	l := s.logs[r.Topic]
	if l == nil {
		return nil
	}
	t, foreign, err := l.take(r)
	switch {
	case errors.Is(err, ErrGarbage):
		s.metrics.garbage.Inc()
		if now := s.cfg.Now(); now.Sub(s.told) >= garbageQuiet { // a metric counts them all
			s.told = now
			s.cfg.Log.Error("record of the vault can't be opened", "topic", r.Topic, "partition", r.Partition, "offset", r.Offset, "err", err)
		}
	case err != nil:
		return nil // lost its race
	case t.Missing > 0:
		s.metrics.missing.Add(float64(t.Missing))
		s.cfg.Log.Error("records of the vault are missing", "topic", r.Topic, "offset", r.Offset, "missing", t.Missing)
	}
	if foreign {
		s.yield(t)
	}
	if err := s.lack(l); err != nil || !foreign {
		return err
	}
	return s.differ(l, t)
}

// yield stands back for another process that writes. Of two that both do, the
// one with the lower name goes on.
func (s *Set) yield(t Taken) {
	if s.active && t.Writer > writerName(s.writer) {
		return
	}
	s.other = s.cfg.Now()
	if age := s.other.Sub(t.At); age > 0 && !s.active {
		s.other = t.At // read late
	}
	if s.active {
		s.cfg.Log.Info("another tapper writes the vault's topics, standing by")
	}
	s.active = false
}

func (s *Set) wake() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// write writes at every beat of the clock, from the time all is read.
func (s *Set) write(ctx context.Context, caught <-chan struct{}) error {
	select {
	case <-ctx.Done():
		return nil
	case <-caught:
	}
	if err := s.known(); err != nil {
		return err
	}
	if err := s.differs(); err != nil {
		return err
	}
	s.once.Do(func() { close(s.caught) })
	for next := s.cfg.Now().Truncate(s.beat).Add(s.beat); ; next = next.Add(s.beat) {
		if now := s.cfg.Now(); now.Sub(next) >= s.beat {
			missed := now.Sub(next) / s.beat
			s.metrics.missed.Add(float64(missed))
			next = next.Add(missed * s.beat)
		}
		if !bus.Pause(ctx, next.Sub(s.cfg.Now())) {
			return nil
		}
		if err := s.tick(ctx, next); err != nil && ctx.Err() == nil {
			s.cfg.Log.Warn("vault's topics not written, trying again", "err", err)
		}
	}
}

// known fails where every log has records and none of them opens: the keys are
// another vault's. Garbage in some logs of a new vault doesn't mean that.
func (s *Set) known() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.order {
		if l.fold.opened || l.closed == 0 {
			return nil
		}
	}
	return fmt.Errorf("log %s and the others: %w", s.order[0].Name, ErrKey)
}

// tick writes the logs that are due, and reads them back.
func (s *Set) tick(ctx context.Context, now time.Time) error {
	records, err := s.build(now)
	if err != nil || len(records) == 0 {
		return err
	}
	if err := s.cfg.Bus.Publish(ctx, records...); err != nil {
		return err
	}
	s.metrics.ticks.Add(float64(len(records)))
	return s.readBack(ctx)
}

func (s *Set) build(now time.Time) ([]*bus.Record, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lacking > 0 || s.cfg.Now().Sub(s.other) < s.quiet {
		return nil, nil
	}
	if !s.active {
		s.active = true
		s.cfg.Log.Info("writing the vault's topics")
	}
	var records []*bus.Record
	for _, l := range s.order {
		if now.Before(s.due[l.Name]) {
			continue
		}
		s.due[l.Name] = now.Truncate(l.Every).Add(l.Every)
		r, err := l.build(now.UnixMilli())
		if err != nil {
			return nil, err
		}
		records = append(records, r)
	}
	return records, nil
}

// readBack waits until what was written is read, a beat at most: the next
// record needs to know.
func (s *Set) readBack(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, max(s.beat, 5*time.Second))
	defer cancel()
	for {
		s.mu.Lock()
		changed, open := s.changed, false
		for _, l := range s.order {
			open = open || l.mine != nil
		}
		s.mu.Unlock()
		if !open {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("read back what was written: %w", ctx.Err())
		case <-changed:
		}
	}
}
