package smtp_test

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"qstream/test/fakemx"
	"qstream/transport"
	"qstream/transport/smtp"
)

// TestUnaskedReplies: a line too many must not become the next command's reply.
func TestUnaskedReplies(t *testing.T) {
	for mode, extensions := range map[string][]string{"pipelining": nil, "one by one": none} {
		t.Run(mode, func(t *testing.T) {
			s := start(t, fakemx.Config{Extensions: extensions, Rules: []fakemx.Rule{
				{Line: ".", Times: 1, Raw: "250 taken\r\n550 5.1.1 surprise\r\n"},
			}})
			c := newClient(t, smtp.Config{})
			for i := range 2 {
				if r := c.Deliver(soon(t), to(s), attempt(small, "b@rcpt.example")); !r.Delivered() || r.Reused {
					t.Errorf("message %d: %+v", i, r)
				}
			}
			if n := len(s.Accepted()); n != 2 {
				t.Errorf("%d messages, want 2", n)
			}
		})
	}
	// In the middle of a dialogue it ends the session.
	s := start(t, fakemx.Config{Extensions: none, Rules: []fakemx.Rule{{Line: "EHLO", Raw: "250 me\r\n250 unasked\r\n"}}})
	r := newClient(t, smtp.Config{}).Deliver(soon(t), to(s), attempt(small, "b@rcpt.example"))
	if o := r.Outcomes[0]; o.Kind != transport.Failed || o.Status.Enhanced != "4.5.0" {
		t.Errorf("%+v", r)
	}
}

// TestEnvelopeIsBounded: each reply comes in time, all together don't.
func TestEnvelopeIsBounded(t *testing.T) {
	s := start(t, fakemx.Config{Rules: []fakemx.Rule{{Line: "RCPT", Delay: 50 * time.Millisecond}}})
	rcpts := make([]string, 100)
	for i := range rcpts {
		rcpts[i] = fmt.Sprintf("r%d@rcpt.example", i)
	}
	begun := time.Now()
	r := newClient(t, smtp.Config{Timeouts: smtp.Timeouts{Envelope: 300 * time.Millisecond}}).
		Deliver(soon(t), to(s), attempt(small, rcpts...))
	if got := outcomeOf(r.Outcomes[0]); got != failed(transport.AtRcpt) || time.Since(begun) > 20*time.Second {
		t.Errorf("%v after %v", got, time.Since(begun))
	}
}

// TestDrippingReply: a byte now and then does not extend a reply's time.
func TestDrippingReply(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		for {
			if _, err := c.Write([]byte("2")); err != nil {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
	}()
	begun := time.Now()
	target := transport.Target{Host: "127.0.0.1", Port: l.Addr().(*net.TCPAddr).Port}
	r := newClient(t, smtp.Config{Timeouts: short}).Deliver(soon(t), target, attempt(small, "b@rcpt.example"))
	if got := outcomeOf(r.Outcomes[0]); got != failed(transport.AtGreeting) || time.Since(begun) > 20*time.Second {
		t.Errorf("%v after %v", got, time.Since(begun))
	}
	<-done
}

// TestSlowContent: a peer that stops reading is given up after its time.
func TestSlowContent(t *testing.T) {
	hold := make(chan struct{})
	defer close(hold)
	s := start(t, fakemx.Config{Rules: []fakemx.Rule{{Line: "DATA", Raw: "354 go on\r\n", Stall: hold}}})
	body := strings.Repeat(strings.Repeat("x", 998)+"\r\n", 16<<10)
	begun := time.Now()
	r := newClient(t, smtp.Config{Timeouts: short, MinRate: 16 << 20}).Deliver(soon(t), to(s), attempt(body, "b@rcpt.example"))
	if got := outcomeOf(r.Outcomes[0]); got != failed(transport.AtContent) || time.Since(begun) > 20*time.Second || r.Sent {
		t.Errorf("%v after %v", got, time.Since(begun))
	}
}
