package smtp_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"qstream/test/fakemx"
	"qstream/transport"
	"qstream/transport/smtp"
)

// script is a server that says the same bytes to everybody, whatever they say.
type script struct {
	l    net.Listener
	mu   sync.Mutex
	says []byte
	wg   sync.WaitGroup
}

func startScript(tb testing.TB) *script {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	s := &script{l: l}
	s.wg.Go(s.serve)
	tb.Cleanup(func() { _ = l.Close(); s.wg.Wait() })
	return s
}

func (s *script) serve() {
	for {
		c, err := s.l.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		says := s.says
		s.mu.Unlock()
		_, _ = c.Write(says)
		_ = c.(*net.TCPConn).CloseWrite()
		_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
		_, _ = io.Copy(io.Discard, c)
		_ = c.Close()
	}
}

// FuzzHostileServer: whatever a server says, every recipient has an outcome,
// and delivered is only what was sent to its end.
func FuzzHostileServer(f *testing.F) {
	for _, seed := range []string{
		"220 x\r\n250 x\r\n250 x\r\n250 x\r\n354 x\r\n250 x\r\n",
		"220 x\r\n250-x\r\n250 PIPELINING\r\n250 x\r\n250 x\r\n550 x\r\n354 x\r\n250 x\r\n",
		"220 x\r\n250-x\r\n250 STARTTLS\r\n220 x\r\n\x16\x03\x01",
		"220 x\r\n500 x\r\n250 x\r\n421 x\r\n",
		"554 x\r\n", "220-\r\n220-\r\n", "HTTP/1.1 200 OK\r\n\r\n", "",
	} {
		f.Add([]byte(seed))
	}
	s := startScript(f)
	c, err := smtp.New(smtp.Config{Resolver: dead(f), Timeouts: short, Idle: -1, MaxSessions: 1})
	if err != nil {
		f.Fatal(err)
	}
	target := transport.Target{Host: "127.0.0.1", Port: s.l.Addr().(*net.TCPAddr).Port}
	f.Fuzz(func(t *testing.T, says []byte) {
		s.mu.Lock()
		s.says = says
		s.mu.Unlock()
		r := c.Deliver(context.Background(), target, attempt(small, "b@rcpt.example", "c@rcpt.example"))
		for _, o := range r.Outcomes {
			if o.Status.Code < 200 || o.Status.Code > 599 {
				t.Fatalf("no outcome: %+v", r)
			}
			if o.Status.OK() && (!r.Sent || o.At != transport.AtDot || o.Kind != transport.Replied) {
				t.Fatalf("delivered without an end: %+v", r)
			}
			if !o.Status.OK() && o.Kind != transport.Replied && o.Status.Permanent() {
				t.Fatalf("permanent, but not the peer's word: %+v", r)
			}
		}
	})
}

func TestLargeContent(t *testing.T) {
	s := start(t, fakemx.Config{TLS: true, DigestOnly: true})
	line := append(bytes.Repeat([]byte("x"), 76), "\r\n"...)
	body := bytes.Repeat(line, 20<<20/len(line))
	for range 1000 { // dots, some of them at the start of a line
		body[rand.IntN(len(body)/len(line))*len(line)+rand.IntN(2)] = '.'
	}
	a := attempt("", "b@rcpt.example")
	a.Size = int64(len(body))
	a.Content = func(context.Context) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	r := newClient(t, smtp.Config{}).Deliver(soon(t), to(s), a)
	if m := s.Messages(); !r.Delivered() || m[0].SHA256 != sha256.Sum256(body) {
		t.Errorf("%+v", r)
	}
}
