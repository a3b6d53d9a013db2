package deliver

import (
	"bytes"
	"slices"
	"time"

	"qstream/deliver/dsn"
	pb "qstream/schemas/qstream/v1"
	"qstream/transport"
)

// doubleMark is the line that qstream prepends to a double bounce; a message
// that carries it makes no further report. Nobody else can prepend.
const doubleMark = "X-Qstream-Double-Bounce: yes\r\n"

// Policies by which a report is not made; texts of discarded events.
const (
	policyRate   = "policy: dsn-rate"
	policyDouble = "policy: double-bounce"
	policyTriple = "policy: triple-bounce"
)

// notice is a report that is due to somebody.
type notice struct {
	kind   dsn.Kind
	to     string
	double bool
	policy string // not to be made, because of this
	fates  []fate
}

// notices are the reports that a trip asks for. rest is the deferred leg, or
// nil; it is marked once its delay is told.
func (t *trip) notices(rest *pb.Leg, delayAfter time.Duration) []notice {
	var ns []notice
	failed := t.those(pb.Notify_NOTIFY_FAILURE, func(f fate) bool { return f.verdict == bounced })
	if t.leg.ReversePath == "" {
		if failed != nil {
			ns = append(ns, t.doubleBounce(failed))
		}
		return ns
	}
	add := func(kind dsn.Kind, fates []fate) {
		if fates != nil {
			ns = append(ns, notice{kind: kind, to: t.leg.ReversePath, fates: fates})
		}
	}
	add(dsn.Failed, failed)
	relayed := t.plan.decision.Via.Scheme == "smtp"
	done := t.those(pb.Notify_NOTIFY_SUCCESS, func(f fate) bool { return f.verdict == delivered && !f.dropped && !f.peer })
	if relayed {
		add(dsn.Relayed, done)
	} else {
		add(dsn.Delivered, done)
	}
	if rest != nil && late(rest, t.ended, delayAfter) {
		rest.DelayNotified = true
		add(dsn.Delayed, t.those(pb.Notify_NOTIFY_DELAY, func(f fate) bool { return f.verdict == deferred }))
	}
	return ns
}

// late reports whether the sender is to be told of a delay now.
func late(l *pb.Leg, now time.Time, after time.Duration) bool {
	age := now.Sub(time.UnixMilli(l.BornMs)) - time.Duration(l.StoppedMs)*time.Millisecond
	return !l.DelayNotified && age >= after
}

func (t *trip) doubleBounce(failed []fate) notice {
	n := notice{kind: dsn.Failed, to: t.plan.queue.DoubleBounceTo, double: true, fates: failed}
	switch {
	case bytes.HasPrefix(t.leg.Prepend, []byte(doubleMark)): // whatever its origin: it may have been rerouted
		n.policy = policyTriple
	case n.to == "":
		n.policy = policyDouble
	}
	return n
}

// those are the fates that match and whose recipients asked to hear of it.
func (t *trip) those(asked pb.Notify, match func(fate) bool) []fate {
	var fs []fate
	for _, f := range t.fates {
		if match(f) && wants(f.rcpt, asked) {
			fs = append(fs, f)
		}
	}
	return fs
}

// wants reports whether a recipient's sender asked for a kind of report; who
// asked for nothing hears of failure and delay (RFC 3461 4.1).
func wants(r *pb.Recipient, asked pb.Notify) bool {
	if len(r.Notify) == 0 {
		return asked == pb.Notify_NOTIFY_FAILURE || asked == pb.Notify_NOTIFY_DELAY
	}
	return slices.Contains(r.Notify, asked)
}

// report is a notice as the reports' builder wants it, without the original.
func (t *trip) report(n notice, id, me string) dsn.Report {
	l := t.leg
	r := dsn.Report{
		ID: id, Kind: n.kind, At: t.ended, Me: me, To: n.to, UTF8: l.Smtputf8, EnvID: l.EnvId,
		Arrived: time.UnixMilli(l.BornMs), Double: n.double, MessageID: l.MessageId, ReversePath: l.ReversePath,
		References: l.HeaderMessageId,
	}
	if n.kind == dsn.Delayed {
		r.Expires = expires(l, t.plan.queue)
	}
	for _, f := range n.fates {
		r.Recipients = append(r.Recipients, t.reported(f))
	}
	return r
}

func (t *trip) reported(f fate) dsn.Recipient {
	c := dsn.Recipient{Address: f.rcpt.Address, Original: f.rcpt.Orcpt, Status: f.status, Expired: f.expired}
	if t.attempted {
		c.Attempted = t.ended
	}
	if f.kind == transport.Replied {
		c.Remote = f.host
	}
	if f.expired && !t.attempted {
		c.Remote = t.leg.LastHost
	}
	return c
}
