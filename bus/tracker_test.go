package bus

import (
	"encoding/base64"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// model is a tracker told plainly: a set of finished and of seen offsets.
type model struct {
	next     int64
	records  map[int64]slotState // seen and given out
	finished map[int64]bool      // by an earlier owner
}

func (m *model) base() int64 {
	for o := int64(0); o < m.next; o++ {
		if s, ok := m.records[o]; ok && s == open {
			return o
		}
	}
	return m.next
}

// A log is walked through with gaps, jobs finish, abort and commit in any
// order, and owners change; what the commits tell is compared with the model.
func TestTrackerProperty(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		tr := newTracker(0, nil)
		m := &model{records: map[int64]slotState{}, finished: map[int64]bool{}}
		for range rapid.IntRange(1, 120).Draw(rt, "steps") {
			switch rapid.IntRange(0, 6).Draw(rt, "step") {
			case 0, 1, 2:
				o := m.next + int64(rapid.SampledFrom([]int{0, 0, 0, 1, 3}).Draw(rt, "gap"))
				added := tr.add(o)
				if added == m.finished[o] {
					rt.Fatalf("add(%d) = %v, finished before: %v", o, added, m.finished[o])
				}
				if added {
					m.records[o] = open
				}
				m.next = o + 1
			case 3:
				tr.skip(m.next)
				m.next++
			case 4:
				from := rapid.SampledFrom([]slotState{open, taken}).Draw(rt, "from")
				to := rapid.SampledFrom([]slotState{open, taken, done}).Draw(rt, "to")
				if o, ok := pick(rt, m, from); ok {
					tr.set(o, to)
					m.records[o] = to
				}
			case 5:
				tr.compact()
			case 6:
				tr, m = nextOwner(rt, tr, m)
			}
			sameAsModel(rt, tr, m)
		}
	})
}

func pick(rt *rapid.T, m *model, s slotState) (int64, bool) {
	var os []int64
	for o, state := range m.records {
		if state == s {
			os = append(os, o)
		}
	}
	if len(os) == 0 {
		return 0, false
	}
	slices.Sort(os)
	return rapid.SampledFrom(os).Draw(rt, "offset"), true
}

// nextOwner commits what is, and starts again from the commit.
func nextOwner(rt *rapid.T, tr *tracker, m *model) (*tracker, *model) {
	p := progress{finished: tr.finished(), journalPart: -1, floor: noFloor}
	text, _ := p.encode(tr.base())
	got, err := decodeProgress(tr.base(), text)
	if err != nil {
		rt.Fatal(err)
	}
	next := &model{next: tr.base(), records: map[int64]slotState{}, finished: map[int64]bool{}}
	for _, s := range got.finished {
		for o := s.from; o < s.to; o++ {
			next.finished[o] = true
			if state, ok := m.records[o]; ok && state == open {
				rt.Fatalf("offset %d is told finished and is open", o)
			}
		}
	}
	for o, state := range m.records {
		if state != open && o >= next.next && !next.finished[o] {
			rt.Fatalf("offset %d is finished and not told", o)
		}
	}
	for o := range m.finished {
		if o >= next.next && !next.finished[o] && o >= m.next {
			rt.Fatalf("offset %d was told finished and is forgotten", o)
		}
	}
	return newTracker(tr.base(), got.finished), next
}

func sameAsModel(rt *rapid.T, tr *tracker, m *model) {
	if got, want := tr.base(), m.base(); got != want {
		rt.Fatalf("base %d, want %d", got, want)
	}
	at := tr.base()
	for _, s := range tr.finished() {
		if s.from < at || s.to <= s.from {
			rt.Fatalf("spans out of order: %v above %d", tr.finished(), tr.base())
		}
		at = s.to
		for o := s.from; o < s.to; o++ {
			if state, ok := m.records[o]; ok && state == open {
				rt.Fatalf("offset %d is told finished and is open", o)
			}
		}
	}
	for o, state := range m.records {
		if tr.isOpen(o) != (state == open) {
			rt.Fatalf("offset %d open: %v", o, tr.isOpen(o))
		}
	}
}

func TestProgressRoundTrip(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		base := rapid.Int64Range(0, 1<<50).Draw(rt, "base")
		p := progress{
			owner:    rapid.StringMatching(`[a-zA-Z0-9.]{0,60}`).Draw(rt, "owner"),
			sequence: rapid.Uint64().Draw(rt, "sequence"), released: rapid.Bool().Draw(rt, "released"),
			journalPart: rapid.Int32Range(-1, 1000).Draw(rt, "part"), floor: rapid.Int64Range(-1, 1<<60).Draw(rt, "floor"),
			state: rapid.SliceOfN(rapid.Byte(), 0, 1024).Draw(rt, "state"),
		}
		if rapid.Bool().Draw(rt, "more") {
			p.more = overflow{true, rapid.Int32Range(0, 100).Draw(rt, "morePart"), rapid.Int64Range(0, 1<<60).Draw(rt, "moreOffset")}
		}
		at := base
		for range rapid.IntRange(0, 300).Draw(rt, "runs") {
			from := at + rapid.Int64Range(1, 1<<20).Draw(rt, "hole")
			to := from + rapid.Int64Range(1, 1<<20).Draw(rt, "length")
			p.finished = append(p.finished, span{from, to})
			at = to
		}
		text, size := p.encode(base)
		if len(text) > metadataLimit {
			rt.Fatalf("%d characters", len(text))
		}
		got, err := decodeProgress(base, text)
		if err != nil {
			rt.Fatal(err)
		}
		want := p
		if size > metadataLimit {
			want.finished = p.finished[:len(got.finished)]
		}
		if len(want.state) == 0 {
			want.state, got.state = nil, nil
		}
		if d := cmp.Diff(want, got, cmp.AllowUnexported(progress{}, span{}, overflow{})); d != "" {
			rt.Fatal(d)
		}
	})
}

// The limit is the broker's: one character more and the commit is refused.
// What does not fit is told unfinished.
func TestProgressAtTheLimit(t *testing.T) {
	p := progress{owner: strings.Repeat("o", 60), journalPart: 3, floor: 1 << 40}
	var at int64
	longest := 0
	for range 4000 {
		from := at + 1 + rand.Int64N(300)
		p.finished = append(p.finished, span{from, from + 1})
		at = from + 1
		text, size := p.encode(0)
		longest = max(longest, len(text))
		if len(text) > 4096 || size <= metadataLimit && len(text) != size {
			t.Fatalf("%d characters of %d", len(text), size)
		}
	}
	if longest < 4080 {
		t.Errorf("only %d of 4096 characters are used", longest)
	}
}

func FuzzDecodeProgress(f *testing.F) {
	p := progress{owner: "g.ABC", sequence: 7, floor: 12, finished: []span{{3, 4}, {9, 20}}, state: []byte("s")}
	text, _ := p.encode(1)
	f.Add(int64(1), text)
	f.Add(int64(0), "")
	f.Add(int64(5), base64.RawStdEncoding.EncodeToString([]byte{formatByte, 0, 1}))
	f.Fuzz(func(t *testing.T, base int64, text string) {
		if base < 0 || base > 1<<60 {
			return
		}
		p, err := decodeProgress(base, text)
		if err != nil {
			return
		}
		at := base
		for _, s := range p.finished {
			if s.from < at || s.to <= s.from {
				t.Fatalf("spans out of order: %v", p.finished)
			}
			at = s.to
		}
	})
}
