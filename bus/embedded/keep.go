package embedded

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"qstream/bus"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
)

// How often and beyond which age housekeeping trims.
const (
	keepEvery = time.Hour
	keepAge   = 24 * time.Hour
)

// Keeping is what housekeeping needs to know.
type Keeping struct {
	Bus *bus.Bus
	// Topics are all topics of the installation at this moment, those of
	// retired queues included: what waits there keeps its content.
	Topics func() []schemas.Topic
	Now    func() time.Time // default time.Now
}

// Keep trims what is older than a day and what no waiting mail needs, at once
// and then every hour, until ctx ends: messages, content, and legs that have
// moved on. Events and greylists go too while more than half of the size cap is
// taken; else, as the rest, when their retention is over: the broker's own cleaner
// is off, since it may empty a partition. Where a vault of lawful taps writes,
// messages and content stay for their retention, too, whatever it says: its sinks
// may be away. While more than half of the cap is taken they go by days, the oldest
// first, down to one. A kill of the process undoes trimming, so that it is repeated
// after a start.
func (b *Broker) Keep(ctx context.Context, k Keeping) error {
	if k.Now == nil {
		k.Now = time.Now
	}
	for {
		if err := b.keepOnce(ctx, k); err != nil && ctx.Err() == nil {
			b.cfg.Log.Warn("housekeeping failed, trying again later", "err", err)
		}
		t := time.NewTimer(keepEvery)
		select {
		case <-ctx.Done():
			t.Stop()
			return nil
		case <-t.C:
		}
	}
}

func (b *Broker) keepOnce(ctx context.Context, k Keeping) error {
	topics := k.Topics()
	n := &needs{bus: k.Bus, start: map[string]map[int32]int64{}, from: map[string]map[int32]int64{}}
	if err := n.gather(ctx, topics); err != nil {
		return err
	}
	mail, err := n.mailAge(ctx, topics, k.Now())
	if err != nil {
		return err
	}
	tight, err := b.tight()
	if err != nil {
		return err
	}
	// What can't be trimmed keeps nobody else's.
	var failed error
	for _, t := range topics {
		failed = errors.Join(failed, n.trim(ctx, t, k.Now(), kept(t, tight, mail)))
	}
	for tight && mail > keepAge {
		mail = max(mail-keepAge, keepAge)
		for _, t := range topics {
			if !isMail(t) {
				continue
			}
			failed = errors.Join(failed, n.trim(ctx, t, k.Now(), kept(t, tight, mail)))
		}
		if tight, err = b.tight(); err != nil {
			return err
		}
	}
	return errors.Join(failed, b.Barrier(ctx))
}

// tight reports whether more than half of the size cap is taken.
func (b *Broker) tight() (bool, error) {
	taken, err := b.Size()
	return taken > b.cfg.MaxBytes/2, err
}

// Keeps is for how long mail is kept at least that nobody waits for, whatever
// its topics say; 0: as they do. It is for who reads mail later, as a vault does.
func (b *Broker) Keeps() time.Duration {
	if tight, err := b.tight(); err != nil || tight {
		return keepAge
	}
	return 0
}

// kept is for how long a topic keeps what nobody needs; mail: for how long those
// of messages and content do. What orders, states and proofs are made of stays as
// long as its retention says: who comes back after days needs it.
func kept(t schemas.Topic, tight bool, mail time.Duration) time.Duration {
	switch value := strings.TrimPrefix(t.Value, "qstream.v1."); {
	case isMail(t):
		return mail
	case value == "Leg" || value == "Rescan", tight && (value == "Event" || value == "Greylisted"):
		return keepAge
	}
	return t.Retention
}

// isMail is whether a topic holds messages or their content.
func isMail(t schemas.Topic) bool {
	switch strings.TrimPrefix(t.Value, "qstream.v1.") {
	case "Received", "Reinject", "Chunk":
		return true
	}
	return false
}

// mailAge is for how long messages and content are kept: a day, or for their
// retention if a vault wrote within that. It writes whether there are orders or
// not, so that what is kept doesn't tell.
func (n *needs) mailAge(ctx context.Context, topics []schemas.Topic, now time.Time) (time.Duration, error) {
	at := slices.IndexFunc(topics, func(t schemas.Topic) bool { return t.Name == schemas.Received })
	if at < 0 || topics[at].Retention <= keepAge {
		return keepAge, nil
	}
	since, err := n.bus.Since(ctx, schemas.VaultOrders, now.Add(-topics[at].Retention))
	if err != nil {
		return 0, err
	}
	ends, err := n.bus.Ends(ctx, schemas.VaultOrders)
	if err != nil {
		return 0, err
	}
	for p, end := range ends {
		if since[p] < end {
			return topics[at].Retention, nil
		}
	}
	return keepAge, nil
}

// trim removes what is older than age and not needed; below 0: nothing.
func (n *needs) trim(ctx context.Context, t schemas.Topic, now time.Time, age time.Duration) error {
	if age < 0 {
		return nil
	}
	below, err := n.below(ctx, t, now.Add(-age))
	if err != nil {
		return err
	}
	return n.bus.Trim(ctx, t.Name, below)
}

// needs are the oldest offsets that waiting mail refers to.
type needs struct {
	bus   *bus.Bus
	start map[string]map[int32]int64 // the oldest offsets that are there
	from  map[string]map[int32]int64
}

// at notes an offset. What is gone already needs nothing.
func (n *needs) at(topic string, partition int32, offset int64) {
	if offset < n.start[topic][partition] {
		return
	}
	if n.from[topic] == nil {
		n.from[topic] = map[int32]int64{}
	}
	if was, ok := n.from[topic][partition]; !ok || offset < was {
		n.from[topic][partition] = offset
	}
}

// gather notes what all waiting mail needs. What moves from topic to topic
// meanwhile leaves a record behind the ends of before, which are read last.
func (n *needs) gather(ctx context.Context, topics []schemas.Topic) error {
	byGroup := map[string][]string{}
	var moving []string
	ends := map[string]map[int32]int64{}
	for _, t := range topics {
		start, err := n.bus.Starts(ctx, t.Name)
		if err != nil {
			return err
		}
		n.start[t.Name] = start
		for _, g := range t.Groups {
			byGroup[g] = append(byGroup[g], t.Name)
		}
		if len(t.Groups) == 0 {
			continue
		}
		end, err := n.bus.Ends(ctx, t.Name)
		if err != nil {
			return err
		}
		ends[t.Name] = end
		moving = append(moving, t.Name)
	}
	for group, names := range byGroup {
		if err := n.bus.Waiting(ctx, group, names, bus.Look{}, n.note); err != nil {
			return fmt.Errorf("what waits for %s: %w", group, err)
		}
	}
	if _, err := n.bus.Dead(ctx, n.noteDead); err != nil {
		return err
	}
	if err := n.noteKept(ctx, topics); err != nil {
		return fmt.Errorf("what is held for archives: %w", err)
	}
	return n.bus.Read(ctx, moving, bus.Start{Offset: ends}, n.note)
}

func (n *needs) note(r bus.Record) error {
	n.at(r.Topic, r.Partition, r.Offset)
	typ := ""
	for _, h := range r.Headers {
		if h.Key == bus.HeaderType {
			typ = string(h.Value)
		}
	}
	n.noteValue(r.Topic, typ, r.Value)
	return nil
}

// noteKept notes content that was copied to hold for archives whose sinks are
// away: only their states refer to it.
func (n *needs) noteKept(ctx context.Context, topics []schemas.Topic) error {
	commits := map[string]map[int32]int64{} // by topic
	return n.bus.Read(ctx, []string{schemas.Archives}, bus.Start{}, func(r bus.Record) error {
		m, err := schemas.Decode(r.Topic, "", r.Value)
		s, ok := m.(*pb.ArchiveState)
		if err != nil || !ok || s.Offset == 0 || len(s.Kept.GetOffsets()) == 0 {
			return nil
		}
		topic := schemas.Tap(s.Archive)
		if !slices.ContainsFunc(topics, func(t schemas.Topic) bool { return t.Name == topic }) {
			return nil // deleted
		}
		if commits[topic] == nil {
			if commits[topic], err = n.bus.Committed(ctx, schemas.SinkGroup(s.Archive), topic); err != nil {
				return err
			}
		}
		if s.Offset > commits[topic][s.Partition] {
			n.at(s.Kept.Topic, s.Kept.Partition, s.Kept.Offsets[0])
		}
		return nil
	})
}

func (n *needs) noteDead(d bus.Dead) error {
	// Its content may be inline in the record that it was.
	n.at(d.Record.Topic, d.Record.Partition, d.Record.Offset)
	n.noteValue(d.Record.Topic, "", d.Record.Value)
	return nil
}

func (n *needs) noteValue(topic, typ string, value []byte) {
	m, err := schemas.Decode(topic, typ, value)
	if err != nil {
		return // garbage refers to nothing
	}
	var ref *pb.ContentRef
	switch m := m.(type) {
	case *pb.Leg:
		ref = m.Content
	case *pb.Received:
		ref = m.GetContent().GetRef()
	case *pb.Reinject:
		ref = m.GetContent().GetRef()
	case *pb.Tapped:
		ref = m.Content
	}
	if ref != nil && len(ref.Offsets) > 0 {
		n.at(ref.Topic, ref.Partition, ref.Offsets[0])
	}
}

// below are the offsets under which nothing of a topic is needed: it is older
// than before, its groups have committed past it, and nothing refers to it.
// The newest record always stays: a partition without any starts again at
// offset 0 when the broker does, behind the commits of its groups.
func (n *needs) below(ctx context.Context, t schemas.Topic, before time.Time) (map[int32]int64, error) {
	below, err := n.bus.Since(ctx, t.Name, before)
	if err != nil {
		return nil, err
	}
	ends, err := n.bus.Ends(ctx, t.Name)
	if err != nil {
		return nil, err
	}
	for p := range below {
		below[p] = min(below[p], ends[p]-1)
	}
	for p, o := range n.from[t.Name] {
		below[p] = min(below[p], o)
	}
	for _, group := range t.Groups {
		commits, err := n.bus.Committed(ctx, group, t.Name)
		if err != nil {
			return nil, err
		}
		for p := range below {
			// A group without a place stands still there until it is mended.
			below[p] = min(below[p], commits[p])
		}
	}
	for p, o := range below {
		if o <= n.start[t.Name][p] {
			delete(below, p)
		}
	}
	return below, nil
}
