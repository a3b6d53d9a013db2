package ingest

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"qstream/bus"
	"qstream/bus/bustest"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
)

// edges are two edges on one bus. At the failpoint that dies names, the first
// stops to work on its request, as if it were killed there.
func edges(t *testing.T, timeout time.Duration) (b *bus.Bus, one, two *Ingest, dies *atomic.Pointer[string]) {
	t.Helper()
	b = bustest.New(t)
	apply(t, b, usersSite(t))
	cfg := httpConfig()
	cfg.PublishTimeout = timeout
	dies = &atomic.Pointer[string]{}
	one, _ = startWith(t, b, cfg, func(d *Deps) {
		d.Failpoint = func(name string) {
			if at := dies.Load(); at != nil && *at == name {
				panic(http.ErrAbortHandler)
			}
		}
	})
	two, _ = start(t, b, cfg)
	for _, in := range []*Ingest{one, two} {
		<-in.keys.CaughtUp()
	}
	return b, one, two, dies
}

// try posts, and reports whether there was an answer.
func (p post) try(t testing.TB, in *Ingest) (posted, bool) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Minute}
	res, err := client.Do(p.request(t, "http://"+in.AddrOf(ServiceHTTP).String()))
	if err != nil {
		return posted{}, false
	}
	return read(t, res), true
}

// dying posts until the edge dies of it: one that has no time to publish says
// 503, as to any client.
func (p post) dying(t testing.TB, in *Ingest) {
	t.Helper()
	for began := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		got, ok := p.try(t, in)
		if !ok {
			return
		}
		if got.status != 503 && got.status != 409 || time.Since(began) > 5*time.Minute {
			t.Fatalf("answered: %d %s", got.status, got.body)
		}
	}
}

// until posts again and again while the answer is 409, or 503.
func (p post) until(t testing.TB, in *Ingest) (got posted, conflicts int) {
	t.Helper()
	for began := time.Now(); ; conflicts++ {
		if got = p.to(t, in); got.status != 409 && got.status != 503 || time.Since(began) > 5*time.Minute {
			return got, conflicts
		}
		if got.header.Get("Retry-After") == "" {
			t.Errorf("%d without Retry-After", got.status)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// messages is how many received records there are.
func messages(t testing.TB, b *bus.Bus) (n int) {
	t.Helper()
	err := b.Read(t.Context(), []string{schemas.Received}, bus.Start{}, func(bus.Record) error { n++; return nil })
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// The same key with the same request has the same answer, at either edge, and
// there is one message; with another request it is 422.
func TestHTTPKeyIsAnsweredAgain(t *testing.T) {
	b, one, two, _ := edges(t, 0)
	for i, p := range []post{
		{query: fromAlice, body: note}, {body: jsonNote}, {query: fromAlice, body: huge}, {body: `{"messages":[` + jsonNote + "," + jsonNote + `]}`},
	} {
		p.key = fmt.Sprint("key ", i)
		p.key = `"` + p.key + `"`
		first := p.to(t, one)
		if first.status != 202 || first.header.Get("Idempotency-Replayed") != "" {
			t.Fatalf("%d %s", first.status, first.body)
		}
		before := messages(t, b)
		for _, in := range []*Ingest{one, two} {
			again, _ := p.until(t, in)
			if again.body != first.body || again.status != 202 || again.header.Get("Idempotency-Replayed") != "true" {
				t.Errorf("again: %d %s, first %s", again.status, again.body, first.body)
			}
		}
		other := p
		other.body = strings.Replace(p.body, "l", "L", 1)
		if p.query != "" {
			other.query, other.body = p.query+"&to=c@acme.example", p.body
		}
		if got, _ := other.until(t, two); got.status != 422 || !strings.Contains(got.body, "another request") {
			t.Errorf("another request: %d %s", got.status, got.body)
		}
		if n := messages(t, b); n != before {
			t.Errorf("%d messages, then %d", before, n)
		}
	}
	// Another user's key is another key.
	p := post{query: "?from=r@acme.example&to=bob@acme.example", body: note, key: `"key 0"`, user: "robot"}
	if got := p.to(t, two); got.status != 202 || got.header.Get("Idempotency-Replayed") != "" {
		t.Errorf("another user: %d %s", got.status, got.body)
	}
}

// Of retries at the same time at two edges one is taken, the others hear 409,
// or the answer.
func TestHTTPConcurrentRetries(t *testing.T) {
	b, one, two, _ := edges(t, 0)
	for round := range 10 {
		var wg sync.WaitGroup
		var mu sync.Mutex
		ids, first := map[string]bool{}, 0
		for i := range 6 {
			in := []*Ingest{one, two}[i%2]
			wg.Go(func() {
				got := post{query: fromAlice, body: note, key: fmt.Sprint("round", round)}.to(t, in)
				mu.Lock()
				defer mu.Unlock()
				switch {
				case got.status == 202:
					ids[got.ID] = true
					if got.header.Get("Idempotency-Replayed") == "" {
						first++
					}
				case got.status != 409:
					t.Errorf("%d %s", got.status, got.body)
				}
			})
		}
		wg.Wait()
		if len(ids) != 1 || first != 1 {
			t.Errorf("round %d: ids %v, %d first answers", round, ids, first)
		}
	}
	if n := messages(t, b); n != 10 {
		t.Errorf("%d messages for 10 keys", n)
	}
}

// A request that is under way at one edge is 409 at the other, however long it
// takes there.
func TestHTTPConflict(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	apply(t, b, usersSite(t))
	held, release := make(chan struct{}), make(chan struct{})
	one, _ := startWith(t, b, httpConfig(), func(d *Deps) {
		d.Failpoint = func(name string) {
			if name == "ingest.http.claimed" {
				held <- struct{}{}
				<-release
			}
		}
	})
	two, _ := start(t, b, httpConfig())
	<-two.keys.CaughtUp()
	p := post{query: fromAlice, body: note, key: "k"}
	done := make(chan posted, 1)
	go func() { done <- p.to(t, one) }()
	<-held
	for _, in := range []*Ingest{one, two} {
		if got := p.to(t, in); got.status != 409 || got.header.Get("Retry-After") == "" {
			t.Errorf("%d %s", got.status, got.body)
		}
	}
	close(release)
	first := <-done
	if again, _ := p.until(t, two); first.status != 202 || again.body != first.body {
		t.Errorf("%s, then %s", first.body, again.body)
	}
}

// An edge that dies between its steps leaves a key that another edge takes
// over once its lease is over: under the same id, and without a second message.
func TestHTTPEdgeDies(t *testing.T) {
	for _, at := range []string{"ingest.http.claimed", "ingest.reply.before", "ingest.http.settled"} {
		for name, p := range map[string]post{"raw": {query: fromAlice, body: note}, "JSON": {body: jsonNote}, "large": {query: fromAlice, body: huge}} {
			t.Run(at+" "+name, func(t *testing.T) {
				t.Parallel()
				const timeout = time.Second
				b, one, two, dies := edges(t, timeout)
				dies.Store(&at)
				p := p
				p.key = "k"
				began := time.Now()
				p.dying(t, one)
				claimed := claimedIDs(t, b)
				if len(claimed) == 0 {
					t.Fatal("no claim")
				}
				id := claimed[len(claimed)-1]
				got, conflicts := p.until(t, two)
				if got.status != 202 || got.ID != id || len(got.Recipients) != 1 || got.Recipients[0].Code != 250 {
					t.Errorf("%d %s, want id %s", got.status, got.body, id)
				}
				if took := time.Since(began); conflicts == 0 && at != "ingest.http.settled" && took < 4*timeout {
					t.Errorf("taken over within the lease, after %v", took)
				}
				if m := received(t, b, 1)[0]; m.Id != id {
					t.Errorf("message %s, claimed %s", m.Id, id)
				}
				if n := messages(t, b); n != 1 {
					t.Errorf("%d messages", n)
				}
				if again, _ := p.until(t, two); again.body != got.body || again.header.Get("Idempotency-Replayed") != "true" {
					t.Errorf("again: %s", again.body)
				}
			})
		}
	}
}

// Of a batch that an edge left in its midst, the rest is published under the
// ids that were chosen first.
func TestHTTPEdgeDiesInABatch(t *testing.T) { // alone: it compares times
	b, one, two, dies := edges(t, time.Second)
	at := "ingest.reply.before"
	dies.Store(&at)
	p := post{body: `{"messages":[` + jsonNote + "," + jsonNote + "," + jsonNote + `]}`, key: "k"}
	p.dying(t, one)
	if n := messages(t, b); n != 1 {
		t.Fatalf("%d messages before the retry", n)
	}
	got, _ := p.until(t, two)
	if got.status != 202 || len(got.Messages) != 3 {
		t.Fatalf("%d %s", got.status, got.body)
	}
	claimed := claimedIDs(t, b)
	for i, id := range claimed[len(claimed)-3:] {
		if got.Messages[i].ID != id {
			t.Errorf("message %d: %s, claimed %s", i, got.Messages[i].ID, id)
		}
	}
	if n := messages(t, b); n != 3 {
		t.Errorf("%d messages", n)
	}
}

// What was refused for now may be tried again at once with the same key; what
// was settled stays as it is.
func TestHTTPBatchGoesOn(t *testing.T) {
	b, one, two, _ := edges(t, 0)
	later := `{"envelope":{"from":"r@acme.example","to":["a@acme.example"]},"raw":"x\n"}`
	// The robot may have one recipient in a message, and its session two.
	apply(t, b, "kind: rules\nname: http\nrules: |\n  :allow,MAXRECIPIENTS=\"1\"\n")
	p := post{body: `{"messages":[` + later + "," + later + `]}`, key: "k", user: "robot"}
	first := waitFor(t, func() (posted, bool) {
		p.key += "k"
		got := p.to(t, one)
		return got, got.status == 207
	})
	if first.Messages[0].Status != 202 || first.Messages[1].Status != 503 {
		t.Fatal(first.body)
	}
	second, _ := p.until(t, two)
	if second.status != 202 || second.Messages[0].ID != first.Messages[0].ID || second.Messages[1].ID == "" {
		t.Errorf("%d %s", second.status, second.body)
	}
	third, _ := p.until(t, one)
	if third.body != second.body {
		t.Errorf("%s, then %s", second.body, third.body)
	}
}

func waitFor(t *testing.T, try func() (posted, bool)) posted {
	t.Helper()
	for began := time.Now(); ; {
		got, ok := try()
		if ok {
			return got
		}
		if time.Since(began) > 5*time.Minute {
			t.Errorf("last: %s", got.body)
			return got
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// claimedIDs are the ids of all claims.
func claimedIDs(t testing.TB, b *bus.Bus) (ids []string) {
	t.Helper()
	err := b.Read(context.Background(), []string{schemas.Idempotency}, bus.Start{}, func(r bus.Record) error {
		var s pb.Submission
		if err := proto.Unmarshal(r.Value, &s); err != nil {
			return err
		}
		if s.State == pb.SubmissionState_SUBMISSION_STATE_CLAIMED {
			ids = append(ids, s.MessageIds...)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return ids
}
