package bus

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/proto"

	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
)

// Dead is a record on the deadletter topic that nobody has settled.
type Dead struct {
	Partition int32
	Offset    int64
	Time      time.Time // when it was given up
	Record    *pb.Deadletter
}

// Dead calls each for every record that waits on the deadletter topic, oldest
// first, and returns how many records there are no one can read. The topic is
// read twice, since an end follows what it ends: so it never is in memory.
func (b *Bus) Dead(ctx context.Context, each func(Dead) error) (garbage int, err error) {
	ended, seen := map[place]bool{}, offsets{}
	read := func(f func(r Record, m *pb.DeadletterRecord) error) error {
		return b.Read(ctx, []string{schemas.Deadletter}, Start{}, func(r Record) error {
			var m pb.DeadletterRecord
			if proto.Unmarshal(r.Value, &m) != nil {
				m.What = nil
			}
			return f(r, &m)
		})
	}
	err = read(func(r Record, m *pb.DeadletterRecord) error {
		seen.set(r.Topic, r.Partition, r.Offset+1)
		switch what := m.What.(type) {
		case *pb.DeadletterRecord_End:
			ended[place{r.Topic, r.Partition, what.End.Offset}] = true
		case nil:
			garbage++
		}
		return nil
	})
	if err != nil {
		return garbage, err
	}
	return garbage, read(func(r Record, m *pb.DeadletterRecord) error {
		dead := m.GetDead()
		if dead == nil || ended[place{r.Topic, r.Partition, r.Offset}] || r.Offset >= seen[r.Topic][r.Partition] {
			return nil
		}
		return each(Dead{r.Partition, r.Offset, r.Time, dead})
	})
}

// Retry puts a dead record back on the topic it came from, as it was, and
// settles it: both or neither, but for the received topic.
func (b *Bus) Retry(ctx context.Context, d Dead, actor string) error {
	if d.Record.Cut > 0 {
		return fmt.Errorf("retry deadletter %d/%d: %w", d.Partition, d.Offset, ErrCut)
	}
	r := Record{
		Topic: d.Record.Topic, Partition: AnyPartition, Key: d.Record.Key, Value: d.Record.Value,
	}
	for _, h := range d.Record.Headers {
		if h.Key != HeaderRetry {
			r.Headers = append(r.Headers, Header{Key: h.Key, Value: h.Value})
		}
	}
	// Else who gave it up would take it for a repetition and drop it.
	r.Headers = append(r.Headers, Header{Key: HeaderRetry, Value: fmt.Appendf(nil, "%d/%d", d.Partition, d.Offset)})
	return b.settleDead(ctx, d, "retry", actor, r)
}

// ErrCut is a dead record of which only the beginning was kept.
var ErrCut = errors.New("the record was too large to be kept whole")

// ErrNotMail is a dead record that is no mail, or can't be read as such.
var ErrNotMail = errors.New("record is no readable mail")

// Bounce settles a dead record by refusing its recipients: a leg goes back to
// its queue with the refusal set. A received or reinjected message goes as
// legs to fallback, the queue of mail that has none; it has no number there
// that a leg of the router's could have, and the events tell of it what the
// router never did.
func (b *Bus) Bounce(ctx context.Context, d Dead, refusal *pb.Status, fallback Fallback, actor string) error {
	legs, err := refusals(d, refusal, fallback, b.cfg.Now())
	if err != nil {
		return fmt.Errorf("bounce deadletter %d/%d: %w", d.Partition, d.Offset, err)
	}
	return b.settleDead(ctx, d, "bounce", actor, legs...)
}

// Fallback is a queue for refusals of mail that was never routed.
type Fallback struct {
	Queue      string
	Generation uint32
	Tenant     string
	Directory  uint64
}

// refusedLegs is where the numbers of legs made here begin: the router's are
// below.
const refusedLegs = 1 << 31

// maxRecipients is how many recipients a leg may have.
const maxRecipients = 100

func refusals(d Dead, refusal *pb.Status, fallback Fallback, now time.Time) ([]Record, error) {
	m, err := schemas.Decode(d.Record.Topic, headerOf(d.Record, HeaderType), d.Record.Value)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotMail, err)
	}
	switch m := m.(type) {
	case *pb.Leg:
		if m.MessageId == "" || m.Queue == "" || len(m.Recipients) == 0 {
			return nil, fmt.Errorf("%w: a leg without message, queue or recipients", ErrNotMail)
		}
		m.Refusal, m.Step = refusal, m.Step+1
		return []Record{NewLeg(schemas.Queue(m.Queue, m.Generation), m)}, nil
	case *pb.Received:
		legs, err := refuseAll(&pb.Leg{
			MessageId: m.Id, Content: placed(d, m.Id, m.Content), Prepend: m.Prepend, BornMs: d.Record.AppendedMs,
			HeaderMessageId: m.HeaderMessageId, Session: m.Session, Tenant: m.GetSession().GetTenant(),
		}, m.Envelope, refusal, fallback, now)
		return append(acceptedDead(d, m), legs...), err
	case *pb.Reinject:
		born := m.BornMs
		if born == 0 {
			born = d.Record.AppendedMs
		}
		return refuseAll(&pb.Leg{
			MessageId: m.Id, Content: placed(d, m.Id, m.Content), Prepend: m.Prepend, BornMs: born, StoppedMs: m.StoppedMs,
			HeaderMessageId: m.HeaderMessageId, Session: m.Session, Tenant: m.Tenant, Origin: m.Origin, ParentId: m.ParentId,
		}, m.Envelope, refusal, fallback, now)
	}
	return nil, fmt.Errorf("%w: it comes from %s", ErrNotMail, d.Record.Topic)
}

// placed is where a dead message's content is: where it was, also inline.
func placed(d Dead, id string, c *pb.Content) *pb.ContentRef {
	if ref := c.GetRef(); ref != nil {
		return ref
	}
	r := Record{Topic: d.Record.Topic, Partition: d.Record.Partition, Offset: d.Record.Offset, Time: time.UnixMilli(d.Record.AppendedMs)}
	return r.inline(id, c)
}

func refuseAll(like *pb.Leg, e *pb.Envelope, refusal *pb.Status, fallback Fallback, now time.Time) ([]Record, error) {
	if like.MessageId == "" || len(e.GetRecipients()) == 0 {
		return nil, fmt.Errorf("%w: a message without id or recipients", ErrNotMail)
	}
	if like.Tenant == "" {
		like.Tenant = fallback.Tenant
	}
	like.Queue, like.Generation, like.Directory = fallback.Queue, fallback.Generation, fallback.Directory
	like.Destination, like.Step, like.Refusal = "error", 1, refusal
	like.ReversePath, like.EnvId, like.Ret, like.Body, like.Smtputf8 = e.ReversePath, e.EnvId, e.Ret, e.Body, e.Smtputf8
	var rs []Record
	for at := 0; at < len(e.Recipients); at += maxRecipients {
		l := proto.Clone(like).(*pb.Leg)
		l.Number = refusedLegs + uint32(at/maxRecipients)
		l.Recipients = e.Recipients[at:min(at+maxRecipients, len(e.Recipients))]
		rs = append(rs, NewLeg(schemas.Queue(l.Queue, l.Generation), l), NewEvent(routedDead(l, now)))
	}
	return rs, nil
}

// settledStage is the stage of events that tell of records settled by hand.
const settledStage = "deadletter"

// acceptedDead tells that a received record was accepted, as the router would
// have.
func acceptedDead(d Dead, m *pb.Received) []Record {
	var rs []Record
	for part := range slices.Chunk(m.GetEnvelope().GetRecipients(), maxRecipients) {
		rs = append(rs, NewEvent(&pb.Event{
			Type: pb.EventType_EVENT_TYPE_ACCEPTED, AtMs: d.Record.AppendedMs, MessageId: m.Id,
			Outcomes: named(part), Directory: m.Directory, ReversePath: m.Envelope.ReversePath,
			HeaderMessageId: m.HeaderMessageId, Size: m.GetContent().GetSize(), Session: m.Session, Stage: settledStage,
		}))
	}
	return rs
}

// routedDead tells of a leg that was made to be refused.
func routedDead(l *pb.Leg, now time.Time) *pb.Event {
	e := &pb.Event{
		Type: pb.EventType_EVENT_TYPE_ROUTED, AtMs: now.UnixMilli(), MessageId: l.MessageId, Leg: l.Number, Step: l.Step,
		Tenant: l.Tenant, Queue: l.Queue, Destination: l.Destination, Outcomes: named(l.Recipients),
		Directory: l.Directory, ReversePath: l.ReversePath, HeaderMessageId: l.HeaderMessageId,
		Size: l.GetContent().GetSize(), Origin: l.Origin, ParentId: l.ParentId, Stage: settledStage,
	}
	for _, o := range e.Outcomes {
		o.Status = l.Refusal
	}
	return e
}

func named(rs []*pb.Recipient) []*pb.Outcome {
	os := make([]*pb.Outcome, len(rs))
	for i, r := range rs {
		os[i] = &pb.Outcome{Number: r.Number, Address: r.Address}
	}
	return os
}

func headerOf(d *pb.Deadletter, key string) string {
	for _, h := range d.Headers {
		if h.Key == key {
			return string(h.Value)
		}
	}
	return ""
}

func (b *Bus) settleDead(ctx context.Context, d Dead, action, actor string, out ...Record) error {
	end := &pb.DeadletterEnd{Offset: d.Offset, Action: action, Actor: actor}
	out = append(out, Record{
		Topic: schemas.Deadletter, Partition: d.Partition,
		Value: encode(&pb.DeadletterRecord{What: &pb.DeadletterRecord_End{End: end}}),
	})
	settle := b.atomically
	if out[0].Topic == schemas.Received {
		settle = b.oneByOne
	}
	if err := settle(ctx, out); err != nil {
		return fmt.Errorf("%s deadletter %d/%d: %w", action, d.Partition, d.Offset, err)
	}
	return nil
}

// oneByOne is for the received topic, which holds no transactions: readers
// would wait for one that nobody ends. A crash in between repeats the record.
func (b *Bus) oneByOne(ctx context.Context, rs []Record) error {
	for i := range rs {
		if err := b.Publish(ctx, &rs[i]); err != nil {
			return err
		}
	}
	return nil
}

// atomically publishes records in a transaction of its own.
func (b *Bus) atomically(ctx context.Context, rs []Record) (err error) {
	ctx, cancel := context.WithTimeout(ctx, b.cfg.Timeout)
	defer cancel()
	c, err := kgo.NewClient(b.clientOpts(
		kgo.TransactionalID("qstream.once."+rand.Text()),
		kgo.TransactionTimeout(30*time.Second),
	)...)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.BeginTransaction(); err != nil {
		return fmt.Errorf("begin transaction: %w", err)
	}
	sent := make([]*kgo.Record, len(rs))
	for i := range rs {
		sent[i] = b.toClient(&rs[i])
	}
	if err := c.ProduceSync(ctx, sent...).FirstErr(); err != nil {
		// Whatever becomes of it, the broker aborts what nobody ends.
		return errors.Join(err, c.EndTransaction(ctx, kgo.TryAbort))
	}
	err = topicsLearnt(ctx, c)
	if err == nil {
		err = b.barrier(ctx)
	}
	if err != nil {
		return errors.Join(err, c.EndTransaction(ctx, kgo.TryAbort))
	}
	if err := c.EndTransaction(ctx, kgo.TryCommit); err != nil {
		return fmt.Errorf("end transaction, which may have held: %w", err)
	}
	return b.barrier(ctx)
}
