package smtp_test

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	pb "qstream/schemas/qstream/v1"
	"qstream/test/fakemx"
	"qstream/transport"
	"qstream/transport/smtp"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestContentIsExact(t *testing.T) {
	s := start(t, fakemx.Config{})
	c := newClient(t, smtp.Config{})
	line := rapid.SampledFrom([]string{"", ".", "..", ".x", "x.", "text", "\xff\xfe", "\t", strings.Repeat("long", 5000), "From "})
	rapid.Check(t, func(rt *rapid.T) {
		body := ""
		for _, l := range rapid.SliceOfN(line, 1, 20).Draw(rt, "lines") {
			body += l + "\r\n"
		}
		whole := rapid.Bool().Draw(rt, "whole")
		a := attempt(body, "b@rcpt.example")
		a.Content = func(context.Context) (io.ReadCloser, error) {
			var r io.Reader = strings.NewReader(body)
			if !whole {
				r = iotest.HalfReader(r)
			}
			return io.NopCloser(r), nil
		}
		if r := c.Deliver(context.Background(), to(s), a); !r.Delivered() {
			rt.Fatalf("not delivered: %+v", r)
		}
		ms := s.Messages()
		if got := string(ms[len(ms)-1].Data); got != body {
			rt.Fatalf("sent %q, arrived %q", body, got)
		}
	})
}

func TestStrayBytesAreNeverSent(t *testing.T) {
	s := start(t, fakemx.Config{})
	c := newClient(t, smtp.Config{})
	for _, body := range []string{
		"a\nb\r\n", "a\rb\r\n", "a\x00b\r\n", "a\r\n.\n", "a\n.\r\n", "a\n.\nMAIL FROM:<x>\r\n", "a\r", "\n", "\r", "a\r\r\n",
		strings.Repeat("x", 70000) + "\n",
	} {
		r := c.Deliver(t.Context(), to(s), attempt(body, "b@rcpt.example"))
		o := r.Outcomes[0]
		if o.Kind != transport.Decided || o.Status.Code != 550 || o.Status.Enhanced != "5.6.0" || r.Sent {
			t.Errorf("%.20q: %+v", body, r)
		}
	}
	if n := len(s.Messages()); n != 0 {
		t.Errorf("%d messages arrived", n)
	}
}

func TestLastLineEndIsAdded(t *testing.T) {
	s := start(t, fakemx.Config{})
	r := newClient(t, smtp.Config{}).Deliver(t.Context(), to(s), attempt("a\r\nb", "b@rcpt.example"))
	if got := string(s.Messages()[0].Data); !r.Delivered() || got != "a\r\nb\r\n" {
		t.Errorf("%+v, arrived %q", r, got)
	}
}

func TestContentThatFails(t *testing.T) {
	s := start(t, fakemx.Config{})
	c := newClient(t, smtp.Config{})
	for name, content := range map[string]func(context.Context) (io.ReadCloser, error){
		"at its end": func(context.Context) (io.ReadCloser, error) {
			return io.NopCloser(io.MultiReader(strings.NewReader(small), iotest.ErrReader(errors.New("wrong hash")))), nil
		},
		"when opened": func(context.Context) (io.ReadCloser, error) { return nil, errors.New("no such offset") },
	} {
		t.Run(name, func(t *testing.T) {
			a := attempt(small, "b@rcpt.example")
			a.Content = content
			a.BeforeDot = func() { t.Error("came to the dot") }
			r := c.Deliver(t.Context(), to(s), a)
			o := r.Outcomes[0]
			if o.Kind != transport.Failed || o.At != transport.AtContent || !o.Status.Temporary() || r.Sent || len(r.Tries) > 0 {
				t.Errorf("%+v", r)
			}
		})
	}
	if n := len(s.Messages()); n != 0 {
		t.Errorf("%d messages arrived", n)
	}
}

func TestEnvelopeParameters(t *testing.T) {
	s := start(t, fakemx.Config{})
	a := attempt(small, "b@rcpt.example", "ü@bücher.example")
	a.EnvID, a.Ret, a.Body = "id 1+2", pb.Ret_RET_HDRS, pb.Body_BODY_8BITMIME
	a.Recipients[0].Notify = []pb.Notify{pb.Notify_NOTIFY_SUCCESS, pb.Notify_NOTIFY_DELAY}
	a.Recipients[0].Orcpt = "rfc822;b+x@orig.example"
	r := newClient(t, smtp.Config{}).Deliver(t.Context(), to(s), a)
	m := s.Messages()
	if !r.Delivered() || !r.Outcomes[0].DSN || len(m) != 1 {
		t.Fatalf("%+v", r)
	}
	if want := "SIZE=30 BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=id+201+2B2"; m[0].FromParams != want {
		t.Errorf("MAIL %q, want %q", m[0].FromParams, want)
	}
	if want := []string{"NOTIFY=SUCCESS,DELAY ORCPT=rfc822;b+2Bx@orig.example", ""}; !slices.Equal(m[0].RcptParams, want) {
		t.Errorf("RCPT %q, want %q", m[0].RcptParams, want)
	}
}

func TestPeerWithoutExtensions(t *testing.T) {
	s := start(t, fakemx.Config{Extensions: none})
	a := attempt("\xff\r\n", "b@bücher.example", "ü@rcpt.example")
	a.EnvID, a.Body, a.SMTPUTF8 = "x", pb.Body_BODY_8BITMIME, true
	r := newClient(t, smtp.Config{}).Deliver(t.Context(), to(s), a)
	m := s.Messages()
	if len(m) != 1 || m[0].FromParams != "" || !slices.Equal(m[0].Rcpts, []string{"b@xn--bcher-kva.example"}) {
		t.Fatalf("%+v", m)
	}
	if o := r.Outcomes[1]; o.DSN || o.Status.Enhanced != "5.6.7" || o.Kind != transport.Decided || !r.Outcomes[0].Status.OK() {
		t.Errorf("%+v", r)
	}
}

// TestTooManyRecipients: what one transaction can't have goes into the next.
func TestTooManyRecipients(t *testing.T) {
	for mode, extensions := range map[string][]string{"pipelining": nil, "one by one": none} {
		t.Run(mode, func(t *testing.T) {
			many := fakemx.Rule{Line: "RCPT", Reply: "452 4.5.3 too many", Times: 2, After: 2}
			s := start(t, fakemx.Config{Extensions: extensions, Rules: []fakemx.Rule{many}})
			c := newClient(t, smtp.Config{})
			a := attempt(small, "a@r.example", "b@r.example", "c@r.example", "d@r.example")
			r := c.Deliver(soon(t), to(s), a)
			if m := s.Messages(); !r.Delivered() || len(m) != 2 || !slices.Equal(m[1].Rcpts, []string{"c@r.example", "d@r.example"}) {
				t.Errorf("%+v, %+v", r, m)
			}
			if n := s.Connections(); n != 1 {
				t.Errorf("%d connections", n)
			}
			s.SetRules(fakemx.Rule{Line: "RCPT", Reply: "452 full"})
			r = c.Deliver(soon(t), to(s), a)
			if got, want := outcomeOf(r.Outcomes[0]), (outcome{transport.Replied, transport.AtRcpt, 452}); got != want {
				t.Errorf("none at all: %v", got)
			}
			s.SetRules(fakemx.Rule{Line: "RCPT TO:<d@", Reply: "552 too many"}, fakemx.Rule{Line: ".", Drop: true})
			r = c.Deliver(soon(t), to(s), a)
			if got, want := outcomeOf(r.Outcomes[3]), (outcome{transport.Replied, transport.AtRcpt, 552}); got != want || outcomeOf(r.Outcomes[0]) != unconfirmed {
				t.Errorf("lost at the dot: %+v", r)
			}
		})
	}
}

func TestSizeLimit(t *testing.T) {
	s := start(t, fakemx.Config{Extensions: []string{"SIZE 20"}})
	c := newClient(t, smtp.Config{})
	o := c.Deliver(t.Context(), to(s), attempt(small, "b@rcpt.example")).Outcomes[0]
	if o.Kind != transport.Decided || o.Status.Code != 552 || o.Status.Enhanced != "5.3.4" {
		t.Errorf("%+v", o)
	}
	if r := c.Deliver(t.Context(), to(s), attempt("x\r\n", "b@rcpt.example")); !r.Delivered() || !r.Reused {
		t.Errorf("a smaller one: %+v", r)
	}
}

func TestAddressesThatBreakOut(t *testing.T) {
	s := start(t, fakemx.Config{})
	c := newClient(t, smtp.Config{})
	bad := []string{"b@x>\r\nDATA", "b>@x", "b c@x", "", "b\x00@x", `"b@x`, "b<@x"}
	r := c.Deliver(t.Context(), to(s), attempt(small, append(bad, `"b >\" c"@rcpt.example`)...))
	for i := range bad {
		if o := r.Outcomes[i]; o.Kind != transport.Decided || o.Status.Enhanced != "5.1.3" {
			t.Errorf("%q: %+v", bad[i], o)
		}
	}
	if !r.Outcomes[len(bad)].Status.OK() {
		t.Errorf("quoted: %+v", r.Outcomes[len(bad)])
	}
	a := attempt(small, "b@rcpt.example")
	a.ReversePath = "x>\r\nRSET"
	if o := c.Deliver(t.Context(), to(s), a).Outcomes[0]; o.Status.Enhanced != "5.1.7" {
		t.Errorf("reverse-path: %+v", o)
	}
	a = attempt(small, "b@rcpt.example")
	a.HELO = ""
	if o := c.Deliver(t.Context(), to(s), a).Outcomes[0]; o.Kind != transport.Failed {
		t.Errorf("no HELO: %+v", o)
	}
}

func TestLMTPAnswersPerRecipient(t *testing.T) {
	for _, addr := range []string{"", filepath.Join(t.TempDir(), "lmtp.sock")} {
		s := start(t, fakemx.Config{Addr: addr, LMTP: true, Rules: []fakemx.Rule{
			{Line: "RCPT TO:<no@", Reply: "550 5.1.1 unknown"},
			{Line: ". full@", Reply: "552 5.2.2 full"},
			{Line: ". tmp@", Reply: "451 4.2.0 busy"},
		}})
		r := newClient(t, smtp.Config{LMTP: true}).Deliver(t.Context(), to(s),
			attempt(small, "a@r.example", "no@r.example", "full@r.example", "tmp@r.example", "b@r.example"))
		want := []outcome{taken, {0, transport.AtRcpt, 550}, {0, transport.AtDot, 552}, {0, transport.AtDot, 451}, taken}
		for i, o := range r.Outcomes {
			if outcomeOf(o) != want[i] {
				t.Errorf("recipient %d: %v, want %v", i, outcomeOf(o), want[i])
			}
		}
	}
}

func TestLMTPThatStopsAnswering(t *testing.T) {
	s := start(t, fakemx.Config{LMTP: true, Rules: []fakemx.Rule{{Line: ". b@", Drop: true}}})
	r := newClient(t, smtp.Config{LMTP: true}).Deliver(t.Context(), to(s), attempt(small, "a@r.example", "b@r.example", "c@r.example"))
	if got := outcomeOf(r.Outcomes[0]); got != taken {
		t.Errorf("answered: %v", got)
	}
	for _, o := range r.Outcomes[1:] {
		if outcomeOf(o) != unconfirmed {
			t.Errorf("not answered: %v", outcomeOf(o))
		}
	}
}

func TestIPv6AndSource(t *testing.T) {
	s, err := fakemx.Start(fakemx.Config{Addr: "[::1]:0"})
	if err != nil {
		t.Skip("no IPv6 loopback: ", err)
	}
	t.Cleanup(s.Close)
	a := attempt(small, "b@rcpt.example")
	a.SourceIPs = []netip.Addr{netip.MustParseAddr("127.0.0.9"), netip.IPv6Loopback()}
	r := newClient(t, smtp.Config{}).Deliver(t.Context(), to(s), a)
	if !r.Delivered() || r.Source != netip.IPv6Loopback() {
		t.Errorf("%+v", r)
	}
	v4 := start(t, fakemx.Config{})
	r = newClient(t, smtp.Config{}).Deliver(t.Context(), to(v4), a)
	if got := v4.Messages(); !r.Delivered() || got[0].Client.Addr() != a.SourceIPs[0] {
		t.Errorf("%+v from %+v", r, got)
	}
	a.SourceIPs = a.SourceIPs[1:]
	if r = newClient(t, smtp.Config{}).Deliver(t.Context(), to(v4), a); r.Outcomes[0].Kind != transport.Failed {
		t.Errorf("sent over IPv4 though the queue has no such address: %+v", r)
	}
}

func TestTarpitEndsAtItsTime(t *testing.T) {
	s := start(t, fakemx.Config{Rules: []fakemx.Rule{{Line: "CONNECT", Delay: 30 * time.Second}}})
	begun := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	r := newClient(t, smtp.Config{}).Deliver(ctx, to(s), attempt(small, "b@rcpt.example"))
	if r.Outcomes[0].Kind != transport.Cut || time.Since(begun) > 10*time.Second {
		t.Errorf("%+v after %v", r, time.Since(begun))
	}
}
