package audit

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	"pgregory.net/rapid"

	"qstream/bus"
	"qstream/ledger/fold"
	"qstream/ledger/store"
	pb "qstream/schemas/qstream/v1"
)

// world is a system in miniature. Recipients are accepted, move and end in
// transactions, whose parts (the record that is finished, the record that is
// new, the event) become visible one by one, at moments that the trial draws.
type world struct {
	rt      *rapid.T
	store   *store.Store
	wait    []*letter // all there ever were
	records []*record
	events  []event
	folded  int
	pending []func() // parts of transactions that nobody sees yet
	busy    bool     // mail moves while it is counted
	noted   bool     // an audit has seen what is in front of the router
}

type letter struct {
	id   ulid.ULID
	step uint64
	at   *record // nil: ended
	lost bool
}

type record struct {
	of             *letter
	place          string
	seen, finished bool
	gone           bool
}

type event struct {
	e       *pb.Event
	decided bool
}

func (w *world) tell(m *letter, t pb.EventType) func() {
	i := len(w.events)
	w.events = append(w.events, event{e: &pb.Event{
		Type: t, MessageId: m.id.String(), Step: m.step, Tenant: "acme", Queue: "acme",
		AtMs: int64(m.id.Time()), Outcomes: []*pb.Outcome{{Address: "a@acme.example"}},
	}})
	return func() { w.events[i].decided = true }
}

// commit makes the parts of a transaction visible in any order, now or later.
func (w *world) commit(parts ...func()) {
	for _, i := range rapid.Permutation([]int{0, 1, 2, 3}[:len(parts)]).Draw(w.rt, "order") {
		if rapid.Bool().Draw(w.rt, "late") {
			w.pending = append(w.pending, parts[i])
		} else {
			parts[i]()
		}
	}
}

func (w *world) put(m *letter, place string) func() {
	r := &record{of: m, place: place}
	w.records = append(w.records, r)
	m.at = r
	m.step++
	return func() { r.seen = true }
}

func (w *world) accept() {
	m := &letter{id: ulid.ULID{}}
	_ = m.id.SetTime(uint64(time.Now().UnixMilli()))
	m.id[15], m.id[14] = byte(len(w.wait)), 1
	w.wait = append(w.wait, m)
	w.put(m, AtReceived)()
}

var targets = map[string]pb.EventType{
	AtQueue: pb.EventType_EVENT_TYPE_RELEASED, AtDelay: pb.EventType_EVENT_TYPE_DEFERRED,
	AtParked: pb.EventType_EVENT_TYPE_PARKED, AtReinject: pb.EventType_EVENT_TYPE_REROUTED,
}

// step is something that happens.
func (w *world) step() {
	if len(w.pending) > 0 && rapid.Bool().Draw(w.rt, "reveal") {
		i := rapid.IntRange(0, len(w.pending)-1).Draw(w.rt, "which")
		w.pending[i]()
		w.pending = slices.Delete(w.pending, i, i+1)
		return
	}
	var open []*letter
	for _, m := range w.wait {
		if m.at != nil && !m.lost {
			open = append(open, m)
		}
	}
	if len(open) == 0 || rapid.IntRange(0, 9).Draw(w.rt, "what") == 0 {
		w.accept()
		return
	}
	w.move(rapid.SampledFrom(open).Draw(w.rt, "mail"))
}

func (w *world) move(m *letter) {
	was := m.at
	finish := func() { was.finished = true }
	if was.place == AtReceived {
		put := w.put(m, AtQueue)
		w.commit(finish, put, w.tell(m, pb.EventType_EVENT_TYPE_ACCEPTED), w.tell(m, pb.EventType_EVENT_TYPE_ROUTED))
		return
	}
	if was.place == AtQueue && rapid.Bool().Draw(w.rt, "end") {
		m.at = nil
		m.step++
		w.commit(finish, w.tell(m, pb.EventType_EVENT_TYPE_DELIVERED))
		return
	}
	to := rapid.SampledFrom([]string{AtQueue, AtDelay, AtParked, AtReinject}).Draw(w.rt, "to")
	put := w.put(m, to)
	w.commit(finish, put, w.tell(m, targets[to]))
}

func (w *world) between() {
	if w.busy {
		for range rapid.IntRange(0, 3).Draw(w.rt, "steps") {
			w.step()
		}
	}
}

func (w *world) reveal() {
	for _, f := range w.pending {
		f()
	}
	w.pending = nil
}

func (w *world) visible() int {
	n := slices.IndexFunc(w.events, func(e event) bool { return !e.decided })
	if n < 0 {
		n = len(w.events)
	}
	return n
}

// errAway is what a broker says now and then that is started again.
var errAway = errors.New("away")

func (w *world) Passes(err error) bool { return errors.Is(err, errAway) }

// away is a broker that is away at times.
func (w *world) away() error {
	if w.busy && rapid.IntRange(0, 9).Draw(w.rt, "away") == 0 {
		return errAway
	}
	return nil
}

func (w *world) Decided(context.Context) error {
	w.between()
	if err := w.away(); err != nil {
		return err
	}
	w.reveal()
	w.between()
	return nil
}

func (w *world) Oldest(context.Context) (time.Time, error) { return time.Time{}, nil }
func (w *world) Gaps(context.Context) ([]Gap, error)       { return nil, nil }

func (w *world) Unfinished(_ context.Context, how bus.Look, each func(Unfinished) error) (int, error) {
	for _, group := range [][]string{{AtReceived, AtReinject}, {AtDelay, AtParked}, {AtQueue}} {
		w.between()
		if how.Decided { // no commit of this group is in an open transaction
			w.reveal()
		}
		finished := map[*record]bool{}
		for _, r := range w.records {
			finished[r] = r.finished
		}
		for _, place := range group {
			w.between()
			if err := w.away(); err != nil {
				return 0, err
			}
			for _, r := range slices.Clone(w.records) {
				if r.place != place || !r.seen || r.gone || finished[r] {
					continue
				}
				u := Unfinished{ID: r.of.id, Place: place, Fresh: place == AtReceived, Tenant: "acme", Queue: "acme", Topic: place}
				if err := each(u); err != nil {
					return 0, err
				}
			}
		}
	}
	return 0, nil
}

func (w *world) CatchUp(ctx context.Context) (int64, error) {
	w.between()
	least := w.visible()
	w.between()
	to := max(w.folded, rapid.IntRange(least, w.visible()).Draw(w.rt, "folded"))
	var b fold.Batch
	for i := w.folded; i < to; i++ {
		b.Add(w.events[i].e, fold.At{Offset: int64(i), Seq: int64(i + 1)})
	}
	w.folded = to
	return int64(to), w.fold(ctx, &b)
}

func (w *world) Note(ctx context.Context, notes []fold.Note) error {
	var b fold.Batch
	for _, n := range notes {
		n.At.Seq = int64(w.folded)
		b.AddNote(n)
	}
	return w.fold(ctx, &b)
}

func (w *world) fold(ctx context.Context, b *fold.Batch) error {
	known, err := w.store.Load(ctx, b)
	if err != nil {
		return err
	}
	return w.store.Save(ctx, b.Fold(known, 0), store.Progress{Next: map[int32]int64{0: int64(w.folded)}, Seq: int64(w.folded)})
}

func (w *world) Scratch(ctx context.Context) (*sql.DB, error) { return w.store.Scratch(ctx) }

// Whatever moves while it is counted, and whenever the parts of a transaction
// are seen: what was lost is named, and nothing else is.
func TestFindsWhatIsLost(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp("", "audit-")
		if err != nil {
			rt.Fatal(err)
		}
		defer os.RemoveAll(dir)
		s, _, err := store.Open(t.Context(), store.Options{Dir: dir, Topic: "test"})
		if err != nil {
			rt.Fatal(err)
		}
		defer s.Close()
		w := &world{rt: rt, store: s}
		a, err := New(Config{Settle: time.Nanosecond}, Deps{Records: w, Book: func() (Book, error) { return w, nil }})
		if err != nil {
			rt.Fatal(err)
		}
		var lost []string
		for range rapid.IntRange(1, 30).Draw(rt, "before") {
			w.step()
		}
		if rapid.Bool().Draw(rt, "loss") {
			w.reveal() // what was lost before anybody heard of it is not known
			if w.noted = rapid.Bool().Draw(rt, "noted"); w.noted {
				if r, err := a.Audit(t.Context(), Scope{}); err != nil || !r.Balanced {
					rt.Fatalf("nothing is lost yet: %+v, %v", r, err)
				}
			}
			lost = w.lose()
		}
		w.busy = rapid.Bool().Draw(rt, "busy")
		r, err := a.Audit(t.Context(), Scope{})
		if err != nil {
			rt.Fatal(err)
		}
		var found []string
		for _, f := range r.Findings {
			found = append(found, f.What+" "+f.MessageID)
		}
		slices.Sort(lost)
		if !slices.Equal(found, lost) {
			rt.Fatalf("found %v, lost %v", found, lost)
		}
		if r.Balanced != (len(lost) == 0) {
			rt.Fatalf("balanced: %v", r.Balanced)
		}
		if c := r.Total; c.opened() != c.Delivered+c.Waiting+c.Missing {
			rt.Fatalf("the sides differ: %+v", c)
		}
	})
}

// lose deletes some unfinished records that are known to the events.
func (w *world) lose() (lost []string) {
	for _, m := range w.wait {
		if m.at == nil || m.at.place == AtReceived && !w.noted || rapid.IntRange(0, 5).Draw(w.rt, "lose") > 0 {
			continue
		}
		m.lost, m.at.gone = true, true
		lost = append(lost, Missing+" "+m.id.String())
	}
	return lost
}
