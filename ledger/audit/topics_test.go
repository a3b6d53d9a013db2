package audit

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	"google.golang.org/protobuf/proto"

	"qstream/bus"
	"qstream/bus/bustest"
	"qstream/directory"
	"qstream/ledger/fold"
	"qstream/ledger/store"
	"qstream/mail"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
)

// reader is a view that reads on when it is asked to.
type reader struct {
	bus   *bus.Bus
	store *store.Store
}

func (r *reader) CatchUp(ctx context.Context) (int64, error) {
	p, err := r.store.Progress(ctx)
	if err != nil {
		return 0, err
	}
	var b fold.Batch
	err = r.bus.Read(ctx, []string{schemas.Events}, bus.Start{Offset: map[string]map[int32]int64{schemas.Events: p.Next}}, func(rec bus.Record) error {
		var e pb.Event
		if err := proto.Unmarshal(rec.Value, &e); err != nil {
			return err
		}
		p.Seq++
		p.Next[rec.Partition] = rec.Offset + 1
		b.Add(&e, fold.At{Partition: rec.Partition, Offset: rec.Offset, Seq: p.Seq})
		return nil
	})
	if err != nil {
		return 0, err
	}
	return p.Seq, r.fold(ctx, &b, p)
}

func (r *reader) Note(ctx context.Context, notes []fold.Note) error {
	p, err := r.store.Progress(ctx)
	if err != nil {
		return err
	}
	var b fold.Batch
	for _, n := range notes {
		n.At.Seq = p.Seq
		b.AddNote(n)
	}
	return r.fold(ctx, &b, p)
}

func (r *reader) fold(ctx context.Context, b *fold.Batch, p store.Progress) error {
	known, err := r.store.Load(ctx, b)
	if err != nil {
		return err
	}
	return r.store.Save(ctx, b.Fold(known, 0), p)
}

func (r *reader) Scratch(ctx context.Context) (*sql.DB, error) { return r.store.Scratch(ctx) }

// system is a broker with mail in every place, and nobody who moves it.
type system struct {
	t         testing.TB
	bus       *bus.Bus
	deps      Deps
	audit     *Auditor
	directory *directory.Snapshot
}

const scannedQueue = `
kind: queue
name: default
scan: p
---
kind: scan
name: p
engines: measure
---
kind: engine
name: measure
type: unpack
`

func newSystem(t testing.TB) *system {
	t.Helper()
	b := bustest.New(t)
	sys := &system{t: t, bus: b}
	docs, err := directory.Parse(directory.File{Name: "scanned", Data: []byte(scannedQueue)})
	if err != nil {
		t.Fatal(err)
	}
	sys.apply(directory.Change{Documents: docs})
	s, _, err := store.Open(t.Context(), store.Options{Dir: t.TempDir(), Topic: "test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	sys.deps = Deps{
		Records: Topics{Bus: b, Directory: func() *directory.Snapshot { return sys.directory }},
		Book:    func() (Book, error) { return &reader{bus: b, store: s}, nil },
	}
	if sys.audit, err = New(Config{Settle: time.Millisecond}, sys.deps); err != nil {
		t.Fatal(err)
	}
	return sys
}

// apply changes the directory and makes no topics.
func (s *system) apply(c directory.Change) {
	s.t.Helper()
	done, err := directory.Apply(s.t.Context(), s.bus, c, directory.Options{Actor: "test"})
	if err != nil {
		s.t.Fatal(err)
	}
	s.directory = done.After
}

func (s *system) run(scope Scope) *Report {
	s.t.Helper()
	r, err := s.audit.Audit(s.t.Context(), scope)
	if err != nil {
		s.t.Fatal(err)
	}
	return r
}

func (s *system) put(rs ...bus.Record) { s.t.Helper(); bustest.Put(s.t, s.bus, rs...) }

func leg(id, queue string) *pb.Leg {
	return &pb.Leg{
		MessageId: id, Step: 1, Tenant: "acme", Queue: queue, Generation: 1, Destination: "acme.example",
		Recipients: []*pb.Recipient{{Number: 0, Address: "a@acme.example"}, {Number: 1, Address: "b@acme.example"}},
		Content:    &pb.ContentRef{Topic: schemas.Received}, BornMs: time.Now().UnixMilli(),
	}
}

func tells(l *pb.Leg, types ...pb.EventType) (rs []bus.Record) {
	for _, t := range types {
		e := &pb.Event{Type: t, AtMs: l.BornMs, MessageId: l.MessageId, Leg: l.Number, Step: l.Step, Tenant: l.Tenant, Queue: l.Queue, Destination: l.Destination}
		if t == pb.EventType_EVENT_TYPE_ACCEPTED {
			e.Tenant = ""
		}
		for _, r := range l.Recipients {
			e.Outcomes = append(e.Outcomes, &pb.Outcome{Number: r.Number, Address: r.Address})
		}
		rs = append(rs, bus.NewEvent(e))
	}
	return rs
}

const (
	accepted  = pb.EventType_EVENT_TYPE_ACCEPTED
	routed    = pb.EventType_EVENT_TYPE_ROUTED
	deferred  = pb.EventType_EVENT_TYPE_DEFERRED
	parked    = pb.EventType_EVENT_TYPE_PARKED
	delivered = pb.EventType_EVENT_TYPE_DELIVERED
)

// places puts a message of two recipients where the name says, and returns the
// topic on which its record is then.
func (s *system) place(name, id string) string {
	s.t.Helper()
	l := leg(id, "default")
	envelope := &pb.Envelope{Recipients: l.Recipients}
	switch name {
	case AtReceived:
		s.put(bus.NewReceived(&pb.Received{Id: id, Envelope: envelope, Session: &pb.Session{Tenant: "acme"}}))
		return schemas.Received
	case AtReinject:
		s.put(append(tells(l, accepted, routed, pb.EventType_EVENT_TYPE_REROUTED), bus.NewReinject(schemas.Reroute(l, 1)))...)
		return schemas.Reinject
	case AtQueue:
		s.put(append(tells(l, accepted, routed), bus.NewLeg(schemas.Queue("default", 1), l))...)
		return schemas.Queue("default", 1)
	case AtDelay:
		s.put(append(tells(l, accepted, routed, deferred), bus.NewWaiting(schemas.DelayTopics()[1], l))...)
		return schemas.DelayTopics()[1]
	case AtParked:
		s.put(append(tells(l, accepted, routed, parked), bus.NewWaiting(schemas.Parked, l))...)
		return schemas.Parked
	case AtScan:
		l.Scan = &pb.Scan{State: pb.ScanState_SCAN_STATE_WANTED, Policy: "p"}
		es := tells(l, accepted)
		e := &pb.Event{}
		if err := proto.Unmarshal(tells(l, routed)[0].Value, e); err != nil {
			s.t.Fatal(err)
		}
		e.Scan = l.Scan
		s.put(append(es, bus.NewEvent(e), bus.NewLeg(schemas.Scan("default", 1), l))...)
		return schemas.Scan("default", 1)
	case AtQuarantine:
		s.put(append(tells(l, accepted, routed, pb.EventType_EVENT_TYPE_QUARANTINED), bus.NewQuarantined(l))...)
		return schemas.Quarantine
	}
	dead, err := proto.Marshal(&pb.DeadletterRecord{What: &pb.DeadletterRecord_Dead{Dead: &pb.Deadletter{
		Topic: schemas.Queue("default", 1), Value: bus.NewLeg(schemas.Queue("default", 1), l).Value,
	}}})
	if err != nil {
		s.t.Fatal(err)
	}
	s.put(append(tells(l, accepted, routed), bus.Record{Topic: schemas.Deadletter, Partition: bus.AnyPartition, Value: dead})...)
	return schemas.Deadletter
}

// trim deletes everything that is on a topic.
func (s *system) trim(topic string) {
	s.t.Helper()
	ends, err := s.bus.Ends(s.t.Context(), topic)
	if err == nil {
		err = s.bus.Trim(s.t.Context(), topic, ends)
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// What waits in each place balances; once it is deleted there, its recipients
// are named, and no others.
func TestDeletedRecords(t *testing.T) {
	for _, name := range places[:len(places)-1] {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSystem(t)
			ids := map[string]string{}
			topics := map[string]string{}
			for _, p := range places[:len(places)-1] {
				ids[p] = mail.NewID(time.Now())
				topics[p] = s.place(p, ids[p])
			}
			r := s.run(Scope{})
			if !r.Balanced || r.Total.Waiting != 16 || r.Total.Accepted != 16 {
				t.Fatalf("before: %+v", r)
			}
			for _, p := range places {
				want := int64(2)
				if p == Moving {
					want = 0
				}
				if r.Waiting[p] != want {
					t.Errorf("before: %d wait at %s", r.Waiting[p], p)
				}
			}
			s.trim(topics[name])
			r = s.run(Scope{})
			var found []string
			for _, f := range r.Findings {
				found = append(found, fmt.Sprintf("%s %s %d %s %s", f.What, f.MessageID, f.Recipient, f.Address, f.Tenant))
				if len(f.LastSeen) < len(name) || f.LastSeen[:len(name)] != name {
					if name != AtDeadletter { // its events know nothing of it here
						t.Errorf("last seen at %s", f.LastSeen)
					}
				}
			}
			want := []string{
				fmt.Sprintf("missing %s 0 a@acme.example acme", ids[name]),
				fmt.Sprintf("missing %s 1 b@acme.example acme", ids[name]),
			}
			if !slices.Equal(found, want) {
				t.Errorf("found %q, want %q", found, want)
			}
			if r.Balanced || r.Total.Missing != 2 || r.Total.Waiting != 14 {
				t.Errorf("after: %+v", r.Total)
			}
			for _, f := range r.Findings {
				s.put(bus.NewEvent(Settle(f, "root", "sent again", time.Now())))
			}
			if r := s.run(Scope{}); len(r.Findings) > 0 || r.Total.Missing != 0 || r.Total.Discarded != 2 || r.Total.Waiting != 14 {
				t.Errorf("settled: %+v", r)
			}
			if wantGaps := name != AtDeadletter; wantGaps != (len(r.Gaps) == 1 && r.Gaps[0].Topic == topics[name]) {
				t.Errorf("gaps: %+v", r.Gaps)
			}
		})
	}
}

// Everything that can be odd is told apart.
func TestFindings(t *testing.T) {
	s := newSystem(t)
	at := func(n int) string { return mail.NewID(time.Now().Add(time.Duration(n) * time.Millisecond)) }
	twice, undead, unknown, fine := leg(at(0), "default"), leg(at(1), "default"), leg(at(2), "default"), leg(at(3), "default")
	for _, l := range []*pb.Leg{twice, undead, fine} {
		s.put(tells(l, accepted, routed, delivered)...)
	}
	s.put(tells(fine, delivered)...) // a repetition, by its id
	twice.Number, twice.Step = 7, 3
	s.put(tells(twice, pb.EventType_EVENT_TYPE_BOUNCED)...)
	s.put(bus.NewLeg(schemas.Queue("default", 1), undead), bus.NewWaiting(schemas.Parked, unknown))
	s.put(bus.Record{Topic: schemas.Received, Partition: bus.AnyPartition, Value: []byte("\xff")})
	r := s.run(Scope{})
	want := map[string]string{twice.MessageId: Repeated, undead.MessageId: Undead, unknown.MessageId: Unannounced}
	if len(r.Findings) != 6 || r.Balanced || r.Unreadable != 1 {
		t.Errorf("%+v", r)
	}
	for _, f := range r.Findings {
		if want[f.MessageID] != f.What {
			t.Errorf("%+v", f)
		}
	}
	if c := r.Total; c.Accepted != 6 || c.Delivered != 6 || c.Waiting != 0 {
		t.Errorf("%+v", c)
	}
	if r := s.run(Scope{Tenant: "other"}); !r.Balanced || len(r.Hours) != 0 {
		t.Errorf("another tenant's: %+v", r)
	}
	if r := s.run(Scope{Since: time.Now().Add(2 * time.Hour)}); !r.Balanced || len(r.Hours) != 0 {
		t.Errorf("a later hour's: %+v", r)
	}
}

// What was announced by events that are no longer kept is no finding.
func TestEventsDeleted(t *testing.T) {
	s := newSystem(t)
	var old ulid.ULID
	_ = old.SetTime(uint64(time.Now().Add(-48 * time.Hour).UnixMilli()))
	l := leg(old.String(), "default")
	s.put(bus.NewLeg(schemas.Queue("default", 1), l))
	if r := s.run(Scope{}); r.Of(Unannounced) != 2 {
		t.Fatalf("events are complete: %+v", r)
	}
	s.put(tells(leg(mail.NewID(time.Now()), "default"), accepted, routed, delivered)...)
	s.trim(schemas.Events)
	if r := s.run(Scope{}); !r.Balanced {
		t.Fatalf("events are gone: %+v", r)
	}
}

// The topic of a live queue that is gone is a gap.
func TestTopicsGone(t *testing.T) {
	s := newSystem(t)
	docs, err := directory.Parse(directory.File{Name: "a", Data: []byte("kind: queue\nname: other\nnumber: 7\npool: alone\n")})
	if err != nil {
		t.Fatal(err)
	}
	// An apply would make the topic.
	planned, err := directory.Apply(t.Context(), s.bus, directory.Change{Documents: docs}, directory.Options{DryRun: true})
	if err != nil {
		t.Fatal(err)
	}
	s.directory = planned.After
	want := Gap{Topic: schemas.Queue("other", 1), Partition: -1, Group: schemas.DeliverGroup("alone")}
	if r := s.run(Scope{}); r.Balanced || len(r.Gaps) != 1 || r.Gaps[0] != want {
		t.Errorf("live: %+v", r.Gaps)
	}
}
