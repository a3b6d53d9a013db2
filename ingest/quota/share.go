package quota

import (
	"context"
	"errors"
	"time"

	"google.golang.org/protobuf/proto"

	"qstream/bus"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
)

const (
	// tellTimeout bounds one round of telling.
	tellTimeout = 10 * time.Second
	// batch is how many records are published together.
	batch = 1000
	// early is how far ahead of ours another edge's clock may be.
	early = 2
)

// telling tells the others what was counted, and forgets what is over.
func (b *Book) telling(ctx context.Context) {
	tell, sweep := time.NewTicker(b.cfg.Every), time.NewTicker(time.Minute)
	defer tell.Stop()
	defer sweep.Stop()
	for warned := false; ; {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), tellTimeout)
			defer cancel()
			if err := b.tell(last); err != nil {
				b.cfg.Log.Warn("last counts of quotas not told", "stage", "ingest", "topic", schemas.Usage, "err", err)
			}
			return
		case <-sweep.C:
			b.sweep()
		case <-tell.C:
			err := b.tell(ctx)
			if err != nil && !warned && ctx.Err() == nil {
				b.cfg.Log.Warn("counts of quotas not told, trying again", "stage", "ingest", "topic", schemas.Usage, "err", err)
			}
			warned = err != nil
		}
	}
}

// tell publishes what changed since it last did. What isn't acknowledged is
// told again: a record says all of its minute.
func (b *Book) tell(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, tellTimeout)
	defer cancel()
	b.mu.Lock()
	changed := b.changed
	b.changed = nil
	b.mu.Unlock()
	for len(changed) > 0 {
		n := min(batch, len(changed))
		if err := b.tellSome(ctx, changed[:n]); err != nil {
			b.mu.Lock()
			b.changed = append(b.changed, changed...)
			b.mu.Unlock()
			b.metrics.missed.WithLabelValues("publish").Inc()
			return err
		}
		changed = changed[n:]
	}
	return nil
}

func (b *Book) tellSome(ctx context.Context, scopes []Scope) error {
	var rs []*bus.Record
	told := make(map[Scope][]minute, len(scopes))
	b.mu.Lock()
	for _, s := range scopes {
		for _, o := range b.scopes[s].own {
			if o.use == o.told {
				continue
			}
			told[s] = append(told[s], o.minute)
			rs = append(rs, b.record(s, o.minute))
		}
	}
	b.mu.Unlock()
	if len(rs) > 0 {
		if err := b.cfg.Bus.Publish(ctx, rs...); err != nil {
			return err
		}
	}
	now := minuteOf(b.cfg.Now())
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range scopes {
		if b.scopes[s].settle(told[s], now) {
			b.changed = append(b.changed, s)
		}
	}
	return nil
}

// settle notes what was told and forgets minutes that are over and told. It
// reports whether any is left: the scope has to be looked at again.
func (a *account) settle(told []minute, now int64) bool {
	kept := a.own[:0]
	for _, o := range a.own {
		for _, t := range told {
			if t.at == o.at {
				o.told = t.use
			}
		}
		if o.use != o.told || o.at >= now {
			kept = append(kept, o)
		}
	}
	a.own = kept
	return len(kept) > 0
}

func (b *Book) record(s Scope, m minute) *bus.Record {
	r := bus.NewUsage(&pb.Usage{
		Kind: pb.UsageKind(s.Kind), Writer: b.writer, Tenant: s.Tenant, User: s.User, Minute: m.at,
		Messages: m.use.Messages, Recipients: m.use.Recipients, Bytes: m.use.Bytes,
	})
	return &r
}

// Bounds of what is believed of a record.
const (
	maxWriter = 400
	maxName   = 300
)

var errUsage = errors.New("record is no usage")

func decode(r bus.Record) (*pb.Usage, error) {
	u := &pb.Usage{}
	if err := proto.Unmarshal(r.Value, u); err != nil {
		return nil, err
	}
	if u.Writer == "" || len(u.Writer) > maxWriter || len(u.Tenant) > maxName || len(u.User) > maxName {
		return nil, errUsage
	}
	return u, nil
}

// take applies a record of the topic.
func (b *Book) take(r bus.Record) error {
	u, err := decode(r)
	if err != nil {
		b.cfg.Log.Warn("usage record skipped", "stage", "ingest", "topic", r.Topic, "partition", r.Partition, "offset", r.Offset, "err", err)
		return nil
	}
	if u.Writer == b.writer {
		return nil
	}
	switch u.Kind {
	case pb.UsageKind_USAGE_KIND_WAITING, pb.UsageKind_USAGE_KIND_LEDGER:
		b.takeFigures(u)
	case pb.UsageKind_USAGE_KIND_IN, pb.UsageKind_USAGE_KIND_OUT, pb.UsageKind_USAGE_KIND_REPORTS_IN, pb.UsageKind_USAGE_KIND_REPORTS_OUT:
		b.takeMinute(u)
	}
	return nil
}

// takeMinute adds what another edge counted since it last told.
func (b *Book) takeMinute(u *pb.Usage) {
	now := minuteOf(b.cfg.Now())
	if u.Minute > now+early {
		b.metrics.missed.WithLabelValues("clock").Inc()
		return
	}
	if u.Minute <= now-span || !b.cfg.Wanted(u.Tenant, u.User) {
		return
	}
	s := Scope{u.Tenant, u.User, Kind(u.Kind)}
	p := peer{s, u.Writer}
	b.mu.Lock()
	defer b.mu.Unlock()
	last, known := b.peers[p]
	if !known && len(b.peers) >= 4*b.cfg.MaxScopes {
		b.metrics.missed.WithLabelValues("room").Inc()
		return
	}
	if known && u.Minute < last.at {
		return // it was told in full before the next one began
	}
	a := b.account(s)
	if a == nil {
		b.metrics.missed.WithLabelValues("room").Inc()
		return
	}
	use := useOf(u)
	fresh := use
	if known && u.Minute == last.at {
		fresh = use.since(last.use)
	}
	b.peers[p] = minute{u.Minute, use}
	if fresh != (Use{}) {
		a.all.add(u.Minute, fresh)
	}
}
