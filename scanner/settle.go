package scanner

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"qstream/bus"
	"qstream/directory"
	"qstream/directory/ruling"
	"qstream/mail"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
)

// scene is where and when a leg was scanned.
type scene struct {
	snap   *directory.Snapshot
	policy *directory.ScanPolicy // that is asked
	own    string                // the leg's own policy; empty: none
	queue  *directory.Queue      // the leg's
	stored time.Time             // append time of the leg's record
	began  time.Time
	now    time.Time
}

// part are the recipients of a leg that go the same way.
type part struct {
	ruling.Ruling
	recipients []*pb.Recipient
}

func partsOf(rs []*pb.Recipient, rulings []ruling.Ruling) []*part {
	var parts []*part
next:
	for i, r := range rs {
		for _, p := range parts {
			if p.Like(rulings[i]) {
				p.recipients = append(p.recipients, r)
				continue next
			}
		}
		parts = append(parts, &part{rulings[i], []*pb.Recipient{r}})
	}
	return parts
}

// lowest is the smallest recipient number.
func lowest(rs []*pb.Recipient) uint32 {
	n := rs[0].Number
	for _, r := range rs {
		n = min(n, r.Number)
	}
	return n
}

// conclude is what follows from an answer that waits for no engine: the records
// and the actions, for the metrics.
func conclude(l *pb.Leg, a answer, sc scene) (out []bus.Record, actions []string) {
	least := lowest(l.Recipients)
	for _, p := range partsOf(l.Recipients, a.rulings) {
		next := proto.CloneOf(l)
		next.Step++
		next.Recipients, next.Directory, next.Spills = p.recipients, sc.snap.Number, 0
		if n := lowest(p.recipients); n != least {
			next.Number = schemas.SplitLegs + l.Reroutes*schemas.RerouteSpan + n
		}
		next.Scan = &pb.Scan{
			State: pb.ScanState_SCAN_STATE_DONE, Policy: sc.policy.Name, Directory: sc.snap.Number, AtMs: sc.now.UnixMilli(),
			Verdicts: ruling.Recorded(a.verdicts, 0), Action: p.Action, Finding: p.Finding, Changes: slices.Concat(l.GetScan().GetBefore().GetChanges(), ruling.Changes(p.Ruling, a.verdicts, sc.policy)),
			OfRule: l.GetScan().GetOwed() != "", Before: l.GetScan().GetBefore(),
		}
		out = append(out, p.records(next, a, sc)...)
		actions = append(actions, p.Action)
	}
	return out, actions
}

// records bring the part of a leg to where its action leads.
func (p *part) records(l *pb.Leg, a answer, sc scene) []bus.Record {
	switch p.Action {
	case directory.ActQuarantine:
		l.Scan.Changes = l.Scan.GetBefore().GetChanges() // its own are made anew if it is scanned again
		return quarantine(l, a, sc)
	case directory.ActDiscard:
		return []bus.Record{bus.NewEvent(discarded(l, a, sc, ""))}
	case directory.ActForward:
		return forward(l, p, a, sc)
	case directory.ActReject:
		l.Refusal = &pb.Status{Code: uint32(p.Status.Code), Enhanced: p.Status.Enhanced, Text: p.Status.Text}
	case directory.ActRedirect:
		// The queue is there: the policy is of the same snapshot.
		q := sc.snap.Queue(sc.policy.Rules[p.Rule].Queue)
		l.Queue, l.Generation, l.Scan.Queue = q.Name, q.Generation, q.Name
	}
	e := event(pb.EventType_EVENT_TYPE_SCANNED, l, a, sc)
	topic := schemas.Queue(l.Queue, l.Generation)
	if l.Refusal == nil { // after a rule's policy the leg's own is asked
		topic = schemas.LegTopic(sc.own, l)
		e.Scan.State = l.Scan.State
	}
	return []bus.Record{bus.NewLeg(topic, l), bus.NewEvent(e)}
}

func quarantine(l *pb.Leg, a answer, sc scene) []bus.Record {
	l.Reason, l.ParkedMs, l.DueMs = pb.Reason_REASON_QUARANTINE, sc.now.UnixMilli(), sc.now.Add(sc.policy.Keep).UnixMilli()
	e := event(pb.EventType_EVENT_TYPE_QUARANTINED, l, a, sc)
	e.DueMs, e.Reason = l.DueMs, l.Reason
	return []bus.Record{bus.NewQuarantined(l), bus.NewEvent(e)}
}

// policyText is how events name the policy that ended mail.
func policyText(name, more string) string {
	if more != "" {
		more = ": " + more
	}
	return "policy: scan " + name + more
}

func discarded(l *pb.Leg, a answer, sc scene, more string) *pb.Event {
	e := event(pb.EventType_EVENT_TYPE_DISCARDED, l, a, sc)
	e.Text = policyText(sc.policy.Name, more)
	return e
}

// forward ends the recipients and puts the message in again for somebody else,
// exempt from scanning: it can't come here again. Its id follows from what it
// comes from, so that a repetition is recognised.
func forward(l *pb.Leg, p *part, a answer, sc scene) []bus.Record {
	to := sc.policy.Rules[p.Rule].Address
	id := mail.DerivedID(sc.stored, fmt.Sprintf("forward\x00%s\x00%d\x00%d", l.MessageId, l.Number, l.Step))
	re := schemas.Forward(l, id, to, sc.policy.Name, l.Scan.Changes, p.Finding, sc.snap.Number)
	e := event(pb.EventType_EVENT_TYPE_FORWARDED, l, a, sc)
	e.ChildId, e.Outcomes = re.Id, nil
	return []bus.Record{bus.NewEvent(e), bus.NewEvent(discarded(l, a, sc, "forwarded to "+to)), bus.NewReinject(re)}
}

// Waits for an engine that gives no verdict.
const (
	waitFirst = 10 * time.Second
	waitLast  = 15 * time.Minute
)

// spread is up to half of a wait, other for each leg and each time: mail that an
// engine failed together with what breaks it must not come back beside that again
// and again, until it is taken for poison itself.
func spread(l *pb.Leg, wait time.Duration) time.Duration {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %d %d", l.MessageId, l.Number, l.Step))
	share := float64(binary.BigEndian.Uint32(sum[:])) / (1 << 32)
	return time.Duration(share * float64(wait) / 2)
}

// wait puts a leg off that an engine gave no verdict on. It is due at the end
// of its lifetime at the latest, where delay ends it.
func wait(l *pb.Leg, a answer, sc scene) []bus.Record {
	next := proto.CloneOf(l)
	next.Step++
	next.Directory, next.Reason = sc.snap.Number, pb.Reason_REASON_SCAN
	next.Scan = schemas.Wanted(sc.policy.Name, l.Scan)
	most := min(waitFirst<<min(next.Scan.Waits, 10), waitLast)
	due := sc.now.Add(most - spread(l, most))
	if a.until.After(due) {
		due = a.until.Add(spread(l, 2*waitFirst))
	}
	if next.Scan.Waits++; next.Scan.SinceMs == 0 {
		next.Scan.SinceMs = sc.began.UnixMilli()
	}
	if a.poison {
		next.Scan.Tries++
	}
	if sc.queue != nil {
		end := sc.queue.Expires(time.UnixMilli(l.BornMs), time.Duration(l.StoppedMs)*time.Millisecond, l.ReversePath == "")
		if end.After(sc.now) && due.After(end) {
			due = end
		}
	}
	next.DueMs = due.UnixMilli()
	last := a.verdicts[len(a.verdicts)-1]
	next.Last = &pb.Status{Code: 451, Enhanced: "4.7.1", Text: "not scanned yet: " + last.Engine + " " + last.Reason.String()}
	topic, _ := schemas.Delay(due.Sub(sc.now))
	e := event(pb.EventType_EVENT_TYPE_UNSCANNED, l, a, sc)
	e.Scan = &pb.Scan{State: next.Scan.State, Policy: sc.policy.Name, Verdicts: ruling.Recorded(a.verdicts, 0), Tries: next.Scan.Tries, Waits: next.Scan.Waits}
	e.DueMs, e.Reason, e.Text = next.DueMs, next.Reason, last.Engine+": "+last.Detail
	return []bus.Record{bus.NewWaiting(topic, next), bus.NewEvent(e)}
}
