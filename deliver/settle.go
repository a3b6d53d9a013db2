package deliver

import (
	"cmp"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"qstream/directory"
	"qstream/mail"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
	"qstream/transport"
)

// unconfirmedWait is how long a leg waits whose final dot went unanswered: the
// peer may still be at it.
const unconfirmedWait = 10 * time.Minute

// fate is what became of one recipient.
type fate struct {
	rcpt    *pb.Recipient
	verdict verdict
	status  mail.Status
	kind    transport.Kind
	host    string // that said status, if kind is Replied
	expired bool   // bounced because its lifetime ended
	dropped bool   // "delivered" to nowhere, by a route
	marked  bool   // delivered by an earlier owner, as the journal says
	peer    bool   // the peer took the duty to report the delivery
}

// trip is an attempt, or what stands for one: its leg, where it went and what
// became of each recipient.
type trip struct {
	leg       *pb.Leg
	stored    time.Time // append time of the leg's record: the same for whoever ends it
	plan      plan
	number    uint64 // of the snapshot
	attempted bool   // counts as an attempt
	fates     []fate
	host, ip  string
	tls       string
	tries     []transport.Try
	began     time.Time
	ended     time.Time
	start     []byte // of the content, at most maxQuoted, if all of it was read; else nil
}

// judge turns a transport's result into fates.
func judge(p plan, rs []*pb.Recipient, res transport.Result) []fate {
	fates := make([]fate, len(rs))
	for i, r := range rs {
		o := transport.Outcome{Kind: transport.Failed, Status: mail.Status{Code: 451, Enhanced: "4.3.0", Text: "no outcome"}}
		if i < len(res.Outcomes) {
			o = res.Outcomes[i]
		}
		v, _ := classify(o)
		fates[i] = fate{
			rcpt: r, verdict: v, status: o.Status, kind: o.Kind, host: o.Host, peer: o.DSN && v == delivered && wants(r, pb.Notify_NOTIFY_SUCCESS),
			dropped: v == delivered && p.decision.Via.Scheme == directory.SchemeDiscard,
		}
	}
	return fates
}

// expire turns what is still deferred into bounces, when there is no time
// left for another attempt. What may have been delivered keeps its chance to
// be known only by the peer; it ends as well.
func (t *trip) expire() {
	for i := range t.fates {
		if f := &t.fates[i]; f.verdict == deferred {
			f.verdict, f.expired = bounced, true
		}
	}
}

// rest is the leg of the recipients that are still deferred; nil: none. It is
// due by the queue's schedule, and at the end of its lifetime at the latest.
func (t *trip) rest() *pb.Leg {
	var left []*pb.Recipient
	unconfirmed, cut := false, true
	var last fate
	for _, f := range t.fates {
		if f.verdict != deferred {
			continue
		}
		left = append(left, f.rcpt)
		last = f
		unconfirmed = unconfirmed || f.kind == transport.Unconfirmed
		cut = cut && f.kind == transport.Cut
	}
	if left == nil {
		return nil
	}
	l := onward(t.leg, t.plan, t.number)
	l.Recipients, l.Spills, l.Owed, l.Reason = left, 0, false, pb.Reason_REASON_DEFERRED
	if cut {
		l.DueMs = t.ended.Add(directory.CutWait).UnixMilli()
		return l
	}
	l.Attempt++
	l.Last, l.LastHost = recorded(last.status), ""
	if last.kind == transport.Replied { // else the words are ours
		l.LastHost = valid(last.host)
	}
	end := expires(l, t.plan.queue)
	due := t.plan.queue.Schedule.NextSpread(time.UnixMilli(l.BornMs), t.ended, int(l.Attempt), l.MessageId, end)
	if unconfirmed {
		l.Reason = pb.Reason_REASON_UNCONFIRMED
		due = later(due, t.ended.Add(unconfirmedWait))
	}
	l.DueMs = inTime(due, end, t.ended).UnixMilli()
	return l
}

// inTime moves a due time to the end of the lifetime, where it is settled, if
// that comes first.
func inTime(due, end, now time.Time) time.Time {
	if end.After(now) && due.After(end) {
		return end
	}
	return due
}

// onward is a leg's next step: as it is, with what was decided now.
func onward(l *pb.Leg, p plan, number uint64) *pb.Leg {
	next := proto.CloneOf(l)
	next.Step++
	next.Tenant, next.Directory = p.tenant, number
	next.Route = cmp.Or(p.decision.Route, l.Route)
	return next
}

// waitTopic is the delay topic for a leg that is due.
func waitTopic(l *pb.Leg, now time.Time) string {
	topic, _ := schemas.Delay(max(0, time.UnixMilli(l.DueMs).Sub(now)))
	return topic
}

// valid makes text that came from outside fit for a record.
func valid(s string) string { return strings.ToValidUTF8(s, "?") }
