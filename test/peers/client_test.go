package peers_test

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"qstream/mail"
	pb "qstream/schemas/qstream/v1"
	"qstream/test/peers"
	"qstream/transport"
	"qstream/transport/resolver"
	"qstream/transport/schemes"
)

func client(t *testing.T) *schemes.Set {
	t.Helper()
	r, err := resolver.New(resolver.Config{Servers: []string{"127.0.0.1:1"}})
	if err != nil {
		t.Fatal(err)
	}
	s, err := schemes.New(schemes.Config{Resolver: r})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func attempt(content string, rcpts ...string) *transport.Attempt {
	a := &transport.Attempt{
		MessageID: mail.NewID(time.Now()), ReversePath: "sender@client.example", HELO: "out.example",
		Size: int64(len(content)),
		Content: func(context.Context) (io.ReadCloser, error) {
			return io.NopCloser(strings.NewReader(content)), nil
		},
	}
	for i, r := range rcpts {
		a.Recipients = append(a.Recipients, &pb.Recipient{Number: uint32(i), Address: r})
	}
	return a
}

// eventually waits until a condition holds.
func eventually(t *testing.T, what func() string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(60 * time.Second); !holds(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal(what())
		}
	}
}

// said are outcomes on one line: "250 4.2.0 ...".
func said(r transport.Result) []string {
	var all []string
	for _, o := range r.Outcomes {
		all = append(all, fmt.Sprintf("%d %s %s at %s", o.Status.Code, o.Status.Enhanced, o.Kind, o.At))
	}
	return all
}

func want(t *testing.T, r transport.Result, want ...string) {
	t.Helper()
	if got := strings.Join(said(r), "\n"); got != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s\n%+v", got, strings.Join(want, "\n"), r)
	}
}

func TestIntoPostfix(t *testing.T) {
	peers.Need(t)
	p := peers.StartPostfix(t)
	s := client(t)
	target := transport.Target{Scheme: "smtp", Host: "127.0.0.1", Port: p.Port()}

	body := "Subject: exact\r\n\r\n" + strings.Repeat(".\r\n..\r\n.x\r\n"+strings.Repeat("y", 900)+"\r\n\r\n", 1000) + "end\r\n"
	a := attempt(body, "ok@local.test", "tmp@local.test", "perm@local.test", "grey@local.test", "two@local.test", "x@elsewhere.test")
	a.Body, a.EnvID, a.Recipients[0].Orcpt = pb.Body_BODY_8BITMIME, "e+1", "rfc822;orig+x@client.example"
	r := s.Deliver(t.Context(), target, a)
	want(t, r, "250 2.0.0 replied at dot", "451 4.2.0 replied at rcpt", "550 5.1.1 replied at rcpt",
		"450 4.7.1 replied at rcpt", "250 2.0.0 replied at dot", "554 5.7.1 replied at rcpt")
	if !strings.HasPrefix(r.TLS, "TLS 1.3") || !r.Outcomes[0].DSN {
		t.Errorf("TLS %q, DSN %v", r.TLS, r.Outcomes[0].DSN)
	}
	eventually(t, p.Log, func() bool { return len(p.Mails()) == 2 })
	_, text, _ := strings.Cut(strings.ReplaceAll(body, "\r\n", "\n"), "\n\n")
	for _, m := range p.Mails() {
		// Postfix adds fields that are missing, at the end of the header.
		if !strings.HasSuffix(m, "\n\n"+text) {
			t.Errorf("content changed on the way (%d bytes)", len(m))
		}
	}

	t.Run("too large", func(t *testing.T) {
		a := attempt(strings.Repeat(strings.Repeat("x", 998)+"\r\n", 2100), "ok@local.test")
		want(t, s.Deliver(t.Context(), target, a), "552 5.3.4 decided at mail")
	})
	t.Run("SMTPUTF8", func(t *testing.T) {
		a := attempt("Subject: ü\r\n\r\n", "ü@local.test")
		a.SMTPUTF8 = true
		want(t, s.Deliver(t.Context(), target, a), "250 2.0.0 replied at dot")
	})
	t.Run("many over few connections", func(t *testing.T) { many(t, s, p, target) })
}

func many(t *testing.T, s *schemes.Set, p *peers.Postfix, target transport.Target) {
	arrived := func() (n int) {
		for _, m := range p.Mails() {
			if strings.Contains(m, "\nX-N: ") {
				n++
			}
		}
		return n
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	reused := 0
	for w := range 5 {
		wg.Go(func() {
			for i := range 20 {
				r := s.Deliver(t.Context(), target, attempt(fmt.Sprintf("X-N: %d-%d\r\n\r\nbody\r\n", w, i), "many@local.test"))
				mu.Lock()
				if !r.Delivered() {
					t.Errorf("%+v", r)
				}
				if r.Reused {
					reused++
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	eventually(t, p.Log, func() bool { return arrived() == 100 })
	if reused < 90 {
		t.Errorf("only %d of 100 on open connections", reused)
	}
}

func TestIntoDovecot(t *testing.T) {
	peers.Need(t)
	d := peers.StartDovecot(t, "ann", "bob")
	s := client(t)
	body := "Subject: exact\r\n\r\n.\r\n..\r\nend\r\n"
	for name, target := range map[string]transport.Target{
		"by TCP":    {Scheme: "lmtp", Host: "127.0.0.1", Port: d.Port()},
		"by socket": {Scheme: "lmtp", Path: d.Socket()},
	} {
		t.Run(name, func(t *testing.T) {
			before := len(d.Mails("ann"))
			r := s.Deliver(t.Context(), target, attempt(body, "ann", "nobody-here", "full", "bob"))
			want(t, r, "250 2.0.0 replied at dot", "550 5.1.1 replied at rcpt", "552 5.2.2 replied at dot", "250 2.0.0 replied at dot")
			for _, user := range []string{"ann", "bob"} {
				mails := d.Mails(user)
				if len(mails) != before+1 || !strings.HasSuffix(strings.ReplaceAll(mails[before], "\r\n", "\n"), strings.ReplaceAll(body, "\r\n", "\n")) {
					t.Errorf("%s has %q", user, mails)
				}
			}
		})
	}
	if n := len(d.Mails("full")); n != 0 {
		t.Errorf("full has %d mails", n)
	}
}

func TestIntoQMQPSink(t *testing.T) {
	peers.Need(t)
	target := transport.Target{Scheme: "qmqp", Host: "127.0.0.1", Port: peers.StartQMQPSink(t)}
	s := client(t)
	for _, size := range []int{1, 1000, 50_000} {
		a := attempt("Subject: x\r\n\r\n"+strings.Repeat("line\r\n", size), "a@local.test", "b@local.test")
		want(t, s.Deliver(t.Context(), target, a), "250 2.0.0 replied at dot", "250 2.0.0 replied at dot")
	}
}
