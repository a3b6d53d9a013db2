package deliver

import (
	"context"
	"errors"
	"io"
	"time"

	"qstream/directory"
	"qstream/mail"
	pb "qstream/schemas/qstream/v1"
	"qstream/transport"
)

// end takes a leg to its end in this process and tells what was learned of
// its destination.
func (d *Deliverer) end(t *task) contact {
	if !d.caughtUp(t) {
		if d.ctx.Err() == nil {
			t.job.Abandon()
		}
		return contactNone
	}
	// Nothing may wait between leave to begin and the look at what is
	// suspended: leave is given by what was known a second ago at most.
	ctx, ok := t.job.Begin(d.ctx)
	if !ok {
		return contactNone
	}
	v := d.view()
	p := t.plan(v, true)
	if t.sp != nil && p.action == toAttempt {
		d.endSpilled(ctx, t, p, v)
		return contactNone
	}
	if len(t.job.Marks()) > 0 {
		d.metrics.legs.WithLabelValues(actionNames[p.action]).Inc()
		d.finish(ctx, t, settled(t, p, v))
		return contactNone
	}
	if t.item.settle && p.action == toAttempt {
		// What was to be settled may be tried after all: it needs a turn.
		t.job.Abandon()
		return contactNone
	}
	d.metrics.legs.WithLabelValues(actionNames[p.action]).Inc()
	switch p.action {
	case toAttempt:
		return d.attempt(ctx, t, p, v)
	case toRefuse, toExpire:
		d.finish(ctx, t, settled(t, p, v))
	case toPark:
		t.job.Finish(parkRecords(t.leg, p, v)...)
	case toReroute:
		t.job.Finish(rerouteRecords(t.leg, p, v)...)
	case toScan:
		t.job.Finish(scanRecords(t.leg, p, v)...)
	}
	return contactNone
}

func (t *task) trip(p plan, v view) *trip {
	return &trip{leg: t.leg, stored: t.job.Record.Time, plan: p, number: v.number, began: v.now, ended: v.now}
}

// behind is how long a leg waits here for the directory that decided it; a
// fresh worker has it within a second.
const behind = 5 * time.Second

// caughtUp waits for the directory that a leg was decided with: an older one
// would send it back.
func (d *Deliverer) caughtUp(t *task) bool {
	wait, cancel := context.WithTimeout(d.ctx, behind)
	defer cancel()
	for {
		changed := d.deps.Directory.Changed()
		number := d.deps.Directory.Snapshot().Number
		if number >= t.leg.Directory {
			return true
		}
		select {
		case <-changed:
		case <-t.job.Revoked().Done():
			return false
		case <-wait.Done():
			if d.ctx.Err() == nil {
				d.deps.Log.Warn("directory is behind a leg", "stage", stageName, "msg_id", t.leg.MessageId,
					"number", number, "wanted", t.leg.Directory)
			}
			return false
		}
	}
}

// settled is the trip of a leg that ends without an attempt of ours. What an
// earlier owner delivered is told first, whatever became of the leg since: it
// may be spilled, expire or be parked only without it. Recipients that would
// be attempted, parked or rerouted come back in a moment.
func settled(t *task, p plan, v view) *trip {
	tr, marks := t.trip(p, v), t.job.Marks()
	tr.attempted = len(marks) > 0
	f := fate{verdict: bounced, status: p.status, kind: transport.Decided}
	switch p.action {
	case toRefuse:
	case toExpire:
		f.expired, f.status = true, lastStatus(t.leg)
	default:
		f = fate{verdict: deferred, kind: transport.Cut, status: mail.Status{Code: 451, Enhanced: "4.3.0", Text: "the attempt was cut off"}}
	}
	for _, r := range tr.honour(marks) {
		f.rcpt = r
		tr.fates = append(tr.fates, f)
	}
	return tr
}

func lastStatus(l *pb.Leg) mail.Status {
	if l.Last.GetCode() != 0 {
		return status(l.Last)
	}
	return mail.Status{Code: 451, Enhanced: "4.4.7", Text: "no attempt could be made in the time allowed"}
}

// attempt makes one attempt.
func (d *Deliverer) attempt(ctx context.Context, t *task, p plan, v view) contact {
	tr := t.trip(p, v)
	tr.attempted = true
	res := d.deliver(ctx, t, p, t.leg.Recipients)
	if cutOff(res) {
		t.job.Abandon()
		return contactNone
	}
	c := contactOf(res)
	d.left(t, c)
	tr.fates = judge(p, t.leg.Recipients, res)
	tr.met(res)
	tr.ended = d.deps.Now()
	d.metrics.attempts.Inc()
	d.metrics.seconds.Observe(tr.ended.Sub(tr.began).Seconds())
	d.mark(ctx, t, tr)
	d.finish(ctx, t, tr)
	return c
}

// met notes the host that an attempt ended with: the one that answered, else
// the last that was tried.
func (t *trip) met(res transport.Result) {
	host, ip := res.Host, res.IP
	if n := len(res.Tries); host == "" && n > 0 {
		host, ip = res.Tries[n-1].Host, res.Tries[n-1].IP
	}
	t.host, t.tls, t.tries = host, res.TLS, res.Tries
	if ip.IsValid() {
		t.ip = ip.String()
	}
}

// deliver asks the transport, or answers for it where the route does.
func (d *Deliverer) deliver(ctx context.Context, t *task, p plan, rs []*pb.Recipient) transport.Result {
	l, via := t.leg, p.decision.Via
	a := &transport.Attempt{
		MessageID: l.MessageId, Leg: l.Number, ReversePath: l.ReversePath, Recipients: rs,
		EnvID: l.EnvId, Ret: l.Ret, Body: l.Body, SMTPUTF8: l.Smtputf8,
		Size: l.Content.Size, Prepend: l.Prepend, Content: d.content(l),
		HELO: d.helo(p.queue), SourceIPs: p.queue.Identity.SourceIPs, Own: d.own(p.queue),
		Revoked:   t.job.Revoked(),
		Held:      t.job.Held,
		BeforeDot: func() { d.deps.Failpoint("deliver.dot.before") },
		AfterDot:  func() { d.deps.Failpoint("deliver.dot.after") },
	}
	if via.Scheme == directory.SchemeError {
		return transport.Result{Outcomes: a.All(transport.Outcome{Kind: transport.Decided, At: transport.AtLookup, Status: via.Status})}
	}
	if err := d.edit(ctx, l, a); err != nil {
		kind := transport.Failed
		if ctx.Err() != nil {
			kind = transport.Cut
		}
		return transport.Result{Outcomes: a.All(transport.Outcome{Kind: kind, At: transport.AtContent,
			Status: mail.Status{Code: 451, Enhanced: "4.3.0", Text: "content can't be read"}})}
	}
	return d.deps.Transport.Deliver(ctx, target(p), a)
}

// target is where a plan leads. The domain is the one that was decided about:
// a recipient at localhost, or without a domain, is at the site's.
func target(p plan) transport.Target {
	via := p.decision.Via
	return transport.Target{Scheme: via.Scheme, Host: via.Host, Port: via.Port, Path: via.Path, Domain: p.decision.Destination}
}

// content opens a leg's content; what is wrong with it is our trouble, not
// the mail's.
func (d *Deliverer) content(l *pb.Leg) func(context.Context) (io.ReadCloser, error) {
	return func(ctx context.Context) (io.ReadCloser, error) {
		r, err := d.deps.Bus.Open(ctx, l.Content)
		if err != nil {
			d.unreadable(l, err)
			return nil, err
		}
		return &checked{ReadCloser: r, failed: func(err error) { d.unreadable(l, err) }}, nil
	}
}

func (d *Deliverer) unreadable(l *pb.Leg, err error) {
	if errors.Is(err, context.Canceled) {
		return
	}
	d.metrics.content.Inc()
	d.deps.Log.Error("content can't be read", "stage", stageName, "msg_id", l.MessageId, "tenant", l.Tenant,
		"topic", l.Content.GetTopic(), "partition", l.Content.GetPartition(), "err", err)
}

// checked tells of a reader's failure.
type checked struct {
	io.ReadCloser
	failed func(error)
}

func (c *checked) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		c.failed(err)
	}
	return n, err
}

func (d *Deliverer) helo(q *directory.Queue) string {
	if q.Identity.HELO != "" {
		return q.Identity.HELO
	}
	return d.cfg.Me
}

// me is who reports come from.
func (d *Deliverer) me(q *directory.Queue) string {
	if q.Identity.Me != "" {
		return q.Identity.Me
	}
	return d.cfg.Me
}

func (d *Deliverer) own(q *directory.Queue) []string {
	return append([]string{d.helo(q), d.me(q), d.cfg.Me}, d.cfg.Own...)
}

// cutOff reports whether nothing came of an attempt because it was cut before
// its final dot. What it learned of refused recipients it learns again.
func cutOff(res transport.Result) bool {
	cut := false
	for _, o := range res.Outcomes {
		if v, _ := classify(o); v == delivered || o.Kind == transport.Unconfirmed {
			return false
		}
		cut = cut || o.Kind == transport.Cut
	}
	return cut
}

// contactOf is what a result says about the way to the destination.
func contactOf(res transport.Result) contact {
	for _, o := range res.Outcomes {
		if reached(o) {
			return contactMade
		}
	}
	return contactFailed
}
