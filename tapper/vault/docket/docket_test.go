package docket

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"qstream/bus"
	"qstream/bus/bustest"
	"qstream/mail"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
	"qstream/tapper/vault/order"
	"qstream/tapper/vault/sealed"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

const beat = 10 * time.Millisecond

func key(name string) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed([]byte(strings.Repeat(name, ed25519.SeedSize))[:ed25519.SeedSize])
}

func officer(name string) order.Officer {
	return order.Officer{Name: name, Key: key(name).Public().(ed25519.PublicKey)}
}

// process is a tapper that keeps a docket.
type process struct {
	*Docket
	t      *testing.T
	set    *sealed.Set
	folder Folder
	clock  *atomic.Int64 // how far it is ahead
	stop   func()
}

func newFolder(t *testing.T) Folder {
	t.Helper()
	f, err := Found(filepath.Join(t.TempDir(), "vault"), officer("ann"), officer("bob"))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func start(t *testing.T, b *bus.Bus, f Folder, size int) *process {
	t.Helper()
	p := &process{t: t, folder: f, clock: &atomic.Int64{}}
	now := func() time.Time { return time.Now().Add(time.Duration(p.clock.Load())) }
	var err error
	if p.Docket, err = New(Config{Bus: b, Folder: f, Every: beat, Size: size, Now: now}); err != nil {
		t.Fatal(err)
	}
	if p.set, err = sealed.New(sealed.Config{Bus: b, Keys: f.Keys, Logs: p.Logs()}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.set.Run(ctx) }()
	stopped := false
	p.stop = func() {
		if cancel(); !stopped {
			stopped = true
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
	}
	t.Cleanup(p.stop)
	eventually(t, "it writes", p.set.Active)
	return p
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

func (p *process) signer(name string) order.Signer {
	return order.Signer{Vault: p.Vault(), Name: name, Key: key(name)}
}

func (p *process) say(s order.Signed, err error) error {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
	return p.Say(p.t.Context(), s)
}

func sample() order.Order {
	now := time.Now()
	return order.Order{
		ID: mail.NewID(now), Reference: "12 Gs 345/26", Who: []order.Rule{{Recipient: "bob@acme.example"}}, What: order.Full,
		From: now.Add(-time.Hour), Until: now.Add(time.Hour), Sink: "maildir:/srv/taps/345",
	}
}

func (p *process) request(name string, o order.Order) error {
	p.t.Helper()
	return p.say(p.signer(name).RequestOrder(time.Now(), o))
}

func (p *process) answer(name, verb, id string) error {
	p.t.Helper()
	return p.say(p.signer(name).Answer(time.Now(), verb, order.SubjectOrder, id, p.Book().Tap(id).Hash))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// state is what a docket says.
func state(t *testing.T, d *Docket) string {
	t.Helper()
	b := d.Book()
	text, err := json.Marshal([]any{b.Officers(), b.Changes(), b.Taps(), b.Proposals()})
	must(t, err)
	return string(text)
}

func TestOrdersAreKept(t *testing.T) {
	b := bustest.New(t)
	p := start(t, b, newFolder(t), 1024)
	o := sample()
	changed := p.Changed()
	must(t, p.request("ann", o))
	select {
	case <-changed:
	default:
		t.Error("a change is not told")
	}
	if err := p.request("bob", o); !errors.Is(err, order.ErrRepeat) {
		t.Errorf("asked for twice: %v", err)
	}
	if err := p.answer("ann", order.Approve, o.ID); !errors.Is(err, order.ErrOwn) {
		t.Errorf("approved by who asked: %v", err)
	}
	msg := order.Message{Recipients: []string{"bob@acme.example"}}
	if m, _, _ := p.Orders(); len(m.Match(msg, time.Now())) > 0 {
		t.Error("in force without approval")
	}
	must(t, p.answer("bob", order.Approve, o.ID))
	tap := p.Book().Tap(o.ID)
	m, number, known := p.Orders()
	if len(m.Match(msg, tap.Approved.At)) != 1 || number == 0 || known.Before(tap.Approved.At) {
		t.Errorf("not in force: record %d, known up to %v, approved at %v", number, known, tap.Approved.At)
	}
	// What is known advances, though nothing is said.
	eventually(t, "the log goes on", func() bool { _, _, later := p.Orders(); return later.After(known) })

	eve := officer("eve")
	change := order.Change{ID: mail.NewID(time.Now()), Add: &eve}
	must(t, p.say(p.signer("ann").RequestChange(time.Now(), change)))
	must(t, p.say(p.signer("bob").Answer(time.Now(), order.Approve, order.SubjectOfficer, change.ID, p.Book().Proposal(change.ID).Hash)))
	must(t, p.answer("eve", order.Revoke, o.ID))
	want := state(t, p.Docket)
	p.stop()

	again := start(t, b, p.folder, 1024)
	if got := state(t, again.Docket); got != want {
		t.Errorf("after a start:\n%s\nwant\n%s", got, want)
	}
}

// What is said again outlives retention: readers that find only the log's end
// know what holds, whenever the beginning goes, and also of orders that need
// many records.
func TestOrdersOutliveRetention(t *testing.T) {
	b := bustest.New(t)
	p := start(t, b, newFolder(t), 512)
	var ids []string
	for i := range 12 {
		o := sample()
		for j := range 30 {
			o.Who = append(o.Who, order.Rule{Recipient: fmt.Sprintf("user%d-%d@acme.example", i, j)})
		}
		must(t, p.request("ann", o))
		ids = append(ids, o.ID)
		if i%2 == 0 {
			must(t, p.answer("bob", order.Approve, o.ID))
		}
	}
	var cut int64
	eventually(t, "everything is said again, from a later place on", func() bool {
		at, ok, err := sealed.Seek(t.Context(), b, p.folder.Keys, schemas.VaultOrders)
		must(t, err)
		_, _, known := p.Orders()
		cut = at
		return ok && at > 200 && !known.IsZero()
	})
	// Statements go on while it is read.
	must(t, p.answer("ann", order.Revoke, ids[0]))
	want := state(t, p.Docket)
	p.stop()
	fresh, err := New(Config{Bus: b, Folder: p.folder})
	must(t, err)
	f := sealed.NewFold(schemas.VaultOrders, p.folder.Keys)
	for _, r := range bustest.Records(t, b, schemas.VaultOrders) {
		if r.Offset < cut {
			continue
		}
		taken, err := f.Take(r)
		must(t, err)
		for _, e := range taken.Entries {
			if len(e) > 0 {
				fresh.take(taken.Place, e)
			}
		}
	}
	if got := state(t, fresh); got != want {
		t.Errorf("from offset %d on:\n%s\nwant\n%s", cut, got, want)
	}
}

func TestEndedOrdersAreForgotten(t *testing.T) {
	b := bustest.New(t)
	p := start(t, b, newFolder(t), 1024)
	o := sample()
	must(t, p.request("ann", o))
	p.clock.Store(int64(keepEnded + 2*time.Hour))
	var at int64
	eventually(t, "a sweep without it", func() bool {
		var err error
		at, _, err = sealed.Seek(t.Context(), b, p.folder.Keys, schemas.VaultOrders)
		must(t, err)
		return at > 100
	})
	p.stop()
	if again := start(t, b, p.folder, 1024); again.Book().Tap(o.ID) != nil {
		t.Error("an order that ended long ago is still known")
	}
}

// What was read without a beginning is neither believed nor said again.
func TestAPartIsNoBook(t *testing.T) {
	d, err := New(Config{Bus: bustest.New(t), Folder: newFolder(t)})
	must(t, err)
	d.take(sealed.Place{Number: 7}, encoded(t, &pb.TapEntry{}))
	if entries, done := d.again(true, 3000); len(entries) > 0 || done || !errors.Is(d.Whole(), ErrPartial) {
		t.Errorf("%d entries say again what isn't known; %v", len(entries), d.Whole())
	}
	d.take(sealed.Place{Number: 8}, encoded(t, &pb.TapEntry{Says: &pb.TapEntry_Begin{Begin: &pb.TapSweep{AsOf: 7}}}))
	d.take(sealed.Place{Number: 9}, encoded(t, &pb.TapEntry{Says: &pb.TapEntry_End{End: &pb.TapSwept{}}}))
	if entries, _ := d.again(true, 3000); len(entries) == 0 || d.Whole() != nil {
		t.Errorf("after a whole sweep: %d entries, %v", len(entries), d.Whole())
	}
}

// What isn't signed by officers changes nothing, even if the log has it.
func TestForgeriesInTheLog(t *testing.T) {
	b := bustest.New(t)
	p := start(t, b, newFolder(t), 1024)
	before := state(t, p.Docket)
	s, err := order.Signer{Vault: p.Vault(), Name: "ann", Key: key("eve")}.RequestOrder(time.Now(), sample())
	must(t, err)
	if err := p.Say(t.Context(), s); !errors.Is(err, order.ErrForged) {
		t.Errorf("said: %v", err)
	}
	at := sealed.Place{Number: 1 << 40, At: time.Now()}
	for _, e := range [][]byte{
		[]byte("garbage\xff"), nil,
		encoded(t, &pb.TapEntry{Says: &pb.TapEntry_Said{Said: statementOf(s)}}),
		encoded(t, &pb.TapEntry{Says: &pb.TapEntry_Begin{Begin: &pb.TapSweep{}}}),
		encoded(t, &pb.TapEntry{Says: &pb.TapEntry_Again{Again: statementOf(s)}}),
		encoded(t, &pb.TapEntry{Says: &pb.TapEntry_End{End: &pb.TapSwept{Statements: 1}}}),
	} {
		p.take(at, e)
	}
	if after := state(t, p.Docket); after != before {
		t.Errorf("changed:\n%s", after)
	}
}

func TestAudit(t *testing.T) {
	b := bustest.New(t)
	p := start(t, b, newFolder(t), 1024)
	began := time.Now()
	must(t, p.Note(t.Context(), &pb.TapAct{Officer: "ann", Action: "list orders"}))
	must(t, p.Note(t.Context(), &pb.TapAct{Officer: "bob", Action: "show order", Subject: "X\x1b[2J", Detail: strings.Repeat("a", 2000)}))
	acts := func(since, until time.Time) (all []string) {
		must(t, p.Acts(t.Context(), since, until, func(a Act) error {
			all = append(all, a.Officer+" "+a.Action+" "+a.Subject)
			if len(a.Detail) > maxActText || a.Place.Number == 0 {
				t.Errorf("%+v", a)
			}
			return nil
		}))
		return all
	}
	want := "ann list orders ,bob show order X [2J"
	if got := strings.Join(acts(time.Time{}, time.Time{}), ","); got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got := acts(began.Add(time.Hour), time.Time{}); len(got) > 0 {
		t.Errorf("of the future: %q", got)
	}
	if got := acts(began.Add(-time.Hour), began.Add(-time.Minute)); len(got) > 0 {
		t.Errorf("of before: %q", got)
	}
	failed := errors.New("enough")
	if err := p.Acts(t.Context(), time.Time{}, time.Time{}, func(Act) error { return failed }); !errors.Is(err, failed) {
		t.Errorf("%v", err)
	}
}

// The logs look alike, whether there are orders or not.
func TestNothingShows(t *testing.T) {
	sizes := func(orders int) map[int]int {
		b := bustest.New(t)
		p := start(t, b, newFolder(t), 1024)
		for range orders {
			must(t, p.request("ann", sample()))
			must(t, p.Note(t.Context(), &pb.TapAct{Officer: "ann", Action: "list orders"}))
		}
		eventually(t, "some records", func() bool { _, n, _ := p.Orders(); return n > 40 })
		p.stop()
		found := map[int]int{}
		for _, topic := range []string{schemas.VaultOrders, schemas.VaultAudit} {
			rs := bustest.Records(t, b, topic)
			for _, r := range rs {
				if len(r.Key) > 0 || len(r.Headers) > 0 {
					t.Errorf("%s: key %q, headers %v", topic, r.Key, r.Headers)
				}
				found[len(r.Value)]++
			}
		}
		return found
	}
	for orders, found := range map[int]map[int]int{0: sizes(0), 10: sizes(10)} {
		if len(found) != 1 {
			t.Errorf("%d orders: records of %d sizes: %v", orders, len(found), found)
		}
	}
}

func TestFolder(t *testing.T) {
	f := newFolder(t)
	if again, err := Open(f.Dir); err != nil || again.Founding.ID() != f.Founding.ID() {
		t.Errorf("%v", err)
	}
	if _, err := Found(f.Dir, officer("ann"), officer("bob")); err == nil {
		t.Error("founded twice")
	}
	if _, err := Found(filepath.Join(t.TempDir(), "v"), officer("ann")); err == nil {
		t.Error("founded by one")
	}
	if _, err := Open(filepath.Join(t.TempDir(), "none")); err == nil || !strings.Contains(err.Error(), "tap init") {
		t.Errorf("%v", err)
	}
	must(t, os.Chmod(f.Dir, 0o750))
	if _, err := Open(f.Dir); err == nil || !strings.Contains(err.Error(), "mode 0700") {
		t.Errorf("%v", err)
	}
	if _, err := New(Config{}); err == nil {
		t.Error("made of nothing")
	}
}

func encoded(t *testing.T, e *pb.TapEntry) []byte {
	t.Helper()
	text, err := proto.Marshal(e)
	must(t, err)
	return text
}
