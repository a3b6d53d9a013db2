package sealed

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"qstream/bus"
	pb "qstream/schemas/qstream/v1"
)

// writer is a process of the model: a log, a queue and what it has read.
type writer struct {
	log    *log
	keys   *Keys
	queue  *Queue
	read   int // of the topic
	took   []string
	wanted []string
}

func (m *model) start(keys *Keys) *writer {
	w := &writer{keys: keys}
	w.queue = NewQueue(func(_ Place, entry []byte) { w.took = append(w.took, string(entry)) }, nil)
	m.writers++
	id := make([]byte, idSize)
	id[0] = byte(m.writers)
	w.log = newLog(Topic{Name: "topic", Size: leastSize, Teller: w.queue}, keys, id)
	return w
}

// model is a topic, and records that were published by processes of which
// nobody knows whether they are stored yet.
type model struct {
	topic   []bus.Record
	flying  []bus.Record
	writers int
	entries int
}

func (m *model) land(r bus.Record) {
	r.Offset = int64(len(m.topic))
	m.topic = append(m.topic, r)
}

// readOn reads some records, as a Set does: up to one that tells of a key that
// isn't there.
func (w *writer) readOn(m *model, n int) {
	for ; n > 0 && w.read < len(m.topic) && !w.stands(); n-- {
		_, _, _ = w.log.take(m.topic[w.read])
		w.read++
	}
}

// stands by: it lacks a key.
func (w *writer) stands() bool { return w.log.fold.Lacks() > 0 }

// say queues an entry without waiting for it.
func (w *writer) say(entry string) {
	w.wanted = append(w.wanted, entry)
	w.queue.waiting = append(w.queue.waiting, &waiting{entry: []byte(entry), done: make(chan struct{})})
}

// Several processes write without knowing of one another; records are stored
// late, twice, or after their writer's end. Whoever reads finds the same
// entries, none twice; and what a living process said is all there, in order.
// Some have a newer key than others; anybody may write under keys that don't
// exist. Who lacks a key never knows anything but what the others know, too.
func TestEntriesCountOnce(t *testing.T) {
	rotated := 0
	rapid.Check(t, func(t *rapid.T) {
		m := &model{}
		some := func() *Keys { return nKeys(t, rapid.IntRange(1, 3).Draw(t, "keys")) }
		ws := []*writer{m.start(some()), m.start(some())}
		t.Repeat(map[string]func(*rapid.T){
			"say": func(t *rapid.T) {
				m.entries++
				length := rapid.SampledFrom([]int{1, 100, 400, 1500}).Draw(t, "length")
				rapid.SampledFrom(ws).Draw(t, "writer").say(fmt.Sprintf("%d %s", m.entries, strings.Repeat("x", length)))
			},
			"write": func(t *rapid.T) {
				w := rapid.SampledFrom(ws).Draw(t, "writer")
				if w.stands() {
					return
				}
				r, err := w.log.build(1)
				if err != nil {
					t.Fatal(err)
				}
				if rapid.IntRange(0, 3).Draw(t, "late") == 0 {
					m.flying = append(m.flying, *r)
					return
				}
				m.land(*r)
			},
			"land": func(t *rapid.T) {
				if len(m.flying) > 0 {
					i := rapid.IntRange(0, len(m.flying)-1).Draw(t, "which")
					m.land(m.flying[i])
					m.flying = slices.Delete(m.flying, i, i+1)
				}
			},
			"repeat": func(t *rapid.T) {
				if len(m.topic) > 0 {
					m.land(rapid.SampledFrom(m.topic).Draw(t, "record"))
				}
			},
			"forge": func(t *rapid.T) {
				m.land(bus.Record{Value: forged(t, rapid.Uint32Range(0, 5).Draw(t, "key"))})
			},
			"read": func(t *rapid.T) {
				rapid.SampledFrom(ws).Draw(t, "writer").readOn(m, rapid.IntRange(1, 5).Draw(t, "records"))
			},
			"kill": func(t *rapid.T) {
				if rapid.IntRange(0, 5).Draw(t, "really") == 0 {
					ws[rapid.IntRange(0, len(ws)-1).Draw(t, "which")] = m.start(some())
				}
			},
		})
		before := m.start(nKeys(t, 3))
		before.readOn(m, len(m.topic))
		for _, w := range ws {
			if w.stands() {
				rotated++
			}
			if len(w.took) > len(before.took) || !slices.Equal(w.took, before.took[:len(w.took)]) {
				t.Fatalf("with %d keys: %d entries, not the first of %d", w.keys.top(), len(w.took), len(before.took))
			}
		}
		m.settle(t, ws)
		all := m.start(nKeys(t, 3))
		all.readOn(m, len(m.topic))
		seen := map[string]bool{}
		for _, entry := range all.took {
			if seen[entry] {
				t.Fatalf("%.20q counts twice", entry)
			}
			seen[entry] = true
		}
		for _, w := range ws {
			if !slices.Equal(w.took, all.took) {
				t.Fatalf("a writer knows %d entries, a reader %d", len(w.took), len(all.took))
			}
			var got []string
			for _, entry := range all.took {
				if slices.Contains(w.wanted, entry) {
					got = append(got, entry)
				}
			}
			if !slices.Equal(got, w.wanted) {
				t.Fatalf("%d entries of a writer count, it said %d", len(got), len(w.wanted))
			}
		}
	})
	if rotated == 0 && !testing.Short() { // which tries a few only
		t.Error("nobody ever lacked a key")
	}
}

// nKeys are the first n of three keys.
func nKeys(t rapid.TB, n int) *Keys {
	keys := map[uint32][keySize]byte{}
	for i := range n {
		keys[uint32(i+1)] = [keySize]byte{byte(i + 1)}
	}
	k, err := NewKeys(keys)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// forged is a record that claims a key, by somebody who has none.
func forged(t rapid.TB, key uint32) []byte {
	value, err := proto.Marshal(&pb.Sealed{Key: key, Nonce: make([]byte, 24), Box: bytes.Repeat([]byte{1}, boxSize(leastSize))})
	if err != nil {
		t.Fatal(err)
	}
	return value
}

// settle lets one writer after the other say what it has to say, once it has
// all keys.
func (m *model) settle(t *rapid.T, ws []*writer) {
	for _, w := range ws {
		w.keys.newest, w.keys.keys = 3, nKeys(t, 3).keys
		for range 1000 {
			w.readOn(m, len(m.topic))
			if len(w.queue.waiting) == 0 {
				break
			}
			r, err := w.log.build(2)
			if err != nil {
				t.Fatal(err)
			}
			m.land(*r)
		}
		if len(w.queue.waiting) > 0 {
			t.Fatal("a writer never ends")
		}
	}
	for _, w := range ws {
		w.readOn(m, len(m.topic))
	}
}

func TestMissingRecordsAreTold(t *testing.T) {
	keys := nKeys(t, 1)
	var topic []bus.Record
	l := newLog(Topic{Name: "topic", Size: leastSize, Teller: NewQueue(func(Place, []byte) {}, nil)}, keys, make([]byte, idSize))
	for i := range 10 {
		r, err := l.build(int64(i))
		if err != nil {
			t.Fatal(err)
		}
		r.Offset = int64(i)
		topic = append(topic, *r)
		if _, _, err := l.take(*r); err != nil {
			t.Fatal(err)
		}
	}
	for gone := 1; gone < 9; gone++ {
		f, missing := NewFold("topic", keys), uint64(0)
		for i, r := range topic {
			if i == gone {
				continue
			}
			taken, err := f.Take(r)
			if err != nil {
				t.Fatal(err)
			}
			missing += taken.Missing
		}
		if missing != 1 || f.Head() != 10 {
			t.Errorf("record %d taken away: %d are missing, the head is %d", gone, missing, f.Head())
		}
	}
}

// A key that got out says nothing more once a newer one is in use, whatever it
// knows of the head.
func TestOlderKeySaysNothing(t *testing.T) {
	keys := nKeys(t, 2)
	c := newCodec("topic", keys)
	f := NewFold("topic", keys)
	take := func(number uint64, by, newest uint32) error {
		tick := aTick()
		tick.Number, tick.NewestKey = number, newest
		if number > 1 {
			tick.Follows = f.id[:]
		}
		value, err := c.seal(tick, leastSize, by)
		if err != nil {
			t.Fatal(err)
		}
		_, err = f.Take(bus.Record{Topic: "topic", Value: value})
		return err
	}
	for _, step := range []struct {
		number     uint64
		by, newest uint32
		want       error
	}{
		{1, 1, 1, nil},
		{2, 1, 2, nil}, // tells of the second
		{3, 1, 1 << 31, ErrGarbage},
		{3, 2, 2, nil},
		{4, 1, 2, ErrGarbage},
		{9, 1, 2, ErrGarbage},
		{2, 1, 2, ErrLost},
		{4, 2, 2, nil},
	} {
		if err := take(step.number, step.by, step.newest); !errors.Is(err, step.want) {
			t.Errorf("number %d by key %d: %v, want %v", step.number, step.by, err, step.want)
		}
	}
	if f.Lacks() != 0 || f.Head() != 4 {
		t.Errorf("key %d is lacking, the head is %d", f.Lacks(), f.Head())
	}
}

// Reading may start at a record that had lost its race, when the one that won
// is gone: it must find its way.
func TestReadingStartsAtALoser(t *testing.T) {
	keys := nKeys(t, 1)
	two := []*log{}
	for i := range 2 {
		id := make([]byte, idSize)
		id[0] = byte(i)
		two = append(two, newLog(Topic{Name: "topic", Size: leastSize, Teller: NewQueue(func(Place, []byte) {}, nil)}, keys, id))
	}
	write := func(l *log) bus.Record {
		r, err := l.build(1)
		if err != nil {
			t.Fatal(err)
		}
		return *r
	}
	both := func(r bus.Record) {
		for _, l := range two {
			_, _, _ = l.take(r)
		}
	}
	both(write(two[0]))
	won, lost := write(two[0]), write(two[1])
	both(won)
	both(lost)
	third := write(two[1])
	both(third)
	f := NewFold("topic", keys)
	for i, r := range []bus.Record{lost, third, lost, won, third} {
		_, err := f.Take(r)
		if want := i > 1; errors.Is(err, ErrLost) != want {
			t.Fatalf("record %d: %v, want lost %t", i, err, want)
		}
	}
	if f.Head() != 3 {
		t.Errorf("the head is %d", f.Head())
	}
}

// counters is a state of many parts: entries add to one, sweeps set some.
type counters struct {
	values  map[string]int
	added   map[string]int // without what sweeps set
	waiting []string
	out     []string
	swept   int
}

func (c *counters) Take(_ Place, entry []byte) {
	name, value := "", 0
	if n, _ := fmt.Sscanf(string(entry), "set %s %d", &name, &value); n == 2 {
		c.values[name] = value
		return
	}
	c.values[string(entry[:1])]++
	c.added[string(entry[:1])]++
	if len(c.out) > 0 && c.out[0] == string(entry) {
		c.out, c.waiting = c.out[1:], c.waiting[1:]
	}
}

func (c *counters) Fill(room int) [][]byte {
	var entries [][]byte
	for _, w := range c.waiting[len(c.out):] {
		if room -= Cost([]byte(w)); room < 0 && len(entries) > 0 {
			break
		}
		entries = append(entries, []byte(w))
	}
	for _, e := range entries {
		c.out = append(c.out, string(e))
	}
	return entries
}

func (c *counters) Drop() { c.out = nil }

// Sweep sets two counters a part.
func (c *counters) Sweep(first bool, _ int) (entries [][]byte, done bool) {
	if first {
		c.swept = 0
	}
	for range 2 {
		name := string(rune('a' + c.swept))
		entries = append(entries, fmt.Appendf(nil, "set %s %d %0*d", name, c.values[name], 1+20*c.swept, 0))
		c.swept++
	}
	return entries, c.swept == 6
}

// Who begins at any sweep's place knows, once that sweep was whole, the same as
// who read everything.
func TestSweepsSayEverything(t *testing.T) {
	whole := 0
	rapid.Check(t, func(t *rapid.T) {
		keys := nKeys(t, 2)
		c := &counters{values: map[string]int{}, added: map[string]int{}}
		m := &model{}
		l := newLog(Topic{Name: "topic", Size: leastSize, Teller: c}, keys, make([]byte, idSize))
		var history []map[string]int // after each record
		places := map[int64]int{}    // of sweeps, and when they were announced
		for range rapid.IntRange(1, 100).Draw(t, "beats") {
			for range rapid.IntRange(0, 4).Draw(t, "entries") {
				n := rapid.SampledFrom([]int{1, 60, 200, 900}).Draw(t, "length")
				c.waiting = append(c.waiting, strings.Repeat(string(rune('a'+rapid.IntRange(0, 5).Draw(t, "counter"))), n))
			}
			r, err := l.build(1)
			if err != nil {
				t.Fatal(err)
			}
			if rapid.IntRange(0, 9).Draw(t, "lost") == 9 {
				continue // its publishing failed
			}
			m.land(*r)
			if _, _, err = l.take(m.topic[len(m.topic)-1]); err != nil {
				t.Fatal(err)
			}
			if _, ok := places[l.fold.sweepOffset]; !ok && l.fold.sweepNumber > 0 {
				places[l.fold.sweepOffset] = len(history)
				whole++
			}
			history = append(history, maps.Clone(c.added))
		}
		for offset, announced := range places {
			late := &counters{values: map[string]int{}, added: map[string]int{}}
			f := NewFold("topic", keys)
			for i, r := range m.topic[offset:] {
				taken, err := f.Take(r)
				if err != nil {
					t.Fatal(err)
				}
				for _, e := range taken.Entries {
					if len(e) > 0 {
						late.Take(taken.Place, e)
					}
				}
				if at := int(offset) + i; at >= announced {
					for name, want := range history[at] {
						if late.values[name] != want {
							t.Fatalf("from the sweep at %d on, counter %s is %d at %d, want %d", offset, name, late.values[name], at, want)
						}
					}
				}
			}
		}
	})
	if whole == 0 {
		t.Error("no sweep was ever whole")
	}
}

// A key is another one if the log's newest word says so, and in no other case:
// older writers don't tell it, and what our key opened is ours.
func TestWhoseKeyALogGoesOnWith(t *testing.T) {
	ours := nKeysOf(t, 2, 7)
	other := nKeysOf(t, 2, 8) // the same first key
	for _, c := range []struct {
		name  string
		ticks []*pb.Tick // NewestKey and NewestKeyPrint
		by    []uint32
		other uint32
	}{
		{"nothing is told", []*pb.Tick{{NewestKey: 1}}, []uint32{1}, 0},
		{"ours", []*pb.Tick{{NewestKey: 2, NewestKeyPrint: ours.print(2)}}, []uint32{1}, 0},
		{"another", []*pb.Tick{{NewestKey: 2, NewestKeyPrint: other.print(2)}}, []uint32{1}, 2},
		{"an older writer", []*pb.Tick{{NewestKey: 2}}, []uint32{1}, 0},
		{"another, then an older writer", []*pb.Tick{{NewestKey: 2, NewestKeyPrint: other.print(2)}, {NewestKey: 2}}, []uint32{1, 1}, 0},
		{"another, then sealed with ours", []*pb.Tick{{NewestKey: 2, NewestKeyPrint: other.print(2)}, {NewestKey: 2}}, []uint32{1, 2}, 0},
		{"ours, then another", []*pb.Tick{{NewestKey: 2, NewestKeyPrint: ours.print(2)}, {NewestKey: 2, NewestKeyPrint: other.print(2)}}, []uint32{1, 1}, 2},
		{"a print of no length", []*pb.Tick{{NewestKey: 2, NewestKeyPrint: []byte("short")}}, []uint32{1}, 0},
		{"one that isn't here at all", []*pb.Tick{{NewestKey: 3, NewestKeyPrint: other.print(2)}}, []uint32{1}, 0},
	} {
		f := NewFold("t", ours)
		for i := range c.ticks {
			f.told(c.ticks[i], c.by[i])
		}
		if n, print := f.Other(); n != c.other || (n > 0) != (print != nil) {
			t.Errorf("%s: key %d, fingerprint %x; want key %d", c.name, n, print, c.other)
		}
	}
}

// nKeysOf are n keys, of which all but the last are the same for every seed.
func nKeysOf(t *testing.T, n int, seed byte) *Keys {
	t.Helper()
	keys := map[uint32][keySize]byte{}
	for i := range n {
		keys[uint32(i+1)] = [keySize]byte{byte(i)}
	}
	keys[uint32(n)] = [keySize]byte{seed}
	k, err := NewKeys(keys)
	if err != nil {
		t.Fatal(err)
	}
	return k
}
