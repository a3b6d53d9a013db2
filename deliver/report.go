package deliver

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"slices"

	"qstream/bus"
	"qstream/deliver/dsn"
	pb "qstream/schemas/qstream/v1"
)

const (
	maxQuoted = 64 << 10 // of a message that goes along whole (RET=FULL)
	maxHeader = 16 << 10 // of a header that goes along
)

// reports are the records of the reports that a trip asks for, and of those
// that policy withholds.
func (d *Deliverer) reports(ctx context.Context, tr *trip, rest *pb.Leg) []bus.Record {
	var out []bus.Record
	for _, n := range tr.notices(rest, d.cfg.DelayAfter) {
		id := dsn.ID(tr.leg.MessageId, tr.leg.Number, tr.leg.Step, n.kind, tr.stored)
		if n.policy == "" && !d.limiter.Allow(tr.plan.tenant, n.to, d.hourly(tr.plan.tenant)) {
			n.policy = policyRate
		}
		if n.policy != "" {
			d.metrics.withheld.WithLabelValues(policyNames[n.policy]).Inc()
			out = append(out, bus.NewEvent(withheld(tr, n, id)))
			continue
		}
		d.metrics.reports.WithLabelValues(n.kind.String()).Inc()
		out = append(out, bus.NewReinject(d.report(ctx, tr, n, id)), bus.NewEvent(reported(tr, n, id)))
	}
	return out
}

// hourly is how many reports a recipient gets from a tenant.
func (d *Deliverer) hourly(tenant string) int {
	if t := d.deps.Directory.Snapshot().Tenant(tenant); t != nil {
		return t.DSNRate
	}
	return directoryDSNRate
}

// directoryDSNRate is the limit for a tenant that was deleted meanwhile.
const directoryDSNRate = 100

// report is a report as it is put in.
func (d *Deliverer) report(ctx context.Context, tr *trip, n notice, id string) *pb.Reinject {
	l := tr.leg
	r := tr.report(n, id, d.me(tr.plan.queue))
	build := dsn.Build
	if tr.plan.queue.QSBMF && n.kind == dsn.Failed {
		build = dsn.QSBMF
	}
	whole := n.kind == dsn.Failed && wantsFull(l, tr.plan.queue.QSBMF)
	r.Original = d.original(ctx, tr, whole)
	data := build(r)
	content, err := d.store(ctx, id, tr.plan.queue.ContentClass, data)
	if err != nil {
		d.deps.Log.Warn("report goes without the message", "stage", stageName, "msg_id", l.MessageId, "err", err)
		r.Original = dsn.Original{}
		data = build(r)
		content = inline(data)
	}
	re := &pb.Reinject{
		Id: id, Origin: pb.Origin_ORIGIN_DSN, ParentId: l.MessageId, ParentLeg: l.Number,
		Envelope: &pb.Envelope{
			Recipients: []*pb.Recipient{{Address: n.to}}, Smtputf8: l.Smtputf8, Body: bodyOf(data),
		},
		Content: content, Tenant: tr.plan.tenant, Directory: tr.number, HeaderMessageId: "<" + id + "@" + r.Me + ">",
		Session: &pb.Session{Protocol: pb.Protocol_PROTOCOL_INTERNAL, Tenant: tr.plan.tenant},
	}
	if !whole || scanned(l) {
		re.Scan = &pb.Scan{State: pb.ScanState_SCAN_STATE_EXEMPT}
	}
	if n.double {
		re.Prepend = []byte(doubleMark)
	}
	return re
}

// wantsFull: all of the message only where it was asked for (RFC 3461 4.3);
// QSBMF always carries it,
// but for what scanning found something in.
func wantsFull(l *pb.Leg, qsbmf bool) bool {
	return !suspicious(l) && (l.Ret == pb.Ret_RET_FULL || qsbmf && l.Ret != pb.Ret_RET_HDRS) &&
		l.Content.Size+int64(len(l.Prepend)) <= maxQuoted
}

func bodyOf(data []byte) pb.Body {
	if dsn.EightBit(data) {
		return pb.Body_BODY_8BITMIME
	}
	return pb.Body_BODY_7BIT
}

// store keeps a report: small ones travel in their record.
func (d *Deliverer) store(ctx context.Context, id, class string, data []byte) (*pb.Content, error) {
	if len(data) <= bus.InlineLimit {
		return inline(data), nil
	}
	b := d.deps.Bus.Create(ctx, id, class)
	if _, err := b.Write(data); err != nil {
		b.Abort()
		return nil, err
	}
	return b.Commit()
}

func inline(data []byte) *pb.Content {
	sum := sha256.Sum256(data)
	return &pb.Content{Where: &pb.Content_Inline{Inline: data}, Size: int64(len(data)), Sha256: sum[:]}
}

// original is what of a message goes along. A message that can't be read is
// reported without it.
func (d *Deliverer) original(ctx context.Context, tr *trip, full bool) dsn.Original {
	limit := maxHeader
	if full {
		limit = maxQuoted
	}
	data := tr.start
	if data == nil {
		var err error
		if data, err = d.startOf(ctx, tr.leg, limit); err != nil {
			return dsn.Original{}
		}
	}
	data = slices.Concat(tr.leg.Prepend, data[:min(len(data), limit+1)])
	if full {
		return dsn.Original{Data: data, Full: true}
	}
	return dsn.Header(data, limit)
}

// startOf reads content up to just beyond a limit.
func (d *Deliverer) startOf(ctx context.Context, l *pb.Leg, limit int) ([]byte, error) {
	r, err := d.content(l)(ctx)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(r, int64(limit+1)))
	return data, errors.Join(err, r.Close())
}

// reported tells of a report.
func reported(tr *trip, n notice, id string) *pb.Event {
	e := event(pb.EventType_EVENT_TYPE_DSN, tr.leg, tr.plan, tr.number, tr.ended)
	e.ChildId, e.Text = id, n.kind.String()
	for _, f := range n.fates {
		e.Outcomes = append(e.Outcomes, &pb.Outcome{Number: f.rcpt.Number, Address: f.rcpt.Address, Status: recorded(f.status)})
	}
	return e
}

// withheld tells of a report that was not made: it ends before it began.
func withheld(tr *trip, n notice, id string) *pb.Event {
	return &pb.Event{
		Type: pb.EventType_EVENT_TYPE_DISCARDED, AtMs: tr.ended.UnixMilli(), MessageId: id, ParentId: tr.leg.MessageId,
		Origin: pb.Origin_ORIGIN_DSN, Tenant: tr.plan.tenant, Queue: tr.leg.Queue, Directory: tr.number,
		Outcomes: []*pb.Outcome{{Address: n.to}}, Text: n.policy, Stage: stageName,
	}
}
