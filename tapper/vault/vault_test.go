package vault

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"qstream/bus"
	"qstream/bus/bustest"
	"qstream/directory"
	"qstream/mail"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
	"qstream/tapper/vault/docket"
	"qstream/tapper/vault/order"
	"qstream/tapper/vault/sealed"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// system is a broker, a vault's folder, and mail.
type system struct {
	t      *testing.T
	broker *bustest.Broker
	bus    *bus.Bus
	folder docket.Folder
	dir    *directory.Follower
	sinks  string
	now    func() time.Time // of tappers; by default the broker's

	mu   sync.Mutex
	sent int
}

func key(name string) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed([]byte(strings.Repeat(name, ed25519.SeedSize))[:ed25519.SeedSize])
}

func officer(name string) order.Officer {
	return order.Officer{Name: name, Key: key(name).Public().(ed25519.PublicKey)}
}

func newSystem(t *testing.T) *system {
	t.Helper()
	folder, err := docket.Found(filepath.Join(t.TempDir(), "vault"), officer("ann"), officer("bob"))
	if err != nil {
		t.Fatal(err)
	}
	s := &system{t: t, broker: bustest.Start(t), folder: folder, sinks: t.TempDir(), now: time.Now}
	s.bus = s.broker.Dial(t, bus.Config{})
	s.dir = directory.Follow(s.bus)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.dir.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-ended })
	return s
}

// tapper is a process with the vault.
type tapper struct {
	*Vault
	s    *system
	stop func()
}

const laneBeat = 20 * time.Millisecond

func (s *system) start() *tapper {
	s.t.Helper()
	own := s.broker.Dial(s.t, bus.Config{})
	v, err := New(Config{Dir: s.folder.Dir, Me: "mx.example", Beat: 2 * laneBeat, LaneBeat: laneBeat, Size: 1024}, Deps{
		Bus: own, Directory: s.dir, Now: s.now,
	})
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(s.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- v.Run(ctx) }()
	stop := sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			s.t.Error(err)
		}
	})
	s.t.Cleanup(stop)
	return &tapper{v, s, stop}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(60 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

// put publishes a message to a recipient, and that it was delivered.
func (s *system) put(rcpt string) (id string) {
	s.t.Helper()
	s.mu.Lock()
	s.sent++
	n := s.sent
	s.mu.Unlock()
	id = mail.NewID(time.Now())
	text := fmt.Appendf(nil, "Subject: mail %d\r\n\r\nText.\r\n", n)
	r := bus.NewReceived(&pb.Received{
		Id: id, Envelope: &pb.Envelope{ReversePath: "sender@one.example", Recipients: []*pb.Recipient{
			{Number: 0, Address: "other@two.example"}, {Number: 1, Address: rcpt},
		}},
		Content: &pb.Content{Where: &pb.Content_Inline{Inline: text}, Size: int64(len(text))}, Prepend: []byte("Received: by mx.example\r\n"),
	})
	e := bus.NewEvent(&pb.Event{
		Type: pb.EventType_EVENT_TYPE_DELIVERED, MessageId: id, Leg: 1, Step: 1, AtMs: time.Now().UnixMilli(),
		Outcomes: []*pb.Outcome{{Number: 0, Address: "other@two.example"}, {Number: 1, Address: rcpt}},
	})
	if err := s.bus.Publish(s.t.Context(), &r); err != nil {
		s.t.Error(err)
	}
	if err := s.bus.Publish(s.t.Context(), &e); err != nil {
		s.t.Error(err)
	}
	return id
}

// approve asks for an order and approves it.
func (p *tapper) approve(o order.Order) string {
	t := p.s.t
	t.Helper()
	eventually(t, "the vault writes", p.set.Active)
	now := time.Now()
	o.ID, o.Reference, o.Until = mail.NewID(now), "12 Gs 345/26", now.Add(time.Hour)
	if o.From.IsZero() {
		o.From = now.Add(-time.Hour)
	}
	say := func(signed order.Signed, err error) {
		t.Helper()
		if err == nil {
			err = p.docket.Say(t.Context(), signed)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	sign := func(name string) order.Signer {
		return order.Signer{Vault: p.docket.Vault(), Name: name, Key: key(name)}
	}
	say(sign("ann").RequestOrder(now, o))
	say(sign("bob").Answer(time.Now(), order.Approve, order.SubjectOrder, o.ID, p.docket.Book().Tap(o.ID).Hash))
	return o.ID
}

// complete waits until an order's report has nothing open.
func (p *tapper) complete(id string, copies int) *Report {
	t := p.s.t
	t.Helper()
	var last *Report
	defer func() {
		if t.Failed() {
			t.Logf("the last report: %+v", last)
		}
	}()
	eventually(t, "the order is complete", func() bool {
		r, err := p.Gaps(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		last = r
		return r.Unread == 0 && r.Open == 0 && r.Copies >= copies && r.Outcomes >= copies
	})
	if len(last.Gaps) > 0 || last.Copies != copies || last.Outcomes != copies {
		t.Fatalf("want %d copies and outcomes and no gap", copies)
	}
	return last
}

// objects are what a Maildir holds, by the copy's id.
func (s *system) objects(dir string) map[string]int {
	s.t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "new", "*"))
	if err != nil {
		s.t.Fatal(err)
	}
	found := map[string]int{}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			s.t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			if id, ok := strings.CutPrefix(line, "X-Qstream-Copy: "); ok {
				found[strings.TrimSpace(id)]++
				break
			}
		}
	}
	return found
}

// Tappers are killed at random points under load, and off for long; everything
// that an order covers is in the lanes once, with its outcome, and at the sink.
func TestComplete(t *testing.T) {
	s := newSystem(t)
	p := s.start()
	bob := p.approve(order.Order{Who: []order.Rule{{Recipient: "bob@acme.example"}}, What: order.Full, Sink: "maildir:" + filepath.Join(s.sinks, "bob")})
	all := p.approve(order.Order{Who: []order.Rule{{Domain: "acme.example"}}, What: order.Envelope, Sink: "maildir:" + filepath.Join(s.sinks, "all")})
	loads := 600
	if testing.Short() {
		loads = 200
	}
	var load sync.WaitGroup
	load.Go(func() {
		for i := range loads {
			s.put([]string{"bob@acme.example", "ann@acme.example", "eve@three.example"}[i%3])
		}
	})
	random := rand.New(rand.NewPCG(1, 2))
	for range 4 {
		time.Sleep(time.Duration(random.IntN(300)) * time.Millisecond) // a random point
		p.stop()
		p = s.start()
	}
	p.stop() // off
	load.Wait()
	for i := range loads {
		s.put([]string{"bob@acme.example", "ann@acme.example"}[i%2])
	}
	p = s.start()
	inBob, inAll := (loads+2)/3+loads/2, (loads+2)/3+(loads+1)/3+loads
	p.complete(bob, inBob)
	p.complete(all, inAll)
	for name, want := range map[string]int{"bob": inBob, "all": inAll} {
		got := s.objects(filepath.Join(s.sinks, name))
		if len(got) != 2*want {
			t.Errorf("%s: %d objects at the sink, want %d copies and as many outcomes", name, len(got), want)
		}
	}
	s.tampered(p, bob)
}

// tampered takes records out of copies of the topics: the report tells of each.
func (s *system) tampered(p *tapper, id string) {
	t := s.t
	t.Helper()
	lanes := map[int][]bus.Record{}
	for n := range schemas.VaultLanes {
		lanes[n] = bustest.Records(t, s.bus, schemas.VaultLane(n))
	}
	mails := append(bustest.Records(t, s.bus, schemas.Received), bustest.Records(t, s.bus, schemas.Reinject)...)
	tap := p.docket.Book().Tap(id)
	report := func(lane, record, message int) []Gap {
		a := NewAudit(tap, time.Now())
		for n, records := range lanes {
			f := sealed.NewFold(schemas.VaultLane(n), s.folder.Keys)
			for i, r := range records {
				if n == lane && i == record || r.Time.Before(tap.Approved.At.Add(-time.Minute)) {
					continue
				}
				if taken, err := f.Take(r); err == nil {
					a.Lane(n, taken)
				}
			}
		}
		for i, r := range mails {
			if i != message && !r.Time.Before(a.Since()) {
				a.Mail(r, nil)
			}
		}
		return a.Report(map[string]map[int32]int64{schemas.Received: {0: 0, 1: 0, 2: 0}}).Gaps
	}
	if gaps := report(-1, -1, -1); len(gaps) > 0 {
		t.Errorf("whole copies have gaps: %v", gaps)
	}
	for range 20 {
		n := rand.IntN(3)
		if gaps := report(n, 1+rand.IntN(len(lanes[n])-2), -1); len(gaps) == 0 {
			t.Error("a record taken out of a lane is not told")
		}
	}
	for i, r := range mails {
		m, err := Mail(r)
		if err != nil {
			t.Fatal(err)
		}
		if r.Time.Before(tap.Approved.At) || m.Envelope.Recipients[1].Address != "bob@acme.example" {
			continue
		}
		if gaps := report(-1, -1, i); len(gaps) != 1 || gaps[0].What != GapMessage {
			t.Fatalf("message %s taken out of received: %v", m.Id, gaps)
		}
		if i%50 > 10 {
			break
		}
	}
}

// An order that reaches back covers what was there before its approval, with
// its outcomes; another order doesn't.
func TestReachBack(t *testing.T) {
	s := newSystem(t)
	p := s.start()
	eventually(t, "the vault writes", p.set.Active)
	began := time.Now().Add(-time.Minute)
	for range 50 {
		s.put("bob@acme.example")
	}
	who := []order.Rule{{Recipient: "bob@acme.example"}}
	back := p.approve(order.Order{Who: who, What: order.Full, From: began, Retro: true, Sink: "maildir:" + filepath.Join(s.sinks, "back")})
	on := p.approve(order.Order{Who: who, What: order.Full, From: began, Sink: "maildir:" + filepath.Join(s.sinks, "on")})
	for range 20 {
		s.put("bob@acme.example")
	}
	p.complete(on, 20)
	p.complete(back, 70)
}

// A sink that is dead delays no other; when it is back it gets all, in order.
func TestDeadSink(t *testing.T) {
	s := newSystem(t)
	p := s.start()
	dead := filepath.Join(s.sinks, "dead")
	if err := os.WriteFile(dead, nil, 0o600); err != nil { // a file where a folder should be
		t.Fatal(err)
	}
	who := []order.Rule{{Recipient: "bob@acme.example"}}
	one := p.approve(order.Order{Who: who, What: order.Full, Sink: "maildir:" + dead})
	two := p.approve(order.Order{Who: who, What: order.Full, Sink: "maildir:" + filepath.Join(s.sinks, "live")})
	for range 30 {
		s.put("bob@acme.example")
	}
	p.complete(two, 30)
	r, err := p.Gaps(t.Context(), one)
	if err != nil || r.Open != 60 {
		t.Fatalf("open at the dead sink: %+v, %v", r, err)
	}
	p.stop()
	p = s.start()
	if err := os.Remove(dead); err != nil {
		t.Fatal(err)
	}
	p.complete(one, 30)
	if got := s.objects(dead); len(got) != 60 {
		t.Errorf("%d objects at the sink that came back", len(got))
	}
}

// Two tappers of one vault: one stands by, and goes on when the other is gone.
func TestStandby(t *testing.T) {
	s := newSystem(t)
	one := s.start()
	id := one.approve(order.Order{Who: []order.Rule{{Recipient: "bob@acme.example"}}, What: order.Full, Sink: "maildir:" + filepath.Join(s.sinks, "bob")})
	two := s.start()
	for range 30 {
		s.put("bob@acme.example")
	}
	eventually(t, "one of the two writes", func() bool { return one.set.Active() != two.set.Active() })
	if two.set.Active() {
		one, two = two, one
	}
	one.stop()
	for range 30 {
		s.put("bob@acme.example")
	}
	two.complete(id, 60)
}
