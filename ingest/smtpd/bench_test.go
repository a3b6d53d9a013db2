package smtpd

import (
	"context"
	"io"
	"log"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/emersion/go-smtp"
)

// The server's own work for a message of 10 KB, with a session that keeps
// nothing and a client that pipelines; go-smtp's server beside it.
func BenchmarkMessage(b *testing.B) {
	k := &keeper{}
	b.Run("smtpd", func(b *testing.B) {
		s, err := New(Config{Hostname: "mx.example"}, k.backend, nil, nil)
		if err != nil {
			b.Fatal(err)
		}
		c := newEndless(b)
		newConn(s, c).Run(context.Background())
	})
	b.Run("go-smtp", func(b *testing.B) {
		s := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) {
			return k.backend(context.Background(), Peer{})
		}))
		s.ErrorLog = log.New(io.Discard, "", 0)
		c := newEndless(b)
		closed := make(chan struct{})
		c.closed = sync.OnceFunc(func() { close(closed) })
		_ = s.Serve(c)
		<-closed
	})
}

// endless is a client that sends the same message again and again; it is also
// the listener that such a client comes from.
type endless struct {
	tape
	head, message, now []byte
	left               int
	accepted           bool
	closed             func() // nil: nobody waits
}

func newEndless(b *testing.B) *endless {
	b.Helper()
	body := strings.Repeat(strings.Repeat("x", 76)+"\r\n", 131)
	message := "MAIL FROM:<deaf@x> SIZE=10240\r\nRCPT TO:<b@x>\r\nDATA\r\n" + body + ".\r\n"
	b.SetBytes(int64(len(message)))
	b.ReportAllocs()
	b.ResetTimer()
	return &endless{head: []byte("EHLO x\r\n"), message: []byte(message), left: b.N}
}

func (c *endless) Read(p []byte) (int, error) {
	if c.head != nil {
		c.now, c.head = c.head, nil
	}
	if len(c.now) == 0 {
		if c.left == 0 {
			return 0, io.EOF
		}
		c.left--
		c.now = c.message
	}
	n := copy(p, c.now)
	c.now = c.now[n:]
	return n, nil
}

func (c *endless) Write(p []byte) (int, error) { return len(p), nil }

func (c *endless) Accept() (net.Conn, error) {
	if c.accepted {
		return nil, net.ErrClosed
	}
	c.accepted = true
	return c, nil
}

func (c *endless) Addr() net.Addr { return &net.TCPAddr{} }

func (c *endless) Close() error {
	if c.closed != nil {
		c.closed()
	}
	return nil
}
