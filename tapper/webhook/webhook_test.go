package webhook

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"qstream/bus"
	"qstream/bus/bustest"
	"qstream/control"
	"qstream/directory"
	"qstream/mail"
	pb "qstream/schemas/qstream/v1"
	"qstream/tapper/sign"
	"qstream/test/lanes"
)

func TestMain(m *testing.M) {
	lanes.Open(4)
	goleak.VerifyTestMain(m)
}

const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

// endpoint is a receiver that verifies what it is sent and answers as it is
// told.
type endpoint struct {
	*httptest.Server
	t testing.TB

	mu     sync.Mutex
	answer func(n int, got post) int // nil: 204
	n      int
	taken  []post
}

type post struct {
	id   string
	kind string
	data struct {
		MessageID string `json:"message_id"`
		Attempt   uint32 `json:"attempt"`
		Tenant    string `json:"tenant"`
	}
}

func newEndpoint(t testing.TB) *endpoint {
	e := &endpoint{t: t}
	key, err := sign.ParseKey(secret)
	if err != nil {
		t.Fatal(err)
	}
	e.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if err := sign.Verify(r.Header, []sign.Key{key}, time.Now(), body); err != nil {
			t.Errorf("signature: %v", err)
		}
		var form struct {
			Type      string
			Timestamp time.Time
			Data      json.RawMessage
		}
		p := post{id: r.Header.Get("webhook-id")}
		if err := json.Unmarshal(body, &form); err != nil {
			t.Errorf("body: %v", err)
		}
		if err := json.Unmarshal(form.Data, &p.data); err != nil {
			t.Errorf("data: %v", err)
		}
		p.kind = form.Type
		w.WriteHeader(e.take(p, w.Header()))
	}))
	t.Cleanup(e.Close)
	return e
}

func (e *endpoint) take(p post, _ http.Header) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.n++
	code := http.StatusNoContent
	if e.answer != nil {
		code = e.answer(e.n, p)
	}
	if code/100 == 2 {
		e.taken = append(e.taken, p)
	}
	return code
}

func (e *endpoint) answers(f func(n int, p post) int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.answer = f
}

func (e *endpoint) got() []post {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.taken)
}

// ids are how many different events were taken: one may come again when its
// process lost its partitions for a while.
func (e *endpoint) ids() int {
	seen := map[string]bool{}
	for _, p := range e.got() {
		seen[p.id] = true
	}
	return len(seen)
}

func (e *endpoint) asked() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.n
}

func always(code int) func(int, post) int { return func(int, post) int { return code } }

// document is a webhook's, beside two tenants.
func document(name, url, more string) string {
	return "kind: tenant\nname: acme\ndomains: [acme.example]\n---\nkind: tenant\nname: beta\ndomains: [beta.example]\n---\n" +
		fmt.Sprintf("kind: webhook\nname: %s\nurl: %s\nprivate: true\nsecret: %s\n%s", name, url, secret, more)
}

func apply(t testing.TB, b *bus.Bus, text string) {
	t.Helper()
	docs, err := directory.Parse(directory.File{Name: "t", Data: []byte(text)})
	if err == nil {
		_, err = directory.Apply(t.Context(), b, directory.Change{Documents: docs}, directory.Options{})
	}
	if err != nil {
		t.Fatal(err)
	}
}

// start runs the part as a process of its own, until stop is called or the
// test ends.
func start(t testing.TB, broker *bustest.Broker, now func() time.Time) (stop func()) {
	t.Helper()
	b := broker.Dial(t, bus.Config{})
	d, c := directory.Follow(b), control.Follow(b, nil)
	part, err := New(Deps{Bus: b, Directory: d, Control: c, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	for _, run := range []func(context.Context) error{d.Run, c.Run, part.Run} {
		running.Go(func() {
			if err := run(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	stop = sync.OnceFunc(func() { cancel(); running.Wait() })
	t.Cleanup(stop)
	return stop
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(60 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within a minute", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// events are attempts of messages of a tenant, in order.
func events(tenant string, messages, each int) (rs []bus.Record, ids []string) {
	for range messages {
		ids = append(ids, mail.NewID(time.Now()))
	}
	for n := range each {
		for _, id := range ids {
			rs = append(rs, bus.NewEvent(&pb.Event{
				Type: pb.EventType_EVENT_TYPE_DEFERRED, MessageId: id, Step: uint64(n + 1), Attempt: uint32(n + 1), Tenant: tenant,
				Outcomes: []*pb.Outcome{{Address: "r@" + tenant + ".example"}}, AtMs: time.Now().UnixMilli(),
			}))
		}
	}
	return rs, ids
}

func put(t testing.TB, b *bus.Bus, rs []bus.Record) {
	t.Helper()
	records := make([]*bus.Record, len(rs))
	for i := range rs {
		records[i] = &rs[i]
	}
	if err := b.Publish(t.Context(), records...); err != nil {
		t.Fatal(err)
	}
}

// checkOrder wants each message's attempts from the first to the last, each
// once beside repetitions of a whole id, none missing.
func checkOrder(t testing.TB, got []post, ids []string, each int) (repeated int) {
	t.Helper()
	next, seen := map[string]uint32{}, map[string]bool{}
	for _, p := range got {
		if seen[p.id] {
			repeated++
			continue
		}
		seen[p.id] = true
		if next[p.data.MessageID]++; p.data.Attempt != next[p.data.MessageID] {
			t.Fatalf("message %s: attempt %d came as number %d", p.data.MessageID, p.data.Attempt, next[p.data.MessageID])
		}
	}
	for _, id := range ids {
		if next[id] != uint32(each) {
			t.Errorf("message %s: %d events, want %d", id, next[id], each)
		}
	}
	return repeated
}

func TestPosted(t *testing.T) {
	t.Parallel()
	broker := bustest.Start(t)
	b := broker.Dial(t, bus.Config{})
	e := newEndpoint(t)
	before, _ := events("acme", 3, 1)
	put(t, b, before)
	time.Sleep(2 * time.Millisecond) // appended before the webhook came to be
	apply(t, b, document("w", e.URL, "tenant: acme\n"))
	start(t, broker, nil)
	rs, ids := events("acme", 20, 5)
	others, _ := events("beta", 20, 2)
	put(t, b, rs[:50])
	put(t, b, others)
	put(t, b, rs[50:])
	put(t, b, []bus.Record{{Topic: "qstream.events.v1", Partition: 1, Value: []byte("garbage")}})
	eventually(t, "all posts", func() bool { return e.ids() == len(rs) })
	checkOrder(t, e.got(), ids, 5)
	for _, p := range e.got() {
		if p.data.Tenant != "acme" || p.kind != "deferred" {
			t.Errorf("posted %+v", p)
		}
	}
}

// TestOutage: the endpoint is away while thousands of events come and the
// process is started again and again; when it is back, it gets each, in the
// order of its message, with the id that it had.
func TestOutage(t *testing.T) {
	t.Parallel()
	broker := bustest.Start(t)
	b := broker.Dial(t, bus.Config{})
	e := newEndpoint(t)
	apply(t, b, document("w", e.URL, "all: true\nconcurrency: 16\n"))
	e.answers(always(http.StatusServiceUnavailable))
	messages, each, rounds := 500, 3, 3
	if testing.Short() {
		messages = 50
	}
	var ids []string
	for range rounds {
		stop := start(t, broker, nil)
		rs, of := events("acme", messages, each)
		put(t, b, rs)
		ids = append(ids, of...)
		asked := e.asked()
		eventually(t, "a post", func() bool { return e.asked() > asked })
		stop()
	}
	if n := len(e.got()); n != 0 {
		t.Fatalf("%d were taken", n)
	}
	e.answers(nil)
	stop := start(t, broker, nil)
	eventually(t, "half of the posts", func() bool { return len(e.got()) > messages*each*rounds/2 })
	stop()
	start(t, broker, nil)
	eventually(t, "all posts", func() bool { return e.ids() == messages*each*rounds })
	t.Logf("%d repeated by the restart", checkOrder(t, e.got(), ids, each))
}

// TestDeadCostsOthersNothing: a webhook that hangs or fails holds back no
// other, and a message that is refused no other message.
func TestDeadCostsOthersNothing(t *testing.T) {
	t.Parallel()
	broker := bustest.Start(t)
	b := broker.Dial(t, bus.Config{})
	good, bad, picky := newEndpoint(t), newEndpoint(t), newEndpoint(t)
	hang := make(chan struct{})
	hanging := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-hang:
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(hanging.Close)
	t.Cleanup(func() { close(hang) })
	bad.answers(always(http.StatusInternalServerError))
	for name, url := range map[string]string{"good": good.URL, "bad": bad.URL, "hanging": hanging.URL, "picky": picky.URL} {
		apply(t, b, document(name, url, "all: true\ntimeout: 2s\n"))
	}
	start(t, broker, nil)
	rs, ids := events("acme", 30, 3)
	picky.answers(func(_ int, p post) int {
		if p.data.MessageID == ids[7] {
			return http.StatusBadRequest
		}
		return http.StatusOK
	})
	put(t, b, rs)
	eventually(t, "the good one", func() bool { return good.ids() == len(rs) })
	checkOrder(t, good.got(), ids, 3)
	eventually(t, "the picky one's others", func() bool { return picky.ids() == len(rs)-3 })
	checkOrder(t, picky.got(), slices.Delete(slices.Clone(ids), 7, 8), 3)
	if len(bad.got()) != 0 {
		t.Error("the bad one took something")
	}
}

func command(t testing.TB, b *bus.Bus, c control.Command) {
	t.Helper()
	if _, err := control.Send(t.Context(), b, c); err != nil {
		t.Fatal(err)
	}
}

// TestPauseAndRewind: paused it posts nothing, resumed it goes on, rewound it
// posts again what was, with the ids that it had.
func TestPauseAndRewind(t *testing.T) {
	t.Parallel()
	broker := bustest.Start(t)
	b := broker.Dial(t, bus.Config{})
	e := newEndpoint(t)
	apply(t, b, document("w", e.URL, "all: true\n"))
	start(t, broker, nil)
	first, ids := events("acme", 5, 2)
	put(t, b, first)
	eventually(t, "the first", func() bool { return e.ids() == 10 })
	time.Sleep(2 * time.Millisecond)
	between := time.Now()
	command(t, b, control.Command{Verb: control.PauseWebhook, Webhook: "w"})
	second, more := events("acme", 5, 2)
	time.Sleep(2 * lookEvery) // until the order is known
	put(t, b, second)
	command(t, b, control.Command{Verb: control.ResumeWebhook, Webhook: "w"})
	eventually(t, "the second", func() bool { return e.ids() == 20 })
	checkOrder(t, e.got(), append(ids, more...), 2)
	before := e.got()
	command(t, b, control.Command{Verb: control.RewindWebhook, Webhook: "w", Since: between})
	old := map[string]bool{}
	for _, id := range ids {
		old[id] = true
	}
	again := func() (n int) {
		seen := map[string]bool{}
		for _, p := range e.got()[len(before):] {
			if old[p.data.MessageID] {
				t.Fatalf("an event of before the rewind's time came again: %+v", p)
			}
			seen[p.id] = true
		}
		return len(seen)
	}
	eventually(t, "the second again", func() bool { return again() == 10 })
	if e.ids() != 20 {
		t.Errorf("%d ids, want the 20 of before", e.ids())
	}
}

// TestGiveUp: what an endpoint doesn't take for as long as the policy says is
// put aside, what is behind it goes on, and it is posted again on demand.
func TestGiveUp(t *testing.T) {
	t.Parallel()
	broker := bustest.Start(t)
	b := broker.Dial(t, bus.Config{})
	e := newEndpoint(t)
	apply(t, b, document("w", e.URL, "all: true\ngive_up: {after: 1s, then: deadletter}\n"))
	rs, ids := events("acme", 2, 2)
	poison := func(_ int, p post) int {
		if p.data.MessageID == ids[0] && p.data.Attempt == 1 {
			return http.StatusUnprocessableEntity
		}
		return http.StatusOK
	}
	e.answers(poison)
	start(t, broker, nil)
	put(t, b, rs)
	eventually(t, "what is behind", func() bool { return e.ids() == 3 })
	var dead []Dead
	eventually(t, "the dead one", func() bool {
		var err error
		dead, err = AllDead(t.Context(), b, "w")
		return err == nil && len(dead) == 1
	})
	d := dead[0]
	if d.Event.MessageId != ids[0] || d.Attempts < 2 || d.Error != "answered 422 Unprocessable Entity" || d.Webhook != "w" {
		t.Errorf("%+v", d)
	}
	if others, err := AllDead(t.Context(), b, "other"); err != nil || len(others) != 0 {
		t.Errorf("of another: %v, %v", others, err)
	}
	e.answers(nil)
	if err := Settle(t.Context(), b, d, ActionRetry, "ann@host"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it came", func() bool { return e.ids() == 4 })
	if left, err := AllDead(t.Context(), b, ""); err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	if got := e.got()[len(e.got())-1]; got.data.MessageID != ids[0] || got.data.Attempt != 1 {
		t.Errorf("posted again: %+v", got)
	}
}

// TestStops: 410 and a policy pause a webhook; resumed, it goes on with the
// same event.
func TestStops(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		code int
		more string
	}{
		"gone":   {http.StatusGone, ""},
		"policy": {http.StatusInternalServerError, "give_up: {after: 1s, then: pause}\n"},
	} {
		t.Run(name, func(t *testing.T) {
			broker := bustest.Start(t)
			b := broker.Dial(t, bus.Config{})
			e := newEndpoint(t)
			e.answers(always(tt.code))
			apply(t, b, document("w", e.URL, "all: true\n"+tt.more))
			start(t, broker, nil)
			rs, ids := events("acme", 3, 2)
			put(t, b, rs)
			eventually(t, "a pause", func() bool {
				s, err := control.Read(t.Context(), b)
				return err == nil && s.Webhook("w").Paused() && s.Webhook("w").Actor == "qstream"
			})
			e.answers(nil)
			command(t, b, control.Command{Verb: control.ResumeWebhook, Webhook: "w"})
			eventually(t, "all posts", func() bool { return e.ids() == len(rs) })
			checkOrder(t, e.got(), ids, 2)
		})
	}
}

// TestChanged: another URL takes effect, with the position that was.
func TestChanged(t *testing.T) {
	t.Parallel()
	broker := bustest.Start(t)
	b := broker.Dial(t, bus.Config{})
	e, other := newEndpoint(t), newEndpoint(t)
	apply(t, b, document("w", e.URL, "all: true\n"))
	start(t, broker, nil)
	rs, _ := events("acme", 5, 1)
	put(t, b, rs)
	eventually(t, "the first", func() bool { return e.ids() == 5 })
	e.answers(always(http.StatusTeapot))
	apply(t, b, document("w", other.URL, "all: true\n"))
	rs, ids := events("acme", 5, 1)
	put(t, b, rs)
	eventually(t, "the second", func() bool { return other.ids() == 5 })
	checkOrder(t, other.got(), ids, 1)
}
