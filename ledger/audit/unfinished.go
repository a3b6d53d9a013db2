package audit

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"

	"qstream/bus"
	"qstream/directory"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
)

// row is one kind of topic whose unfinished records wait for a group: the
// table of where mail can be. Dead records, which no group reads, are beside it.
type row struct {
	group  string
	topics []string
}

// rows is the table. A new stage's topics are one more row, and a place.
func rows(s *directory.Snapshot) []row {
	rs := []row{
		{schemas.RouterGroup, []string{schemas.Received, schemas.Reinject}},
		{schemas.DelayGroup, append(schemas.DelayTopics(), schemas.Parked, schemas.Quarantine)},
	}
	pools, scans := map[string][]string{}, map[string][]string{}
	for _, q := range slices.Concat(s.Queues(), s.Retired()) {
		pools[q.Pool] = append(pools[q.Pool], q.Topic())
		if q.Scanned {
			scans[q.Pool] = append(scans[q.Pool], q.ScanTopic())
		}
	}
	for _, pool := range slices.Sorted(maps.Keys(pools)) {
		rs = append(rs, row{schemas.DeliverGroup(pool), pools[pool]})
		if scans[pool] != nil {
			rs = append(rs, row{schemas.ScannerGroup(pool), scans[pool]})
		}
	}
	return rs
}

// rows are those of the topics that there are; one that is gone is a gap, but
// for a queue that was purged: somebody has cleared it away.
func (t Topics) rows(ctx context.Context) ([]row, []Gap, error) {
	s := t.Directory()
	rs := rows(s)
	var all []string
	for _, r := range rs {
		all = append(all, r.topics...)
	}
	there, err := t.Bus.Existing(ctx, all)
	if err != nil || len(there) == len(all) {
		return rs, nil, err
	}
	purged := map[string]bool{}
	for _, q := range s.Retired() {
		purged[q.Topic()], purged[q.ScanTopic()] = true, true
	}
	var gaps []Gap
	for i, r := range rs {
		rs[i].topics = slices.DeleteFunc(r.topics, func(topic string) bool {
			gone := !slices.Contains(there, topic)
			if gone && !purged[topic] {
				gaps = append(gaps, Gap{Topic: topic, Partition: -1, Group: r.group})
			}
			return gone
		})
	}
	return slices.DeleteFunc(rs, func(r row) bool { return len(r.topics) == 0 }), gaps, nil
}

// place is the kind of a topic.
func place(topic string) string {
	switch topic {
	case schemas.Received:
		return AtReceived
	case schemas.Reinject:
		return AtReinject
	case schemas.Parked:
		return AtParked
	case schemas.Quarantine:
		return AtQuarantine
	}
	if strings.HasPrefix(topic, "qstream.scan.") {
		return AtScan
	}
	if slices.Contains(schemas.DelayTopics(), topic) {
		return AtDelay
	}
	return AtQueue
}

// Topics reads the unfinished records of a system's topics. Directory is the
// newest snapshot, which says what queues there are.
type Topics struct {
	Bus       *bus.Bus
	Directory func() *directory.Snapshot
	Now       func() time.Time // default time.Now
}

var _ Records = Topics{}

// Passes implements Records.
func (t Topics) Passes(err error) bool { return bus.Temporary(err) }

// Decided implements Records.
func (t Topics) Decided(ctx context.Context) error {
	rs, _, err := t.rows(ctx)
	if err != nil {
		return err
	}
	topics := []string{schemas.Events, schemas.Deadletter}
	for _, r := range rs {
		topics = append(topics, r.topics...)
	}
	_, err = t.Bus.Decided(ctx, topics)
	return err
}

// Gaps implements Records.
func (t Topics) Gaps(ctx context.Context) ([]Gap, error) {
	rs, all, err := t.rows(ctx)
	if err != nil {
		return nil, err
	}
	for _, r := range rs {
		gaps, err := t.Bus.Gaps(ctx, r.group, r.topics)
		if err != nil {
			return nil, fmt.Errorf("commits of %s: %w", r.group, err)
		}
		for _, g := range gaps {
			all = append(all, Gap{g.Topic, g.Partition, g.Group, g.Commit, g.Start, g.End})
		}
	}
	return all, nil
}

// Unfinished implements Records.
func (t Topics) Unfinished(ctx context.Context, how bus.Look, each func(Unfinished) error) (unreadable int, err error) {
	rs, _, err := t.rows(ctx)
	if err != nil {
		return 0, err
	}
	for _, r := range rs {
		err := t.Bus.Waiting(ctx, r.group, r.topics, how, func(rec bus.Record) error {
			us, ok := waiting(rec.Topic, headerType(rec), rec.Value)
			if !ok {
				unreadable++
			}
			for _, u := range us {
				u.Place, u.Fresh = place(rec.Topic), u.Fresh || rec.Topic == schemas.Received
				u.Topic, u.Partition, u.Offset = rec.Topic, rec.Partition, rec.Offset
				if err := each(u); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return 0, fmt.Errorf("what waits for %s: %w", r.group, err)
		}
	}
	garbage, err := t.Bus.Dead(ctx, func(d bus.Dead) error {
		us, ok := waiting(d.Record.Topic, "", d.Record.Value)
		if !ok || d.Record.Cut > 0 {
			unreadable++
			return nil
		}
		for _, u := range us {
			u.Place, u.Fresh = AtDeadletter, u.Fresh || d.Record.Topic == schemas.Received
			u.Topic, u.Partition, u.Offset = schemas.Deadletter, d.Partition, d.Offset
			if err := each(u); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("dead records: %w", err)
	}
	return unreadable + garbage, nil
}

func headerType(r bus.Record) string {
	for _, h := range r.Headers {
		if h.Key == bus.HeaderType {
			return string(h.Value)
		}
	}
	return ""
}

// waiting are the recipients of an unfinished record; ok is false if it can't
// be read as mail.
func waiting(topic, typ string, value []byte) (us []Unfinished, ok bool) {
	m, err := schemas.Decode(topic, typ, value)
	if err != nil {
		return nil, false
	}
	var id, tenant, queue string
	var rs []*pb.Recipient
	fresh := false
	switch m := m.(type) {
	case *pb.Leg:
		id, tenant, queue, rs = m.MessageId, m.Tenant, m.Queue, m.Recipients
	case *pb.Received:
		id, tenant, rs = m.Id, m.GetSession().GetTenant(), m.GetEnvelope().GetRecipients()
	case *pb.Reinject:
		id, tenant, rs = m.Id, m.Tenant, m.GetEnvelope().GetRecipients()
		// What is put in again by hand is told by no event before the router.
		fresh = m.Origin != pb.Origin_ORIGIN_DSN && m.Origin != pb.Origin_ORIGIN_REROUTE && m.Origin != pb.Origin_ORIGIN_FORWARD
	}
	made, err := ulid.ParseStrict(id)
	if err != nil || len(rs) == 0 {
		return nil, false
	}
	us = make([]Unfinished, len(rs))
	for i, r := range rs {
		us[i] = Unfinished{ID: made, Number: r.Number, Address: r.Address, Tenant: tenant, Queue: queue, Fresh: fresh}
	}
	return us, true
}

// errEnough ends a reading early.
var errEnough = errors.New("enough was read")

// Oldest implements Records: the zero time if no event was ever deleted.
func (t Topics) Oldest(ctx context.Context) (time.Time, error) {
	starts, err := t.Bus.Since(ctx, schemas.Events, time.Time{})
	if err != nil {
		return time.Time{}, err
	}
	trimmed := map[int32]bool{}
	for p, o := range starts {
		if o > 0 {
			trimmed[p] = true
		}
	}
	var oldest time.Time
	if len(trimmed) == 0 {
		return oldest, nil
	}
	err = t.Bus.Read(ctx, []string{schemas.Events}, bus.Start{}, func(r bus.Record) error {
		if trimmed[r.Partition] {
			delete(trimmed, r.Partition)
			if r.Time.After(oldest) {
				oldest = r.Time
			}
		}
		if len(trimmed) == 0 {
			return errEnough
		}
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) {
		return oldest, fmt.Errorf("look for the oldest event: %w", err)
	}
	if len(trimmed) == 0 {
		return oldest, nil
	}
	// A partition that was emptied tells nothing of what was before now.
	if t.Now != nil {
		return t.Now(), nil
	}
	return time.Now(), nil
}
