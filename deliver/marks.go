package deliver

import (
	"context"

	"google.golang.org/protobuf/proto"

	"qstream/directory"
	pb "qstream/schemas/qstream/v1"
)

// mark journals what was delivered. The journal's failure changes nothing
// about the delivery: it is only more likely to be repeated after a crash.
func (d *Deliverer) mark(ctx context.Context, t *task, tr *trip) {
	e := tr.fresh()
	if e == nil {
		return
	}
	ctx, cancel := outlast(ctx)
	defer cancel()
	result, err := proto.Marshal(e)
	if err == nil {
		err = t.job.Mark(ctx, result)
	}
	if err != nil {
		d.metrics.journal.Inc()
		d.deps.Log.Error("delivery can't be journaled", "stage", stageName, "msg_id", t.leg.MessageId,
			"tenant", t.leg.Tenant, "queue", t.leg.Queue, "err", err)
	}
}

// fresh is the delivered event of what this attempt delivered; nil: nothing.
func (t *trip) fresh() *pb.Event {
	now := *t
	now.fates = nil
	for _, f := range t.fates {
		if f.verdict == delivered && !f.marked {
			f.dropped = false
			now.fates = append(now.fates, f)
		}
	}
	return now.tell(pb.EventType_EVENT_TYPE_DELIVERED, nil)
}

// honour takes over what the journal says was delivered, and returns the
// recipients that are left.
func (t *trip) honour(marks [][]byte) []*pb.Recipient {
	done := map[uint32]fate{}
	for _, m := range marks {
		var e pb.Event
		if proto.Unmarshal(m, &e) != nil || e.MessageId != t.leg.MessageId {
			continue
		}
		t.host, t.ip, t.tls = e.Host, e.HostIp, e.TlsVersion
		for _, o := range e.Outcomes {
			done[o.Number] = fate{verdict: delivered, status: status(o.Status), marked: true, peer: e.Text == peerReports}
		}
	}
	var left []*pb.Recipient
	for _, r := range t.leg.Recipients {
		f, ok := done[r.Number]
		if !ok {
			left = append(left, r)
			continue
		}
		f.rcpt = r
		f.dropped = t.plan.decision.Via.Scheme == directory.SchemeDiscard
		t.fates = append(t.fates, f)
	}
	return left
}
