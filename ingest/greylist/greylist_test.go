package greylist

import (
	"context"
	"net/netip"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"qstream/bus"
	"qstream/bus/bustest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// clock is a clock that a test moves: ahead of the machine's by an amount.
type clock struct{ ahead atomic.Int64 }

func (c *clock) now() time.Time          { return time.Now().Add(time.Duration(c.ahead.Load())) }
func (c *clock) advance(d time.Duration) { c.ahead.Add(int64(d)) }

// edge is a list that runs on a bus until the test's end.
func edge(t *testing.T, b *bus.Bus, c *clock) *List {
	t.Helper()
	// The bus's clock stands still while the test's runs ahead.
	l, err := New(Config{Bus: b, Now: c.now, Stale: 365 * 24 * time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	<-l.CaughtUp()
	return l
}

func triple(ip, from, to string) Triple {
	return Triple{Client: netip.MustParseAddr(ip), ReversePath: from, Recipient: to}
}

// TestTwoEdges: a client that was deferred by one edge may come back to
// another, and to one that starts later.
func TestTwoEdges(t *testing.T) {
	broker := bustest.Start(t)
	c := &clock{}
	one, two := edge(t, broker.Dial(t, bus.Config{}), c), edge(t, broker.Dial(t, bus.Config{}), c)
	first := triple("192.0.2.1", "ann+tag1@acme.example", "bob@hub.example")
	if a := one.Ask(t.Context(), first, Rules{}); a.Pass || a.Fault || a.Wait != 5*time.Minute {
		t.Fatalf("never seen: %+v", a)
	}
	if s := one.Ask(t.Context(), first, Rules{}).Status(); s.String() != "450 4.7.1 greylisted, try again later" {
		t.Errorf("%v", s)
	}
	for begun := time.Now(); two.Len() == 0 && time.Since(begun) < 10*time.Second; {
		time.Sleep(5 * time.Millisecond)
	}
	if a := two.Ask(t.Context(), first, Rules{}); a.Pass || a.Wait > 5*time.Minute {
		t.Errorf("at once, elsewhere: %+v", a)
	}
	c.advance(6 * time.Minute)
	// From the neighbourhood, with another tag, spelt otherwise.
	if a := two.Ask(t.Context(), triple("192.0.2.200", "Ann+tag77@ACME.example", "Bob@hub.example"), Rules{}); !a.Pass || a.Fault {
		t.Errorf("came back: %+v", a)
	}
	three := edge(t, broker.Dial(t, bus.Config{}), c)
	if a := three.Ask(t.Context(), first, Rules{}); !a.Pass {
		t.Errorf("at an edge that started later: %+v", a)
	}
	if a := three.Ask(t.Context(), triple("198.51.100.1", "ann@acme.example", "bob@hub.example"), Rules{}); a.Pass {
		t.Errorf("another network: %+v", a)
	}
}

func TestAutoAllow(t *testing.T) {
	c := &clock{}
	l := edge(t, bustest.New(t), c)
	for n := range 5 {
		l.Ask(t.Context(), triple("192.0.2.1", "ann@acme.example", "bob"+strconv.Itoa(n)+"@hub.example"), Rules{})
	}
	c.advance(6 * time.Minute)
	for n := range 5 {
		if a := l.Ask(t.Context(), triple("192.0.2.1", "ann@acme.example", "bob"+strconv.Itoa(n)+"@hub.example"), Rules{}); !a.Pass {
			t.Fatalf("%d: %+v", n, a)
		}
	}
	fresh := triple("192.0.2.1", "new@acme.example", "carl@hub.example")
	if a := l.Ask(t.Context(), fresh, Rules{AutoAllow: -1}); a.Pass {
		t.Errorf("never allowed by rule: %+v", a)
	}
	if a := l.Ask(t.Context(), triple("192.0.2.1", "newer@acme.example", "carl@hub.example"), Rules{}); !a.Pass {
		t.Errorf("after five: %+v", a)
	}
	c.advance(36 * 24 * time.Hour)
	if a := l.Ask(t.Context(), triple("192.0.2.1", "newest@acme.example", "carl@hub.example"), Rules{}); a.Pass {
		t.Errorf("long after: %+v", a)
	}
}

// TestFault: while nobody can tell, the rules decide.
func TestFault(t *testing.T) {
	l, err := New(Config{Bus: bustest.New(t)}) // never runs
	if err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	q := triple("192.0.2.1", "ann@acme.example", "bob@hub.example")
	if a := l.Ask(t.Context(), q, Rules{}); !a.Pass || !a.Fault {
		t.Errorf("%+v", a)
	}
	if a := l.Ask(t.Context(), q, Rules{DeferFault: true}); a.Pass || !a.Fault {
		t.Errorf("%+v", a)
	}
	if took := time.Since(begun); took > time.Second {
		t.Errorf("took %v", took)
	}
	if _, err := New(Config{}); err == nil {
		t.Error("a list without a bus was made")
	}
}

// TestBrokerAway: a topic that can't be written decides nothing.
func TestBrokerAway(t *testing.T) {
	broker := bustest.Start(t)
	l, err := New(Config{Bus: broker.Dial(t, bus.Config{}), Timeout: 100 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	defer func() { cancel(); <-done }()
	<-l.CaughtUp()
	broker.Cluster.Close()
	begun := time.Now()
	if a := l.Ask(t.Context(), triple("192.0.2.1", "ann@acme.example", "bob@hub.example"), Rules{}); !a.Pass || !a.Fault {
		t.Errorf("%+v", a)
	}
	if took := time.Since(begun); took > 2*time.Second {
		t.Errorf("took %v", took)
	}
}

func TestDecide(t *testing.T) {
	now := time.Unix(1_000_000_000, 0)
	ago := func(d time.Duration) int64 { return now.Add(-d).UnixMilli() }
	r := Rules{}.withDefaults()
	const day = 24 * time.Hour
	for _, tt := range []struct {
		name  string
		e     entry
		wait  time.Duration
		write bool
		next  entry
	}{
		{"never seen", entry{}, 5 * time.Minute, true, entry{first: ago(0)}},
		{"too soon", entry{first: ago(time.Minute)}, 4 * time.Minute, false, entry{first: ago(time.Minute)}},
		{"in time", entry{first: ago(time.Hour)}, 0, true, entry{ago(time.Hour), ago(0), 1}},
		{"at the minute", entry{first: ago(5 * time.Minute)}, 0, true, entry{ago(5 * time.Minute), ago(0), 1}},
		{"too late", entry{first: ago(3 * day)}, 5 * time.Minute, true, entry{first: ago(0)}},
		{"known", entry{ago(9 * day), ago(day), 1}, 0, false, entry{ago(9 * day), ago(day), 1}},
		{"known for long", entry{ago(9 * day), ago(4 * day), 1}, 0, true, entry{ago(9 * day), ago(0), 2}},
		{"forgotten", entry{ago(90 * day), ago(36 * day), 1}, 5 * time.Minute, true, entry{first: ago(0)}},
		{"from the future", entry{first: ago(-time.Hour)}, 5 * time.Minute, false, entry{first: ago(-time.Hour)}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			next, wait, write := tt.e.decide(now, r)
			if next != tt.next || wait != tt.wait || write != tt.write {
				t.Errorf("%+v, %v, %v", next, wait, write)
			}
		})
	}
}

func TestMemoryIsBounded(t *testing.T) {
	l, err := New(Config{Bus: bustest.New(t), MaxTriples: 100})
	if err != nil {
		t.Fatal(err)
	}
	l.put(nameOf("good"), entry{first: 1, passed: 2, passes: 1})
	for n := range 1000 {
		l.put(nameOf(strconv.Itoa(n)), entry{first: 1})
	}
	if n := l.Len(); n > 100 || n < 80 {
		t.Errorf("%d triples", n)
	}
	if _, ok := l.seen[nameOf("good")]; !ok {
		t.Error("one that came back was forgotten for a flood")
	}
}

func TestTakeSkipsGarbage(t *testing.T) {
	l, err := New(Config{Bus: bustest.New(t)})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []bus.Record{{}, {Key: []byte("zz")}, {Key: []byte("00112233445566778899aabbccddeeff"), Value: []byte{0xff}}} {
		if err := l.take(r); err != nil || l.Len() != 0 {
			t.Errorf("%v, %d", err, l.Len())
		}
	}
}

func TestNormal(t *testing.T) {
	for _, tt := range []struct{ in, want Triple }{
		{triple("192.0.2.9", "list-123-bob=hub@acme.example", "B@Hub.example"), triple("192.0.2.9", "list-#-bob=hub@acme.example", "b@hub.example")},
		{triple("::ffff:192.0.2.9", "", "postmaster"), triple("192.0.2.9", "", "postmaster")},
		{triple("2001:db8::1", "+x@acme.example", "b@bücher.example"), triple("2001:db8::1", "+x@acme.example", "b@xn--bcher-kva.example")},
	} {
		if got := normal(tt.in); got != tt.want {
			t.Errorf("%+v, want %+v", got, tt.want)
		}
	}
	if n := (Triple{Client: netip.MustParseAddr("2001:db8:0:1:2::3")}).network(); n != "2001:db8:0:1::/64" {
		t.Error(n)
	}
}
