package quota

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"qstream/bus"
	"qstream/bus/bustest"
	"qstream/directory"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// clock is a clock that a test moves: ahead of the machine's by an amount.
type clock struct{ ahead atomic.Int64 }

func (c *clock) now() time.Time          { return time.Now().Add(time.Duration(c.ahead.Load())) }
func (c *clock) advance(d time.Duration) { c.ahead.Add(int64(d)) }

// edge is a book that runs until stop or the test's end.
func edge(t *testing.T, b *bus.Bus, cfg Config) (book *Book, stop func()) {
	t.Helper()
	cfg.Bus, cfg.Edge, cfg.Every = b, "edge.example", 20*time.Millisecond
	book, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- book.Run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(stop)
	<-book.CaughtUp()
	return book, stop
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited 20 s for %s", what)
		}
	}
}

func missed(t *testing.T, b *Book, what string) float64 {
	t.Helper()
	var m dto.Metric
	if err := b.metrics.missed.WithLabelValues(what).Write(&m); err != nil {
		t.Fatal(err)
	}
	return m.Counter.GetValue()
}

var acme = Scope{Tenant: "acme", Kind: Out}

// TestEdgesShareCounts: each counts what the others took, one that starts
// later too, an hour long and no longer, also of edges that have died.
func TestEdgesShareCounts(t *testing.T) {
	broker := bustest.Start(t)
	c := &clock{}
	one, stop := edge(t, broker.Dial(t, bus.Config{}), Config{Now: c.now})
	two, _ := edge(t, broker.Dial(t, bus.Config{}), Config{Now: c.now})
	for range 10 {
		one.Count(acme, Use{1, 3, 100})
		two.Count(acme, Use{1, 1, 10})
	}
	two.Count(Scope{Tenant: "acme", User: "ann@acme.example", Kind: Out}, Use{1, 1, 1})
	want := Use{20, 40, 1100}
	for name, b := range map[string]*Book{"one": one, "two": two} {
		eventually(t, name+" to count all", func() bool { return b.Used(acme) == want })
	}
	c.advance(30 * time.Minute)
	one.Count(acme, Use{2, 2, 2})
	stop() // tells the rest
	want = want.plus(Use{2, 2, 2})
	three, _ := edge(t, broker.Dial(t, bus.Config{}), Config{Now: c.now})
	if got := three.Used(acme); got != want {
		t.Errorf("an edge that starts later counts %+v, want %+v", got, want)
	}
	eventually(t, "the last counts of one that ended", func() bool { return two.Used(acme) == want })
	c.advance(31 * time.Minute)
	for name, b := range map[string]*Book{"two": two, "three": three} {
		if got := b.Used(acme); got != (Use{2, 2, 2}) {
			t.Errorf("%s counts %+v of more than an hour", name, got)
		}
	}
	c.advance(time.Hour)
	eventually(t, "what is over to be forgotten", func() bool {
		two.sweep()
		two.mu.Lock()
		defer two.mu.Unlock()
		return len(two.scopes) == 0 && len(two.peers) == 0 && len(two.changed) == 0
	})
}

// TestCountsTwice: a record that is read again, or was told again after an
// unclear publish, counts once, whatever is cut off between.
func TestCountsTwice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := &Book{
			cfg:    Config{Now: func() time.Time { return time.Unix(1_700_000_000, 0) }, Wanted: func(string, string) bool { return true }, MaxScopes: 10},
			writer: "us", scopes: map[Scope]*account{}, peers: map[peer]minute{},
		}
		now := minuteOf(b.cfg.Now())
		want, sums := Use{}, map[string]*minute{}
		for range rapid.IntRange(1, 50).Draw(t, "records") {
			writer := rapid.SampledFrom([]string{"one", "two"}).Draw(t, "writer")
			m := sums[writer]
			if m == nil {
				m = &minute{at: now - rapid.Int64Range(0, span-1).Draw(t, "age")}
				sums[writer] = m
			}
			if rapid.Bool().Draw(t, "next") && m.at < now {
				m.at, m.use = m.at+1, Use{}
			}
			more := Use{rapid.Int64Range(0, 5).Draw(t, "more"), 0, 0}
			m.use, want = m.use.plus(more), want.plus(more)
			for range rapid.IntRange(1, 3).Draw(t, "times") {
				b.takeMinute(&pb.Usage{Kind: pb.UsageKind(In), Writer: writer, Tenant: "acme", Minute: m.at, Messages: m.use.Messages})
			}
		}
		if got := b.Used(Scope{Tenant: "acme", Kind: In}); got != want {
			t.Fatalf("counts %+v, want %+v", got, want)
		}
	})
}

// TestHostileRecords: what others write neither stops an edge nor takes its
// memory.
func TestHostileRecords(t *testing.T) {
	bus1 := bustest.New(t)
	b, _ := edge(t, bus1, Config{MaxScopes: 10, Wanted: func(tenant, _ string) bool { return tenant != "none" }})
	now := minuteOf(time.Now())
	in := pb.UsageKind_USAGE_KIND_IN
	bustest.Put(t, bus1, bus.Record{Topic: schemas.Usage, Partition: bus.AnyPartition, Value: []byte("garbage")})
	for _, u := range []*pb.Usage{
		{Kind: in, Tenant: "acme", Minute: now, Messages: 1}, // nobody's
		{Kind: in, Writer: "w", Tenant: "acme", Minute: now + 10, Messages: 1},
		{Kind: in, Writer: "w", Tenant: "acme", Minute: now - 100, Messages: 1},
		{Kind: in, Writer: "w", Tenant: "none", Minute: now, Messages: 1},
		{Kind: 77, Writer: "w", Tenant: "acme", Minute: now, Messages: 1},
		{Kind: in, Writer: "w", Tenant: "acme", Minute: now, Messages: -5, Bytes: 1 << 62},
	} {
		bustest.Put(t, bus1, bus.NewUsage(u))
	}
	for i := range 50 {
		bustest.Put(t, bus1, bus.NewUsage(&pb.Usage{Kind: in, Writer: "w", Tenant: fmt.Sprint("t", i), Minute: now, Messages: 1}))
		bustest.Put(t, bus1, bus.NewUsage(&pb.Usage{Kind: pb.UsageKind_USAGE_KIND_LEDGER, Writer: fmt.Sprint("l", i), AtMs: 1}))
		bustest.Put(t, bus1, bus.NewUsage(&pb.Usage{Kind: pb.UsageKind_USAGE_KIND_WAITING, Writer: "l0", Tenant: fmt.Sprint("t", i), Messages: 1}))
	}
	bustest.Put(t, bus1, bus.NewUsage(&pb.Usage{Kind: pb.UsageKind_USAGE_KIND_LEDGER, Writer: "l0", AtMs: time.Now().UnixMilli()}))
	eventually(t, "the last record", func() bool { _, ok := b.Waiting("t0", ""); return ok })
	if got := b.Used(Scope{Tenant: "acme", Kind: In}); got != (Use{Bytes: maxUse}) {
		t.Errorf("counts %+v", got)
	}
	b.mu.Lock()
	scopes, ledgers, waits := len(b.scopes), len(b.ledgers), len(b.ledgers["l0"].waits)
	b.mu.Unlock()
	if scopes != 10 || ledgers != maxLedgers || waits != 10 {
		t.Errorf("%d scopes, %d ledgers, %d figures", scopes, ledgers, waits)
	}
	if n := missed(t, b, "room"); n < 80 {
		t.Errorf("%v misses are counted", n)
	}
	if n := missed(t, b, "clock"); n != 1 {
		t.Errorf("%v wrong clocks are counted", n)
	}
	for i := range 20 {
		b.Count(Scope{Tenant: fmt.Sprint("own", i), Kind: Out}, Use{1, 1, 1})
	}
	if n := b.Scopes(); n != 10 {
		t.Errorf("%d scopes", n)
	}
}

// TestWaiting: the newest ledger's figures count; without any, or when they
// are old, nothing is limited.
func TestWaiting(t *testing.T) {
	b1 := bustest.New(t)
	c := &clock{}
	b, _ := edge(t, b1, Config{Now: c.now})
	limits := directory.WaitLimits{Messages: 10, Oldest: time.Minute}
	figure := func(writer string, messages int64, age time.Duration) {
		now := c.now()
		w := &pb.Usage{Kind: pb.UsageKind_USAGE_KIND_WAITING, Writer: writer, Tenant: "acme", Messages: messages, Bytes: 5}
		if age > 0 {
			w.OldestMs = now.Add(-age).UnixMilli()
		}
		bustest.Put(t, b1, bus.NewUsage(w), bus.NewUsage(&pb.Usage{Kind: pb.UsageKind_USAGE_KIND_LEDGER, Writer: writer, AtMs: now.UnixMilli()}))
	}
	is := func(want Limit) {
		t.Helper()
		eventually(t, "the limit "+string(want), func() bool { return b.Wait("acme", "", limits, 0) == want })
	}
	if b.Wait("acme", "", limits, 0) != None {
		t.Error("limited without a ledger")
	}
	figure("one", 10, 0)
	is(WaitingMessages)
	if b.Wait("beta", "", limits, 0) != None || b.Wait("acme", "ann@acme.example", limits, 0) != None {
		t.Error("others are limited")
	}
	c.advance(time.Second)
	figure("two", 1, 90*time.Second)
	is(Oldest)
	c.advance(30 * time.Second)
	figure("one", 3, 10*time.Second)
	is(None)
	figure("one", 11, 0)
	is(WaitingMessages)
	c.advance(2 * time.Minute)
	before := missed(t, b, "ledger")
	is(None)
	if missed(t, b, "ledger") <= before {
		t.Error("stale figures aren't counted")
	}
	figure("one", 11, 0)
	is(WaitingMessages)
	c.advance(time.Hour)
	b.sweep()
	if len(b.ledgers) != 0 {
		t.Error("silent ledgers are kept")
	}
}

// TestUnread: an edge that can't read what was told before doesn't know, for
// a bounded time.
func TestUnread(t *testing.T) {
	c := &clock{}
	b, err := New(Config{Bus: bustest.New(t), Now: c.now})
	if err != nil {
		t.Fatal(err)
	}
	if b.Known() {
		t.Error("known before it was read")
	}
	c.advance(31 * time.Second)
	if !b.Known() {
		t.Error("unknown for ever")
	}
}

func TestLimits(t *testing.T) {
	hour := directory.HourLimits{Messages: 10, Recipients: 20, Bytes: 1000}
	one := Use{1, 1, 0}
	for _, tt := range []struct {
		name       string
		used, more Use
		want       Limit
	}{
		{"none used", Use{}, one, None},
		{"the last message", Use{9, 0, 0}, one, None},
		{"one too many", Use{10, 0, 0}, one, Messages},
		{"the last recipient", Use{0, 18, 0}, Use{1, 2, 0}, None},
		{"a recipient too many", Use{0, 18, 0}, Use{1, 3, 0}, Recipients},
		{"as many octets", Use{0, 0, 500}, Use{1, 1, 500}, None},
		{"an octet too many", Use{0, 0, 500}, Use{1, 1, 501}, Bytes},
		{"used up, size unknown", Use{0, 0, 1000}, one, Bytes},
		{"first things first", Use{10, 20, 1000}, one, Messages},
	} {
		if got := overHour(hour, tt.used, tt.more); got != tt.want {
			t.Errorf("%s: %s", tt.name, got)
		}
	}
	if got := overHour(directory.HourLimits{}, Use{1 << 50, 1 << 50, 1 << 50}, one); got != None {
		t.Errorf("without limits: %s", got)
	}
	wait := directory.WaitLimits{Messages: 10, Bytes: 1000, Oldest: time.Minute}
	for _, tt := range []struct {
		name string
		w    Waits
		size int64
		want Limit
	}{
		{"nothing waits", Waits{}, 1000, None},
		{"as many as may", Waits{Messages: 10}, 0, WaitingMessages},
		{"too large", Waits{Bytes: 1}, 1000, WaitingBytes},
		{"full", Waits{Bytes: 1000}, 0, WaitingBytes},
		{"old", Waits{Oldest: time.Minute}, 0, None},
		{"too old", Waits{Oldest: time.Minute + 1}, 0, Oldest},
	} {
		if got := overWait(wait, tt.w, tt.size); got != tt.want {
			t.Errorf("%s: %s", tt.name, got)
		}
	}
}

// TestReplies: each limit and action has one reply.
func TestReplies(t *testing.T) {
	for _, tt := range []struct {
		limit         Limit
		action, whose string
		want          string
	}{
		{Messages, directory.QuotaDefer, "ann", "452 4.7.1 too many messages in an hour for ann, try again later"},
		{Messages, directory.QuotaReject, "ann", "550 5.7.1 too many messages in an hour for ann"},
		{Recipients, directory.QuotaDefer, "", "452 4.7.1 too many recipients in an hour, try again later"},
		{Recipients, directory.QuotaReject, "", "550 5.7.1 too many recipients in an hour"},
		{Bytes, directory.QuotaDefer, "", "452 4.7.1 too much mail in an hour, try again later"},
		{Bytes, directory.QuotaReject, "", "550 5.7.1 too much mail in an hour"},
		{WaitingMessages, directory.QuotaDefer, "acme.example", "452 4.4.5 too many messages wait for acme.example, try again later"},
		{WaitingMessages, directory.QuotaReject, "", "550 5.7.1 too many messages wait"},
		{WaitingBytes, directory.QuotaDefer, "", "452 4.4.5 too much mail waits, try again later"},
		{WaitingBytes, directory.QuotaReject, "", "550 5.7.1 too much mail waits"},
		{Oldest, directory.QuotaDefer, "", "452 4.4.5 mail waits too long, try again later"},
		{Oldest, directory.QuotaReject, "", "550 5.7.1 mail waits too long"},
	} {
		if got := tt.limit.Status(tt.action, tt.whose).String(); got != tt.want {
			t.Errorf("%s, %s: %s, want %s", tt.limit, tt.action, got, tt.want)
		}
	}
}
