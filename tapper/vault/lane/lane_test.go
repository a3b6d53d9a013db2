package lane

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	pb "qstream/schemas/qstream/v1"
	"qstream/tapper/vault/sealed"
)

var (
	received = Source(OfReceived, 0)
	events   = Source(OfEvents, 0)
)

// lone is a lane that nobody else writes: what it says counts.
type lone struct {
	*Lane
	t      *testing.T
	number uint64
}

func newLone(t *testing.T) *lone {
	t.Helper()
	l := &lone{Lane: New(0, func() string { return "me" }, nil), t: t}
	l.Bear([]*pb.TapCursor{{Source: received}, {Source: events}})
	l.say(1000)
	if !l.Born() {
		t.Fatal("it isn't born")
	}
	l.Start(0, nil)
	return l
}

// say lets the lane say an entry, which counts; nil: it says nothing.
func (l *lone) say(room int) *pb.TapTick {
	l.t.Helper()
	entries := l.Fill(room)
	if len(entries) == 0 {
		return nil
	}
	return l.count("me", entries[0])
}

func (l *lone) count(writer string, entry []byte) *pb.TapTick {
	l.t.Helper()
	tick := &pb.TapTick{}
	if err := proto.Unmarshal(entry, tick); err != nil {
		l.t.Fatal(err)
	}
	l.number++
	l.Take(sealed.Place{Number: l.number, Offset: int64(l.number - 1), Writer: writer, Written: time.Unix(1_800_000_000, 0)}, entry)
	return tick
}

func (l *lone) message(stream uint32, offset int64, id string, matches ...Match) {
	l.t.Helper()
	if err := l.Message(l.t.Context(), stream, received, offset, id, func() []Match { return matches }); err != nil {
		l.t.Fatal(err)
	}
}

func (l *lone) event(stream uint32, offset int64, id string, of string, typ pb.EventType, recipients ...uint32) {
	l.t.Helper()
	e := &pb.Event{Id: id, MessageId: of, Type: typ}
	for _, n := range recipients {
		e.Outcomes = append(e.Outcomes, &pb.Outcome{Number: n})
	}
	if err := l.Event(l.t.Context(), stream, events, offset, e); err != nil {
		l.t.Fatal(err)
	}
}

// What didn't count is said again, the same; what counts is never said again.
func TestSaidUntilItCounts(t *testing.T) {
	l := newLone(t)
	l.Begin("A", nil)
	l.message(0, 0, "one", Match{Order: "A", Recipients: []uint32{1}})
	first := l.Fill(1000)
	if again := l.Fill(1000); again != nil {
		t.Fatal("it says more before it knows whether that counts")
	}
	l.Drop()
	second := l.Fill(1000)
	if len(first) != 1 || len(second) != 1 || string(first[0]) != string(second[0]) {
		t.Fatalf("first it says %v, then %v", first, second)
	}
	tick := l.count("me", second[0])
	if len(tick.Begins) != 1 || len(tick.Copies) != 1 || tick.Copies[0].Sequence != 1 {
		t.Errorf("it says %v", tick)
	}
	if more := l.say(1000); more != nil {
		t.Errorf("it says again: %v", more)
	}
}

// Entries keep to their room, unless one record alone needs more; cursors never
// run ahead of what is said.
func TestRoom(t *testing.T) {
	l := newLone(t)
	l.Begin("A", nil)
	const n = 60
	for i := range int64(n) {
		l.message(0, i, fmt.Sprintf("message %02d", i), Match{Order: "A", Recipients: []uint32{1}})
	}
	l.message(0, n, "large", Match{Order: "A", Recipients: make([]uint32, 1000)})
	next := uint64(1)
	for {
		const room = 300
		tick := l.say(room)
		if tick == nil {
			break
		}
		if size := proto.Size(tick); size > room && len(tick.Copies) > 1 {
			t.Errorf("an entry of %d bytes with %d copies, room was %d", size, len(tick.Copies), room)
		}
		for _, c := range tick.Copies {
			if c.Sequence != next || c.Offset != int64(next-1) {
				t.Fatalf("number %d of offset %d, want number %d", c.Sequence, c.Offset, next)
			}
			next++
		}
		if at := l.Cursors(0)[received]; at != int64(next-1) {
			t.Fatalf("the cursor is at %d after %d copies", at, next-1)
		}
	}
	if next != n+2 {
		t.Errorf("%d copies, want %d", next-1, n+1)
	}
}

// Outcomes are those of an order's recipients; what settles no fate of theirs,
// or is no outcome, isn't told.
func TestOutcomes(t *testing.T) {
	l := newLone(t)
	l.Begin("A", nil)
	l.Begin("B", nil)
	l.message(0, 0, "one", Match{Order: "A", Recipients: []uint32{0, 1}}, Match{Order: "B", Recipients: []uint32{2}})
	l.message(0, 1, "other")
	l.say(3000)
	for i, c := range []struct {
		name       string
		of         string
		typ        pb.EventType
		recipients []uint32
		told       string
	}{
		{"of one of A's", "one", pb.EventType_EVENT_TYPE_DELIVERED, []uint32{0}, "1 settles [0];"},
		{"of both", "one", pb.EventType_EVENT_TYPE_BOUNCED, []uint32{1, 2}, "1 settles [1];2 settles [2];"},
		{"a deferral", "one", pb.EventType_EVENT_TYPE_DEFERRED, []uint32{1}, "1 settles [];"},
		{"of nobody's", "one", pb.EventType_EVENT_TYPE_DELIVERED, []uint32{3}, ""},
		{"no outcome", "one", pb.EventType_EVENT_TYPE_ROUTED, []uint32{0}, ""},
		{"of another message", "other", pb.EventType_EVENT_TYPE_DELIVERED, []uint32{0}, ""},
	} {
		l.event(0, int64(i), c.name, c.of, c.typ, c.recipients...)
		got := ""
		for _, o := range l.say(3000).GetOutcomes() {
			got += fmt.Sprintf("%d settles %v;", o.Number, o.Settled)
		}
		if got != c.told {
			t.Errorf("%s: %q, want %q", c.name, got, c.told)
		}
	}
	m := l.state.Tapped["one"]
	if m == nil || m.Settled == 0 || l.state.Tapped["other"] != nil {
		t.Errorf("it remembers %+v", l.state.Tapped)
	}
	if m.over(m.Settled+settledKept) || !m.over(m.Settled+settledKept+1) {
		t.Error("a settled message is remembered for an hour")
	}
}

// An order's past is a stream of its own: its copies are marked, its cursors
// move apart from those of mail as it comes, and what both bring counts once.
func TestPast(t *testing.T) {
	l := newLone(t)
	for i := range int64(3) {
		l.message(0, i, fmt.Sprint("message ", i))
	}
	l.event(0, 0, "delivered", "message 1", pb.EventType_EVENT_TYPE_DELIVERED, 1)
	l.say(1000)
	l.Begin("A", map[uint32]int64{received: 1, events: 0})
	l.message(0, 3, "message 1", Match{Order: "A", Recipients: []uint32{1}}) // came a second time
	l.say(1000)
	number := l.Taps()[0].Number
	l.Start(number, nil)
	for i := int64(1); i < 3; i++ {
		l.message(number, i, fmt.Sprint("message ", i), Match{Order: "A", Recipients: []uint32{1}, Past: true})
	}
	l.Passed(number, received, 3)
	tick := l.say(1000)
	if len(tick.GetCopies()) != 1 || tick.Copies[0].MessageId != "message 2" || !tick.Copies[0].Past || tick.Copies[0].Sequence != 2 {
		t.Errorf("of the past it says %v", tick)
	}
	if err := l.Settled(t.Context(), number, map[uint32]int64{received: 3}); err != nil {
		t.Error(err)
	}
	l.event(number, 0, "delivered", "message 1", pb.EventType_EVENT_TYPE_DELIVERED, 1)
	if tick = l.say(1000); len(tick.GetOutcomes()) != 1 || tick.Outcomes[0].Sequence != 3 {
		t.Errorf("of past events it says %v", tick)
	}
	if got, want := l.Cursors(number), (map[uint32]int64{received: 3, events: 1}); !maps.Equal(got, want) {
		t.Errorf("the past is read up to %v, want %v", got, want)
	}
	l.Caught(number)
	l.say(1000)
	if l.Cursors(number) != nil || !maps.Equal(l.Cursors(0), map[uint32]int64{received: 4, events: 1}) {
		t.Errorf("after the past: %v, and as mail comes %v", l.Cursors(number), l.Cursors(0))
	}
}

// What was read here and not said is forgotten when another process writes,
// until reading starts again: it knew nothing of the order that begins there.
func TestForeignRecordForgetsWhatWasRead(t *testing.T) {
	l := newLone(t)
	l.Begin("A", nil)
	l.message(0, 0, "one", Match{Order: "A", Recipients: []uint32{1}})
	entry, err := proto.Marshal(&pb.TapTick{Begins: []*pb.TapBegin{{Number: 1, Order: "B", Live: []*pb.TapCursor{{Source: received}}}}})
	if err != nil {
		t.Fatal(err)
	}
	before := l.Foreign()
	l.count("another", entry)
	if l.Foreign() == before {
		t.Error("it isn't told that reading has to start again")
	}
	if tick := l.say(1000); tick != nil {
		t.Fatalf("it says %v, as order 1 that is another's now", tick)
	}
	l.message(0, 1, "two") // of the reading that is to end
	l.Start(0, nil)
	l.Begin("A", nil)
	l.message(0, 0, "one", Match{Order: "A", Recipients: []uint32{1}}, Match{Order: "B", Recipients: []uint32{1}})
	tick := l.say(1000)
	if len(tick.GetBegins()) != 1 || tick.Begins[0].Number != 2 || len(tick.Copies) != 2 {
		t.Errorf("then it says %v", tick)
	}
}

// A message that was copied while a sweep went on, before the sweep came to its
// order, is known to who began to read there: its outcomes follow.
func TestCopyWithinASweep(t *testing.T) {
	l := &lone{Lane: New(0, func() string { return "me" }, nil), t: t}
	for _, tick := range []*pb.TapTick{
		{Whole: true, Cursors: []*pb.TapCursor{{Source: received, Next: 8}, {Source: events}}},
		{Copies: []*pb.TapCopy{{Number: 1, Sequence: 4, MessageId: "one", Source: received, Offset: 8, Recipients: []uint32{1}}}},
		{Taps: []*pb.TapState{{Number: 1, Order: "A", Sequence: 4}}},
	} {
		entry, err := proto.Marshal(tick)
		if err != nil {
			t.Fatal(err)
		}
		l.count("another", entry)
	}
	l.Start(0, nil)
	l.event(0, 0, "delivered", "one", pb.EventType_EVENT_TYPE_DELIVERED, 1)
	if tick := l.say(1000); len(tick.GetOutcomes()) != 1 || tick.Outcomes[0].Sequence != 5 {
		t.Errorf("it says %v", tick)
	}
}

// A content that was lost to a sink is told once, however acks come.
func TestAcks(t *testing.T) {
	l := newLone(t)
	l.Begin("A", nil)
	for i := range int64(4) {
		l.message(0, i, fmt.Sprint("message ", i), Match{Order: "A", Recipients: []uint32{1}})
	}
	l.say(1000)
	l.Ack(1, 1, []uint64{1})
	entries := l.Fill(1000)
	l.Ack(1, 3, []uint64{3}) // while that is on its way
	var lost []uint64
	for _, tick := range []*pb.TapTick{l.count("me", entries[0]), l.say(1000), l.say(1000)} {
		for _, a := range tick.GetAcks() {
			lost = append(lost, a.Lost...)
		}
	}
	if fmt.Sprint(lost) != "[1 3]" || l.Taps()[0].Acked != 3 {
		t.Errorf("lost are %v, acked up to %d", lost, l.Taps()[0].Acked)
	}
}

// Reading waits while too much waits to be said.
func TestReadingWaits(t *testing.T) {
	l := newLone(t)
	l.Begin("A", nil)
	for i := range int64(most) {
		l.message(0, i, "one", Match{Order: "A"})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.Message(ctx, 0, received, most, "more", func() []Match { return nil }); !errors.Is(err, context.Canceled) {
		t.Fatalf("%d records wait, and one more: %v", most, err)
	}
	l.say(1000)
	l.message(0, most, "more")
}
