// Package netstrings is what QMQP and QMTP share as servers: their messages
// come as netstrings, content first, and sessions of intake take them.
//
// Guarantee: a message that was cut short is never accepted.
// Guarantee: an error of a session that says nothing about itself is
// temporary (Z), never permanent.
//
// It knows neither protocol's order; qmqpd and qmtpd do.
package netstrings

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"github.com/emersion/go-smtp"

	"qstream/ingest/gate"
	"qstream/ingest/listener"
	"qstream/mail"
	"qstream/wire"
)

// Config is how such a server speaks. Zero values take the defaults.
type Config struct {
	MaxSize        int64 // octets of a message as it comes; default 50 MiB
	MaxRecipients  int   // of a message; default 1000
	MaxConnections int   // default 1000
	MaxLine        int   // octets of a text line; default 2000; below 0: no limit
	LineEnds       wire.Policy
	TLS            *tls.Config   // nil: in clear
	Door           *gate.Door    // what clients come through; nil: all are let in
	IdleTimeout    time.Duration // for the first octets of a message, and a handshake; default 5 min
	DataTimeout    time.Duration // for the next octets; default 3 min
	WriteTimeout   time.Duration // for answers; default 1 min
	Session        time.Duration // for a connection; default 1 hour
	MinRate        int           // octets a second; default 128
	RateGrace      time.Duration // for which a client may be slower; default 1 min
	Grace          time.Duration // for running messages at the end; default 30 s
}

// WithDefaults fills in what is zero.
func (c Config) WithDefaults() Config {
	setDefault(&c.MaxSize, 50<<20)
	setDefault(&c.MaxRecipients, 1000)
	setDefault(&c.MaxConnections, 1000)
	setDefault(&c.IdleTimeout, 5*time.Minute)
	setDefault(&c.DataTimeout, 3*time.Minute)
	setDefault(&c.WriteTimeout, time.Minute)
	setDefault(&c.Session, time.Hour)
	setDefault(&c.MinRate, 128)
	setDefault(&c.RateGrace, time.Minute)
	setDefault(&c.Grace, 30*time.Second)
	switch {
	case c.MaxLine == 0:
		c.MaxLine = wire.DefaultMaxLine
	case c.MaxLine < 0:
		c.MaxLine = 0
	}
	return c
}

func setDefault[T int | int64 | time.Duration](v *T, to T) {
	if *v <= 0 {
		*v = to
	}
}

// MaxEnvelope is how many octets the envelope of a message may have.
func (c Config) MaxEnvelope() int64 { return int64(c.MaxRecipients+1) * (wire.MaxAddress + 5) }

// Session takes messages, content first. Errors for the client are
// *smtp.SMTPError.
type Session interface {
	Content(r io.Reader) error
	Mail(from string, opts *smtp.MailOptions) error
	Rcpt(to string, opts *smtp.RcptOptions) error
	Publish() error
	Reset()
	Accepted() string
	// Refuse counts and tells a refusal that isn't the session's, and returns it.
	Refuse(reason string, e *smtp.SMTPError) *smtp.SMTPError
}

// Peer is the client of a session.
type Peer struct {
	Addr netip.AddrPort
	TLS  *tls.ConnectionState // nil without TLS
	Gate *gate.Client         // what is known from before the session; nil before Enter
	Gone func() bool          // at any time: the client has closed its side, and nothing of it is left to be read
}

// Backend makes the session of a client. ctx ends when the server gives up
// waiting for running messages.
type Backend func(ctx context.Context, p Peer) (Session, error)

// Conn is one client's connection.
type Conn struct {
	*listener.Stream
	In      *wire.Reader
	Peer    Peer
	Session Session

	cfg *Config
	log *slog.Logger
	now func() time.Time
}

// NewConn serves c by cfg.
func NewConn(c net.Conn, cfg *Config, log *slog.Logger, now func() time.Time) *Conn {
	s := listener.NewStream(c, listener.Limits{
		Write: cfg.WriteTimeout, Data: cfg.DataTimeout, MinRate: cfg.MinRate, RateGrace: cfg.RateGrace, Session: cfg.Session,
	})
	n := &Conn{Stream: s, In: wire.NewReader(s), Peer: Peer{Addr: s.Addr()}, cfg: cfg, log: log, now: now}
	n.Peer.Gone = func() bool { return n.In.Buffered() == 0 && n.Gone() }
	return n
}

// Refuse closes a connection that is one too many: these protocols have no
// greeting to refuse it by, and the client tries again.
func (c *Conn) Refuse() {}

// Enter takes the client through the door; Peer.Gate.Leave takes it out. False:
// it was refused, and hears nothing, as from Refuse.
func (c *Conn) Enter(ctx context.Context) bool {
	client, refusal := c.cfg.Door.Enter(ctx, c.Stream.Conn())
	if refusal != nil {
		return false
	}
	c.Peer.Addr, c.Peer.Gate = client.Addr, client
	return true
}

// Note logs why a client got no answer.
func (c *Conn) Note(why string, err error) {
	c.log.Info("client turned away", "stage", "ingest", "host", c.Peer.Addr.Addr().String(), "reason", why, "err", err)
}

// Content reads a message of size octets from In into the session, with its
// comma, which end reads. refusal is what the client is to be answered; err
// ends the connection without an answer.
func (c *Conn) Content(size int64, unix bool, end func() error) (refusal *smtp.SMTPError, err error) {
	if size > c.cfg.MaxSize {
		if err := c.In.Discard(size); err != nil {
			return nil, err
		}
		return c.Session.Refuse("size", tooBig(c.cfg.MaxSize)), end()
	}
	text := c.In.Text(size, unix, wire.Options{Policy: c.cfg.LineEnds, MaxLine: c.cfg.MaxLine})
	b := &body{r: text}
	failed := c.Session.Content(b)
	if b.lost() {
		return nil, b.err
	}
	if failed == nil && !errors.Is(b.err, io.EOF) {
		failed = errors.New("session left content unread")
		if b.err != nil {
			failed = b.err
		}
	}
	if err := text.Drain(); err != nil {
		return nil, err
	}
	return c.reply(failed), end()
}

// Envelope offers the envelope to the session. The answers are those to the
// recipients, in their order, nil for those taken; all tells why none was.
// A nil address is one that no address can be.
func (c *Conn) Envelope(from []byte, to [][]byte) (answers []*smtp.SMTPError, all *smtp.SMTPError) {
	answers = make([]*smtp.SMTPError, len(to))
	if bad := BadAddress(from); bad != nil {
		bad.EnhancedCode[2] = 7
		return answers, bad
	}
	if e := c.reply(c.Session.Mail(reversePath(from), &smtp.MailOptions{UTF8: notASCII(append(to, from))})); e != nil {
		return answers, e
	}
	for i, a := range to {
		if answers[i] = BadAddress(a); answers[i] == nil {
			answers[i] = c.reply(c.Session.Rcpt(mail.FromRaw(string(a)), nil))
		}
	}
	return answers, nil
}

// Publish publishes the message; text is the positive answer.
func (c *Conn) Publish() (text string, refusal *smtp.SMTPError) {
	if e := c.reply(c.Session.Publish()); e != nil {
		return "", e
	}
	return fmt.Sprintf("ok %d qp %s", c.now().Unix(), c.Session.Accepted()), nil
}

// Answer queues an answer: ok, unless the message was refused.
func (c *Conn) Answer(ok string, refusal *smtp.SMTPError) {
	verdict, text := wire.Accepted, ok
	if refusal != nil {
		verdict = wire.Deferred
		if refusal.Code >= 500 {
			verdict = wire.Refused
		}
		text = refusal.Message
		if e := refusal.EnhancedCode; e[0] > 0 {
			text += fmt.Sprintf(" (#%d.%d.%d)", e[0], e[1], e[2])
		}
	}
	c.Out = wire.AppendAnswer(c.Out, verdict, text)
	c.Queued()
}

// reply is what a session's error means for the client. What says nothing
// about itself is our own trouble, hence temporary.
func (c *Conn) reply(err error) *smtp.SMTPError {
	var e *smtp.SMTPError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &e) && e.Code >= 400 && e.Code <= 599:
		return e
	}
	c.log.Warn("session failed", "stage", "ingest", "host", c.Peer.Addr.Addr().String(), "err", err)
	return &smtp.SMTPError{Code: 451, EnhancedCode: smtp.EnhancedCode{4, 3, 0}, Message: "local trouble, try again later"}
}

// doubleBounce is the reverse-path of qmail's reports about reports: a null
// one, for us.
const doubleBounce = "#@[]"

func reversePath(from []byte) string {
	if string(from) == doubleBounce {
		return ""
	}
	return mail.FromRaw(string(from))
}

// BadAddress refuses what no address can be; nil: it may be one.
func BadAddress(a []byte) *smtp.SMTPError {
	if a == nil || bytes.IndexByte(a, 0) >= 0 {
		return &smtp.SMTPError{Code: 501, EnhancedCode: smtp.EnhancedCode{5, 1, 3}, Message: "address too long or with NUL"}
	}
	return nil
}

func notASCII(all [][]byte) bool {
	for _, a := range all {
		for _, c := range a {
			if c >= 0x80 {
				return true
			}
		}
	}
	return false
}

// TooMany is the answer about recipients beyond the limit.
func TooMany(code int) *smtp.SMTPError {
	return &smtp.SMTPError{Code: code, EnhancedCode: smtp.EnhancedCode{code / 100, 5, 3}, Message: "too many recipients"}
}

func tooBig(limit int64) *smtp.SMTPError {
	return &smtp.SMTPError{Code: 552, EnhancedCode: smtp.EnhancedCode{5, 3, 4}, Message: fmt.Sprintf("message exceeds %d octets", limit)}
}

// body is the content that a session reads. It keeps the error that ended it,
// so that a session that overlooks one does no harm.
type body struct {
	r   io.Reader
	err error
}

func (b *body) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	n, err := b.r.Read(p)
	var stray *wire.StrayError
	switch {
	case errors.As(err, &stray):
		b.err = &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 5, 2}, Message: stray.Error() + " in message"}
	case errors.Is(err, wire.ErrLineTooLong):
		b.err = &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 6, 0}, Message: "line too long in message"}
	default:
		b.err = err
	}
	return n, b.err
}

// lost reports an error after which nobody can be told anything.
func (b *body) lost() bool {
	return b.err != nil && !errors.Is(b.err, io.EOF) && !errors.As(b.err, new(*smtp.SMTPError))
}

// Short reads an address of the envelope; one that is too long is nil.
func Short(f *wire.Frame) ([]byte, error) {
	a, err := f.Short(wire.MaxAddress)
	switch {
	case errors.Is(err, wire.ErrNetstringSize):
		return nil, nil
	case err != nil:
		return nil, err
	}
	return append(make([]byte, 0, len(a)), a...), nil
}

// Recipients reads addresses up to the end of the frame; more are those beyond
// the limit, which nobody keeps.
func (c *Conn) Recipients(f *wire.Frame) (all [][]byte, more int, err error) {
	for f.More() {
		a, err := Short(f)
		if err != nil {
			return nil, 0, err
		}
		if len(all) == c.cfg.MaxRecipients {
			more++
			continue
		}
		all = append(all, a)
	}
	return all, more, f.Close()
}
