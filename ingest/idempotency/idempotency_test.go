package idempotency

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"testing"
	"time"

	"go.uber.org/goleak"

	"qstream/bus"
	"qstream/bus/bustest"
	pb "qstream/schemas/qstream/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// follow runs the keys of one edge.
func follow(t *testing.T, b *bus.Bus, cfg Config) *Keys {
	t.Helper()
	cfg.Bus = b
	k, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- k.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	<-k.CaughtUp()
	return k
}

func look(t *testing.T, k *Keys, key Key) *Former {
	t.Helper()
	f, err := k.Look(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// unused reports a key that nobody has used.
func unused(f *Former) bool { return f.record == nil && f.wait == 0 }

// eventually looks a key up until it is as wanted.
func eventually(t *testing.T, k *Keys, key Key, want func(*Former) bool) *Former {
	t.Helper()
	for began := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		if f := look(t, k, key); want(f) {
			return f
		}
		if time.Since(began) > 20*time.Second {
			t.Fatal("never came to be as wanted")
		}
	}
}

func TestClaims(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	one, two := follow(t, b, Config{Edge: "one"}), follow(t, b, Config{Edge: "two"})
	key := KeyOf("user a", "k")
	if key == KeyOf("user ak", "") || key == KeyOf("user a", "K") {
		t.Error("keys that are alike")
	}
	unknown := look(t, one, key)
	if !unused(unknown) || !unknown.Same([]byte("x")) {
		t.Errorf("%+v", unknown)
	}
	c, err := one.Claim(t.Context(), key, unknown, []string{"m1"}, []byte("print"))
	if err != nil || !c.Holds() {
		t.Fatal(err)
	}
	if _, err := two.Claim(t.Context(), key, &Former{claim: -1}, []string{"m2"}, []byte("print")); !errors.Is(err, ErrTaken) {
		t.Errorf("second claim: %v", err)
	}
	if f := look(t, two, key); f.Taken() <= 0 || unused(f) {
		t.Errorf("%+v", f)
	}
	if found, err := c.Published(t.Context()); err != nil || len(found) > 0 {
		t.Errorf("%v %v", found, err)
	}
	if err := c.Done(t.Context(), 202, []byte("answer")); err != nil {
		t.Fatal(err)
	}
	f := eventually(t, two, key, func(f *Former) bool { return f.Taken() == 0 && !unused(f) })
	status, answer, done := f.Done()
	if status != 202 || string(answer) != "answer" || !done || !f.Same([]byte("print")) || f.Same([]byte("other")) {
		t.Errorf("%d %q %v", status, answer, done)
	}
	// An edge that starts later knows it, too.
	later := follow(t, b, Config{})
	if _, answer, done := look(t, later, key).Done(); !done || string(answer) != "answer" {
		t.Errorf("later: %q %v", answer, done)
	}
}

// A claim that is given up is anybody's at once, with its ids; one whose owner
// is gone when its lease is over. What was published under it is found.
func TestTakeover(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	const lease = 8 * time.Second // a loaded machine publishes within a quarter of it
	one, two := follow(t, b, Config{Lease: lease}), follow(t, b, Config{Lease: lease})
	key := KeyOf("s", "k")
	c, err := one.Claim(t.Context(), key, look(t, one, key), []string{"m1", "m2"}, []byte("print"))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Open(t.Context(), []byte("so far")); err != nil {
		t.Fatal(err)
	}
	f := eventually(t, two, key, func(f *Former) bool { return f.Taken() == 0 && !unused(f) })
	ids, answer := f.Unfinished()
	if len(ids) != 2 || string(answer) != "so far" {
		t.Errorf("%v %q", ids, answer)
	}
	if _, err = two.Claim(t.Context(), key, f, ids, []byte("print")); err != nil {
		t.Fatal(err)
	}
	r := bus.NewReceived(&pb.Received{Id: "m2", Session: &pb.Session{}, Envelope: &pb.Envelope{ReversePath: "x"}})
	other := bus.NewReceived(&pb.Received{Id: "m3", Session: &pb.Session{}})
	if err := b.Publish(t.Context(), &r, &other); err != nil {
		t.Fatal(err)
	}
	first := f.claim
	f = eventually(t, one, key, func(f *Former) bool { return f.Taken() == 0 && f.claim > first })
	last, err := one.Claim(t.Context(), key, f, ids, []byte("print"))
	if err != nil {
		t.Fatal(err)
	}
	found, err := last.Published(t.Context())
	if err != nil || len(found) != 1 || found["m2"].GetEnvelope().GetReversePath() != "x" {
		t.Errorf("%v %v", found, err)
	}
	if n := len(last.record.ClaimedMs); n != 3 {
		t.Errorf("%d claims", n)
	}
}

// Keys that find no room are refused, known ones are not; a day later there is
// room again.
func TestRoom(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	k := follow(t, b, Config{MaxKeys: 3})
	for i := range 3 {
		key := KeyOf("s", fmt.Sprint(i))
		if _, err := k.Claim(t.Context(), key, look(t, k, key), nil, nil); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := k.Look(t.Context(), KeyOf("s", "3")); !errors.Is(err, ErrBehind) {
		t.Error(err)
	}
	if f := look(t, k, KeyOf("s", "2")); f.Taken() <= 0 {
		t.Errorf("%+v", f)
	}
	k.mu.Lock()
	for key, e := range k.known {
		e.expires = 1
		k.known[key] = e
	}
	k.trimmed = time.Time{}
	k.mu.Unlock()
	if f := look(t, k, KeyOf("s", "3")); !unused(f) {
		t.Errorf("a day later: %+v", f)
	}
	if n := k.Len(); n != 0 {
		t.Errorf("%d keys left", n)
	}
}

// An edge that doesn't follow knows nothing, and says so.
func TestBehind(t *testing.T) {
	t.Parallel()
	k, err := New(Config{Bus: bustest.New(t)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.Look(t.Context(), KeyOf("s", "k")); !errors.Is(err, ErrBehind) {
		t.Error(err)
	}
	if _, err := New(Config{}); err == nil {
		t.Error("made without a bus")
	}
}
