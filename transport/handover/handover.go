// Package handover gives a message to the first of several QMQP servers that
// takes it, with the contract of qmail's qmail-queue and qmail-qmqpc: message
// and envelope come from two descriptors, an exit code says what became of it.
//
// Guarantee: nil is returned only for a server's K.
// Guarantee: a message goes to a further server only if the one before can't
// have taken it, or if Config.Again allows that it is delivered twice.
//
// It keeps no queue: what no server takes is the caller's to try again.
package handover

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"qstream/mail"
	"qstream/wire"
)

// Exit codes of qmail-queue(8) and qmail-qmqpc(8). 11 to 40 are permanent.
const (
	CodeAddress   = 11 // an address is too long
	CodeRefused   = 31 // a server refuses for good
	CodeMemory    = 51 // an envelope too large to be held
	CodeWrite     = 53 // the message can't be kept meanwhile: disk full
	CodeRead      = 54 // message or envelope can't be read, or end early
	CodeConfig    = 55 // no list of servers
	CodeDeferred  = 71 // a server refuses for now
	CodeTimeout   = 72 // the last server didn't answer the connection
	CodeNoConnect = 73 // the last server didn't take the connection
	CodeBroken    = 74 // a connection broke, or its answer is none
	CodeEnvelope  = 91 // the envelope is none
)

// Failure is why a message was not handed over.
type Failure struct {
	Code    int
	Verdict wire.Verdict // of a server that answered: Deferred or Refused; else 0
	Text    string       // without control characters
}

func (f *Failure) Error() string { return f.Text }

// Permanent reports whether the same would happen again.
func (f *Failure) Permanent() bool { return f.Code >= 11 && f.Code <= 40 }

func failf(code int, format string, args ...any) *Failure {
	return &Failure{Code: code, Text: mail.Printable(fmt.Sprintf(format, args...))}
}

// Config is where and how. Servers is required; zero values take qmail's.
type Config struct {
	Servers []string      // host:port, in the order in which they are tried
	Connect time.Duration // default 10 s
	IO      time.Duration // for each read and write; default 60 s
	// Again goes on to the next server also when a connection broke between
	// the message's last octet and the answer: the mail may come twice.
	Again bool
	// Tell hears of each server that was passed over; nil: nobody does.
	Tell func(server string, f *Failure)
}

// Message is what is handed over.
type Message struct {
	Content     *Content
	ReversePath string // empty: null
	Recipients  []string
}

// Send tries the servers in their order. The error is a *Failure.
func Send(ctx context.Context, cfg Config, m Message) error {
	if len(cfg.Servers) == 0 {
		return failf(CodeConfig, "no QMQP server is named: list some in qmqpservers of the control folder, or set QSTREAM_SERVERS")
	}
	if cfg.Connect <= 0 {
		cfg.Connect = 10 * time.Second
	}
	if cfg.IO <= 0 {
		cfg.IO = time.Minute
	}
	var last *Failure
	for i, server := range cfg.Servers {
		f, sure := cfg.offer(ctx, server, m)
		if f == nil {
			return nil
		}
		last = f
		if f.Permanent() || ctx.Err() != nil || !sure && !cfg.Again {
			break
		}
		if i+1 < len(cfg.Servers) && cfg.Tell != nil {
			if !sure {
				f = failf(f.Code, "%s; the next server gets the message too, it may be delivered twice", f.Text)
			}
			cfg.Tell(server, f)
		}
	}
	return last
}

// offer offers the message to one server; sure says that this server can't
// have taken it.
func (c Config) offer(ctx context.Context, server string, m Message) (f *Failure, sure bool) {
	d := net.Dialer{Timeout: c.Connect}
	conn, err := d.DialContext(ctx, "tcp", server)
	if err != nil {
		return connectFailure(server, err), true
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	content, err := m.Content.open()
	if err != nil {
		return failf(CodeRead, "read the message again: %v", err), true
	}
	before, after := wire.QMQPRequest(m.Content.size, m.ReversePath, m.Recipients)
	w := &timed{conn: conn, limit: c.IO}
	if _, err = w.Write(before); err == nil {
		_, err = io.CopyBuffer(w, struct{ io.Reader }{content}, make([]byte, 64<<10))
	}
	if err == nil {
		_, err = w.Write(after)
	}
	if err != nil {
		// The server may have said why; it hasn't seen the end.
		if v, text, answered := c.answer(conn, min(c.IO, 2*time.Second)); answered == nil && v != wire.Accepted {
			return verdict(server, v, text), true
		}
		return failf(CodeBroken, "%s: connection broke while the message was sent: %v", server, cause(err)), true
	}
	v, text, err := c.answer(conn, c.IO)
	switch {
	case err != nil:
		return failf(CodeBroken, "%s: no answer to the message: %v", server, cause(err)), false
	case v == wire.Accepted:
		return nil, true
	}
	return verdict(server, v, text), true
}

// answer waits for the server's.
func (c Config) answer(conn net.Conn, within time.Duration) (wire.Verdict, string, error) {
	r := wire.NewReader(&timed{conn: conn, limit: within})
	defer r.Close()
	return r.ReadAnswer()
}

func verdict(server string, v wire.Verdict, text string) *Failure {
	f := failf(CodeDeferred, "%s: %s", server, text)
	if f.Verdict = v; v == wire.Refused {
		f.Code = CodeRefused
	}
	return f
}

func connectFailure(server string, err error) *Failure {
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return failf(CodeTimeout, "%s: connection timed out", server)
	}
	return failf(CodeNoConnect, "%s: no connection: %v", server, cause(err))
}

// cause is an error without the addresses that stand beside it.
func cause(err error) error {
	var errno syscall.Errno
	switch {
	case errors.As(err, &errno):
		return errno
	case errors.Is(err, os.ErrDeadlineExceeded):
		return errors.New("timed out")
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("closed by the server")
	}
	return err
}

// timed bounds every read and write.
type timed struct {
	conn  net.Conn
	limit time.Duration
}

func (t *timed) Write(p []byte) (int, error) {
	_ = t.conn.SetWriteDeadline(time.Now().Add(t.limit))
	return t.conn.Write(p)
}

func (t *timed) Read(p []byte) (int, error) {
	_ = t.conn.SetReadDeadline(time.Now().Add(t.limit))
	return t.conn.Read(p)
}
