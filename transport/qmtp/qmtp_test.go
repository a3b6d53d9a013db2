package qmtp_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"qstream/mail"
	pb "qstream/schemas/qstream/v1"
	"qstream/test/fakeqm"
	"qstream/transport"
	"qstream/transport/qmtp"
	"qstream/transport/resolver"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const body = "Subject: x\r\n\r\none\r\n.two\r\n"

func attempt(content string, to ...string) *transport.Attempt {
	a := &transport.Attempt{
		MessageID: "ID", ReversePath: `"s s"@x.example`, Prepend: []byte("Received: by us\r\n"), Size: int64(len(content)),
		Content: func(context.Context) (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(content)), nil },
	}
	for i, address := range to {
		a.Recipients = append(a.Recipients, &pb.Recipient{Number: uint32(i), Address: address})
	}
	return a
}

func client(t *testing.T, p qmtp.Protocol, io time.Duration) *qmtp.Client {
	t.Helper()
	r, err := resolver.New(resolver.Config{Servers: []string{"127.0.0.1:1"}})
	if err != nil {
		t.Fatal(err)
	}
	c, err := qmtp.New(qmtp.Config{Protocol: p, Resolver: r, IO: io})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func serve(t *testing.T, cfg fakeqm.Config) (*fakeqm.Server, transport.Target) {
	t.Helper()
	s, err := fakeqm.Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s, transport.Target{Host: "127.0.0.1", Port: s.Port()}
}

func TestEnvelopeAndLines(t *testing.T) {
	for _, p := range []qmtp.Protocol{qmtp.QMTP, qmtp.QMQP} {
		s, target := serve(t, fakeqm.Config{QMQP: p == qmtp.QMQP})
		for _, content := range []string{body, strings.Repeat(strings.Repeat("x", 70)+"\r\n", 5000), "", "no end"} {
			r := client(t, p, 0).Deliver(t.Context(), target, attempt(content, `"a b"@y.example`, "c@y.example"))
			if !r.Delivered() || !r.Sent || r.Host != "127.0.0.1" {
				t.Fatalf("%s: %+v", p, r)
			}
			all := s.Messages()
			m := all[len(all)-1]
			want, lines := "Received: by us\r\n"+content, byte('\r')
			if p == qmtp.QMQP {
				want, lines = strings.ReplaceAll(want, "\r\n", "\n"), 0
			}
			if m.Content != want || m.Lines != lines {
				t.Errorf("%s: %d octets came, want %d", p, len(m.Content), len(want))
			}
			if m.From != "s s@x.example" || strings.Join(m.To, "|") != "a b@y.example|c@y.example" {
				t.Errorf("%s: envelope %q %q", p, m.From, m.To)
			}
		}
	}
}

func TestAnswers(t *testing.T) {
	for _, tt := range []struct {
		name, answer string
		kind         transport.Kind
		want         mail.Status
	}{
		{"taken", "Kok 1 qp 2", transport.Replied, mail.Status{Code: 250, Enhanced: "2.0.0", Text: "ok 1 qp 2"}},
		{"deferred", "Zbusy", transport.Replied, mail.Status{Code: 451, Enhanced: "4.0.0", Text: "busy"}},
		{"deferred by code", "Zbusy (#4.3.2)", transport.Replied, mail.Status{Code: 451, Enhanced: "4.3.2", Text: "busy (#4.3.2)"}},
		{"refused", "Dno (#5.1.1)", transport.Replied, mail.Status{Code: 550, Enhanced: "5.1.1", Text: "no (#5.1.1)"}},
		{"code of another class", "Dno (#4.1.1)", transport.Replied, mail.Status{Code: 550, Enhanced: "5.0.0", Text: "no (#4.1.1)"}},
		{"hang up", "", transport.Unconfirmed, mail.Status{Code: 451, Enhanced: "4.4.2"}},
		{"no verdict", "ok", transport.Unconfirmed, mail.Status{Code: 451, Enhanced: "4.5.0"}},
	} {
		for _, p := range []qmtp.Protocol{qmtp.QMTP, qmtp.QMQP} {
			_, target := serve(t, fakeqm.Config{QMQP: p == qmtp.QMQP, Answer: func(string) string { return tt.answer }})
			r := client(t, p, 0).Deliver(t.Context(), target, attempt(body, "a@y.example", "b@y.example"))
			if len(r.Outcomes) != 2 || !r.Sent {
				t.Fatalf("%s: %+v", tt.name, r)
			}
			for _, o := range r.Outcomes {
				if tt.want.Text == "" {
					o.Status.Text = ""
				}
				if o.Kind != tt.kind || o.Status != tt.want || o.At != transport.AtDot {
					t.Errorf("%s by %s: %+v", tt.name, p, o)
				}
			}
		}
	}
}

// QMTP answers for each recipient, in order; what is missing is unconfirmed.
func TestAnswersInOrder(t *testing.T) {
	_, target := serve(t, fakeqm.Config{Answer: func(to string) string {
		return map[string]string{"a@y.example": "Kok", "b@y.example": "Dno", "c@y.example": ""}[to]
	}})
	r := client(t, qmtp.QMTP, 0).Deliver(t.Context(), target, attempt(body, "a@y.example", "b@y.example", "c@y.example", "d@y.example"))
	var got []string
	for _, o := range r.Outcomes {
		got = append(got, o.Kind.String()+" "+o.Status.Enhanced)
	}
	if s := strings.Join(got, ", "); s != "replied 2.0.0, replied 5.0.0, unconfirmed 4.4.2, unconfirmed 4.4.2" {
		t.Error(s)
	}
}

// A server that says nothing is given up after the time limit.
func TestSilence(t *testing.T) {
	hold := make(chan struct{})
	_, target := serve(t, fakeqm.Config{QMQP: true, Answer: func(string) string { <-hold; return "" }})
	defer close(hold)
	r := client(t, qmtp.QMQP, 30*time.Millisecond).Deliver(t.Context(), target, attempt(body, "a@y.example"))
	if o := r.Outcomes[0]; o.Kind != transport.Unconfirmed || !strings.Contains(o.Status.Text, "timed out") {
		t.Errorf("%+v", o)
	}
}

// Lost before the last octet, nothing was delivered.
func TestLostInContent(t *testing.T) {
	for _, p := range []qmtp.Protocol{qmtp.QMTP, qmtp.QMQP} {
		s, target := serve(t, fakeqm.Config{QMQP: p == qmtp.QMQP, HangUpAt: 1000})
		big := strings.Repeat(strings.Repeat("x", 70)+"\r\n", 500_000)
		r := client(t, p, 0).Deliver(t.Context(), target, attempt(big, "a@y.example"))
		if o := r.Outcomes[0]; o.Kind != transport.Failed || o.At != transport.AtContent || r.Sent || len(s.Messages()) > 0 || len(r.Tries) != 1 {
			t.Errorf("%s: %+v", p, r)
		}
	}
}

func TestContentThatCannotGo(t *testing.T) {
	for _, p := range []qmtp.Protocol{qmtp.QMTP, qmtp.QMQP} {
		s, target := serve(t, fakeqm.Config{QMQP: p == qmtp.QMQP})
		for content, want := range map[string]struct {
			kind transport.Kind
			code string
		}{
			"a\nb\r\n":   {transport.Decided, "5.6.0"},
			"a\rb\r\n":   {transport.Decided, "5.6.0"},
			"a\x00b\r\n": {transport.Decided, "5.6.0"},
		} {
			r := client(t, p, 0).Deliver(t.Context(), target, attempt(content, "a@y.example"))
			if o := r.Outcomes[0]; o.Kind != want.kind || o.Status.Enhanced != want.code || r.Sent {
				t.Errorf("%s, %q: %+v", p, content, r)
			}
		}
		if n := len(s.Messages()); n > 0 {
			t.Errorf("%s: %d came", p, n)
		}
	}
}

// Content of another size than was told can't pass for the message, also if
// what is too much would look like an envelope.
func TestContentOfAnotherSize(t *testing.T) {
	s, target := serve(t, fakeqm.Config{})
	for _, off := range []int64{-5, 5} {
		a := attempt(body+",0:,11:8:evil@x.y,,", "a@y.example")
		a.Size += off
		r := client(t, qmtp.QMTP, 0).Deliver(t.Context(), target, a)
		if o := r.Outcomes[0]; o.Kind != transport.Failed || o.Status.Enhanced != "4.3.0" || r.Sent {
			t.Errorf("%+v", r)
		}
	}
	if n := len(s.Messages()); n > 0 {
		t.Errorf("%d came", n)
	}
}

func TestUnreachable(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	c := client(t, qmtp.QMQP, 0)
	r := c.Deliver(t.Context(), transport.Target{Host: "127.0.0.1", Port: l.Addr().(*net.TCPAddr).Port}, attempt(body, "a@y.example"))
	if o := r.Outcomes[0]; o.Kind != transport.Failed || o.Status.Enhanced != "4.4.1" || o.At != transport.AtConnect || len(r.Tries) != 1 {
		t.Errorf("%+v", r)
	}
	r = c.Deliver(t.Context(), transport.Target{Host: "nowhere.example"}, attempt(body, "a@y.example"))
	if o := r.Outcomes[0]; o.Kind != transport.Failed || !o.Status.Temporary() || o.At != transport.AtLookup {
		t.Errorf("%+v", r)
	}
}

func FuzzAnswers(f *testing.F) {
	f.Add([]byte("5:Kok 1,1:Z,3:Dno,"))
	f.Add([]byte("99999999999999:"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if len(raw) == 0 {
			return
		}
		_, target := serve(t, fakeqm.Config{Raw: string(raw)})
		r := client(t, qmtp.QMTP, 200*time.Millisecond).Deliver(t.Context(), target, attempt(body, "a@y.example", "b@y.example"))
		if len(r.Outcomes) != 2 {
			t.Fatalf("%+v", r)
		}
		for _, o := range r.Outcomes {
			if o.Status.OK() && !bytes.Contains(raw, []byte(":K")) || mail.Printable(o.Status.Text) != o.Status.Text {
				t.Fatalf("%q: %+v", raw, o)
			}
		}
	})
}

func TestNew(t *testing.T) {
	for _, cfg := range []qmtp.Config{{}, {Protocol: "smtp"}, {Protocol: qmtp.QMQP}} {
		if _, err := qmtp.New(cfg); err == nil || errors.Is(err, io.EOF) {
			t.Errorf("%+v: %v", cfg, err)
		}
	}
}
