package audit

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/oklog/ulid/v2"
)

// judge holds what waits against the view, in one transaction of its own: as
// of one moment.
func (l *look) judge(ctx context.Context, seq int64, oldest time.Time, s Scope) (*judgement, error) {
	err := l.flush(ctx)
	if err == nil {
		_, err = l.conn.ExecContext(ctx, "COMMIT")
	}
	if err == nil {
		_, err = l.conn.ExecContext(ctx, "BEGIN")
	}
	if err != nil {
		return nil, fmt.Errorf("note what waits: %w", err)
	}
	c := &comparison{look: l, seq: seq, oldest: oldest, scope: s, since: s.Since.Unix() / 3600,
		judgement: &judgement{hours: map[account]*Count{}, waiting: map[string]int64{}}}
	for _, p := range places {
		c.waiting[p] = 0
	}
	for _, step := range []func(context.Context) error{c.accounts, c.counted, c.open, c.surplus} {
		if err := step(ctx); err != nil {
			return nil, fmt.Errorf("hold what waits against the events: %w", err)
		}
	}
	return c.judgement, nil
}

// comparison is a judgement in the making.
type comparison struct {
	*judgement
	look   *look
	seq    int64
	oldest time.Time
	scope  Scope
	since  int64 // hour of scope
}

func (c *comparison) within(tenant string, hour int64) bool {
	return (c.scope.Tenant == "" || c.scope.Tenant == tenant) && (c.scope.Since.IsZero() || hour >= c.since)
}

func (c *comparison) query(ctx context.Context, each func(scan func(...any) error) error, q string, args ...any) error {
	rows, err := c.look.conn.QueryContext(ctx, q, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := each(rows.Scan); err != nil {
			return err
		}
	}
	return rows.Err()
}

// accounts takes what was opened and what ended from the view's sums, and
// looks into the hours where they tell of anything odd.
func (c *comparison) accounts(ctx context.Context) error {
	again, unopened := map[int64]bool{}, map[int64]bool{}
	err := c.query(ctx, func(scan func(...any) error) error {
		var tenant string
		var hour, more int64
		var n Count
		err := scan(&tenant, &hour, &n.Accepted, &n.Generated, &n.Earlier, &n.Delivered, &n.Bounced, &n.Expired, &n.Discarded, &more)
		if err != nil || !c.within(tenant, hour) || n == (Count{}) && more == 0 {
			return err
		}
		again[hour] = again[hour] || more > 0
		unopened[hour] = unopened[hour] || n.Earlier > 0
		*c.at(tenant, hour) = n
		return nil
	}, `SELECT tenant, hour, accepted, generated, unopened, delivered, bounced, expired, discarded, again FROM accounts`)
	if err != nil {
		return err
	}
	for hour := range again {
		if again[hour] {
			if err := c.hour(ctx, hour, Repeated, "r.ends > 1"); err != nil {
				return err
			}
		}
		if unopened[hour] {
			if err := c.hour(ctx, hour, Unannounced, "r.opened = 0"); err != nil {
				return err
			}
		}
	}
	return nil
}

// hour names recipients of messages that were born in an hour.
func (c *comparison) hour(ctx context.Context, hour int64, what, where string) error {
	return c.recipients(ctx, func(r recipient) {
		if what != Unannounced || r.announced(c.oldest) {
			c.findings = append(c.findings, r.finding(what))
		}
	}, `SELECT `+recipientColumns+` FROM recipients r LEFT JOIN legs l ON l.id = r.id AND l.number = r.leg
		WHERE r.id >= ? AND r.id < ? AND `+where, firstOf(hour), firstOf(hour+1))
}

// firstOf is the lowest message id of an hour.
func firstOf(hour int64) []byte {
	var id ulid.ULID
	// It fails only beyond the year 10889.
	_ = id.SetTime(uint64(hour * time.Hour.Milliseconds()))
	return id[:]
}

// counted counts what waits by its records: recipients that the view knows,
// and those that are in front of the router, which no event has told of yet.
func (c *comparison) counted(ctx context.Context) error {
	each := func(untold bool) func(func(...any) error) error {
		return func(scan func(...any) error) error {
			var tenant, place string
			var hour, n int64
			if err := scan(&tenant, &hour, &place, &n); err != nil {
				return err
			}
			if !c.within(tenant, hour) {
				return nil
			}
			c.wait(tenant, hour, place, n)
			if untold {
				c.at(tenant, hour).open(place, n)
			}
			return nil
		}
	}
	err := c.query(ctx, each(false), `SELECT r.tenant, w.hour, w.place, count(*) FROM scratch.waiting w
		JOIN recipients r ON r.id = w.id AND r.number = w.number
		WHERE r.state = 0 GROUP BY 1, 2, 3`)
	if err != nil {
		return err
	}
	return c.query(ctx, each(true), `SELECT w.tenant, w.hour, w.place, count(*) FROM scratch.waiting w
		LEFT JOIN recipients r ON r.id = w.id AND r.number = w.number
		WHERE r.id IS NULL AND w.fresh GROUP BY 1, 2, 3`)
}

// open counts recipients that only their unfinished records tell of.
func (c *Count) open(place string, n int64) {
	if place == AtReinject {
		c.Generated += n
		return
	}
	c.Accepted += n
}

// open finds the open recipients that no unfinished record holds.
func (c *comparison) open(ctx context.Context) error {
	return c.recipients(ctx, func(r recipient) {
		if r.seq <= c.seq {
			c.findings = append(c.findings, r.finding(Missing))
		} else {
			c.wait(r.tenant, hourOf(r.id), Moving, 1)
		}
	}, `SELECT `+recipientColumns+` FROM legs l JOIN recipients r ON r.id = l.id AND r.leg = l.number
		LEFT JOIN scratch.waiting w ON w.id = r.id AND w.number = r.number
		WHERE r.state = 0 AND w.id IS NULL`)
}

// surplus finds what waits though it ended before the records were read, and
// what waits though nobody announced it.
func (c *comparison) surplus(ctx context.Context) error {
	return c.query(ctx, func(scan func(...any) error) error {
		var u Unfinished
		var id []byte
		var last, lastMs, ends sql.NullInt64
		err := scan(&id, &u.Number, &u.Address, &u.Tenant, &u.Queue, &u.Topic, &u.Partition, &u.Offset, &last, &lastMs, &ends)
		if err != nil {
			return err
		}
		copy(u.ID[:], id)
		if !c.within(u.Tenant, hourOf(u.ID)) {
			return nil
		}
		r := recipient{id: u.ID, number: u.Number, address: u.Address, tenant: u.Tenant, queue: u.Queue, last: last.Int64, lastMs: lastMs.Int64, ends: int(ends.Int64)}
		f := r.finding(Undead)
		f.LastSeen = fmt.Sprintf("%s/%d@%d", u.Topic, u.Partition, u.Offset)
		if !last.Valid {
			if f.What = Unannounced; !r.announced(c.oldest) {
				return nil
			}
		}
		c.findings = append(c.findings, f)
		return nil
	}, `SELECT w.id, w.number, w.address, w.tenant, w.queue, w.topic, w.partition, w.offset, r.last, r.last_ms, r.ends
		FROM scratch.waiting w LEFT JOIN recipients r ON r.id = w.id AND r.number = w.number
		WHERE r.id IS NULL AND NOT w.fresh OR r.state <> 0 AND r.seq <= ?`, c.seq)
}
