// Package audit holds what the events tell of every recipient against the
// unfinished records themselves: per tenant and hour of birth,
//
//	accepted + expanded + generated = delivered + bounced + expired + discarded + waiting
//
// counted in recipients.
//
// Guarantee: waiting is counted from the unfinished records, never from events.
// Guarantee: a recipient that is accepted and neither ended nor in an
// unfinished record is named, and so is one that ended twice, or waits though
// it ended, or waits though nobody announced it.
// Guarantee: mail that moves while it is counted is no finding, on a cluster
// either, where the end of one transaction shows in each partition at another
// moment.
//
// It repairs nothing. A message that was delivered twice by a crash is seen
// only if two different events tell of it.
package audit

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"qstream/bus"
	"qstream/ledger/fold"
)

// Records are the unfinished records of a system. What they can't tell now, and
// will by themselves, is asked again for some time.
type Records interface {
	// Passes reports whether an error of the others passes by itself.
	Passes(err error) bool
	// Decided waits for the end of every transaction that is open now.
	Decided(ctx context.Context) error
	// Unfinished calls each for every recipient of every unfinished record and
	// returns how many records there are that can't be read as mail.
	Unfinished(ctx context.Context, how bus.Look, each func(Unfinished) error) (unreadable int, err error)
	// Oldest is from when on all events are there: what was born before may be
	// known in part.
	Oldest(ctx context.Context) (time.Time, error)
	// Gaps are partitions whose next record was deleted before it was read.
	Gaps(ctx context.Context) ([]Gap, error)
}

// Book is what the events told: the ledger's view.
type Book interface {
	// CatchUp waits until all events are folded that anybody could read when it
	// was called, and returns how many have been folded in all.
	CatchUp(ctx context.Context) (seq int64, err error)
	// Note tells of recipients in front of the router, so that they are missed
	// if their record is gone before any event told of them.
	Note(ctx context.Context, notes []fold.Note) error
	// Scratch is a connection to the view's file, for tables beside
	// its own. The caller closes it.
	Scratch(ctx context.Context) (*sql.DB, error)
}

// Scope narrows an audit; the zero Scope is all.
type Scope struct {
	Tenant string    // only recipients of this tenant
	Since  time.Time // only messages born in this hour or later
}

// Config are an Auditor's settings; zero values take the defaults.
type Config struct {
	// Every is the time between audits; default 10 min, negative: only by hand.
	Every time.Duration
	// Settle is how long suspects have before the second look; default 1 s.
	Settle time.Duration
	// Limit is how long one audit may take; default 10 min.
	Limit time.Duration
}

func (c Config) complete() (Config, error) {
	if c.Settle < 0 || c.Limit < 0 {
		return c, errors.New("audit: settings must not be negative")
	}
	if c.Every == 0 {
		c.Every = 10 * time.Minute
	}
	if c.Settle == 0 {
		c.Settle = time.Second
	}
	if c.Limit == 0 {
		c.Limit = 10 * time.Minute
	}
	return c, nil
}

// Deps are what an Auditor works with. Records and Book are required.
type Deps struct {
	Records Records
	// Book is the view of one audit; it fails while there is none, and what it
	// gave fails once it is not the view any more.
	Book    func() (Book, error)
	Log     *slog.Logger          // default: discards
	Metrics prometheus.Registerer // default: none
	Now     func() time.Time      // default time.Now
}

// Auditor audits. Its methods may be called concurrently; audits run one after
// the other.
type Auditor struct {
	cfg     Config
	deps    Deps
	metrics *metrics
	turn    chan struct{} // of capacity 1
}

// New checks cfg and deps; it starts nothing.
func New(cfg Config, d Deps) (*Auditor, error) {
	if d.Records == nil || d.Book == nil {
		return nil, errors.New("audit: records and book are required")
	}
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	if d.Now == nil {
		d.Now = time.Now
	}
	cfg, err := cfg.complete()
	if err != nil {
		return nil, err
	}
	return &Auditor{cfg: cfg, deps: d, metrics: newMetrics(d.Metrics), turn: make(chan struct{}, 1)}, nil
}

// Audit counts once. What it finds is confirmed by a second look.
func (a *Auditor) Audit(ctx context.Context, s Scope) (*Report, error) {
	return a.audit(ctx, s, nil)
}

func (a *Auditor) audit(ctx context.Context, s Scope, pace *bus.Pace) (*Report, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, a.cfg.Limit, fmt.Errorf("the audit took more than %v", a.cfg.Limit))
	defer cancel()
	select {
	case a.turn <- struct{}{}:
		defer func() { <-a.turn }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	began := a.deps.Now()
	r, err := a.twice(ctx, s, pace)
	if cause := context.Cause(ctx); err != nil && cause != nil {
		return nil, fmt.Errorf("audit: %w: %w", cause, err)
	} else if err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	r.At, r.TookMs = began.UTC().Truncate(time.Millisecond), a.deps.Now().Sub(began).Milliseconds()
	r.Tenant, r.Since = s.Tenant, s.Since.UTC()
	return r, nil
}

// twice looks again if the first look found anything: then at what every
// transaction has made visible whose end any event has told.
func (a *Auditor) twice(ctx context.Context, s Scope, pace *bus.Pace) (*Report, error) {
	book, err := a.deps.Book()
	if err != nil {
		return nil, err
	}
	var gaps []Gap
	err = a.patiently(ctx, func() (err error) {
		gaps, err = a.deps.Records.Gaps(ctx)
		return err
	})
	if err != nil {
		return nil, err
	}
	first, err := a.look(ctx, book, s, bus.Look{Pace: pace})
	if err != nil {
		return nil, err
	}
	if len(first.findings) == 0 {
		return newReport(first, nil, gaps), nil
	}
	t := time.NewTimer(a.cfg.Settle)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	second, err := a.look(ctx, book, s, bus.Look{Decided: true, Pace: pace})
	if err != nil {
		return nil, err
	}
	return newReport(second, first.findings, gaps), nil
}

// How long, and how often, brokers are asked again that can't answer now.
const (
	patience = 30 * time.Second
	askAgain = 500 * time.Millisecond
)

// patiently tries f again while what is wrong passes by itself.
func (a *Auditor) patiently(ctx context.Context, f func() error) error {
	for began := time.Now(); ; {
		err := f()
		if err == nil || !a.deps.Records.Passes(err) || time.Since(began) > patience {
			return err
		}
		t := time.NewTimer(min(askAgain, a.cfg.Settle))
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return err
		}
	}
}

// look reads all unfinished records once and holds them against the book.
//
// A move and its event are one transaction. So a recipient without an event
// since the book was at seq has not moved since, and stands in its unfinished
// record all the while that these are read. Only what moves without any event
// (a wait's next round, a dead record's retry) may be passed over then, and
// only by one of two looks.
func (a *Auditor) look(ctx context.Context, book Book, s Scope, how bus.Look) (*judgement, error) {
	rs := a.deps.Records
	seq, err := book.CatchUp(ctx)
	if err != nil {
		return nil, err
	}
	if how.Decided {
		// What those events told is visible in every topic after this.
		if err := a.patiently(ctx, func() error { return rs.Decided(ctx) }); err != nil {
			return nil, err
		}
	}
	l, err := openLook(ctx, book)
	if err != nil {
		return nil, err
	}
	defer l.close()
	var oldest time.Time
	unreadable := 0
	// What is read twice is noted once.
	err = a.patiently(ctx, func() (err error) {
		if oldest, err = rs.Oldest(ctx); err != nil {
			return err
		}
		unreadable, err = rs.Unfinished(ctx, how, func(u Unfinished) error { return l.add(ctx, u) })
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := a.patiently(ctx, func() error { return rs.Decided(ctx) }); err != nil {
		return nil, err
	}
	if _, err := book.CatchUp(ctx); err != nil {
		return nil, err
	}
	j, err := l.judge(ctx, seq, oldest, s)
	if err != nil {
		return nil, err
	}
	j.unreadable = unreadable
	return j, l.notes(ctx, book.Note)
}
