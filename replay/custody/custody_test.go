package custody

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"qstream/bus"
	"qstream/bus/bustest"
	"qstream/mail"
	"qstream/schemas"
	"qstream/schemas/chain"
	pb "qstream/schemas/qstream/v1"
	"qstream/tapper/custody"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newKey(t testing.TB) ed25519.PrivateKey {
	t.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// keep runs a chain until stop is called or the test ends.
func keep(t *testing.T, b *bus.Bus, key ed25519.PrivateKey) (stop func()) {
	t.Helper()
	return keepAt(t, b, key, time.Now)
}

func keepAt(t *testing.T, b *bus.Bus, key ed25519.PrivateKey, now func() time.Time) (stop func()) {
	t.Helper()
	c, err := custody.New(custody.Config{Key: key, Every: 20 * time.Millisecond, Most: 50}, custody.Deps{Bus: b, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("chain: %v", err)
		}
	}
	t.Cleanup(stop)
	return stop
}

// put puts n messages and an event about each on the bus.
func put(t *testing.T, b *bus.Bus, n int) {
	t.Helper()
	for range n {
		id := mail.NewID(time.Now())
		bustest.Put(t, b, bus.NewReceived(&pb.Received{Id: id}), bus.NewEvent(&pb.Event{MessageId: id}))
	}
}

// signed waits until every record is under a checkpoint, and returns what
// Verify finds then.
func signed(t *testing.T, b *bus.Bus, records int64) *Report {
	t.Helper()
	for until := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		r, err := Verify(t.Context(), b, Options{})
		if err != nil {
			t.Fatal(err)
		}
		var in int64
		for _, p := range r.Parts {
			in += p.Records
		}
		if in == records || len(r.Wrong) > 0 {
			return r
		}
		if time.Now().After(until) {
			t.Fatalf("%d of %d records are signed: %+v", in, records, r)
		}
	}
}

// TestChain: with two processes, one of which is stopped now and then, every
// record is in the chain once.
func TestChain(t *testing.T) {
	b, key := bustest.New(t), newKey(t)
	put(t, b, 20)
	keep(t, b, key)
	for range 4 {
		stop := keep(t, b, key)
		put(t, b, 40)
		stop()
		put(t, b, 7)
	}
	r := signed(t, b, 2*(20+4*47))
	if len(r.Wrong) > 0 {
		t.Fatalf("%v", r.Wrong)
	}
	if len(r.Keys) != 1 || r.Keys[0] != Fingerprint(key.Public().(ed25519.PublicKey)) {
		t.Errorf("%v", r.Keys)
	}
	if r, err := Verify(t.Context(), b, Options{Since: r.Newest}); err != nil || len(r.Wrong) > 0 || r.Checkpoints == 0 || len(r.Parts) == 0 || r.Parts[0].Intervals == 0 {
		t.Errorf("of the newest alone: %+v, %v", r, err)
	}
	trust := func(k ed25519.PublicKey) bool { return !k.Equal(key.Public()) }
	sorted := func(a, b *Part) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	}
	if len(r.Parts) < 2 || !slices.IsSortedFunc(r.Parts, sorted) {
		t.Errorf("partitions in this order: %v", r.Parts)
	}
	forged, err := Verify(t.Context(), b, Options{Trust: trust})
	if err != nil || forged.Checkpoints != 0 || len(forged.Wrong) < 2 {
		t.Fatalf("by another key: %+v, %v", forged, err)
	}
	told := forged.Summary()
	want := fmt.Sprintf("%s/0, offsets %d to %d, %d times: a checkpoint that another key signed",
		schemas.Checkpoint, forged.Wrong[0].From, forged.Wrong[len(forged.Wrong)-1].From, len(forged.Wrong))
	if len(told) != 1 || told[0].String() != want {
		t.Errorf("%v, want %s", told, want)
	}
}

// TestSummary: a kind of difference is told once for each partition, with how
// often, from where to where, and of how many records.
func TestSummary(t *testing.T) {
	short := func(partition int32, from, there int64) Wrong {
		w := differs("t", partition, from, from+10, "short")
		w.Signed, w.There = 10, there
		return w
	}
	r := Report{Wrong: []Wrong{short(0, 0, 9), differs("t", 0, 10, 20, "else"), short(0, 30, 0), short(1, 30, 1), short(0, 50, 8)}}
	var got []string
	for _, w := range r.Summary() {
		got = append(got, w.String())
	}
	want := []string{
		"t/0, offsets 0 to 59, 3 times: short (30 signed, 17 there)",
		"t/0, offsets 10 to 19: else",
		"t/1, offsets 30 to 39: short (10 signed, 1 there)",
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	if len(r.Wrong) != 5 || r.Wrong[0].Times != 1 {
		t.Errorf("it changed the report: %v", r.Wrong)
	}
}

// TestAnotherKey: who signs with a key of his own leads nobody's chain astray,
// and changes nothing for who knows whose key counts.
func TestAnotherKey(t *testing.T) {
	b, key := bustest.New(t), newKey(t)
	put(t, b, 10)
	stop := keep(t, b, key)
	signed(t, b, 20)
	forged := &pb.Chained{Number: 2, Links: []*pb.Link{{Topic: schemas.Received, From: 0, Next: 1 << 40, Head: make([]byte, 32)}}}
	value, err := chain.Sign(forged, newKey(t))
	if err != nil {
		t.Fatal(err)
	}
	bustest.Put(t, b, bus.Record{Topic: schemas.Checkpoint, Partition: 0, Value: value})
	stop()
	keep(t, b, key)
	put(t, b, 10)
	own := func(k ed25519.PublicKey) bool { return k.Equal(key.Public()) }
	for until := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		r, err := Verify(t.Context(), b, Options{Trust: own})
		if err != nil {
			t.Fatal(err)
		}
		var in int64
		for _, p := range r.Parts {
			in += p.Records
		}
		if in == 40 && len(r.Wrong) == 1 {
			return
		}
		if time.Now().After(until) {
			t.Fatalf("%d of 40 records: %v", in, r.Wrong)
		}
	}
}

// TestRepeatedCheckpoint: who may write to the topic, and has no key, leads
// nobody astray who doesn't read it from its begin, by putting an old checkpoint
// there again.
func TestRepeatedCheckpoint(t *testing.T) {
	broker, key := bustest.Start(t), newKey(t)
	b := broker.Dial(t, bus.Config{})
	stop := keep(t, b, key)
	for n := range int64(2) {
		put(t, b, 10)
		signed(t, b, 20*(n+1))
	}
	stop()
	later := func() time.Time { return time.Now().Add(2 * time.Hour) }
	b = broker.Dial(t, bus.Config{Now: later})
	old := bustest.Records(t, b, schemas.Checkpoint)[0]
	bustest.Put(t, b, bus.Record{Topic: schemas.Checkpoint, Partition: 0, Value: old.Value})
	put(t, b, 10)
	keepAt(t, b, key, later)
	if r := signed(t, b, 60); len(r.Wrong) > 0 {
		t.Fatalf("%v", r.Wrong)
	}
	r, err := Verify(t.Context(), b, Options{Since: time.Now().Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	var in int64
	for _, p := range r.Parts {
		in += p.Records
	}
	if in != 20 || len(r.Wrong) > 0 {
		t.Errorf("%d of the 20 newer records, wrong %v", in, r.Wrong)
	}
}

// TestCheckpointsAge: what age has removed of the checkpoints is no difference,
// what somebody has is one.
func TestCheckpointsAge(t *testing.T) {
	b, key := bustest.New(t), newKey(t)
	kept, err := b.Retention(t.Context(), schemas.Checkpoint)
	if err != nil {
		t.Fatal(err)
	}
	made := time.Now()
	value, err := chain.Sign(&pb.Chained{Number: 5, AtMs: made.UnixMilli()}, key)
	if err != nil {
		t.Fatal(err)
	}
	bustest.Put(t, b, bus.Record{Topic: schemas.Checkpoint, Partition: 0, Value: value})
	for name, c := range map[string]struct {
		now  time.Time
		want int
	}{"today": {made, 1}, "long after": {made.Add(kept), 0}} {
		r, err := Verify(t.Context(), b, Options{Now: func() time.Time { return c.now }})
		if err != nil || len(r.Wrong) != c.want {
			t.Errorf("%s: %v, %v", name, r.Wrong, err)
		}
	}
}

// TestProve: each record is proved to who has a checkpoint.
func TestProve(t *testing.T) {
	b, key := bustest.New(t), newKey(t)
	stop := keep(t, b, key)
	put(t, b, 30)
	signed(t, b, 60)
	stop()
	put(t, b, 1)
	wanted, values := map[chain.Part]map[int64]bool{}, map[string]chain.Hash{}
	for _, topic := range []string{schemas.Received, schemas.Events} {
		for _, r := range bustest.Records(t, b, topic) {
			p := chain.Part{Topic: r.Topic, Partition: r.Partition}
			if wanted[p] == nil {
				wanted[p] = map[int64]bool{}
			}
			wanted[p][r.Offset] = true
			values[fmt.Sprint(r.Topic, r.Partition, r.Offset)] = sha256.Sum256(r.Value)
		}
	}
	found, err := Prove(t.Context(), b, wanted, time.Time{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(found.Proofs) != 60 || found.Unsigned != 2 {
		t.Fatalf("%d proofs, %d unsigned", len(found.Proofs), found.Unsigned)
	}
	byNumber := map[uint64]*chain.Signed{}
	for _, value := range found.Checkpoints {
		c, err := chain.Open(value)
		if err != nil {
			t.Fatal(err)
		}
		byNumber[c.Number] = c
	}
	for _, p := range found.Proofs {
		c, value := byNumber[p.Checkpoint], values[fmt.Sprint(p.Topic, p.Partition, p.Offset)]
		if err := p.Check(value, c); err != nil {
			t.Errorf("%+v: %v", p, err)
		}
		value[0] ^= 1
		if p.Check(value, c) == nil {
			t.Errorf("another value is proved, too: %+v", p)
		}
	}
}

// TestTampering: what was done to the log by hand is reported where it was
// done.
func TestTampering(t *testing.T) {
	b, key := bustest.New(t), newKey(t)
	stop := keep(t, b, key)
	put(t, b, 30)
	signed(t, b, 60)
	stop()
	if r := tampered(t, b, func(int, *bus.Record) bool { return true }); len(r.Wrong) > 0 {
		t.Fatalf("as it is: %v", r.Wrong)
	}
	for name, c := range map[string]struct {
		change func(i int, r *bus.Record) bool
		says   string
	}{
		"a byte of a value": {func(i int, r *bus.Record) bool {
			if i == 11 {
				r.Value[len(r.Value)-1] ^= 1
			}
			return true
		}, "isn't what was signed"},
		"a header": {func(i int, r *bus.Record) bool {
			if i == 11 {
				r.Headers = append(r.Headers, bus.Header{Key: "x"})
			}
			return true
		}, "isn't what was signed"},
		"the time": {func(i int, r *bus.Record) bool {
			if i == 11 {
				r.Time = r.Time.Add(time.Millisecond)
			}
			return true
		}, "isn't what was signed"},
		"a record removed": {func(i int, _ *bus.Record) bool { return i != 11 }, "signed"},
	} {
		t.Run(name, func(t *testing.T) {
			r := tampered(t, b, c.change)
			if len(r.Wrong) == 0 || !strings.Contains(r.Wrong[0].String(), c.says) || r.Wrong[0].Topic != schemas.Received {
				t.Errorf("%v", r.Wrong)
			}
		})
	}
}

// tampered is what is found if the received topic is as change leaves it.
func tampered(t *testing.T, b *bus.Bus, change func(i int, r *bus.Record) (keep bool)) *Report {
	t.Helper()
	v := &verifier{parts: map[chain.Part]*Part{}}
	if err := v.checkpoints(t.Context(), b, Options{}); err != nil {
		t.Fatal(err)
	}
	for _, topic := range []string{schemas.Received, schemas.Events} {
		for i, r := range bustest.Records(t, b, topic) {
			if topic == schemas.Events || change(i, &r) {
				v.record(v.parts[chain.Part{Topic: r.Topic, Partition: r.Partition}], r)
			}
		}
	}
	return v.end()
}
