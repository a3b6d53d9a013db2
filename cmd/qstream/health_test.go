package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"qstream/bus"
	"qstream/bus/bustest"
)

func TestReadyTellsEachCheck(t *testing.T) {
	h := &health{}
	var broken error
	h.add("broker", func() error { return nil })
	h.add("router", func() error { return broken })
	w, err := listenHTTP("127.0.0.1:0", h, newRegistry())
	if err != nil {
		t.Fatal(err)
	}
	w.tell(Running{PID: 7, SMTP: "127.0.0.1:25"})
	ended := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { ended <- w.run(ctx) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	get := func(path string) (int, string) {
		t.Helper()
		res, err := http.Get("http://" + w.addr() + path)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		text, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, string(text)
	}
	if code, text := get("/readyz"); code != 200 || text != "broker: ok\nrouter: ok\n" {
		t.Errorf("fit: %d %q", code, text)
	}
	broken = errors.New("no directory yet")
	if code, text := get("/readyz"); code != 503 || text != "broker: ok\nrouter: no directory yet\n" {
		t.Errorf("unfit: %d %q", code, text)
	}
	if code, _ := get("/healthz"); code != 200 {
		t.Errorf("an unfit process lives: %d", code)
	}
	for path, part := range map[string]string{"/metrics": "go_goroutines", "/system": `"pid":7`, "/debug/pprof/": "goroutine"} {
		if code, text := get(path); code != 200 || !strings.Contains(text, part) {
			t.Errorf("%s: %d without %s", path, code, part)
		}
	}
	found, err := findByHTTP(ctx, "http://"+w.addr()+"/")
	if err != nil || found.SMTP != "127.0.0.1:25" {
		t.Errorf("found %+v, %v", found, err)
	}
}

// TestPprofIsForLoopback listens everywhere, where neither profiles nor the
// brokers' names may be had.
func TestPprofIsForLoopback(t *testing.T) {
	w, err := listenHTTP("0.0.0.0:0", &health{}, newRegistry())
	if err != nil {
		t.Fatal(err)
	}
	defer w.close()
	w.tell(Running{})
	for _, path := range []string{"/debug/pprof/", "/debug/pprof/profile", "/system"} {
		req, err := http.NewRequest(http.MethodGet, path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, pattern := w.mux.Handler(req); pattern != "" {
			t.Errorf("%s is served beyond loopback", path)
		}
	}
}

func TestRefuse(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	mild := bus.Difference{Topic: "qstream.events.v1", Setting: "retention.ms", Want: "1", Got: "2", Why: "kept longer"}
	if err := refuse(log, []bus.Difference{mild}); err != nil {
		t.Errorf("a harmless difference is refused: %v", err)
	}
	grave := bus.Difference{Topic: "qstream.received.v1", Setting: "unclean.leader.election.enable", Want: "false", Got: "true", Dangerous: true, Why: "mail may vanish"}
	err := refuse(log, []bus.Difference{mild, grave})
	if err == nil {
		t.Fatal("a dangerous difference is accepted")
	}
	for _, part := range []string{"qstream.received.v1", "unclean", "mail may vanish", "qstream topics verify"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("the refusal doesn't say %q: %v", part, err)
		}
	}
	if strings.Contains(err.Error(), "events") {
		t.Errorf("the refusal names what is harmless: %v", err)
	}
	gone := bus.Difference{Topic: "qstream.parked.v1", Setting: "topic", Want: "present", Got: "missing", Dangerous: true}
	for _, part := range []string{"qstream.parked.v1", "missing", "qstream topics create"} {
		if err := refuse(log, []bus.Difference{grave, gone}); err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("the refusal doesn't say %q: %v", part, err)
		}
	}
}

// Who waits for /readyz finds run.json: a process is fit once it has told
// where it is.
func TestNotReadyBeforeTheStartIsTold(t *testing.T) {
	p := &Process{Log: slog.New(slog.DiscardHandler), Now: time.Now, Failpoint: func(string) {}}
	s, err := newShell(p, bus.Config{Seeds: bustest.Start(t).Seeds}, "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	err = s.live(ctx, nil, func([]stage) error {
		if text, fit := s.health.report(); fit || !strings.Contains(text, "start: not done yet") {
			t.Errorf("fit before the start was told:\n%s", text)
		}
		time.AfterFunc(10*time.Millisecond, func() {
			for ctx.Err() == nil {
				time.Sleep(time.Millisecond)
				if text, _ := s.health.report(); strings.Contains(text, "start: ok") {
					cancel()
				}
			}
		})
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// A page from elsewhere reads nothing of a loopback listener but its health,
// neither by a name that leads here nor across sites.
func TestPagesFromElsewhere(t *testing.T) {
	w, err := listenHTTP("127.0.0.1:0", &health{}, newRegistry())
	if err != nil {
		t.Fatal(err)
	}
	defer w.close()
	w.tell(Running{PID: 7})
	w.serve("/v1/", http.HandlerFunc(func(out http.ResponseWriter, _ *http.Request) { _, _ = out.Write([]byte("who mails whom")) }))
	for name, tt := range map[string]struct {
		path, host, site string
		want             int
	}{
		"system":           {"/system", "127.0.0.1:8025", "", 200},
		"system by name":   {"/system", "localhost:8025", "same-origin", 200},
		"ledger":           {"/v1/trace", "[::1]:8025", "", 200},
		"system, rebound":  {"/system", "rebound.example:8025", "same-origin", 403},
		"ledger, rebound":  {"/v1/trace", "rebound.example", "", 403},
		"ledger, by page":  {"/v1/trace", "127.0.0.1:8025", "cross-site", 403},
		"pprof, rebound":   {"/debug/pprof/cmdline", "rebound.example", "", 403},
		"pprof, by page":   {"/debug/pprof/cmdline", "localhost", "cross-site", 403},
		"health elsewhere": {"/healthz", "qstream.example", "", 200},
		"figures":          {"/metrics", "qstream.example", "cross-site", 200},
	} {
		r := httptest.NewRequest(http.MethodGet, tt.path, nil)
		r.Host = tt.host
		if tt.site != "" {
			r.Header.Set("Sec-Fetch-Site", tt.site)
		}
		got := httptest.NewRecorder()
		if w.guarded().ServeHTTP(got, r); got.Code != tt.want {
			t.Errorf("%s: %d %s", name, got.Code, got.Body)
		}
	}
}
