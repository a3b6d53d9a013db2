package main

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"qstream/ledger"
)

func TestWhoMayAsk(t *testing.T) {
	a := asked{networks: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}
	for _, c := range []struct {
		peer, host string
		want       bool
	}{
		{"127.0.0.1:4711", "127.0.0.1:8025", true},
		{"[::1]:4711", "[::1]:8025", true},
		{"[::ffff:127.0.0.1]:4711", "localhost:8025", true},
		{"127.0.0.1:4711", "localhost", true},
		{"127.0.0.1:4711", "127.0.0.1", true},
		// A page in a browser on this host, whose name leads here.
		{"127.0.0.1:4711", "page.example:8025", false},
		{"127.0.0.1:4711", "", false},
		{"192.0.2.7:4711", "ledger.acme.example", true},
		{"198.51.100.7:4711", "127.0.0.1:8025", false},
		{"garbage", "localhost", false},
	} {
		r := httptest.NewRequest(http.MethodGet, "/v1/queue/legs", nil)
		r.RemoteAddr, r.Host = c.peer, c.host
		if got := a.admits(r); got != c.want {
			t.Errorf("%s asks %s: %v", c.peer, c.host, got)
		}
	}
}

// Tables hold outside text: none of it reaches the terminal as it came.
func TestHostileTables(t *testing.T) {
	hostile := "\x1b[31m\n\x00\x9b2Jred@acme.example" + strings.Repeat("x", 300)
	now := time.Now()
	group := ledger.Group{Keys: map[string]string{"destination": hostile}, Legs: 1, Oldest: &now, Reply: &ledger.Reply{Text: hostile, Legs: 1}, Reasons: map[string]int{hostile: 1}}
	var out bytes.Buffer
	err := errors.Join(
		groupTable(&out, []string{"destination"}, []ledger.Group{group}, now),
		legTable(&out, []ledger.Leg{{ID: hostile, Tenant: hostile, Queue: hostile, Destination: hostile, Place: hostile, Reason: hostile,
			Reply: hostile, ReversePath: hostile, Addresses: []string{hostile}, Recipients: 3, Born: now, Due: &now}}, now),
		showQueue(&out, ledger.Queue{Queue: hostile, Total: group, Places: []ledger.Group{group}, Replies: []ledger.Reply{{Text: hostile, Legs: 1}},
			Suspensions: []ledger.Suspension{{Tenant: hostile, Actor: hostile, Reason: hostile}}}, now),
	)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "red@acme.example") {
		t.Fatalf("nothing is shown:\n%s", out.String())
	}
	if i := strings.IndexFunc(out.String(), func(r rune) bool { return r < 0x20 && r != '\n' || r >= 0x7f && r < 0xa0 }); i >= 0 {
		t.Errorf("a control character at %d of %q", i, out.String())
	}
}

// What a ledger says becomes an exit code; one that can't answer is told apart.
func TestAsk(t *testing.T) {
	status, body := http.StatusOK, `{"fresh":{"behind":3}}`
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}))
	defer s.Close()
	place := Place{API: s.URL + "/"}
	var got ledger.Legs
	if err := place.ask(t.Context(), "/v1/queue/legs", url.Values{}, &got); err != nil || got.Fresh.Behind != 3 {
		t.Errorf("%+v, %v", got, err)
	}
	for _, c := range []struct {
		status int
		body   string
		exit   int
		none   bool
	}{
		{http.StatusNotFound, "not known\n", exitNotFound, false},
		{http.StatusNotFound, "404 page not found\n", exitFailed, true},
		{http.StatusBadRequest, "limit: want a number", exitUsage, false},
		{http.StatusForbidden, "no", exitFailed, true},
		{http.StatusServiceUnavailable, "no view", exitFailed, true},
		{http.StatusOK, "garbage", exitFailed, true},
	} {
		status, body = c.status, c.body
		err := place.ask(t.Context(), "/v1/queue/legs", url.Values{}, &got)
		if report(&bytes.Buffer{}, err) != c.exit || errors.Is(err, errNoLedger) != c.none {
			t.Errorf("%d %s: %v", c.status, c.body, err)
		}
	}
	for _, wrong := range []string{"127.0.0.1:8025", "mx1.example:8025", "ftp://127.0.0.1", "http://", "http://a b"} {
		err := (&Place{API: wrong}).ask(t.Context(), "/v1/queue/legs", url.Values{}, &got)
		if report(&bytes.Buffer{}, err) != exitUsage {
			t.Errorf("--api %s: %v", wrong, err)
		}
		if _, err := (&Place{API: wrong}).Find(t.Context()); report(&bytes.Buffer{}, err) != exitUsage {
			t.Errorf("--api %s: %v", wrong, err)
		}
	}
	s.Close()
	if err := place.ask(t.Context(), "/v1/queue/legs", url.Values{}, &got); !errors.Is(err, errNoLedger) {
		t.Errorf("nobody there: %v", err)
	}
}

// An audit's exit code tells whether it balances; a tenant of whom nothing is
// known doesn't look like one whose mail is all there.
func TestAuditExit(t *testing.T) {
	const hour = `{"tenant":"acme","hour":"2026-11-23T20:00:00Z","accepted":1,"delivered":1}`
	body := ""
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(body)) }))
	defer s.Close()
	for _, c := range []struct {
		name, body, tenant string
		settle, reason     string
		exit               int
	}{
		{name: "balanced", body: `{"balanced":true,"hours":[` + hour + `]}`, tenant: "acme"},
		{name: "nothing yet", body: `{"balanced":true,"hours":[]}`},
		{name: "nobody of that name", body: `{"balanced":true,"hours":[]}`, tenant: "acne", exit: exitNotFound},
		{name: "not balanced", body: `{"balanced":false,"hours":[` + hour + `]}`, exit: exitFailed},
		{name: "a gap, and nobody of that name", body: `{"balanced":false,"hours":[]}`, tenant: "acne", exit: exitFailed},
		{name: "settled without a reason", settle: "x", exit: exitUsage},
		{name: "a reason for nothing", reason: "x", exit: exitUsage},
		{name: "nothing to settle", body: `{"balanced":true}`, settle: "x", reason: "y", exit: exitNotFound},
	} {
		t.Run(c.name, func(t *testing.T) {
			body = c.body
			var out bytes.Buffer
			cmd := auditCmd{Tenant: c.tenant, Settle: c.settle, Reason: c.reason}
			cmd.API = s.URL
			err := cmd.Run(t.Context(), &Process{Stdout: &out, Stderr: &out, Now: time.Now})
			if err != nil && report(&bytes.Buffer{}, err) != c.exit || err == nil && c.exit != 0 {
				t.Errorf("%v, want exit %d", err, c.exit)
			}
		})
	}
}

// mailq is asked by programs: an empty queue is said in the words they know,
// also right after mail went through it.
func TestMailqIsEmpty(t *testing.T) {
	mailq := func(legs int) string {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintf(w, `{"by":["queue","destination"],"groups":[{"keys":{"queue":"acme","destination":"far.example"},
				"legs":%d,"recipients":%d,"rates":{"in":1.5,"out":1.5,"deferred":0}}]}`, legs, legs)
		}))
		defer srv.Close()
		t.Setenv("QSTREAM_API", srv.URL)
		var out, errs bytes.Buffer
		if code := run(dropIn([]string{"mailq"}), nil, &out, &errs); code != exitDone {
			t.Fatalf("exit %d: %s", code, &errs)
		}
		return out.String()
	}
	if got := mailq(0); got != "Mail queue is empty\n" {
		t.Errorf("nothing waits: %q", got)
	}
	if got := mailq(1); !strings.Contains(got, "far.example") {
		t.Errorf("one waits: %q", got)
	}
}
