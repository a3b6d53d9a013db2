package smtp_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	pb "qstream/schemas/qstream/v1"
	"qstream/test/fakemx"
	"qstream/transport"
	"qstream/transport/resolver"
	"qstream/transport/smtp"
)

// short are time limits for tests with peers that don't answer.
var short = smtp.Timeouts{
	Connect: time.Second, Greeting: 300 * time.Millisecond, Command: 300 * time.Millisecond, TLS: 300 * time.Millisecond,
	Data: 300 * time.Millisecond, Block: 300 * time.Millisecond, Dot: 300 * time.Millisecond,
}

func start(t *testing.T, cfg fakemx.Config) *fakemx.Server {
	t.Helper()
	s, err := fakemx.Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// dead is a resolver that nobody answers, for targets given by address.
func dead(t testing.TB) *resolver.Resolver {
	t.Helper()
	r, err := resolver.New(resolver.Config{Servers: []string{"127.0.0.1:1"}, Timeout: 100 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func newClient(t *testing.T, cfg smtp.Config) *smtp.Client {
	t.Helper()
	if cfg.Resolver == nil {
		cfg.Resolver = dead(t)
	}
	c, err := smtp.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func to(s *fakemx.Server) transport.Target {
	if strings.Contains(s.Addr(), "/") {
		return transport.Target{Path: s.Addr()}
	}
	host, _, _ := net.SplitHostPort(s.Addr())
	return transport.Target{Host: host, Port: s.Port()}
}

func attempt(body string, rcpts ...string) *transport.Attempt {
	a := &transport.Attempt{
		MessageID: "01J", ReversePath: "a@sender.example", HELO: "out.example", Size: int64(len(body)),
		Content: func(context.Context) (io.ReadCloser, error) {
			return io.NopCloser(strings.NewReader(body)), nil
		},
	}
	for _, r := range rcpts {
		a.Recipients = append(a.Recipients, &pb.Recipient{Address: r})
	}
	return a
}

const small = "Subject: x\r\n\r\nbody\r\n.dot\r\n..\r\n"

func TestDelivers(t *testing.T) {
	s := start(t, fakemx.Config{})
	c := newClient(t, smtp.Config{})
	a := attempt(small, "b@rcpt.example", "c@rcpt.example")
	a.Prepend = []byte("Received: here\r\n")
	r := c.Deliver(t.Context(), to(s), a)
	if !r.Delivered() || !r.Sent || r.Host != "127.0.0.1" {
		t.Fatalf("%+v", r)
	}
	m := s.Messages()
	if len(m) != 1 || !bytes.Equal(m[0].Data, []byte("Received: here\r\n"+small)) {
		t.Fatalf("%+v", m)
	}
}
