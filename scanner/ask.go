package scanner

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"strings"
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

// maxChanges bounds what an engine may want done to a header: it travels with
// the leg.
const maxChanges = 32 << 10

// scanOnce gives the content to the engine, within its deadline.
func (s *asker) scanOnce(ctx context.Context, l *pb.Leg, m *roster.Member) engine.Verdict {
	lane := l.Tenant + "\x00" + l.Queue
	if s.idle {
		lane = "past\x00" + l.Tenant
	}
	if !m.Slots.EnterAs(ctx, lane, m.Doc.Concurrency, s.idle) {
		return engine.FailedBy(ctx, m.Name(), ctx.Err())
	}
	defer m.Slots.Leave(lane)
	limited, cancel := context.WithTimeout(ctx, m.Doc.Limit(l.Content.GetSize()))
	defer cancel()
	content, err := s.open(limited, l)
	if err != nil {
		return unreadable(m.Name(), err)
	}
	defer content.Close()
	began := time.Now()
	v := m.Scan(limited, io.MultiReader(strings.NewReader(string(l.Prepend)), content), facts(l))
	s.metrics.seconds.WithLabelValues(m.Name()).Observe(time.Since(began).Seconds())
	if v.Outcome == engine.Failed && content.err != nil && ctx.Err() == nil && limited.Err() == nil {
		return unreadable(m.Name(), content.err)
	}
	size := 0
	for _, c := range v.Changes {
		size += len(c.Name) + len(c.Value) + 16
	}
	if size > maxChanges {
		v = engine.Verdict{Engine: m.Name(), Outcome: engine.Unscannable, Reason: engine.TooLarge, Detail: "the engine wants too much of the header changed"}
	}
	return v
}

func unreadable(name string, err error) engine.Verdict {
	return engine.Verdict{Engine: name, Outcome: engine.Failed, Reason: engine.Unreadable, Detail: engine.Text(err.Error())}
}

// checked remembers what reading failed with.
type checked struct {
	io.ReadCloser
	err error
}

func (c *checked) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		c.err = err
	}
	return n, err
}

func (s *asker) open(ctx context.Context, l *pb.Leg) (*checked, error) {
	r, err := s.deps.Bus.Open(ctx, l.Content)
	if err != nil {
		if errors.Is(err, bus.ErrContent) {
			s.metrics.content.Inc()
		}
		return nil, err
	}
	return &checked{ReadCloser: r}, nil
}

// facts are what an engine is told of the envelope and the session.
func facts(l *pb.Leg) *engine.Facts {
	f := &engine.Facts{
		MessageID: l.MessageId, ClientName: l.Session.GetClientName(), HELO: l.Session.GetHelo(), User: l.Session.GetAuthUser(),
		ReversePath: l.ReversePath, Size: l.Content.GetSize() + int64(len(l.Prepend)),
	}
	f.Client, _ = netip.ParseAddr(l.Session.GetClientIp())
	for _, r := range l.Recipients {
		f.Recipients = append(f.Recipients, r.Address)
	}
	return f
}
