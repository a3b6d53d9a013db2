package smtp

import (
	"context"
	"slices"

	"qstream/mail"
	"qstream/transport"
)

// delivery is one attempt under way.
type delivery struct {
	c     *Client
	ctx   context.Context // bounds the wait for the last reply
	early context.Context // bounds all before the final dot
	cut   func()          // ends early
	a     *transport.Attempt
	open  []int // recipients without an outcome, by index
	last  *failure
	dsn   bool // the present session's host takes the DSN parameters
	res   transport.Result
}

func newDelivery(c *Client, ctx, early context.Context, a *transport.Attempt) *delivery {
	d := &delivery{c: c, ctx: ctx, early: early, a: a}
	d.res.Outcomes = make([]transport.Outcome, len(a.Recipients))
	for i := range a.Recipients {
		d.open = append(d.open, i)
	}
	return d
}

// settle gives a recipient its outcome, which is the present session's unless
// it says otherwise.
func (d *delivery) settle(i int, o transport.Outcome) {
	if o.Host == "" {
		o.Host, o.DSN = d.res.Host, d.dsn
	}
	d.res.Outcomes[i] = o
	d.open = slices.DeleteFunc(d.open, func(n int) bool { return n == i })
}

func (d *delivery) settleAll(indexes []int, o transport.Outcome) {
	for _, i := range slices.Clone(indexes) {
		d.settle(i, o)
	}
}

// only are those of the recipients that have no outcome.
func (d *delivery) only(indexes []int) []int {
	return slices.DeleteFunc(slices.Clone(indexes), func(i int) bool { return !slices.Contains(d.open, i) })
}

// decide settles a recipient by our own word.
func (d *delivery) decide(i int, at transport.Phase, s mail.Status) {
	d.settle(i, transport.Outcome{Status: s, Kind: transport.Decided, At: at})
}

// overHosts tries host after host until every recipient has an outcome.
func (d *delivery) overHosts(hosts []host) {
	sessions := 0
	for n, h := range d.idleFirst(hosts) {
		if len(d.open) == 0 || d.early.Err() != nil || n >= d.c.cfg.MaxHosts || sessions >= d.c.cfg.MaxSessions {
			return
		}
		f := d.overHost(h)
		if f == nil {
			continue
		}
		d.fail(f)
		if f.final || d.early.Err() != nil {
			return
		}
		d.res.Tries = append(d.res.Tries, transport.Try{
			Host: h.name, IP: h.ip, At: f.at, Status: f.status, Remote: f.remote,
		})
		if f.at > transport.AtGreeting {
			sessions++
		}
	}
}

// fail remembers why those still open have no outcome.
func (d *delivery) fail(f *failure) { d.last = f }

// idleFirst moves a host with an open connection before its equals.
func (d *delivery) idleFirst(hosts []host) []host {
	best := 0
	for best < len(hosts) && hosts[best].pref == hosts[0].pref {
		best++
	}
	slices.SortStableFunc(hosts[:best], func(a, b host) int {
		return d.rank(a) - d.rank(b)
	})
	return hosts
}

func (d *delivery) rank(h host) int {
	if d.c.pool.has(h, d.a.HELO) {
		return 0
	}
	return 1
}

// overHost tries one host: on connections left open as long as they turn out
// to be dead, then on a new one.
func (d *delivery) overHost(h host) *failure {
	for {
		s := d.c.pool.get(h, d.a.HELO)
		if s == nil {
			break
		}
		if f := d.over(s); f == nil || !f.stale {
			return f
		}
	}
	s, f := d.c.open(d.early, h, d.a.HELO)
	if f != nil {
		return f
	}
	return d.over(s)
}

// over makes a transaction, and more as long as the peer takes some of the
// recipients and says that the others are too many (RFC 5321 4.5.3.1.10). Then
// it gives the session back.
func (d *delivery) over(s *session) *failure {
	d.res.Reused = s.kept
	d.res.Host, d.res.IP, d.res.Source, d.res.TLS = s.host.name, s.host.ip, s.host.source, s.tls
	d.dsn = s.offers("DSN")
	defer func() { d.c.pool.put(s) }()
	for {
		t := &transaction{d: d, s: s, unbind: s.bind(d.early), later: map[int]mail.Status{}}
		f := t.run()
		if !t.unbind() || f != nil {
			s.broken = true
		}
		if f != nil || len(t.later) == 0 {
			return f
		}
		if s.broken || len(t.accepted) == 0 || d.early.Err() != nil {
			for i, reply := range t.later {
				d.settle(i, transport.Outcome{Status: reply, At: transport.AtRcpt})
			}
			return nil
		}
	}
}

// result gives those still open the outcome of the last failure.
func (d *delivery) result() transport.Result {
	if len(d.open) == 0 {
		return d.res
	}
	o := transport.Outcome{
		Kind: transport.Cut, At: transport.AtConnect,
		Status: mail.Status{Code: 451, Enhanced: "4.3.2", Text: "attempt cut short by the sending side"},
	}
	if d.early.Err() == nil {
		o = d.last.outcome()
		if n := len(d.res.Tries); n > 0 {
			o.Host = d.res.Tries[n-1].Host
		}
	} else if d.last != nil {
		o.At = d.last.at
	}
	d.settleAll(d.open, o)
	return d.res
}

// outcome is what a failure means for the recipients. A host that refuses to
// talk to us for good says nothing about them: temporary (RFC 5321 3.1's 554
// greeting, blocklists).
func (f *failure) outcome() transport.Outcome {
	o := transport.Outcome{Status: f.status, Kind: transport.Failed, At: f.at}
	switch {
	case f.final && f.status.Permanent():
		o.Kind = transport.Decided
	case f.remote && f.status.Temporary() && f.status.Code >= 400:
		o.Kind = transport.Replied
	case f.remote:
		o.Status = mail.Status{Code: 451, Enhanced: "4.3.2", Text: "the host refused the session: " + f.status.String()}
	}
	return o
}
