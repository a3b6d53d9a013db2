package lane

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	pb "qstream/schemas/qstream/v1"
	"qstream/tapper/vault/sealed"
)

// origin is a record of received or of events.
type origin struct {
	id      string
	matches []Match
	event   *pb.Event
	first   int64 // of an event: where its message stands
}

// line is a record of the lane's log that counts.
type line struct {
	writer  string
	entries [][]byte
}

// model is what a lane reads, and its log.
type model struct {
	sources map[uint32][]origin
	log     []line
	orders  []string
	procs   int
	swept   int // where the last whole sweep began; -1: none
}

// proc is a process that has the lane, as sealed drives it.
type proc struct {
	*Lane
	m       *model
	name    string
	taken   int
	foreign uint64
	reading bool
	pos     map[uint32]int64

	mine           *line // on its way
	at             int   // where it landed; -1: nowhere yet
	opens, closes  bool  // a sweep
	sweeping, told bool
	sweepAt        int
}

func (m *model) start(from int) *proc {
	m.procs++
	p := &proc{m: m, name: fmt.Sprint("process ", m.procs), taken: from, at: -1, sweepAt: -1}
	p.Lane = New(0, func() string { return p.name }, nil)
	return p
}

func (p *proc) drop() {
	p.mine, p.at, p.sweeping, p.sweepAt = nil, -1, false, -1
	p.Drop()
}

// build makes the next record, of what has room.
func (p *proc) build(room int) {
	if p.mine != nil {
		p.drop()
	}
	live := p.Fill(room - room/4)
	var part [][]byte
	p.opens, p.closes = false, false
	if !p.sweeping || !p.told {
		first := !p.sweeping
		if first {
			p.sweeping, p.told, p.sweepAt = true, false, -1
		}
		part, p.told = p.Sweep(first, max(room/4, 64))
		p.opens, p.closes = first, p.told
	}
	p.mine, p.at = &line{p.name, append(part, live...)}, -1
}

// land stores what is on its way: it counts if it follows the head.
func (p *proc) land() {
	if p.mine == nil || p.at >= 0 {
		return
	}
	if p.taken != len(p.m.log) {
		p.drop()
		return
	}
	p.at = len(p.m.log)
	p.m.log = append(p.m.log, *p.mine)
}

// take reads one record of the log.
func (p *proc) take() bool {
	if p.taken == len(p.m.log) {
		return false
	}
	n := p.taken
	for _, entry := range p.m.log[n].entries {
		p.Take(sealed.Place{Number: uint64(n + 1), Offset: int64(n), Writer: p.m.log[n].writer, Written: time.Unix(1_800_000_000+int64(n), 0)}, entry)
	}
	p.taken++
	if p.at != n {
		p.drop()
	} else {
		if p.opens {
			p.sweepAt = n
		}
		if p.closes && p.sweepAt >= 0 {
			p.m.swept, p.sweeping = p.sweepAt, false
		}
		p.mine, p.at = nil, -1
	}
	if f := p.Foreign(); f != p.foreign {
		p.foreign, p.reading = f, false
	}
	return true
}

var modelSources = []uint32{Source(OfReceived, 0), Source(OfEvents, 0), Source(OfReceived, 16), Source(OfEvents, 16)}

// read hands the lane the next record of a source.
func (p *proc) read(t *rapid.T, source uint32) bool {
	if !p.Born() {
		var cs []*pb.TapCursor
		for _, s := range modelSources {
			cs = append(cs, &pb.TapCursor{Source: s})
		}
		p.Bear(cs)
		return false
	}
	if !p.reading {
		p.Start(0, nil)
		p.pos, p.reading = p.Cursors(0), true
	}
	for _, o := range p.m.orders {
		p.Begin(o, nil)
	}
	next := p.pos[source]
	if next >= int64(len(p.m.sources[source])) {
		return false
	}
	var err error
	switch o := p.m.sources[source][next]; {
	case o.event == nil:
		err = p.Message(t.Context(), 0, source, next, o.id, func() []Match { return slices.Clone(o.matches) })
	case p.pos[source-OfEvents+OfReceived] <= o.first:
		return false // its message first
	default:
		err = p.Event(t.Context(), 0, source, next, o.event)
	}
	if err != nil {
		t.Fatal(err)
	}
	p.pos[source]++
	return true
}

// canonical is a state but for the places in the log.
func (p *proc) canonical() string {
	t := &pb.TapTick{Born: p.state.Born, Cursors: cursorsOf(0, p.state.Live)}
	for _, tap := range p.Taps() {
		st := p.state.tapState(tap.Number)
		st.OpenOffset = 0
		t.Taps = append(t.Taps, st)
	}
	var ids []string
	for id := range p.state.Tapped {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	for _, id := range ids {
		t.Tapped = append(t.Tapped, p.state.Tapped[id].proto(id))
	}
	return protojson.Format(t)
}

// accept appends a message, or one that came before once more.
func (m *model) accept(t *rapid.T) {
	source := rapid.SampledFrom([]uint32{modelSources[0], modelSources[2]}).Draw(t, "partition")
	had := m.sources[source]
	if len(had) > 0 && rapid.IntRange(0, 5).Draw(t, "again") == 0 {
		m.sources[source] = append(had, rapid.SampledFrom(had).Draw(t, "which"))
		return
	}
	o := origin{id: fmt.Sprintf("message %d of %d", len(had), source)}
	for _, name := range []string{"A", "B", "C"} {
		if who := rapid.SampledFrom([][]uint32{nil, nil, {0}, {0, 1}, {2}}).Draw(t, name); who != nil {
			o.matches = append(o.matches, Match{Order: name, Recipients: who, Bare: name == "B"})
		}
	}
	m.sources[source] = append(had, o)
}

// happen appends an event about a message, or one that came before.
func (m *model) happen(t *rapid.T) {
	source := rapid.SampledFrom([]uint32{modelSources[1], modelSources[3]}).Draw(t, "partition")
	had, mails := m.sources[source], m.sources[source-OfEvents+OfReceived]
	if len(mails) == 0 {
		return
	}
	if len(had) > 0 && rapid.IntRange(0, 5).Draw(t, "again") == 0 {
		m.sources[source] = append(had, rapid.SampledFrom(had).Draw(t, "which"))
		return
	}
	id := rapid.SampledFrom(mails).Draw(t, "message").id
	e := &pb.Event{
		Id: fmt.Sprintf("event %d of %d", len(had), source), MessageId: id,
		Type: rapid.SampledFrom([]pb.EventType{pb.EventType_EVENT_TYPE_DEFERRED, pb.EventType_EVENT_TYPE_DELIVERED, pb.EventType_EVENT_TYPE_ROUTED}).Draw(t, "type"),
	}
	for _, n := range rapid.SampledFrom([][]uint32{nil, {0}, {1}, {0, 1, 2}}).Draw(t, "recipients") {
		e.Outcomes = append(e.Outcomes, &pb.Outcome{Number: n})
	}
	first := slices.IndexFunc(mails, func(o origin) bool { return o.id == id })
	m.sources[source] = append(had, origin{id: id, event: e, first: int64(first)})
}

// Processes read, say, lose races and are killed in any order; records of
// mail come twice; entries have room for much or for little. What the log says
// is the same to everybody: each message once for each order that covers it
// and had begun, its outcomes once each, numbers without a gap. Who begins
// at the last sweep knows the same.
func TestLaneModel(t *testing.T) {
	sweeps, copies, outcomes := 0, 0, 0
	rapid.Check(t, func(t *rapid.T) {
		m := &model{sources: map[uint32][]origin{}, swept: -1}
		ps := []*proc{m.start(0), m.start(0)}
		one := func(t *rapid.T) *proc { return rapid.SampledFrom(ps).Draw(t, "process") }
		t.Repeat(map[string]func(*rapid.T){
			"accept": m.accept,
			"happen": m.happen,
			"order": func(t *rapid.T) {
				if n := len(m.orders); n < 3 {
					m.orders = append(m.orders, string(rune('A'+n)))
				}
			},
			"read": func(t *rapid.T) {
				p, source := one(t), rapid.SampledFrom(modelSources).Draw(t, "source")
				for range rapid.IntRange(1, 5).Draw(t, "records") {
					p.read(t, source)
				}
			},
			"build": func(t *rapid.T) { one(t).build(rapid.SampledFrom([]int{200, 600, 3000}).Draw(t, "room")) },
			"land":  func(t *rapid.T) { one(t).land() },
			"take":  func(t *rapid.T) { one(t).take() },
			"beat": func(t *rapid.T) { // as most beats are
				p := one(t)
				for p.take() {
				}
				p.build(rapid.SampledFrom([]int{200, 600, 3000}).Draw(t, "room"))
				p.land()
				p.take()
			},
			"ack": func(t *rapid.T) {
				p := one(t)
				if taps := p.Taps(); len(taps) > 0 {
					tap := rapid.SampledFrom(taps).Draw(t, "tap")
					p.Ack(tap.Number, rapid.Uint64Range(0, tap.Sequence).Draw(t, "sequence"), nil)
				}
			},
			"kill": func(t *rapid.T) {
				if rapid.IntRange(0, 4).Draw(t, "really") == 0 {
					ps[rapid.IntRange(0, 1).Draw(t, "which")] = m.start(max(m.swept, 0))
				}
			},
		})
		m.settle(t, ps[0])
		for ps[1].take() {
		}
		all := m.start(0)
		for all.take() {
		}
		readers := map[string]*proc{"one that says": ps[0], "another": ps[1]}
		if m.swept >= 0 {
			sweeps++
			late := m.start(m.swept)
			for late.take() {
			}
			readers["who begins at the last sweep"] = late
		}
		want := all.canonical()
		for name, p := range readers {
			if got := p.canonical(); got != want {
				t.Fatalf("%s knows\n%s\nwant\n%s", name, got, want)
			}
		}
		c, o := m.check(t, append([]*proc{all}, ps...))
		copies, outcomes = copies+c, outcomes+o
	})
	if sweeps == 0 || copies == 0 || outcomes == 0 {
		t.Errorf("%d sweeps, %d copies, %d outcomes were looked at", sweeps, copies, outcomes)
	}
}

// settle lets a process read and say all that there is.
func (m *model) settle(t *rapid.T, p *proc) {
	for range 3000 {
		for p.take() {
		}
		busy := !p.Born() || !p.reading
		for _, source := range modelSources {
			for p.read(t, source) {
				busy = true
			}
		}
		p.mu.Lock()
		busy = busy || len(p.begins) > 0 || len(p.acks) > 0
		for _, s := range modelSources {
			busy = busy || p.state.Live[s] < int64(len(m.sources[s]))
		}
		p.mu.Unlock()
		if !busy {
			return
		}
		p.build(300)
		p.land()
	}
	t.Fatal("it is never at the end")
}

// check compares what the log says with what there is.
func (m *model) check(t *rapid.T, readers []*proc) (copies, outcomes int) {
	begun := map[uint32]*pb.TapBegin{}
	copied, told := map[string]int64{}, map[string]int64{}
	sequences, place := map[uint32]uint64{}, map[uint32]map[uint64]int64{}
	for n, l := range m.log {
		for _, entry := range l.entries {
			tick := &pb.TapTick{}
			if err := proto.Unmarshal(entry, tick); err != nil {
				t.Fatal(err)
			}
			for _, b := range tick.Begins {
				if begun[b.Number] != nil {
					t.Fatalf("order %s begins as number %d, which is taken", b.Order, b.Number)
				}
				begun[b.Number], place[b.Number] = b, map[uint64]int64{}
			}
			said := map[uint32][]uint64{}
			for _, c := range tick.Copies {
				key := begun[c.Number].Order + " " + c.MessageId
				if copied[key]++; copied[key] > 1 {
					t.Fatalf("%s is copied twice", key)
				}
				said[c.Number] = append(said[c.Number], c.Sequence)
			}
			for _, o := range tick.Outcomes {
				key := fmt.Sprint(begun[o.Number].Order, o.MessageId, o.Hash)
				if told[key]++; told[key] > 1 {
					t.Fatalf("%s is told twice", key)
				}
				said[o.Number] = append(said[o.Number], o.Sequence)
			}
			for number, all := range said {
				slices.Sort(all)
				for _, s := range all {
					if s != sequences[number]+1 {
						t.Fatalf("number %d follows %d", s, sequences[number])
					}
					sequences[number], place[number][s] = s, int64(n)
				}
			}
		}
	}
	if len(begun) != len(m.orders) {
		t.Fatalf("%d orders began, want %d", len(begun), len(m.orders))
	}
	wantCopies, wantTold, mayTold := map[string]int64{}, map[string]int64{}, map[string]int64{}
	for _, b := range begun {
		live := placesOf(b.Live)
		for source, records := range m.sources {
			covered := map[string][]uint32{}
			for offset, o := range records {
				for _, match := range o.matches {
					if match.Order == b.Order && int64(offset) >= live[source] {
						covered[o.id] = match.Recipients
						wantCopies[b.Order+" "+o.id] = 1
					}
				}
			}
			for _, o := range m.sources[source-OfReceived+OfEvents] {
				if kind, _ := Split(source); kind != OfReceived || !tells(o.event) {
					continue
				}
				key := fmt.Sprint(b.Order, o.id, hashOf(o.event.Id))
				if theirs, _ := Theirs(o.event, covered[o.id]); len(theirs) > 0 {
					mayTold[key] = 1
					if o.first >= live[source] {
						wantTold[key] = 1
					}
				}
			}
		}
	}
	within(t, "isn't copied", wantCopies, copied)
	within(t, "is copied, and nothing covers it", copied, wantCopies)
	within(t, "isn't told", wantTold, told)
	// An event may have been read before the order began, of a message that came
	// again behind that.
	within(t, "is told, and is no outcome", told, mayTold)
	for _, p := range readers {
		for _, tap := range p.Taps() {
			if first, ok := place[tap.Number][tap.Acked+1]; ok && tap.Open > first {
				t.Fatalf("number %d isn't acked and stands at %d; reading would begin at %d", tap.Acked+1, first, tap.Open)
			}
		}
	}
	return len(copied), len(told)
}

func within(t *rapid.T, fault string, some, all map[string]int64) {
	for key := range some {
		if all[key] == 0 {
			t.Fatalf("%s %s", key, fault)
		}
	}
}
