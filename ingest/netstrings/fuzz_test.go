package netstrings_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
	"go.uber.org/goleak"

	"qstream/ingest/listener"
	"qstream/ingest/netstrings"
	"qstream/ingest/qmqpd"
	"qstream/ingest/qmtpd"
	"qstream/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// keeper is a session that keeps what it publishes.
type keeper struct {
	content string
	to      []string
	mails   int
}

func (k *keeper) Content(r io.Reader) error {
	all, err := io.ReadAll(r)
	k.content = string(all)
	return err
}
func (k *keeper) Mail(string, *smtp.MailOptions) error { k.to = nil; return nil }
func (k *keeper) Rcpt(to string, _ *smtp.RcptOptions) error {
	k.to = append(k.to, to)
	return nil
}
func (k *keeper) Publish() error   { k.mails++; return nil }
func (k *keeper) Reset()           {}
func (k *keeper) Accepted() string { return "ID" }

func (k *keeper) Refuse(_ string, e *smtp.SMTPError) *smtp.SMTPError { return e }

// tape is a client that sends what it has in pieces and keeps what comes.
type tape struct {
	in   *bytes.Reader
	size int
	out  bytes.Buffer
}

func (c *tape) Read(p []byte) (int, error)       { return c.in.Read(p[:min(len(p), c.size)]) }
func (c *tape) Write(p []byte) (int, error)      { return c.out.Write(p) }
func (c *tape) Close() error                     { return nil }
func (c *tape) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (c *tape) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (c *tape) SetDeadline(time.Time) error      { return nil }
func (c *tape) SetReadDeadline(time.Time) error  { return nil }
func (c *tape) SetWriteDeadline(time.Time) error { return nil }

// play serves one client, and returns what it was told and what was taken.
func play(t *testing.T, qmqp bool, in []byte, size int) (string, *keeper) {
	k := &keeper{}
	backend := func(context.Context, netstrings.Peer) (netstrings.Session, error) { return k, nil }
	now := func() time.Time { return time.Unix(1, 0) }
	cfg := netstrings.Config{MaxSize: 1000, MaxRecipients: 3}
	var start func(net.Conn) listener.Dialogue
	if qmqp {
		s, err := qmqpd.New(cfg, qmqpd.Deps{Backend: backend, Admit: func(netstrings.Peer) bool { return true }, Now: now})
		if err != nil {
			t.Fatal(err)
		}
		start = s.Dialogue
	} else {
		s, err := qmtpd.New(cfg, qmtpd.Deps{Backend: backend, Now: now})
		if err != nil {
			t.Fatal(err)
		}
		start = s.Dialogue
	}
	c := &tape{in: bytes.NewReader(in), size: size}
	start(c).Run(context.Background())
	return c.out.String(), k
}

// However the octets are cut, the answers are the same, each is a netstring,
// and there is a K for what was taken only.
func FuzzServers(f *testing.F) {
	for _, s := range []string{
		"27:5:a\n\nb\n,3:x@y,3:1@z,4:22@z,,", "9:\ra\r\n\r\nb\r\n,3:x@y,13:3:1@z,4:22@z,,",
		"2:\na,0:,0:,2:\n\n,0:,3:0:,,", "3:\na\r,0:,4:1:a,,",
	} {
		f.Add([]byte(s), true)
		f.Add([]byte(s), false)
	}
	f.Fuzz(func(t *testing.T, in []byte, qmqp bool) {
		whole, k := play(t, qmqp, in, len(in)+1)
		cut, again := play(t, qmqp, in, 1)
		if whole != cut || k.mails != again.mails {
			t.Fatalf("whole: %q, %d taken; in pieces: %q, %d taken", whole, k.mails, cut, again.mails)
		}
		r := wire.NewReader(bytes.NewReader([]byte(whole)))
		defer r.Close()
		taken := 0
		for {
			v, _, err := r.ReadAnswer()
			if err != nil {
				break
			}
			if v == wire.Accepted {
				taken++
			}
		}
		if taken < k.mails || k.mails == 0 && taken > 0 {
			t.Fatalf("%q: %d taken, %d told", in, k.mails, taken)
		}
		if bytes.ContainsAny([]byte(k.content), "\x00") {
			t.Fatalf("content %q", k.content)
		}
	})
}
