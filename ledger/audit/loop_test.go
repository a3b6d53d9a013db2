package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"qstream/mail"
	"qstream/schemas"
)

// output is a log that several goroutines may use.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// An audit that runs by itself sets the metrics, and names in the log what is
// missing.
func TestRunAlarms(t *testing.T) {
	s := newSystem(t)
	id := mail.NewID(time.Now())
	s.place(AtParked, id)
	s.trim(schemas.Parked)
	log := &output{}
	registry := prometheus.NewRegistry()
	s.deps.Log, s.deps.Metrics = slog.New(slog.NewTextHandler(log, nil)), registry
	a, err := New(Config{Every: 10 * time.Millisecond, Settle: time.Millisecond}, s.deps)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { a.Run(ctx) })
	for began := time.Now(); !strings.Contains(log.String(), "records deleted before they were read") && time.Since(began) < 20*time.Second; {
		time.Sleep(10 * time.Millisecond)
	}
	cancel()
	wg.Wait()
	for _, want := range []string{"the account of mail does not balance", "msg_id=" + id, "last_seen=parked", "topic=" + schemas.Parked} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("log lacks %q:\n%s", want, log)
		}
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]float64{"qstream_ledger_audit_missing": 2, "qstream_ledger_audit_gaps": 1, "qstream_ledger_audit_repeated": 0}
	for _, f := range families {
		if v, ok := want[f.GetName()]; ok && f.Metric[0].Gauge.GetValue() == v {
			delete(want, f.GetName())
		}
	}
	if len(want) > 0 {
		t.Errorf("metrics lack %v", want)
	}
}

func TestHandler(t *testing.T) {
	s := newSystem(t)
	s.place(AtQueue, mail.NewID(time.Now()))
	for _, c := range []struct {
		query   string
		code    int
		waiting int64
	}{
		{"", 200, 2}, {"?tenant=acme", 200, 2}, {"?tenant=other", 200, 0},
		{"?since=2100-01-01T00:00:00Z", 200, 0}, {"?since=yesterday", 400, 0},
	} {
		w := httptest.NewRecorder()
		s.audit.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodPost, Path+c.query, nil))
		if w.Code != c.code {
			t.Errorf("%q: %d %s", c.query, w.Code, w.Body)
			continue
		}
		var r Report
		if c.code == 200 && (json.Unmarshal(w.Body.Bytes(), &r) != nil || !r.Balanced || r.Total.Waiting != c.waiting) {
			t.Errorf("%q: %s", c.query, w.Body)
		}
	}
}

// The keys that scripts read.
func TestJSON(t *testing.T) {
	at := time.Date(2026, 11, 23, 19, 0, 0, 0, time.UTC)
	r := Report{
		At: at, TookMs: 12, Tenant: "acme", Since: at, Total: Count{Accepted: 1, Missing: 1}, Waiting: map[string]int64{AtQueue: 0},
		Hours: []Hour{{Tenant: "acme", Hour: at, Count: Count{Accepted: 1, Missing: 1}}},
		Findings: []Finding{{
			What: Missing, MessageID: "01JD0000000000000000000001", Recipient: 3, Address: "a@acme.example", Tenant: "acme", Queue: "acme",
			LastEvent: "parked", LastAt: at, LastSeen: "parked",
		}},
		Gaps: []Gap{{Topic: "qstream.parked.v1", Partition: 1, Group: "qstream.delay", Commit: 2, Start: 3, End: 4}},
	}
	got, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	const count = `"accepted":1,"expanded":0,"generated":0,"earlier":0,"delivered":0,"bounced":0,"expired":0,"discarded":0,"waiting":0,"missing":1`
	const want = `{"at":"2026-11-23T19:00:00Z","took_ms":12,"tenant":"acme","since":"2026-11-23T19:00:00Z","balanced":false,` +
		`"total":{` + count + `},"waiting":{"queue":0},"hours":[{"tenant":"acme","hour":"2026-11-23T19:00:00Z",` + count + `}],` +
		`"findings":[{"what":"missing","message_id":"01JD0000000000000000000001","recipient":3,"address":"a@acme.example","tenant":"acme",` +
		`"queue":"acme","last_event":"parked","last_at":"2026-11-23T19:00:00Z","last_seen":"parked","ends":0}],` +
		`"gaps":[{"topic":"qstream.parked.v1","partition":1,"group":"qstream.delay","commit":2,"start":3,"end":4}],"unreadable":0}`
	if string(got) != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	var text bytes.Buffer
	if err := Text(&text, &r); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		"missing: 01JD0000000000000000000001 recipient 3 <a@acme.example> of tenant acme, queue acme: last event parked at 2026-11-23T19:00:00Z, last seen at parked\n",
		"gap: qstream.parked.v1/1: qstream.delay goes on at 2, the log holds 3 to 4\n", "NOT BALANCED: 1 missing,",
	} {
		if !strings.Contains(text.String(), line) {
			t.Errorf("%q isn't in:\n%s", line, &text)
		}
	}
}
