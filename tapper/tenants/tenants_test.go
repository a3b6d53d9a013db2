package tenants

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"qstream/bus"
	"qstream/bus/bustest"
	"qstream/directory"
	"qstream/mail"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const three = "kind: tenant\nname: acme\ndomains: [acme.example]\nevents: {topic: true}\n---\n" +
	"kind: tenant\nname: beta\ndomains: [beta.example]\nevents: {topic: true}\n---\n" +
	"kind: tenant\nname: gamma\ndomains: [gamma.example]\n"

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

// start runs the part until stop is called, or the test ends.
func start(t testing.TB, b *bus.Bus, identify func(*http.Request) (string, string, error)) (*Tenants, func()) {
	t.Helper()
	d := directory.Follow(b)
	part, err := New(Deps{Bus: b, Directory: d, Identify: identify})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := d.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	<-d.Ready()
	running.Go(func() {
		if err := part.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	stop := sync.OnceFunc(func() { cancel(); running.Wait() })
	t.Cleanup(stop)
	for deadline := time.Now().Add(20 * time.Second); part.Ready() != nil; {
		if time.Now().After(deadline) {
			t.Fatal(part.Ready())
		}
		time.Sleep(time.Millisecond)
	}
	return part, stop
}

// message are the events of a message to all three tenants.
func message(i int) (id string, events []bus.Record) {
	id = mail.NewID(time.Now())
	all := []*pb.Outcome{{Number: 0, Address: "a@acme.example"}, {Number: 1, Address: "b@beta.example"}, {Number: 2, Address: "c@gamma.example"}}
	events = append(events, bus.NewEvent(&pb.Event{
		Type: pb.EventType_EVENT_TYPE_ACCEPTED, MessageId: id, Outcomes: all, Session: &pb.Session{ClientIp: "192.0.2.7", Tenant: "acme"},
	}))
	for n, tenant := range []string{"acme", "beta", "gamma"} {
		for step, kind := range []pb.EventType{pb.EventType_EVENT_TYPE_ROUTED, pb.EventType_EVENT_TYPE_DELIVERED} {
			events = append(events, bus.NewEvent(&pb.Event{
				Type: kind, MessageId: id, Leg: uint32(n), Step: uint64(step + 1), Tenant: tenant, Size: int64(i),
				Destination: tenant + ".example", Outcomes: all[n : n+1],
			}))
		}
	}
	return id, events
}

func eventOf(t testing.TB, r bus.Record) *pb.Event {
	t.Helper()
	e := &pb.Event{}
	if err := proto.Unmarshal(r.Value, e); err != nil {
		t.Fatal(err)
	}
	return e
}

// said is what a topic says of messages, and whether it names others.
func said(t testing.TB, rs []bus.Record, own string) map[string][]string {
	t.Helper()
	got := map[string][]string{}
	for _, r := range rs {
		e := eventOf(t, r)
		for _, tenant := range []string{"acme", "beta", "gamma"} {
			if tenant != own && strings.Contains(string(r.Value)+fmt.Sprint(r.Headers), tenant) {
				t.Errorf("the topic of %s names %s: %v", own, tenant, e)
			}
		}
		if string(r.Key) != e.MessageId {
			t.Errorf("key %s of an event of %s", r.Key, e.MessageId)
		}
		got[e.MessageId] = append(got[e.MessageId], directory.EventWord(e.Type))
	}
	return got
}

// TestTopics: each tenant that asks gets its own events, each once and in
// order, over a restart and while commits fail; who doesn't ask gets none.
func TestTopics(t *testing.T) {
	broker := bustest.Start(t)
	b := broker.Dial(t, bus.Config{})
	_, early := message(0)
	bustest.Put(t, b, early...)
	time.Sleep(2 * time.Millisecond) // appended before it was asked for
	apply(t, b, three)
	first := broker.Dial(t, bus.Config{})
	_, stop := start(t, first, nil)
	want := map[string]map[string][]string{"acme": {}, "beta": {}}
	const rounds = 40
	put := func(from, to int) {
		for i := from; i < to; i++ {
			id, events := message(i)
			bustest.Put(t, b, events...)
			want["acme"][id] = []string{"accepted", "routed", "delivered"}
			want["beta"][id] = []string{"routed", "delivered"}
		}
	}
	put(0, rounds/2)
	bustest.Put(t, b, bus.Record{Topic: schemas.Events, Partition: 0, Value: []byte("garbage")})
	bustest.Want(t, b, schemas.TenantEvents("acme"), 3*rounds/2)
	restore := broker.CutCommits()
	put(rounds/2, rounds)
	restore()
	stop()
	start(t, broker.Dial(t, bus.Config{}), nil)
	for tenant, per := range map[string]int{"acme": 3, "beta": 2} {
		topic := schemas.TenantEvents(tenant)
		bustest.Want(t, b, topic, per*rounds)
		if diff := cmp.Diff(want[tenant], said(t, bustest.Records(t, b, topic), tenant)); diff != "" {
			t.Errorf("%s:\n%s", tenant, diff)
		}
	}
	if names, err := b.Existing(t.Context(), []string{schemas.TenantEvents("gamma")}); err != nil || len(names) > 0 {
		t.Errorf("gamma has %v (%v)", names, err)
	}
}

// TestAskedLater: a topic begins when it is asked for, and ends when it isn't.
func TestAskedLater(t *testing.T) {
	b := bustest.New(t)
	apply(t, b, "kind: tenant\nname: acme\ndomains: [acme.example]\n")
	start(t, b, nil)
	_, events := message(0)
	bustest.Put(t, b, events...)
	time.Sleep(2 * time.Millisecond)
	apply(t, b, three)
	id, events := message(1)
	bustest.Put(t, b, events...)
	for _, r := range bustest.Want(t, b, schemas.TenantEvents("acme"), 3) {
		if e := eventOf(t, r); e.MessageId != id {
			t.Errorf("an event of before: %v", e)
		}
	}
}

// TestAskedAgain: a topic that is asked for again after longer than events are
// kept goes on; nothing of the time between is missing, since nobody asked.
func TestAskedAgain(t *testing.T) {
	b := bustest.New(t)
	put := func(i int) (id string) {
		t.Helper()
		id, events := message(i)
		for _, r := range events {
			r.Partition = 0
			bustest.Put(t, b, r)
		}
		return id
	}
	apply(t, b, three)
	_, stop := start(t, b, nil)
	put(0)
	bustest.Want(t, b, schemas.TenantEvents("acme"), 3)
	stop()
	put(1)
	ends, err := b.Ends(t.Context(), schemas.Events)
	if err == nil {
		err = b.Trim(t.Context(), schemas.Events, ends)
	}
	if err != nil {
		t.Fatal(err)
	}
	start(t, b, nil)
	id := put(2)
	if got := said(t, bustest.Want(t, b, schemas.TenantEvents("acme"), 6), "acme"); len(got[id]) != 3 {
		t.Errorf("of the newest message: %v", got[id])
	}
}

type line struct {
	Event  json.RawMessage `json:"event"`
	Cursor string          `json:"cursor"`
	More   bool            `json:"more"`
}

// ask reads until nothing more is there.
func ask(t testing.TB, h http.Handler, tenant string, q url.Values) (events []*pb.Event, last line) {
	t.Helper()
	for range 1000 {
		r := httptest.NewRequest(http.MethodGet, Path+"?"+q.Encode(), nil)
		r.Header.Set("Tenant", tenant)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != http.StatusOK {
			t.Fatalf("%d: %s", w.Code, w.Body)
		}
		for s := bufio.NewScanner(w.Body); s.Scan(); {
			last = line{}
			if err := json.Unmarshal(s.Bytes(), &last); err != nil {
				t.Fatalf("%v in %s", err, s.Text())
			}
			if last.Event == nil {
				continue
			}
			e := &pb.Event{}
			if err := protojson.Unmarshal(last.Event, e); err != nil {
				t.Fatal(err)
			}
			events = append(events, e)
		}
		q = url.Values{"after": {last.Cursor}, "limit": {"3"}}
		if !last.More {
			return events, last
		}
	}
	t.Fatal("no end")
	return nil, last
}

// byHeader identifies by a header, for tests.
func byHeader(r *http.Request) (string, string, error) {
	switch who := r.Header.Get("Tenant"); who {
	case "":
		return "", "", ErrUnknown
	case "forbidden":
		return "ann", "", ErrForbidden
	case "trouble":
		return "", "", fmt.Errorf("no directory")
	default:
		return "ann", who, nil
	}
}

func TestHTTP(t *testing.T) {
	b := bustest.New(t)
	apply(t, b, three)
	part, _ := start(t, b, byHeader)
	h := part.Handler()
	ids := map[string]bool{}
	for i := range 20 {
		id, events := message(i)
		bustest.Put(t, b, events...)
		ids[id] = true
	}
	for tenant, per := range map[string]int{"acme": 3, "beta": 2, "gamma": 2} {
		events, last := ask(t, h, tenant, url.Values{"limit": {"7"}})
		if len(events) != per*len(ids) {
			t.Errorf("%s reads %d events, want %d", tenant, len(events), per*len(ids))
		}
		steps, seen := map[string]pb.EventType{}, map[string]bool{}
		for _, e := range events {
			if seen[e.Id] || e.Type <= steps[e.MessageId] && e.Type != 0 {
				t.Errorf("%s reads %s out of order, or twice", tenant, e.Id)
			}
			seen[e.Id], steps[e.MessageId] = true, e.Type
			for _, other := range []string{"acme", "beta", "gamma"} {
				if other != tenant && strings.Contains(e.String(), other) {
					t.Errorf("%s sees %s: %v", tenant, other, e)
				}
			}
		}
		if none, _ := ask(t, h, tenant, url.Values{"after": {last.Cursor}}); len(none) != 0 {
			t.Errorf("%s reads %d events behind the end", tenant, len(none))
		}
	}
}

// TestEveryCursor: who goes on behind any event reads exactly what follows.
func TestEveryCursor(t *testing.T) {
	b := bustest.New(t)
	apply(t, b, three)
	part, _ := start(t, b, byHeader)
	for i := range 6 {
		_, events := message(i)
		bustest.Put(t, b, events...)
	}
	r := httptest.NewRequest(http.MethodGet, Path, nil)
	r.Header.Set("Tenant", "acme")
	w := httptest.NewRecorder()
	part.Handler().ServeHTTP(w, r)
	var lines []line
	for s := bufio.NewScanner(w.Body); s.Scan(); {
		var l line
		if err := json.Unmarshal(s.Bytes(), &l); err != nil {
			t.Fatal(err)
		}
		lines = append(lines, l)
	}
	for i, l := range lines[:len(lines)-1] {
		rest, _ := ask(t, part.Handler(), "acme", url.Values{"after": {l.Cursor}})
		if want := len(lines) - 2 - i; len(rest) != want {
			t.Errorf("behind event %d: %d events, want %d", i, len(rest), want)
		}
	}
}

// TestLargeEvents: an answer is bounded in bytes, too, and none is missed by who
// goes on.
func TestLargeEvents(t *testing.T) {
	b := bustest.New(t)
	apply(t, b, three)
	part, _ := start(t, b, byHeader)
	outcomes := make([]*pb.Outcome, 3000)
	for i := range outcomes {
		outcomes[i] = &pb.Outcome{Address: fmt.Sprintf("%s%d@acme.example", strings.Repeat("a", 200), i)}
	}
	const n = 12
	for range n {
		bustest.Put(t, b, bus.NewEvent(&pb.Event{
			Type: pb.EventType_EVENT_TYPE_DELIVERED, MessageId: mail.NewID(time.Now()), Leg: 1, Step: 1, Tenant: "acme", Outcomes: outcomes,
		}))
	}
	seen, cursor := map[string]bool{}, ""
	for answers := 0; len(seen) < n && answers < 2*n; answers++ {
		r := httptest.NewRequest(http.MethodGet, Path+"?limit=1000&after="+cursor, nil)
		if cursor == "" {
			r = httptest.NewRequest(http.MethodGet, Path+"?limit=1000", nil)
		}
		r.Header.Set("Tenant", "acme")
		w := httptest.NewRecorder()
		part.Handler().ServeHTTP(w, r)
		if w.Code != http.StatusOK || w.Body.Len() > maxAnswer+(1<<20) {
			t.Fatalf("answered %d, %d bytes", w.Code, w.Body.Len())
		}
		for text := range strings.Lines(w.Body.String()) {
			var l struct {
				Event  struct{ ID string }
				Cursor string
			}
			if err := json.Unmarshal([]byte(text), &l); err != nil {
				t.Fatal(err)
			}
			if cursor = l.Cursor; l.Event.ID == "" {
				continue
			}
			if seen[l.Event.ID] {
				t.Errorf("%s came twice", l.Event.ID)
			}
			seen[l.Event.ID] = true
		}
	}
	if len(seen) != n {
		t.Errorf("%d events, want %d", len(seen), n)
	}
}

// TestWait: an answer comes when there is something to tell.
func TestWait(t *testing.T) {
	b := bustest.New(t)
	apply(t, b, three)
	part, _ := start(t, b, byHeader)
	_, last := ask(t, part.Handler(), "beta", url.Values{})
	got := make(chan []*pb.Event)
	go func() {
		events, _ := ask(t, part.Handler(), "beta", url.Values{"after": {last.Cursor}, "wait": {"60s"}, "limit": {"1"}})
		got <- events
	}()
	id, events := message(0)
	bustest.Put(t, b, events...)
	if events := <-got; len(events) == 0 || events[0].MessageId != id {
		t.Errorf("got %v", events)
	}
}

func TestRefused(t *testing.T) {
	b := bustest.New(t)
	apply(t, b, three)
	part, _ := start(t, b, byHeader)
	for _, tt := range []struct {
		name, tenant, query string
		code                int
	}{
		{"nobody", "", "", 401},
		{"not allowed", "forbidden", "", 403},
		{"trouble", "trouble", "", 503},
		{"limit", "acme", "limit=0", 400},
		{"much", "acme", "limit=1001", 400},
		{"wait", "acme", "wait=2m", 400},
		{"cursor", "acme", "after=xx", 400},
		{"old version", "acme", "after=Ag", 400},
		{"both", "acme", "since=2026-01-02T03:04:05Z&after=AQ", 400},
		{"time", "acme", "since=yesterday", 400},
		{"twice", "acme", "limit=1&limit=2", 400},
		{"tenant by hand", "acme", "tenant=beta", 400},
		{"fine", "acme", "since=2026-01-02T03:04:05Z", 200},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodGet, Path+"?"+tt.query, nil)
			r.Header.Set("Tenant", tt.tenant)
			w := httptest.NewRecorder()
			part.Handler().ServeHTTP(w, r)
			if w.Code != tt.code {
				t.Errorf("%d %s, want %d", w.Code, w.Body, tt.code)
			}
		})
	}
	var leaves []func()
	for range perTenant {
		leave, ok := part.asking.enter("acme")
		if !ok {
			t.Fatal("refused too early")
		}
		leaves = append(leaves, leave)
	}
	if _, ok := part.asking.enter("acme"); ok {
		t.Error("one too many at once")
	}
	if leave, ok := part.asking.enter("beta"); !ok {
		t.Error("another tenant is refused")
	} else {
		leave()
	}
	for _, leave := range leaves {
		leave()
	}
	if part.asking.all != 0 || len(part.asking.of) != 0 {
		t.Errorf("%+v is left", &part.asking.of)
	}
}

func TestCursors(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		at := rapid.MapOf(rapid.Int32Range(0, maxPartitions-1), rapid.Int64Range(0, 1<<61)).Draw(t, "at")
		got, err := decodeCursor(encodeCursor(at))
		if err != nil || !cmp.Equal(at, got) {
			t.Fatalf("%v became %v (%v)", at, got, err)
		}
	})
}

func FuzzCursor(f *testing.F) {
	f.Add(encodeCursor(map[int32]int64{0: 1, 2: 300}))
	f.Add("")
	f.Fuzz(func(t *testing.T, s string) {
		at, err := decodeCursor(s)
		for p, o := range at {
			if err == nil && (p < 0 || o < 0) {
				t.Errorf("%q is %v", s, at)
			}
		}
	})
}
