package ledger

import (
	"context"
	"time"

	"qstream/bus"
	"qstream/directory"
	"qstream/ledger/fold"
	"qstream/mail"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
)

const (
	// tellAgain is how often figures are told that don't change: an edge that
	// starts reads an hour back.
	tellAgain = 10 * time.Minute
	// tellTimeout bounds a round of telling.
	tellTimeout = 10 * time.Second
	// tellBatch is how many records are published together.
	tellBatch = 1000
)

// figure is what was told of an owner.
type figure struct {
	fold.Wait
	oldest int64 // second of birth; 0: none
	at     time.Time
}

func (f figure) same(g figure) bool { return f.Wait == g.Wait && f.oldest == g.oldest }

// telling tells the edges what waits of tenants and users that have a quota.
// What goes wrong is tried again: edges that hear nothing limit nothing.
func (v *view) telling(ctx context.Context) error {
	writer, told := "ledger "+mail.NewID(v.deps.Now()), map[fold.Owner]figure{}
	for warned := false; bus.Pause(ctx, v.cfg.Tell); {
		snap := v.deps.Directory.Snapshot()
		if snap == nil || !snap.Quotas() {
			continue
		}
		asOf, now := v.figures(snap)
		if asOf.IsZero() {
			continue
		}
		err := v.tell(ctx, writer, asOf, now, told)
		if err != nil && ctx.Err() == nil && !warned {
			v.deps.Log.Warn("what waits wasn't told to the edges, trying again", "stage", stageName, "topic", schemas.Usage, "err", err)
		}
		warned = err != nil
	}
	return nil
}

// figures are what waits of who has a quota, and as of when; zero: the view
// isn't complete yet.
func (v *view) figures(snap *directory.Snapshot) (asOf time.Time, now map[fold.Owner]figure) {
	asOf, now = v.follower.Fresh(), map[fold.Owner]figure{}
	v.mu.Lock()
	defer v.mu.Unlock()
	if !v.begun.IsZero() && v.begun.Before(asOf) {
		asOf = v.begun // what came since isn't written
	}
	for o, w := range v.waits {
		if snap.Quota(o.Tenant, o.User) == nil {
			continue
		}
		f := figure{Wait: w.Wait}
		f.oldest, _ = w.Oldest()
		now[o] = f
	}
	return asOf, now
}

// tell publishes what changed, then that this is all, as of a time.
func (v *view) tell(ctx context.Context, writer string, asOf time.Time, now, told map[fold.Owner]figure) error {
	ctx, cancel := context.WithTimeout(ctx, tellTimeout)
	defer cancel()
	for o := range told {
		if _, ok := now[o]; !ok {
			now[o] = figure{}
		}
	}
	var owners []fold.Owner
	for o, f := range now {
		before, ok := told[o]
		if !ok || !f.same(before) || v.deps.Now().Sub(before.at) > tellAgain {
			owners = append(owners, o)
		}
	}
	for len(owners) > 0 {
		some := owners[:min(tellBatch, len(owners))]
		rs := make([]*bus.Record, len(some))
		for i, o := range some {
			f := now[o]
			r := bus.NewUsage(&pb.Usage{
				Kind: pb.UsageKind_USAGE_KIND_WAITING, Writer: writer, Tenant: o.Tenant, User: o.User, AtMs: asOf.UnixMilli(),
				Messages: f.Legs, Recipients: f.Recipients, Bytes: f.Bytes, OldestMs: f.oldest * 1000,
			})
			rs[i] = &r
		}
		if err := v.deps.Bus.Publish(ctx, rs...); err != nil {
			return err
		}
		for _, o := range some {
			f := now[o]
			if f.at = v.deps.Now(); f.same(figure{}) {
				delete(told, o)
			} else {
				told[o] = f
			}
		}
		owners = owners[len(some):]
	}
	r := bus.NewUsage(&pb.Usage{Kind: pb.UsageKind_USAGE_KIND_LEDGER, Writer: writer, AtMs: asOf.UnixMilli()})
	return v.deps.Bus.Publish(ctx, &r)
}
