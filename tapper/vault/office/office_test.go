package office

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"golang.org/x/sync/errgroup"

	"qstream/bus"
	"qstream/bus/bustest"
	"qstream/mail"
	"qstream/tapper/vault/docket"
	"qstream/tapper/vault/order"
	"qstream/tapper/vault/sealed"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func key(name string) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed([]byte(strings.Repeat(name, ed25519.SeedSize))[:ed25519.SeedSize])
}

func officer(name string) order.Officer {
	return order.Officer{Name: name, Key: key(name).Public().(ed25519.PublicKey)}
}

// clock is one that tests put forward.
type clock struct{ ahead atomic.Int64 }

func (c *clock) now() time.Time { return time.Now().Add(time.Duration(c.ahead.Load())) }

func (c *clock) forward(d time.Duration) { c.ahead.Add(int64(d)) }

// tapper is a process with a vault.
type tapper struct {
	t      *testing.T
	clock  *clock
	docket *docket.Docket
	server *Server
	folder docket.Folder
	writes *atomic.Bool // false: it stands by
	stop   func()
}

func newFolder(t *testing.T) docket.Folder {
	t.Helper()
	dir, err := os.MkdirTemp("", "vault") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	f, err := docket.Found(filepath.Join(dir, "v"), officer("ann"), officer("bob"))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func start(t *testing.T, broker *bustest.Broker, f docket.Folder, c *clock, change func(*Config)) *tapper {
	t.Helper()
	b := broker.Dial(t, bus.Config{Now: c.now})
	p := &tapper{t: t, clock: c, folder: f, writes: &atomic.Bool{}}
	p.writes.Store(true)
	var err error
	if p.docket, err = docket.New(docket.Config{Bus: b, Folder: f, Every: 10 * time.Millisecond, Size: 2048, Now: c.now}); err != nil {
		t.Fatal(err)
	}
	set, err := sealed.New(sealed.Config{Bus: b, Keys: f.Keys, Logs: p.docket.Logs()})
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{Docket: p.docket, Folder: f, Active: func() bool { return set.Active() && p.writes.Load() }, Now: c.now}
	if change != nil {
		change(&cfg)
	}
	if p.server, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return set.Run(ctx) })
	g.Go(func() error { return p.server.Run(ctx) })
	stopped := false
	p.stop = func() {
		if cancel(); !stopped {
			stopped = true
			if err := g.Wait(); err != nil {
				t.Error(err)
			}
		}
	}
	t.Cleanup(p.stop)
	for end := time.Now().Add(30 * time.Second); p.server.Ready() != nil || !set.Active(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("never ready")
		}
	}
	return p
}

// as is an officer who said hello.
func (p *tapper) as(name string) *Client {
	p.t.Helper()
	c := BySocket(docket.Socket(p.folder.Dir), name, key(name), p.clock.now)
	p.t.Cleanup(c.Close)
	if _, err := c.Hello(p.t.Context()); err != nil {
		p.t.Fatalf("%s: %v", name, err)
	}
	return c
}

func (p *tapper) sample() order.Order {
	now := p.clock.now()
	return order.Order{
		ID: mail.NewID(now), Reference: "12 Gs 345/26", Who: []order.Rule{{Recipient: "bob@acme.example"}}, What: order.Full,
		From: now.Add(time.Hour), Until: now.Add(48 * time.Hour), Sink: "maildir:/srv/taps/345",
	}
}

func (p *tapper) request(c *Client, o order.Order) (SayAnswer, error) {
	p.t.Helper()
	s, err := c.Signer().RequestOrder(p.clock.now(), o)
	if err != nil {
		p.t.Fatal(err)
	}
	return c.Say(p.t.Context(), s)
}

func (p *tapper) answer(c *Client, verb, id string) (SayAnswer, error) {
	p.t.Helper()
	s, err := c.Signer().Answer(p.clock.now(), verb, order.SubjectOrder, id, p.docket.Book().Tap(id).Hash)
	if err != nil {
		p.t.Fatal(err)
	}
	return c.Say(p.t.Context(), s)
}

// is checks what an officer is shown, and whether mail matches.
func (p *tapper) is(c *Client, id, state string) {
	p.t.Helper()
	var o Order
	if err := c.Ask(p.t.Context(), VerbOrder, IDArgs{id}, &o); err != nil {
		p.t.Fatal(err)
	}
	m, _, _ := p.docket.Orders()
	matches := len(m.Match(order.Message{Recipients: []string{"bob@acme.example"}}, p.clock.now())) > 0
	if o.State != state || matches != (state == order.InForce) {
		p.t.Fatalf("order is %s and matches: %v, want %s", o.State, matches, state)
	}
}

func acts(t *testing.T, c *Client) (all []string) {
	t.Helper()
	var as []Act
	if err := c.Ask(t.Context(), VerbAudit, AuditArgs{}, &as); err != nil {
		t.Fatal(err)
	}
	for _, a := range as {
		text := a.Officer + ": " + a.Action
		if a.Refused != "" {
			text += ", refused"
		}
		all = append(all, text)
	}
	return all
}

// An order's life: asked for, refused to who asked, approved, in force in its
// time, over; another one revoked; all of it kept over a start and told.
func TestLifeOfAnOrder(t *testing.T) {
	broker, c := bustest.Start(t), &clock{}
	p := start(t, broker, newFolder(t), c, nil)
	ann, bob := p.as("ann"), p.as("bob")
	o := p.sample()
	if got, err := p.request(ann, o); err != nil || got.State != order.Requested {
		t.Fatalf("%+v, %v", got, err)
	}
	c.forward(90 * time.Minute) // into its window
	p.is(bob, o.ID, order.Requested)
	if _, err := p.answer(ann, order.Approve, o.ID); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), order.ErrOwn.Error()) {
		t.Fatalf("approved by who asked: %v", err)
	}
	p.is(bob, o.ID, order.Requested)
	if got, err := p.answer(bob, order.Approve, o.ID); err != nil || got.State != order.InForce {
		t.Fatalf("%+v, %v", got, err)
	}
	p.is(ann, o.ID, order.InForce)

	other := p.sample()
	if _, err := p.request(bob, other); err != nil {
		t.Fatal(err)
	}
	if got, err := p.answer(ann, order.Approve, other.ID); err != nil || got.State != order.Pending {
		t.Fatalf("%+v, %v", got, err)
	}
	if got, err := p.answer(ann, order.Revoke, other.ID); err != nil || got.State != order.Revoked {
		t.Fatalf("%+v, %v", got, err)
	}
	p.stop()

	p = start(t, broker, p.folder, c, nil)
	ann = p.as("ann")
	p.is(ann, o.ID, order.InForce)
	c.forward(48 * time.Hour)
	ann = p.as("ann")
	p.is(ann, o.ID, order.Expired)
	var open, all []Order
	if err := errors.Join(ann.Ask(t.Context(), VerbOrders, OrdersArgs{}, &open), ann.Ask(t.Context(), VerbOrders, OrdersArgs{Ended: true}, &all)); err != nil {
		t.Fatal(err)
	}
	if len(open) != 0 || len(all) != 2 {
		t.Errorf("%d orders, %d with those that ended", len(open), len(all))
	}
	want := []string{
		"ann: request order", "bob: show order", "ann: approve order, refused", "bob: show order", "bob: approve order", "ann: show order",
		"bob: request order", "ann: approve order", "ann: revoke order", "ann: show order", "ann: show order", "ann: list orders", "ann: list orders", "ann: read audit",
	}
	if diff := cmp.Diff(want, acts(t, ann)); diff != "" {
		t.Error(diff)
	}
}

func TestOfficersByTheOffice(t *testing.T) {
	p := start(t, bustest.Start(t), newFolder(t), &clock{}, nil)
	ann, bob := p.as("ann"), p.as("bob")
	eve := officer("eve")
	change := order.Change{ID: mail.NewID(p.clock.now()), Add: &eve}
	s, err := ann.Signer().RequestChange(p.clock.now(), change)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ann.Say(t.Context(), s); err != nil || got.State != order.Requested {
		t.Fatalf("%+v, %v", got, err)
	}
	// Whoever brings it has to have signed it.
	if _, err := bob.Say(t.Context(), s); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "another officer") {
		t.Errorf("%v", err)
	}
	if s, err = bob.Signer().Answer(p.clock.now(), order.Approve, order.SubjectOfficer, change.ID, order.Hash(s.Subject)); err != nil {
		t.Fatal(err)
	}
	if got, err := bob.Say(t.Context(), s); err != nil || got.State != "settled" {
		t.Fatalf("%+v, %v", got, err)
	}
	var all OfficersAnswer
	if err := p.as("eve").Ask(t.Context(), VerbOfficers, nil, &all); err != nil {
		t.Fatal(err)
	}
	if len(all.Officers) != 3 || len(all.Proposals) != 1 {
		t.Errorf("%+v", all)
	}
	var keys []uint32
	if err := ann.Ask(t.Context(), VerbRotate, nil, &keys); err != nil || !slices.Equal(keys, []uint32{1, 2}) {
		t.Errorf("%v, %v", keys, err)
	}
}

// post sends octets to the socket as they are.
func post(t *testing.T, p *tapper, method, path, signature string, body []byte) (status int, header http.Header, text string) {
	t.Helper()
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", docket.Socket(p.folder.Dir))
	}}}
	req, err := http.NewRequestWithContext(t.Context(), method, "http://office"+path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if signature != "" {
		req.Header.Set(signatureHeader, signature)
	}
	res, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	out, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	res.Header.Del("Date")
	return res.StatusCode, res.Header, string(out)
}

func (p *tapper) body(change func(*request)) []byte {
	p.t.Helper()
	nonce := make([]byte, nonceSize)
	_, _ = rand.Read(nonce)
	r := request{Format: requestFormat, Vault: p.docket.Vault(), Office: p.server.admit.office, Officer: "ann", At: p.clock.now(), Nonce: nonce, Verb: VerbOrders, Args: json.RawMessage(`{}`)}
	if change != nil {
		change(&r)
	}
	text, err := json.Marshal(r)
	if err != nil {
		p.t.Fatal(err)
	}
	return text
}

// Whatever is wrong with a request, the answer is the same to the octet.
func TestStrangersLearnNothing(t *testing.T) {
	p := start(t, bustest.Start(t), newFolder(t), &clock{}, nil)
	good := p.body(nil)
	if status, _, text := post(t, p, http.MethodPost, path, sign(key("ann"), good), good); status != http.StatusOK || text != "[]" {
		t.Fatalf("a good request: %d %s", status, text)
	}
	type attempt struct {
		name, method, path, signature string
		body                          []byte
	}
	with := func(name string, who string, change func(*request)) attempt {
		body := p.body(change)
		return attempt{name, http.MethodPost, path, sign(key(who), body), body}
	}
	fresh := p.body(nil)
	attempts := []attempt{
		{"nothing", http.MethodGet, "/", "", nil},
		{"another path", http.MethodPost, "/healthz", "", nil},
		{"another method", http.MethodGet, path, sign(key("ann"), fresh), fresh},
		{"no signature", http.MethodPost, path, "", fresh},
		{"garbage for a signature", http.MethodPost, path, "%%%", fresh},
		{"of another text", http.MethodPost, path, sign(key("ann"), append(fresh, ' ')), fresh},
		{"no JSON", http.MethodPost, path, sign(key("ann"), []byte("{")), []byte("{")},
		{"much too long", http.MethodPost, path, "", bytes.Repeat([]byte("a"), mostBody+1)},
		{"sent again", http.MethodPost, path, sign(key("ann"), good), good},
		with("another's key", "eve", nil),
		with("an unknown officer", "eve", func(r *request) { r.Officer = "eve" }),
		with("no officer", "ann", func(r *request) { r.Officer = "" }),
		with("another vault", "ann", func(r *request) { r.Vault = "x" }),
		with("no vault", "ann", func(r *request) { r.Vault = "" }),
		with("for another process", "ann", func(r *request) { r.Office = make([]byte, nonceSize) }),
		with("for no process", "ann", func(r *request) { r.Office = nil }),
		with("another format", "ann", func(r *request) { r.Format = "x" }),
		with("no nonce", "ann", func(r *request) { r.Nonce = nil }),
		with("too old", "ann", func(r *request) { r.At = r.At.Add(-Fresh - time.Minute) }),
		with("of the future", "ann", func(r *request) { r.At = r.At.Add(Fresh + time.Minute) }),
	}
	var want string
	for _, a := range attempts {
		status, header, text := post(t, p, a.method, a.path, a.signature, a.body)
		got := fmt.Sprint(status, header, text)
		if want == "" {
			want = got
		}
		if got != want || status != http.StatusNotFound {
			t.Errorf("%s: %s, want %s", a.name, got, want)
		}
	}
	if n := p.server.admit.attempts(); n != uint64(len(attempts)) {
		t.Errorf("%d attempts counted, want %d", n, len(attempts))
	}
	if _, err := BySocket(docket.Socket(p.folder.Dir), "eve", key("eve"), p.clock.now).Hello(t.Context()); !errors.Is(err, ErrStranger) {
		t.Errorf("%v", err)
	}
	info, err := os.Stat(docket.Socket(p.folder.Dir))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket has mode %v, %v", info.Mode(), err)
	}
}

func TestOfficersAreHeardAtARate(t *testing.T) {
	a, c := newAdmission("v"), &clock{}
	officers := order.Officers{"ann": officer("ann"), "bob": officer("bob")}
	p := &tapper{t: t, clock: c}
	ask := func(name string) verdict {
		nonce := make([]byte, nonceSize)
		_, _ = rand.Read(nonce)
		body, err := json.Marshal(request{Format: requestFormat, Vault: "v", Office: a.office, Officer: name, At: p.clock.now(), Nonce: nonce, Verb: VerbOrders})
		if err != nil {
			t.Fatal(err)
		}
		_, v := a.admit(officers, body, sign(key(name), body), start0)
		return v
	}
	heard := 0
	for range 3 * officerBurst {
		if ask("ann") == admitted {
			heard++
		}
	}
	if heard != officerBurst {
		t.Errorf("%d of a burst are heard, want %d", heard, officerBurst)
	}
	if ask("bob") != admitted {
		t.Error("another officer has to wait, too")
	}
}

// start0 is a time at which requests of now are fresh.
var start0 = time.Now()

// Nothing is answered that the audit doesn't have; a tapper that stands by
// answers nothing.
func TestNoAnswerWithoutAudit(t *testing.T) {
	p := start(t, bustest.Start(t), newFolder(t), &clock{}, nil)
	ann := p.as("ann")
	p.writes.Store(false)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if out, err := p.server.serve(ctx, request{Officer: "ann", Verb: VerbOrders, Args: json.RawMessage(`{}`)}, "socket"); !errors.Is(err, ErrStandby) {
		t.Errorf("standing by: %v, %v", out, err)
	}
	p.writes.Store(true)
	gone, cancelled := context.WithCancel(t.Context())
	cancelled()
	for verb, args := range map[string]string{
		VerbOrders: `{}`, VerbOrder: `{"id":"X"}`, VerbOfficers: `null`, VerbAudit: `{}`, VerbKeys: `null`, VerbRotate: `null`, VerbGaps: `{}`, VerbSay: `{}`,
	} {
		out, err := p.server.serve(gone, request{Officer: "ann", Verb: verb, Args: json.RawMessage(args)}, "socket")
		if err == nil || out != nil || !strings.Contains(err.Error(), "the audit can't be written") {
			t.Errorf("%s: %v, %v", verb, out, err)
		}
	}
	var keys []uint32
	if err := ann.Ask(t.Context(), VerbKeys, nil, &keys); err != nil || len(keys) != 1 {
		t.Errorf("a key was made without audit: %v, %v", keys, err)
	}
}

// What can't be done is told to officers by kind, and is in the audit.
func TestRefusals(t *testing.T) {
	asked := ""
	p := start(t, bustest.Start(t), newFolder(t), &clock{}, func(c *Config) {
		c.Gaps = func(_ context.Context, id string) (any, error) { asked = id; return map[string]int{"gaps": 0}, nil }
	})
	ann := p.as("ann")
	var out json.RawMessage
	for _, c := range []struct {
		verb string
		args any
		want error
	}{
		{VerbOrder, IDArgs{"X"}, ErrNone},
		{VerbGaps, IDArgs{"X"}, ErrNone},
		{VerbOrders, "x", ErrInvalid},
		{VerbAudit, []int{1}, ErrInvalid},
		{VerbSay, order.Signed{}, ErrInvalid},
		{VerbSay, order.Signed{Statement: []byte(`{"officer":"ann"}`)}, ErrRefused},
		{"sell", nil, ErrInvalid},
	} {
		if err := ann.Ask(t.Context(), c.verb, c.args, &out); !errors.Is(err, c.want) {
			t.Errorf("%s %v: %v, want %v", c.verb, c.args, err, c.want)
		}
	}
	o := p.sample()
	if _, err := p.request(ann, o); err != nil {
		t.Fatal(err)
	}
	if err := ann.Ask(t.Context(), VerbGaps, IDArgs{o.ID}, &out); err != nil || asked != o.ID || string(out) != `{"gaps":0}` {
		t.Errorf("%s, %v, asked about %q", out, err, asked)
	}
	want := []string{"ann: show order, refused", "ann: look for gaps, refused", "ann: list orders, refused", "ann: read audit, refused", "ann: say, refused",
		"ann:  , refused", "ann: request order", "ann: look for gaps", "ann: read audit"}
	if diff := cmp.Diff(want, acts(t, ann)); diff != "" {
		t.Error(diff)
	}
}
