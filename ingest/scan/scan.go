// Package scan asks engines about mail within the session that brings it, before
// it is accepted: by the policy of the connection's rule, within its deadline.
//
// Guarantee: an engine that is down, hung or slow never refuses mail: it is
// accepted and scanned later, or deferred, as the rule says.
// Guarantee: nothing is said of a message whose content engines weren't given to
// its end.
// Guarantee: scans are bounded in number and time; a client or tenant that
// floods leaves room for others.
//
// It publishes nothing and keeps no verdicts.
package scan

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"qstream/directory"
	"qstream/directory/roster"
	"qstream/directory/ruling"
	"qstream/engine"
	"qstream/mail"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
)

// stageName is the stage in logs.
const stageName = "ingest"

const (
	slotShare  = 8 // a lane may take eight times what it leaves free
	watchEvery = 30 * time.Second
	lookEvery  = 500 * time.Millisecond // whether the client is there
)

// DefaultScans is how many messages are scanned at once.
const DefaultScans = 64

// Deps are what a Scanner works with; Engine is required.
type Deps struct {
	Engine  func(engine.Spec) (engine.Engine, error) // makes engines; they are closed here
	Log     *slog.Logger
	Metrics prometheus.Registerer
	Now     func() time.Time
}

// Scanner asks engines for all sessions of a process; safe for concurrent use.
type Scanner struct {
	scans   int
	deps    Deps
	slots   *roster.Gate
	roster  *roster.Roster
	metrics *metrics
}

// New makes a scanner of so many messages at once, by default DefaultScans; it
// starts nothing.
func New(scans int, d Deps) (*Scanner, error) {
	if d.Engine == nil {
		return nil, errors.New("ingest: no engines")
	}
	if scans < 0 {
		return nil, errors.New("ingest: scans must not be negative")
	}
	if scans == 0 {
		scans = DefaultScans
	}
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	if d.Now == nil {
		d.Now = time.Now
	}
	s := &Scanner{scans: scans, deps: d, slots: roster.NewGate(scans, slotShare), roster: roster.New(stageName, d.Engine, d.Now, d.Log)}
	s.metrics = newMetrics(d.Metrics, func() float64 { return float64(s.slots.Load()) })
	return s, nil
}

// Run looks after the engines until ctx ends, and closes them: nothing may be
// asked any more.
func (s *Scanner) Run(ctx context.Context, d *directory.Follower) {
	defer s.roster.Close()
	again := time.NewTicker(watchEvery)
	defer again.Stop()
	for {
		changed := d.Changed()
		s.roster.Follow(d.Snapshot())
		s.roster.Watch(ctx, s.metrics.engines)
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-again.C:
		}
	}
}

// Question is a message that has come in, and is not accepted yet.
type Question struct {
	Snapshot *directory.Snapshot
	Scan     directory.SessionScan
	Lane     string // who shares room with others
	Domains  []string
	Prepend  []byte
	Size     int64 // of the content
	Open     func(ctx context.Context) (io.ReadCloser, error)
	Facts    *engine.Facts
	Gone     func() bool // whether the client has left; nil: nobody knows
}

// ErrGone says that the client has left: there is nobody to accept mail from.
var ErrGone = errors.New("client left while its message was scanned")

// Ask scans a message and says what becomes of it. An error is no answer: the
// client has left, ctx ended, or content can't be read.
func (s *Scanner) Ask(ctx context.Context, q Question) (Answer, error) {
	p := q.Snapshot.Scan(q.Scan.Policy)
	if p == nil {
		return Answer{}, fmt.Errorf("there is no scan policy %q", q.Scan.Policy)
	}
	began := s.deps.Now()
	there, stop := present(ctx, q.Gone)
	defer stop()
	limited, cancel := context.WithTimeout(there, q.Scan.Deadline)
	defer cancel()
	a := asked{rulings: ruling.Judge(p, nil, ruling.Case{Domains: q.Domains, Answers: true})}
	if s.slots.Enter(limited, q.Lane, s.scans) {
		a = s.engines(limited, p, q)
		s.slots.Leave(q.Lane)
	} else {
		a.trouble = busy
	}
	if there.Err() == nil && q.Gone != nil && q.Gone() {
		a.err = ErrGone
	} else if there.Err() != nil {
		a.err = context.Cause(there)
	}
	if a.err != nil {
		s.metrics.ended(a.err)
		return Answer{}, a.err
	}
	d := decide(a.rulings, a.verdicts, q.Scan, a.trouble)
	s.tell(q, a, d)
	return s.answer(p, q, a, d, began), nil
}

// present is ctx while the client is there.
func present(ctx context.Context, gone func() bool) (there context.Context, stop func()) {
	there, cancel := context.WithCancelCause(ctx)
	if gone == nil {
		return there, func() { cancel(nil) }
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		look := time.NewTicker(lookEvery)
		defer look.Stop()
		for {
			select {
			case <-there.Done():
				return
			case <-look.C:
				if gone() {
					cancel(ErrGone)
				}
			}
		}
	}()
	return there, func() { cancel(nil); <-ended }
}

// asked is what engines said, as far as they were asked.
type asked struct {
	verdicts []ruling.Said
	rulings  []ruling.Ruling
	trouble  trouble
	err      error // content can't be read
}

// engines asks those of a policy, one after the other, until nothing more can
// change what becomes of the message, or one fails.
func (s *Scanner) engines(ctx context.Context, p *directory.ScanPolicy, q Question) asked {
	c := ruling.Case{Domains: q.Domains, Answers: true}
	a := asked{rulings: ruling.Judge(p, nil, c)}
	for i, name := range p.Engines {
		m, done := s.roster.Use(q.Snapshot, name)
		v, why := s.one(ctx, m, q)
		done()
		s.metrics.verdict(v.Verdict)
		if v.Reason == engine.Unreadable && ctx.Err() == nil {
			a.err = fmt.Errorf("read content for engine %s: %s", name, v.Detail)
			return a
		}
		a.verdicts = append(a.verdicts, v)
		a.rulings = ruling.Judge(p, a.verdicts, c)
		if a.trouble == none {
			a.trouble = why
		}
		if ruling.Waiting(a.rulings) || !slices.ContainsFunc(a.rulings, goesOn) {
			return a
		}
		if ctx.Err() != nil && i+1 < len(p.Engines) { // the others were not asked
			if a.trouble == none {
				a.trouble = late
			}
			return a
		}
	}
	return a
}

// goesOn reports a recipient whose mail would be accepted as it is. The others'
// is refused, or left to the scanners, who ask every engine.
func goesOn(r ruling.Ruling) bool { return !ruling.Final(r.Action) }

// one is an engine's verdict, and what trouble there is about it.
func (s *Scanner) one(ctx context.Context, m *roster.Member, q Question) (v ruling.Said, why trouble) {
	if said, _, isDown := m.Down(ctx); isDown {
		return ruling.Said{Verdict: said}, down
	}
	v.Verdict, v.Took = m.Ask(ctx, roster.Message{Lane: q.Lane, Prepend: q.Prepend, Size: q.Size, Open: q.Open, Facts: q.Facts})
	if v.Took > 0 {
		s.metrics.seconds.WithLabelValues(m.Name()).Observe(v.Took.Seconds())
	}
	// An engine that had half of the deadline for itself is to blame for its end.
	if v.Took > 0 && (ctx.Err() == nil || errors.Is(ctx.Err(), context.DeadlineExceeded) && v.Took >= q.Scan.Deadline/2) {
		m.Note(v.Verdict)
	}
	switch {
	case v.Outcome != engine.Failed:
		return v, none
	case v.Took == 0 && ctx.Err() != nil:
		return v, busy
	case v.Reason == engine.Late:
		return v, late
	}
	return v, down
}

// Answer is what becomes of a message.
type Answer struct {
	decision
	Scan *pb.Scan // for the received record; nil: it isn't accepted
}

// Fate is what becomes of it.
func (a Answer) Fate() Fate { return a.fate }

// Reply is the client's, of what isn't accepted.
func (a Answer) Reply() mail.Status { return a.status }

func (s *Scanner) answer(p *directory.ScanPolicy, q Question, a asked, d decision, began time.Time) Answer {
	said := ruling.Recorded(a.verdicts, 0)
	switch d.fate {
	case Leave:
		return Answer{d, schemas.Owed(p.Name, said)}
	case Accept:
		r := a.rulings[0]
		return Answer{d, &pb.Scan{
			State: pb.ScanState_SCAN_STATE_DONE, Policy: p.Name, OfRule: true, Directory: q.Snapshot.Number, AtMs: began.UnixMilli(),
			Verdicts: said, Action: r.Action, Finding: r.Finding, Changes: ruling.Changes(r, a.verdicts, p),
			Engines: q.Snapshot.EnginesOf(p),
		}}
	}
	return Answer{decision: d}
}

// tell logs what was said, and counts what became of it.
func (s *Scanner) tell(q Question, a asked, d decision) {
	s.metrics.scans.WithLabelValues(d.fate.String()).Inc()
	for _, v := range a.verdicts {
		s.deps.Log.Info("scanned", "stage", stageName, "msg_id", q.Facts.MessageID, "policy", q.Scan.Policy,
			"engine", v.Engine, "outcome", v.Outcome.String(), "reason", v.Reason.String(), "found", v.Name)
	}
	why := a.trouble
	if why == none && failed(a.verdicts) {
		why = down
	}
	if why != none && d.fate != Refuse {
		s.metrics.unscanned.WithLabelValues(why.String()).Inc()
		s.deps.Log.Warn("not scanned in its session", "stage", stageName, "msg_id", q.Facts.MessageID, "host", q.Facts.Client.String(),
			"policy", q.Scan.Policy, "reason", why.String(), "mail", d.fate.String())
	}
}
