package chain

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	pb "qstream/schemas/qstream/v1"
)

func leaves(n int) []Hash {
	out := make([]Hash, n)
	for i := range out {
		out[i] = Leaf{Topic: "t", Offset: int64(i), Key: []byte("k")}.Hash()
	}
	return out
}

// TestEveryFieldCounts: records that differ in anything have different hashes,
// also where bytes only moved from one field to the next.
func TestEveryFieldCounts(t *testing.T) {
	base := Leaf{Topic: "ab", Partition: 1, Offset: 2, AtMs: 3, Key: []byte("cd"), Headers: []Header{{"e", []byte("f")}}, Value: Hash{7}}
	seen := map[Hash]string{base.Hash(): "as it was"}
	for name, change := range map[string]func(*Leaf){
		"topic":      func(l *Leaf) { l.Topic = "ax" },
		"partition":  func(l *Leaf) { l.Partition++ },
		"offset":     func(l *Leaf) { l.Offset++ },
		"time":       func(l *Leaf) { l.AtMs++ },
		"key":        func(l *Leaf) { l.Key = []byte("ce") },
		"no key":     func(l *Leaf) { l.Key = nil },
		"value":      func(l *Leaf) { l.Value[31] = 1 },
		"no header":  func(l *Leaf) { l.Headers = nil },
		"header":     func(l *Leaf) { l.Headers = []Header{{"e", []byte("g")}} },
		"two":        func(l *Leaf) { l.Headers = append(l.Headers, Header{"e", []byte("f")}) },
		"moved":      func(l *Leaf) { l.Headers = []Header{{"ef", nil}} },
		"topic, key": func(l *Leaf) { l.Topic, l.Key = "abc", []byte("d") },
	} {
		l := base
		l.Headers = slices.Clone(base.Headers)
		change(&l)
		if other, ok := seen[l.Hash()]; ok {
			t.Errorf("%s has the hash of: %s", name, other)
		}
		seen[l.Hash()] = name
	}
}

// TestProofs: each leaf of any interval is proved, at its place and nowhere
// else, and nothing but the leaf is.
func TestProofs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 70).Draw(t, "leaves")
		i := rapid.IntRange(0, n-1).Draw(t, "leaf")
		all := leaves(n)
		l := Extend(Part{"t", 0}, Hash{1}, 5, int64(5+n), all)
		proof, err := Prove(all, i)
		if err != nil {
			t.Fatal(err)
		}
		if err := Check(l, all[i], int64(i), proof); err != nil {
			t.Fatalf("leaf %d of %d: %v", i, n, err)
		}
		other := all[i]
		other[rapid.IntRange(0, 31).Draw(t, "byte")] ^= 1
		if err := Check(l, other, int64(i), proof); !errors.Is(err, ErrFalse) {
			t.Fatalf("another leaf: %v", err)
		}
		if j := (i + 1) % n; j != i {
			if err := Check(l, all[i], int64(j), proof); !errors.Is(err, ErrFalse) {
				t.Fatalf("leaf %d at %d of %d: %v", i, j, n, err)
			}
		}
		for k := range proof {
			bad := slices.Clone(proof)
			bad[k][0] ^= 1
			if err := Check(l, all[i], int64(i), bad); !errors.Is(err, ErrFalse) {
				t.Fatalf("path changed at %d: %v", k, err)
			}
		}
		if err := Check(l, all[i], l.Count, proof); !errors.Is(err, ErrFalse) {
			t.Fatalf("behind the end: %v", err)
		}
	})
}

// writer makes checkpoints as a process would.
type writer struct {
	key   ed25519.PrivateKey
	state State
}

func newWriter(t testing.TB) *writer {
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &writer{key: key}
}

// next is the checkpoint that the writer would write now, with n records of
// one partition.
func (w *writer) next(t testing.TB, n int) []byte {
	at := w.state.Parts[Part{"t", 0}]
	l := Extend(Part{"t", 0}, at.Head, at.Next, at.Next+int64(n), leaves(n))
	value, err := Sign(w.state.Chain(int64(n), "w", []*pb.Link{l}), w.key)
	if err != nil {
		t.Fatal(err)
	}
	return value
}

// TestStateIsOne: of checkpoints of two writers that come in any order, late
// and repeated, every reader takes the same ones, and they make one chain.
func TestStateIsOne(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		key := ed25519.NewKeyFromSeed(make([]byte, 32))
		writers := []*writer{{key: key}, {key: key}}
		var topic, late [][]byte
		seen := []int{0, 0} // how much of the topic each has read
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			w := rapid.IntRange(0, 1).Draw(t, "writer")
			switch rapid.SampledFrom([]string{"read", "write", "hold back", "arrive"}).Draw(t, "step") {
			case "read":
				for ; seen[w] < len(topic); seen[w]++ {
					_, _ = writers[w].state.Take(topic[seen[w]], time.Now())
				}
			case "write":
				topic = append(topic, writers[w].nextOf(rapid.IntRange(0, 3).Draw(t, "records")))
			case "hold back":
				late = append(late, writers[w].nextOf(1))
			case "arrive":
				topic = append(topic, late...)
				late = nil
			}
		}
		var one State
		taken := 0
		for _, value := range topic {
			before := one
			c, err := one.Take(value, time.Now())
			switch {
			case err == nil:
				taken++
				if c.Number != before.Number+1 || before.Number > 0 && string(c.Before) != string(before.Hash[:]) {
					t.Fatalf("checkpoint %d was taken after %d", c.Number, before.Number)
				}
			case !errors.Is(err, ErrLost):
				t.Fatalf("%v", err)
			}
		}
		if len(topic) > 0 && taken == 0 {
			t.Fatal("none was taken")
		}
	})
}

func (w *writer) nextOf(n int) []byte {
	at := w.state.Parts[Part{"t", 0}]
	l := Extend(Part{"t", 0}, at.Head, at.Next, at.Next+int64(n), leaves(n))
	value, err := Sign(w.state.Chain(0, "w", []*pb.Link{l}), w.key)
	if err != nil {
		panic(err)
	}
	return value
}

// TestReadingBeginsAnywhere: who begins with a checkpoint that had lost comes
// to the chain with the next.
func TestReadingBeginsAnywhere(t *testing.T) {
	w := newWriter(t)
	var winners, losers [][]byte
	for range 3 {
		losers = append(losers, w.next(t, 2))
		winners = append(winners, w.next(t, 1))
		if _, err := w.state.Take(winners[len(winners)-1], time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	var late State
	for i, value := range [][]byte{losers[1], winners[2]} {
		c, err := late.Take(value, time.Now())
		if err != nil {
			t.Fatalf("record %d: %v", i, err)
		}
		if !c.First {
			t.Errorf("record %d: what was before it counts", i)
		}
	}
	if late.Hash != w.state.Hash {
		t.Error("another chain than the others'")
	}
	if _, err := late.Take(losers[2], time.Now()); !errors.Is(err, ErrLost) {
		t.Errorf("%v", err)
	}
}

func TestForgeries(t *testing.T) {
	w := newWriter(t)
	first := w.next(t, 2)
	if _, err := w.state.Take(first, time.Now()); err != nil {
		t.Fatal(err)
	}
	state := func() *State {
		s := State{Trust: func(k ed25519.PublicKey) bool { return k.Equal(w.key.Public()) }}
		if _, err := s.Take(first, time.Now()); err != nil {
			t.Fatal(err)
		}
		return &s
	}
	good := w.next(t, 1)
	signed := func(key ed25519.PrivateKey, change func(*pb.Link)) []byte {
		at := w.state.Parts[Part{"t", 0}]
		l := Extend(Part{"t", 0}, at.Head, at.Next, at.Next+1, leaves(1))
		change(l)
		value, err := Sign(w.state.Chain(0, "w", []*pb.Link{l}), key)
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
	for name, value := range map[string][]byte{
		"another's key":   signed(newWriter(t).key, func(*pb.Link) {}),
		"another root":    signed(w.key, func(l *pb.Link) { l.Root[0] ^= 1 }),
		"another head":    signed(w.key, func(l *pb.Link) { l.Head[0] ^= 1 }),
		"from before":     signed(w.key, func(l *pb.Link) { l.From-- }),
		"backwards":       signed(w.key, func(l *pb.Link) { l.Next = 0 }),
		"more than there": signed(w.key, func(l *pb.Link) { l.Count = 9 }),
		"no head":         signed(w.key, func(l *pb.Link) { l.Head = nil }),
	} {
		if _, err := state().Take(value, time.Now()); !errors.Is(err, ErrFalse) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for i := range good {
		bad := slices.Clone(good)
		bad[i] ^= 1
		s := state()
		if c, err := s.Take(bad, time.Now()); err == nil && !proto.Equal(c.Chained, mustOpen(t, good).Chained) {
			t.Errorf("byte %d: taken", i)
		}
	}
	if _, err := state().Take(good, time.Now()); err != nil {
		t.Errorf("as it was: %v", err)
	}
}

// TestNoEnd: a link that tells of more leaves than a log can have ends like any
// other forgery.
func TestNoEnd(t *testing.T) {
	l := &pb.Link{Topic: "t", Next: math.MaxInt64, Root: make([]byte, len(Hash{}))}
	for _, count := range []int64{1 << 40, mostLeaves + 1, 1<<62 + 1, math.MaxInt64, -1, math.MinInt64} {
		l.Count = count
		for _, i := range []int64{0, 1, count - 1} {
			if err := Check(l, leaves(1)[0], i, leaves(62)); !errors.Is(err, ErrFalse) {
				t.Errorf("leaf %d of %d: %v", i, count, err)
			}
		}
	}
}

func mustOpen(t *testing.T, value []byte) *Signed {
	t.Helper()
	c, err := Open(value)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// FuzzOpen: whatever the bytes, there is no panic, and what is taken holds.
func FuzzOpen(f *testing.F) {
	w := &writer{key: ed25519.NewKeyFromSeed(make([]byte, 32))}
	f.Add(w.nextOf(3))
	f.Add([]byte("x"))
	f.Fuzz(func(t *testing.T, value []byte) {
		var s State
		c, err := s.Take(value, time.Now())
		if err != nil {
			return
		}
		for _, l := range c.Links {
			if l.Next < l.From || len(l.Head) != 32 {
				t.Error(fmt.Sprint("taken: ", l))
			}
		}
	})
}
