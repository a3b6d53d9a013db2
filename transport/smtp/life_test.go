package smtp_test

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"qstream/test/fakemx"
	"qstream/transport"
	"qstream/transport/smtp"
)

// soon is a context for what should take no time.
func soon(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestConnectionsAreReused(t *testing.T) {
	s := start(t, fakemx.Config{})
	c := newClient(t, smtp.Config{MaxMessages: 3})
	for i := range 4 {
		r := c.Deliver(t.Context(), to(s), attempt(small, "b@rcpt.example"))
		if !r.Delivered() || r.Reused != (i == 1 || i == 2) {
			t.Errorf("message %d: %+v", i, r)
		}
	}
	other := attempt(small, "b@rcpt.example")
	other.HELO = "other.example"
	if r := c.Deliver(t.Context(), to(s), other); r.Reused || s.Messages()[4].HELO != "other.example" {
		t.Errorf("another identity: %+v", r)
	}
	if n := s.Connections(); n != 3 {
		t.Errorf("%d connections, want 3", n)
	}
	// What was taken leaves nothing to reset.
	if got := resets(s); got != 0 {
		t.Errorf("%d RSET, want none: %q", got, s.Lines())
	}
}

func resets(s *fakemx.Server) int { return strings.Count(strings.Join(s.Lines(), "\n"), "RSET") }

func TestReuseAfterRefusal(t *testing.T) {
	for mode, extensions := range map[string][]string{"pipelining": nil, "one by one": none} {
		s := start(t, fakemx.Config{Extensions: extensions, Rules: []fakemx.Rule{
			{Line: "RCPT", Times: 1, Reply: "550 5.1.1 unknown"}, {Line: ".", Times: 1, Reply: "451 4.3.0 later"},
		}})
		c := newClient(t, smtp.Config{})
		for i, want := range []int{550, 451, 250} {
			r := c.Deliver(t.Context(), to(s), attempt(small, "b@rcpt.example"))
			if r.Outcomes[0].Status.Code != want || r.Reused != (i > 0) {
				t.Errorf("%s, message %d: %+v", mode, i, r)
			}
		}
		if got := resets(s); got != 2 {
			t.Errorf("%s: %d RSET after refusals, want 2: %q", mode, got, s.Lines())
		}
	}
}

// TestRefusalOfAReusedConnectionStands: only what ends a session is taken for
// an old connection's fault.
func TestRefusalOfAReusedConnectionStands(t *testing.T) {
	for _, reply := range []string{"452 4.3.1 no room", "550 5.7.1 not from there"} {
		s := start(t, fakemx.Config{Rules: []fakemx.Rule{{Line: "MAIL", After: 1, Times: 1, Reply: reply}}})
		c := newClient(t, smtp.Config{MaxHosts: 1})
		for i, delivered := range []bool{true, false, true} {
			if r := c.Deliver(soon(t), to(s), attempt(small, "b@rcpt.example")); r.Delivered() != delivered {
				t.Errorf("%s, message %d: %+v", reply, i, r)
			}
		}
	}
}

func TestDeadConnectionIsReplaced(t *testing.T) {
	for mode, extensions := range map[string][]string{"pipelining": nil, "one by one": none} {
		for name, rule := range map[string]fakemx.Rule{
			"closed while idle": {Line: ".", Hangup: true},
			"421 at MAIL":       {Line: "MAIL", After: 1, Times: 1, Reply: "421 4.4.2 idle too long", Hangup: true},
			"dead at MAIL":      {Line: "MAIL", After: 1, Times: 1, Drop: true},
			"503 at MAIL":       {Line: "MAIL", After: 1, Times: 1, Reply: "503 5.5.1 nested MAIL command"},
		} {
			t.Run(mode+"/"+name, func(t *testing.T) {
				s := start(t, fakemx.Config{Extensions: extensions, Rules: []fakemx.Rule{rule}})
				c := newClient(t, smtp.Config{MaxHosts: 1})
				for i := range 3 {
					r := c.Deliver(soon(t), to(s), attempt(small, "b@rcpt.example"))
					if !r.Delivered() || len(r.Tries) > 0 {
						t.Errorf("message %d: %+v", i, r)
					}
				}
			})
		}
	}
}

// TestDeadConnectionAtReset: the same where a refusal has to be reset first.
func TestDeadConnectionAtReset(t *testing.T) {
	for mode, extensions := range map[string][]string{"pipelining": nil, "one by one": none} {
		for name, rule := range map[string]fakemx.Rule{
			"421":  {Line: "RSET", Reply: "421 4.4.2 idle too long", Hangup: true},
			"dead": {Line: "RSET", Drop: true},
		} {
			t.Run(mode+"/"+name, func(t *testing.T) {
				s := start(t, fakemx.Config{Extensions: extensions, Rules: []fakemx.Rule{{Line: ".", Times: 2, Reply: "451 4.3.0 later"}, rule}})
				c := newClient(t, smtp.Config{MaxHosts: 1})
				for i := range 3 {
					r := c.Deliver(soon(t), to(s), attempt(small, "b@rcpt.example"))
					if r.Delivered() != (i == 2) || len(r.Tries) > 0 {
						t.Errorf("message %d: %+v", i, r)
					}
				}
			})
		}
	}
}

func TestIdleConnectionsEnd(t *testing.T) {
	s := start(t, fakemx.Config{})
	c := newClient(t, smtp.Config{Idle: 20 * time.Millisecond})
	c.Deliver(t.Context(), to(s), attempt(small, "b@rcpt.example"))
	for ctx := soon(t); s.Open() > 0; time.Sleep(5 * time.Millisecond) {
		if ctx.Err() != nil {
			t.Fatal("still open")
		}
	}
	if lines := s.Lines(); lines[len(lines)-1] != "QUIT" {
		t.Errorf("ended by %q", lines[len(lines)-1])
	}
}

// endless is content that goes on until its reader is closed.
type endless struct{ closed chan struct{} }

func (e endless) Read(p []byte) (int, error) {
	select {
	case <-e.closed:
		return 0, io.ErrClosedPipe
	case <-time.After(time.Millisecond):
		return copy(p, "line\r\n"), nil
	}
}
func (e endless) Close() error { close(e.closed); return nil }

func TestRevokedBeforeTheDot(t *testing.T) {
	for name, rule := range map[string]fakemx.Rule{
		"while the greeting is awaited": {Line: "CONNECT", Silent: true},
		"while a reply is awaited":      {Line: "RCPT", Silent: true},
		"while content goes out":        {Line: "nothing"},
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t, fakemx.Config{Rules: []fakemx.Rule{rule}})
			a := attempt("", "b@rcpt.example")
			a.Content = func(context.Context) (io.ReadCloser, error) { return endless{make(chan struct{})}, nil }
			revoked, revoke := context.WithCancel(t.Context())
			a.Revoked = revoked
			time.AfterFunc(50*time.Millisecond, func() { revoke() })
			r := newClient(t, smtp.Config{}).Deliver(soon(t), to(s), a)
			if r.Outcomes[0].Kind != transport.Cut || r.Sent || !r.Outcomes[0].Status.Temporary() {
				t.Errorf("%+v", r)
			}
			if n := len(s.Messages()); n != 0 {
				t.Errorf("%d messages arrived", n)
			}
		})
	}
}

func TestRevokedAtTheDot(t *testing.T) {
	s := start(t, fakemx.Config{})
	a := attempt(small, "b@rcpt.example")
	revoked, revoke := context.WithCancel(t.Context())
	a.Revoked = revoked
	a.BeforeDot = revoke
	a.AfterDot = func() { t.Error("the dot was sent") }
	r := newClient(t, smtp.Config{}).Deliver(soon(t), to(s), a)
	if r.Outcomes[0].Kind != transport.Cut || r.Sent || len(s.Messages()) != 0 {
		t.Errorf("%+v", r)
	}
}

func TestRevokedAfterTheDot(t *testing.T) {
	hold := make(chan struct{})
	s := start(t, fakemx.Config{Rules: []fakemx.Rule{{Line: ".", Hold: hold}}})
	a := attempt(small, "b@rcpt.example")
	revoked, revoke := context.WithCancel(t.Context())
	a.Revoked = revoked
	a.AfterDot = func() {
		revoke()
		time.AfterFunc(50*time.Millisecond, func() { close(hold) })
	}
	if r := newClient(t, smtp.Config{}).Deliver(soon(t), to(s), a); !r.Delivered() || !r.Sent {
		t.Errorf("%+v", r)
	}
}

func TestEndOfContextAfterTheDot(t *testing.T) {
	s := start(t, fakemx.Config{Rules: []fakemx.Rule{{Line: ".", Hold: make(chan struct{})}}})
	ctx, cancel := context.WithCancel(soon(t))
	a := attempt(small, "b@rcpt.example")
	a.AfterDot = cancel
	r := newClient(t, smtp.Config{}).Deliver(ctx, to(s), a)
	if r.Outcomes[0].Kind != transport.Unconfirmed || !r.Sent || !r.Outcomes[0].Status.Temporary() {
		t.Errorf("%+v", r)
	}
}

func TestTLS(t *testing.T) {
	s := start(t, fakemx.Config{TLS: true})
	r := newClient(t, smtp.Config{}).Deliver(soon(t), to(s), attempt(small, "b@rcpt.example"))
	if m := s.Messages(); !r.Delivered() || !strings.HasPrefix(r.TLS, "TLS 1.3 ") || !m[0].TLS {
		t.Errorf("%+v", r)
	}
	if r = newClient(t, smtp.Config{NoTLS: true}).Deliver(soon(t), to(s), attempt(small, "b@rcpt.example")); !r.Delivered() || r.TLS != "" {
		t.Errorf("without: %+v", r)
	}
}

func TestTLSThatFails(t *testing.T) {
	for name, c := range map[string]struct {
		cfg       fakemx.Config
		delivered bool
	}{
		"garbage":           {fakemx.Config{BadTLS: true}, true},
		"refused":           {fakemx.Config{TLS: true, Rules: []fakemx.Rule{{Line: "STARTTLS", Reply: "454 4.7.0 not now"}}}, true},
		"hung up":           {fakemx.Config{TLS: true, Rules: []fakemx.Rule{{Line: "STARTTLS", Drop: true}}}, true},
		"injected text":     {fakemx.Config{TLS: true, Rules: []fakemx.Rule{{Line: "STARTTLS", Raw: "220 go\r\n250 injected\r\n"}}}, false},
		"421":               {fakemx.Config{TLS: true, Rules: []fakemx.Rule{{Line: "STARTTLS", Reply: "421 bye"}}}, false},
		"second EHLO fails": {fakemx.Config{TLS: true, Rules: []fakemx.Rule{{Line: "EHLO", After: 1, Times: 1, Drop: true}}}, true},
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t, c.cfg)
			r := newClient(t, smtp.Config{Timeouts: short}).Deliver(soon(t), to(s), attempt(small, "b@rcpt.example"))
			if r.Delivered() != c.delivered || r.TLS != "" {
				t.Errorf("%+v", r)
			}
			if !c.delivered && r.Outcomes[0].At != transport.AtTLS {
				t.Errorf("%+v", r.Outcomes[0])
			}
		})
	}
}

// TestFailedTLSIsRemembered: a handshake that stalls is waited for once.
func TestFailedTLSIsRemembered(t *testing.T) {
	now := time.Unix(1700000000, 0)
	s := start(t, fakemx.Config{TLS: true, Rules: []fakemx.Rule{{Line: "STARTTLS", Silent: true}}})
	c := newClient(t, smtp.Config{Timeouts: short, Idle: -1, Now: func() time.Time { return now }})
	for i, want := range []int{1, 1, 2} {
		if i == 2 {
			now = now.Add(16 * time.Minute)
		}
		if r := c.Deliver(soon(t), to(s), attempt(small, "b@rcpt.example")); !r.Delivered() || r.TLS != "" {
			t.Errorf("message %d: %+v", i, r)
		}
		if got := strings.Count(strings.Join(s.Lines(), "\n"), "STARTTLS"); got != want {
			t.Errorf("message %d: STARTTLS %d times, want %d", i, got, want)
		}
	}
}

func TestManyAtOnce(t *testing.T) {
	s := start(t, fakemx.Config{TLS: true, DigestOnly: true})
	c := newClient(t, smtp.Config{})
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range 20 {
				a := attempt(fmt.Sprintf("X-Test-Id: %d-%d\r\n\r\nbody\r\n", w, i), "b@rcpt.example", "c@rcpt.example")
				if r := c.Deliver(soon(t), to(s), a); !r.Delivered() {
					t.Errorf("%+v", r)
				}
			}
		})
	}
	wg.Wait()
	counts := s.Counts()
	if len(counts) != 160 {
		t.Errorf("%d messages, want 160", len(counts))
	}
	for id, n := range counts {
		if n != 1 {
			t.Errorf("%s came %d times", id, n)
		}
	}
}
