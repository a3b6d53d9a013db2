package scanner

import (
	"context"
	"errors"
	"io"
	"time"

	"qstream/bus"
	"qstream/directory"
	"qstream/directory/roster"
	"qstream/directory/ruling"
	"qstream/engine"
	pb "qstream/schemas/qstream/v1"
)

// answer is what the engines of a policy said of a leg, and what follows.
type answer struct {
	verdicts []ruling.Said
	rulings  []ruling.Ruling
	poison   bool      // the scan that failed counts against the content
	until    time.Time // when an engine that is down is asked again; zero: not known
}

// asker asks engines about mail: about what is on its way, or about the past.
type asker struct {
	deps    Deps
	metrics *metrics
	members *roster.Roster
	kept    *kept
	job     string // the undertaking whose verdicts may be kept ones; empty: mail on its way
	idle    bool   // takes slots of engines that nobody else wants
}

func newAsker(d Deps, m *metrics, keep int) asker {
	return asker{deps: d, metrics: m, kept: newKept(keep), members: roster.New(stageName, d.Engine, d.Now, d.Log)}
}

// ask asks the engines of a policy, one after the other, until nothing more
// can change where the mail goes or one fails.
func (s *asker) ask(ctx context.Context, l *pb.Leg, snap *directory.Snapshot, p *directory.ScanPolicy) answer {
	var a answer
	c := caseOf(l, s.deps.Now())
	a.rulings = ruling.Judge(p, nil, c)
	for _, name := range p.Engines {
		m, done := s.members.Use(snap, name)
		v, until := s.health(ctx, l, m)
		if v.Engine == "" {
			v = s.scan(ctx, l, m)
			if v.Outcome == engine.Failed && ctx.Err() == nil && m.Blames(ctx, v.Verdict, l.GetScan().GetWaits() > 0) {
				a.poison = true
				v.Poison = int(l.GetScan().GetTries())+1 >= p.Tries
			}
		}
		done()
		if ctx.Err() != nil {
			break
		}
		s.metrics.verdict(v)
		a.verdicts = append(a.verdicts, v)
		a.rulings = ruling.Judge(p, a.verdicts, c)
		if ruling.Waiting(a.rulings) {
			a.until = until
			break
		}
		if ruling.Settled(a.rulings) {
			break
		}
	}
	return a
}

// health is why an engine isn't asked now, and until when: nothing if it is. A
// leg that has waited for one before is only given to an engine that works:
// what then breaks it is the content.
func (s *asker) health(ctx context.Context, l *pb.Leg, m *roster.Member) (v ruling.Said, until time.Time) {
	if why, until, down := m.Down(ctx); down {
		return ruling.Said{Verdict: why}, until
	}
	if l.GetScan().GetWaits() > 0 {
		if why, ok := m.Proven(ctx); !ok {
			return ruling.Said{Verdict: why}, time.Time{}
		}
	}
	return v, until
}

// scan is one engine's verdict, from memory if it depends on nothing but
// content that was scanned before.
func (s *asker) scan(ctx context.Context, l *pb.Leg, m *roster.Member) (v ruling.Said) {
	began := s.deps.Now()
	scan := func() engine.Verdict {
		v := s.scanOnce(ctx, l, m)
		if ctx.Err() == nil {
			m.Note(v)
		}
		return v
	}
	// Engines don't tell of all signatures: what was found bad by newer ones is
	// answered by no older verdict.
	if m.Content && len(l.Content.GetSha256()) == 32 && l.Rescanned == 0 {
		if signatures, ok := m.Signatures(ctx); ok {
			v.Verdict, v.Kept = s.kept.scan(ctx, keptKey{[32]byte(l.Content.Sha256), m, signatures, s.job}, scan)
			v.Took = s.deps.Now().Sub(began)
			return v
		}
	}
	v.Verdict = scan()
	v.Took = s.deps.Now().Sub(began)
	return v
}

// scanOnce gives the content to the engine, within its deadline.
func (s *asker) scanOnce(ctx context.Context, l *pb.Leg, m *roster.Member) engine.Verdict {
	lane := l.Tenant + "\x00" + l.Queue
	if s.idle {
		lane = l.Tenant + "\x00\x00past" // no queue is called so
	}
	v, took := m.Ask(ctx, roster.Message{
		Lane: lane, Idle: s.idle, Prepend: l.Prepend, Size: l.Content.GetSize(),
		Facts: roster.Facts(l.MessageId, l.Session, l.ReversePath, l.Recipients, l.Content.GetSize()+int64(len(l.Prepend))),
		Open:  func(ctx context.Context) (io.ReadCloser, error) { return s.open(ctx, l) },
	})
	if took > 0 {
		s.metrics.seconds.WithLabelValues(m.Name()).Observe(took.Seconds())
	}
	return v
}

func (s *asker) open(ctx context.Context, l *pb.Leg) (io.ReadCloser, error) {
	r, err := s.deps.Bus.Open(ctx, l.Content)
	if errors.Is(err, bus.ErrContent) {
		s.metrics.content.Inc()
	}
	return r, err
}
