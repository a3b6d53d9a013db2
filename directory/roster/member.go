package roster

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"

	"qstream/directory"
	"qstream/engine"
)

// How engines are looked after.
const (
	stateFor    = 10 * time.Second // for which what an engine says of itself is believed
	stateWithin = 5 * time.Second  // in which it has to say it
	probeWithin = 10 * time.Second // in which a working engine scans a line
	breakAfter  = 5                // failures in a row after which an engine is down
	breakFirst  = 5 * time.Second  // for which it is then left alone, at first
	breakLast   = time.Minute
	deferFor    = time.Minute // of nothing but that mail has to come again, until when that is no failure
	engineShare = 2           // one lane may take twice of an engine what it leaves free
)

// probe is a message that every engine that works has a verdict on.
const probe = "Date: Thu, 01 Jan 2026 00:00:00 +0000\r\nFrom: <probe@scanner.invalid>\r\nMessage-ID: <probe@scanner.invalid>\r\nSubject: probe\r\n\r\nIs anybody there?\r\n"

// Member is an engine in use: its slots, its health and what it last said of
// itself. Safe for concurrent use.
type Member struct {
	engine.Engine
	Doc     directory.Engine
	Content bool  // its verdicts depend on the content alone
	Slots   *Gate // scans at once
	now     func() time.Time
	log     *slog.Logger
	stage   string
	users   sync.WaitGroup // scans; for closing it

	asking sync.Mutex // held by who asks for the state
	mu     sync.Mutex
	asked  time.Time // of state
	state  engine.State
	broken error // why state is unknown
	failed int   // in a row
	until  time.Time
	probes bool      // one is under way
	good   time.Time // when it last gave a verdict
	defers time.Time // since when it has said of all mail to come again; zero: it doesn't
	why    engine.Verdict
	old    bool // its signatures are
}

func (ms *Roster) member(e engine.Engine, doc directory.Engine) *Member {
	return &Member{
		Engine: e, Doc: doc, Content: engine.ContentOnly(doc.Type), Slots: NewGate(doc.Concurrency, engineShare),
		now: ms.now, log: ms.log, stage: ms.stage,
	}
}

// Signatures are those in force, asked for every few seconds; ok is false while
// they aren't known.
func (m *Member) Signatures(ctx context.Context) (string, bool) {
	s, err := m.known(ctx)
	return s.Signatures, err == nil && s.Signatures != ""
}

func (m *Member) known(ctx context.Context) (engine.State, error) {
	s, fresh, err := m.told()
	switch {
	case fresh:
		return s, err
	case err != nil || m.never():
		m.asking.Lock()
	case !m.asking.TryLock(): // others go on with what was known
		return s, err
	}
	defer m.asking.Unlock()
	if s, fresh, err = m.told(); fresh {
		return s, err
	}
	ctx, cancel := context.WithTimeout(ctx, stateWithin)
	defer cancel()
	s, err = m.State(ctx)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asked = m.now()
	if m.state, m.broken = s, err; err != nil {
		m.state = engine.State{}
	}
	return m.state, m.broken
}

// told is what the engine said of itself last, and whether that was lately.
func (m *Member) told() (s engine.State, fresh bool, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.state, !m.asked.IsZero() && m.now().Sub(m.asked) < stateFor, m.broken
}

func (m *Member) never() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.asked.IsZero()
}

// Down is why the engine is not asked now; ok is false if it is. Who comes
// first after a while finds out by a probe.
func (m *Member) Down(ctx context.Context) (why engine.Verdict, until time.Time, ok bool) {
	m.mu.Lock()
	if m.failed < breakAfter {
		m.mu.Unlock()
		return engine.Verdict{}, time.Time{}, false
	}
	if m.probes || m.now().Before(m.until) {
		defer m.mu.Unlock()
		return m.why, m.until, true
	}
	m.probes = true
	m.mu.Unlock()
	v := m.probe(ctx)
	m.mu.Lock()
	m.probes = false
	m.mu.Unlock()
	if ctx.Err() != nil {
		return v, time.Time{}, true
	}
	m.Note(v)
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.why, m.until, m.failed >= breakAfter
}

// probe asks the engine about a message that is harmless and small.
func (m *Member) probe(ctx context.Context) engine.Verdict {
	limited, cancel := context.WithTimeout(ctx, probeWithin)
	defer cancel()
	return m.Scan(limited, strings.NewReader(probe), &engine.Facts{
		ReversePath: "probe@scanner.invalid", Recipients: []string{"probe@scanner.invalid"}, Size: int64(len(probe)),
	})
}

// Note learns from a verdict whether the engine works. Content that couldn't be
// read says nothing of it, and that mail has to come again, as filters say that
// greylist, only if it is said of all mail for a while.
func (m *Member) Note(v engine.Verdict) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case v.Outcome != engine.Failed:
		if m.failed >= breakAfter {
			m.log.Info("engine is back", "stage", m.stage, "engine", m.Name())
		}
		m.failed, m.good, m.defers = 0, m.now(), time.Time{}
	case v.Advice == engine.Defer && m.failed < breakAfter && !m.defersAll():
	case v.Reason != engine.Unreadable:
		if m.failed >= breakAfter && m.now().Before(m.until) {
			break // it had begun before: many at once fail no more often than one
		}
		if m.failed++; m.failed < breakAfter {
			break
		}
		if m.failed == breakAfter {
			m.log.Error("engine is down", "stage", m.stage, "engine", m.Name(), "err", v.Detail)
		}
		wait := breakFirst << min(m.failed-breakAfter, 10)
		m.until, m.why = m.now().Add(min(wait, breakLast)), v
	}
}

// defersAll reports whether it has said of all mail for a while to come again; it
// needs m.mu.
func (m *Member) defersAll() bool {
	if m.defers.IsZero() {
		m.defers = m.now()
	}
	return m.now().Sub(m.defers) >= deferFor
}

// Proven finds out whether the engine works just now; if not it says why. One
// that answers that mail has to come again does.
func (m *Member) Proven(ctx context.Context) (why engine.Verdict, ok bool) {
	m.mu.Lock()
	lately := m.now().Sub(m.good) < time.Second
	m.mu.Unlock()
	if lately {
		return engine.Verdict{}, true
	}
	v := m.probe(ctx)
	if ctx.Err() == nil {
		m.Note(v)
	}
	return v, v.Outcome != engine.Failed || v.Advice == engine.Defer
}

// Blames reports whether a failed scan was the content's fault rather than the
// engine's: it broke an engine that had just been proven to work, or outlived
// its deadline while a probe gets a verdict.
func (m *Member) Blames(ctx context.Context, v engine.Verdict, proven bool) bool {
	switch v.Reason {
	case engine.Broken:
		return proven
	case engine.Late:
		return m.probe(ctx).Outcome != engine.Failed
	}
	return false
}

// aged reports signatures that are older than they may be, and logs it once. A
// state that tells no date changes nothing.
func (m *Member) aged(s engine.State) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if s.Built.IsZero() || m.Doc.MaxAge == 0 {
		return m.old
	}
	age := m.now().Sub(s.Built)
	was := m.old
	switch m.old = age > m.Doc.MaxAge; {
	case m.old && !was:
		m.log.Error("signatures are too old", "stage", m.stage, "engine", m.Name(), "signatures", s.Signatures, "built", s.Built, "allowed", m.Doc.MaxAge)
	case was && !m.old:
		m.log.Info("signatures are renewed", "stage", m.stage, "engine", m.Name(), "signatures", s.Signatures, "built", s.Built)
	}
	return m.old
}

// Now is the time by the clock that the engine is looked after by.
func (m *Member) Now() time.Time { return m.now() }

// IsDown reports an engine that is not asked.
func (m *Member) IsDown() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.failed >= breakAfter
}

// unmade stands for an engine that this process can't make: its mail waits.
type unmade struct {
	name string
	err  error
}

func (u unmade) Name() string { return u.name }

func (u unmade) Scan(context.Context, io.Reader, *engine.Facts) engine.Verdict {
	return engine.Verdict{Engine: u.name, Outcome: engine.Failed, Reason: engine.Trouble, Detail: engine.Text(u.err.Error())}
}

func (u unmade) State(context.Context) (engine.State, error) { return engine.State{}, u.err }

func (u unmade) Close() error { return nil }

var errNoEngine = errors.New("there is no such engine in the directory")
