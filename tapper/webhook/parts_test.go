package webhook

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"
	"pgregory.net/rapid"

	"qstream/bus"
	"qstream/directory"
	pb "qstream/schemas/qstream/v1"
	"qstream/tapper/view"
)

func TestRead(t *testing.T) {
	now := time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC)
	for _, tt := range []struct {
		code  int
		after string
		want  answer
	}{
		{200, "", answer{taken: true}}, {204, "", answer{taken: true}}, {299, "5", answer{taken: true}},
		{301, "", answer{err: "answered 301 Moved Permanently: redirects are not followed"}},
		{307, "9", answer{err: "answered 307 Temporary Redirect: redirects are not followed"}},
		{400, "", answer{err: "answered 400 Bad Request"}},
		{404, "9", answer{err: "answered 404 Not Found"}},
		{410, "", answer{err: "answered 410 Gone", gone: true}},
		{429, "120", answer{err: "answered 429 Too Many Requests", after: 2 * time.Minute}},
		{503, "Tue, 03 Feb 2026 04:06:06 GMT", answer{err: "answered 503 Service Unavailable", after: time.Minute}},
		{503, "Tue, 03 Feb 2026 04:04:06 GMT", answer{err: "answered 503 Service Unavailable"}},
		{503, "99999999", answer{err: "answered 503 Service Unavailable", after: afterMost}},
		{503, "-5", answer{err: "answered 503 Service Unavailable"}},
		{503, "soon", answer{err: "answered 503 Service Unavailable"}},
		{999, "", answer{err: "answered 999 "}},
	} {
		tt.want.code = tt.code
		got := read(&http.Response{StatusCode: tt.code, Header: http.Header{"Retry-After": {tt.after}}}, now)
		if got != tt.want {
			t.Errorf("%d %q: %+v, want %+v", tt.code, tt.after, got, tt.want)
		}
	}
}

func TestPauses(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 1000).Draw(t, "failures")
		c := rapid.Float64Range(0, 1).Draw(t, "chance")
		wait := pause(n, firstWait, longest, func() float64 { return c })
		if wait < firstWait*3/4 || wait > longest*5/4 {
			t.Fatalf("%v after %d", wait, n)
		}
		if half := pause(n, firstWait, longest, func() float64 { return 0.5 }); n > 1 {
			if before := pause(n-1, firstWait, longest, func() float64 { return 0.5 }); half < before || half > 2*before {
				t.Fatalf("%v after %v", half, before)
			}
		}
	})
}

func TestPublic(t *testing.T) {
	for address, want := range map[string]bool{
		"8.8.8.8:443": true, "[2606:4700::1111]:443": true, "9.9.9.9:1": true,
		"127.0.0.1:80": false, "10.1.2.3:443": false, "172.16.0.1:1": false, "192.168.1.1:1": false, "169.254.169.254:80": false,
		"100.64.0.1:1": false, "0.0.0.0:1": false, "0.1.2.3:1": false, "224.0.0.1:1": false, "255.255.255.255:1": false, "240.0.0.1:1": false,
		"198.18.0.1:1": false, "192.0.2.1:1": false, "192.0.0.8:1": false,
		"[::1]:1": false, "[::]:1": false, "[fe80::1]:1": false, "[fe80::1%eth0]:1": false, "[fc00::1]:1": false, "[fd12::1]:1": false, "[ff02::1]:1": false,
		"[::ffff:127.0.0.1]:1": false, "[::ffff:10.0.0.1]:1": false, "[::ffff:8.8.8.8]:1": true, "[64:ff9b::7f00:1]:1": false, "[2002:7f00:1::1]:1": false,
		"[::127.0.0.1]:1": false, "[2001:db8::1]:1": false, "name.example:1": false, "": false,
	} {
		if got := public(address) == nil; got != want {
			t.Errorf("%s: %v", address, got)
		}
	}
}

// TestGuards: a private address is refused whatever name leads to it, and a
// redirect isn't followed.
func TestGuards(t *testing.T) {
	asked := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
	}))
	defer server.Close()
	for _, tt := range []struct {
		private bool
		host    string
		asked   int
		want    string
	}{
		{false, "127.0.0.1", 0, "not of the Internet"},
		{false, "localhost", 0, "not of the Internet"},
		{true, "127.0.0.1", 1, "redirects are not followed"},
	} {
		u, err := url.Parse(strings.Replace(server.URL, "127.0.0.1", tt.host, 1) + "/token-in-the-path")
		if err != nil {
			t.Fatal(err)
		}
		p, err := NewPoster(&directory.Webhook{URL: u, Secrets: []string{secret}, Concurrency: 1, Timeout: 5 * time.Second, Private: tt.private}, time.Now)
		if err != nil {
			t.Fatal(err)
		}
		asked = 0
		_, err = p.Test(t.Context(), "id")
		p.Close()
		if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "token-in-the-path") || asked != tt.asked {
			t.Errorf("%+v: asked %d, %v", tt, asked, err)
		}
	}
}

func TestChosen(t *testing.T) {
	owner := view.Owner(func(a string) string {
		if strings.HasSuffix(a, "acme.example") {
			return "acme"
		}
		return ""
	})
	two := []*pb.Outcome{{Number: 1, Address: "a@acme.example"}, {Number: 2, Address: "b@acme.example"}}
	e := &pb.Event{Id: "x.1.2", Type: pb.EventType_EVENT_TYPE_BOUNCED, MessageId: "x", Leg: 1, Tenant: "acme", Queue: "q", Outcomes: two}
	seen := &pb.Event{Id: view.ID("acme", "x.1.2"), Type: e.Type, MessageId: "x", Tenant: "acme", Queue: "q", Outcomes: []*pb.Outcome{{Address: "a@acme.example"}, {Address: "b@acme.example"}}}
	second := &pb.Event{Id: "x.1.2", Type: e.Type, MessageId: "x", Leg: 1, Tenant: "acme", Queue: "q", Outcomes: two[1:]}
	for _, tt := range []struct {
		name string
		hook directory.Webhook
		want *pb.Event
	}{
		{"all", directory.Webhook{All: true}, e},
		{"tenant", directory.Webhook{Tenant: "acme"}, seen},
		{"another", directory.Webhook{Tenant: "beta"}, nil},
		{"type", directory.Webhook{All: true, Events: map[pb.EventType]bool{pb.EventType_EVENT_TYPE_BOUNCED: true}}, e},
		{"other type", directory.Webhook{All: true, Events: map[pb.EventType]bool{pb.EventType_EVENT_TYPE_DELIVERED: true}}, nil},
		{"queue", directory.Webhook{All: true, Queue: "q"}, e},
		{"other queue", directory.Webhook{All: true, Queue: "p"}, nil},
		{"recipient", directory.Webhook{All: true, Recipients: []string{"b@acme.example"}}, second},
		{"other recipient", directory.Webhook{All: true, Recipients: []string{"@beta.example"}}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, Chosen(&tt.hook, e, owner), protocmp.Transform()); diff != "" {
				t.Error(diff)
			}
		})
	}
	if len(e.Outcomes) != 2 {
		t.Error("the event was changed")
	}
}

// TestAgain: what was given up is posted again to nobody but its tenant, as that
// may see it, also where the webhook became somebody else's meanwhile.
func TestAgain(t *testing.T) {
	owner := view.Owner(func(a string) string {
		_, domain, _ := strings.Cut(a, "@")
		return strings.TrimSuffix(domain, ".example")
	})
	e := &pb.Event{
		Id: "x.1.2", Type: pb.EventType_EVENT_TYPE_DELIVERED, MessageId: "x", Leg: 1, Tenant: "acme",
		Session:  &pb.Session{Tenant: "beta", AuthUser: "bob@beta.example"},
		Outcomes: []*pb.Outcome{{Number: 1, Address: "a@acme.example"}, {Number: 2, Address: "b@beta.example"}},
	}
	seen := view.Of(e, "acme", owner)
	for _, tt := range []struct {
		name        string
		hook        directory.Webhook
		event, want *pb.Event
		err         error
	}{
		{"the same tenant", directory.Webhook{Tenant: "acme"}, seen, seen, nil},
		{"another tenant", directory.Webhook{Tenant: "beta"}, seen, nil, errOthers},
		{"operators'", directory.Webhook{All: true}, e, e, nil},
		{"operators' that became a tenant's", directory.Webhook{Tenant: "acme"}, e, seen, nil},
		{"operators' that became another's", directory.Webhook{Tenant: "gamma"}, e, nil, errOthers},
		{"no event", directory.Webhook{Tenant: "acme"}, nil, nil, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := again(&tt.hook, tt.event, owner)
			if diff := cmp.Diff(tt.want, got, protocmp.Transform()); diff != "" || err != tt.err {
				t.Errorf("%v %s", err, diff)
			}
		})
	}
}

func TestMessage(t *testing.T) {
	e := &pb.Event{Id: "01JD.1.2.4", Type: pb.EventType_EVENT_TYPE_DELIVERED, AtMs: 1_763_900_000_123, MessageId: "01JD"}
	id, body, err := message(e)
	want := `{"type":"delivered","timestamp":"2025-11-23T12:13:20.123Z","data":{"id":"01JD.1.2.4","type":"EVENT_TYPE_DELIVERED","at_ms":"1763900000123","message_id":"01JD"}}`
	if err != nil || id != "01JD-1-2-4" || string(body) != want {
		t.Errorf("%s %s (%v), want\n%s", id, body, err, want)
	}
}

// TestLane: whatever fails, comes again or is given up, and whenever: of a
// message only the oldest is posted, everything is posted to its end, and to an
// endpoint that is down one at a time.
func TestLane(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := time.Unix(1_763_900_000, 0)
		l := newLane(func() time.Time { return now }, func() float64 { return 0.5 })
		const messages = 4
		came, ended, posting := [messages]int{}, [messages]int{}, map[string]bool{}
		total := rapid.IntRange(1, 30).Draw(t, "events")
		type flying struct {
			d   *delivery
			job *bus.Job
		}
		var air []flying
		end := func(i int, how string) {
			f := air[i]
			air = append(air[:i], air[i+1:]...)
			delete(posting, f.d.event.MessageId)
			if how == "failed" {
				l.failed(f.d, f.job, answer{})
				l.add(f.d.at, &bus.Job{}, f.d.event, time.Time{})
				return
			}
			ended[f.d.at.partition]++
			if how == "taken" {
				l.taken(f.d, f.job)
			} else {
				l.drop(f.d, f.job)
			}
		}
		for step := 0; total > 0 || len(air) > 0 || len(l.chains) > 0; step++ {
			if step > 5000 {
				t.Fatalf("no end: %d under way, %d chains", len(air), len(l.chains))
			}
			switch what := rapid.IntRange(0, 3).Draw(t, "what"); {
			case what == 0 && total > 0:
				m := rapid.IntRange(0, messages-1).Draw(t, "message")
				l.add(place{partition: int32(m), offset: int64(came[m])}, &bus.Job{}, &pb.Event{MessageId: fmt.Sprint(m)}, time.Time{})
				came[m]++
				total--
			case what == 1 && len(air) > 0:
				how := "taken"
				if step < 500 {
					how = rapid.SampledFrom([]string{"taken", "failed", "failed", "drop"}).Draw(t, "how")
				}
				end(rapid.IntRange(0, len(air)-1).Draw(t, "which"), how)
			default:
				d, job, wait := l.pick()
				if d == nil {
					now = now.Add(wait)
					continue
				}
				if job == nil || posting[d.event.MessageId] || d.at.offset != int64(ended[d.at.partition]) {
					t.Fatalf("event %d of message %s is posted, %d ended", d.at.offset, d.event.MessageId, ended[d.at.partition])
				}
				posting[d.event.MessageId] = true
				air = append(air, flying{d, job})
			}
		}
		if came != ended || l.idle.Len() != 0 {
			t.Fatalf("%v came, %v ended, %d idle", came, ended, l.idle.Len())
		}
	})
}

// TestProbes: to an endpoint that is down one post at a time is made, of the
// oldest event, at growing waits; when it is back all go at once.
func TestProbes(t *testing.T) {
	now := time.Unix(1_763_900_000, 0)
	l := newLane(func() time.Time { return now }, func() float64 { return 0.5 })
	for i := range 10 {
		l.add(place{offset: int64(i)}, &bus.Job{}, &pb.Event{MessageId: fmt.Sprint(i)}, time.Time{})
	}
	for range downAfter {
		d, job, _ := l.pick()
		l.failed(d, job, answer{})
		l.add(d.at, &bus.Job{}, d.event, time.Time{})
	}
	for n, want := range []time.Duration{2, 4, 8, 16, 32, 60, 60} {
		d, _, wait := l.pick()
		if d != nil || wait != want*time.Second {
			t.Fatalf("probe %d: %v, wait %v, want %v s", n, d, wait, int(want))
		}
		now = now.Add(wait)
		d, job, _ := l.pick()
		if d == nil || d.at.offset != 0 {
			t.Fatalf("probe %d: %+v", n, d)
		}
		if another, _, _ := l.pick(); another != nil {
			t.Fatalf("two at once to an endpoint that is down: %+v", another)
		}
		l.failed(d, job, answer{})
		l.add(d.at, &bus.Job{}, d.event, time.Time{})
	}
	now = now.Add(never)
	d, job, _ := l.pick()
	l.taken(d, job)
	for i := 1; i < 10; i++ {
		if d, _, _ := l.pick(); d == nil || d.at.offset != int64(i) {
			t.Errorf("after it was back: %+v, want %d", d, i)
		}
	}
	if down, _ := l.state(); down {
		t.Error("still down")
	}
}
