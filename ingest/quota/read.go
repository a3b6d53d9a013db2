package quota

import (
	"context"
	"time"

	"qstream/bus"
	"qstream/directory"
	"qstream/schemas"
)

// Usage is what one scope uses, for people.
type Usage struct {
	Tenant string `json:"tenant"`
	User   string `json:"user,omitempty"`
	// What is counted: a Kind, or "waiting".
	What string `json:"what"`
	Use
	// Limits: 0 is none.
	Limits Use    `json:"limits"`
	Action string `json:"action"`
	// Of what waits, in seconds; 0: nothing waits for its first attempt.
	Oldest      float64 `json:"oldest_seconds,omitempty"`
	OldestLimit float64 `json:"oldest_limit_seconds,omitempty"`
	// Limit is that which one more message would be above.
	Limit Limit `json:"limit,omitempty"`
}

// Waiting is What of mail that waits.
const Waiting = "waiting"

// Read says what everybody who has a quota uses, as the topic tells now.
// Without a ledger that tells what waits, nothing is said of it.
func Read(ctx context.Context, b *bus.Bus, snap *directory.Snapshot, now func() time.Time) ([]Usage, error) {
	book, err := New(Config{Bus: b, Now: now, Wanted: func(tenant, user string) bool { return snap.Quota(tenant, user) != nil }})
	if err != nil {
		return nil, err
	}
	start := bus.Start{Since: now().Add(-span * time.Minute)}
	if err := b.Read(ctx, []string{schemas.Usage}, start, book.take); err != nil {
		return nil, err
	}
	var all []Usage
	for _, t := range snap.Tenants() {
		if q := t.Quota; q != nil {
			for _, of := range []struct {
				kind   Kind
				limits directory.HourLimits
			}{{In, q.In}, {Out, q.Out}, {ReportsIn, q.Reports}, {ReportsOut, q.Reports}} {
				all = append(all, book.hour(Scope{t.Name, "", of.kind}, of.limits, q.Action))
			}
			all = book.appendWaiting(all, t.Name, "", q)
		}
	}
	for _, d := range snap.Documents() {
		u := snap.Credential(d.Ref.Name)
		if d.Ref.Kind == directory.KindCredential && u != nil && u.Quota != nil {
			all = append(all, book.hour(Scope{u.Tenant, u.User, Out}, u.Quota.Out, u.Quota.Action))
			all = book.appendWaiting(all, u.Tenant, u.User, u.Quota)
		}
	}
	return all, nil
}

func (b *Book) hour(s Scope, l directory.HourLimits, action string) Usage {
	return Usage{
		Tenant: s.Tenant, User: s.User, What: s.Kind.String(), Use: b.Used(s), Limits: Use(l), Action: action,
		Limit: b.Hour(s, l, Use{Messages: 1, Recipients: 1}),
	}
}

func (b *Book) appendWaiting(all []Usage, tenant, user string, q *directory.Quota) []Usage {
	w, ok := b.Waiting(tenant, user)
	if !ok {
		return all
	}
	return append(all, Usage{
		Tenant: tenant, User: user, What: Waiting, Use: Use{w.Messages, w.Recipients, w.Bytes},
		Limits: Use{Messages: q.Waiting.Messages, Bytes: q.Waiting.Bytes}, Action: q.Action,
		Oldest: w.Oldest.Seconds(), OldestLimit: q.Waiting.Oldest.Seconds(), Limit: overWait(q.Waiting, w, 0),
	})
}
