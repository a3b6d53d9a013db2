// Package qmtpd speaks QMTP (cr.yp.to/proto/qmtp.txt) and QMTPS, which is TLS
// from the first octet, as a server: message after message, each answered for
// each recipient, in their order.
//
// Guarantee: what was answered stands, whatever becomes of the connection; an
// unfinished package is dropped.
//
// It knows no authentication but client certificates.
package qmtpd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"time"

	"github.com/emersion/go-smtp"
	"github.com/prometheus/client_golang/prometheus"

	"qstream/ingest/listener"
	"qstream/ingest/netstrings"
	"qstream/wire"
)

// Deps are what a server works with; Backend is required.
type Deps struct {
	Backend netstrings.Backend
	Log     *slog.Logger
	Metrics prometheus.Registerer
	Now     func() time.Time
}

// Server serves QMTP, or QMTPS if its configuration has TLS; it is safe for
// concurrent use.
type Server struct {
	*listener.Server
	cfg  netstrings.Config
	deps Deps
	ends *prometheus.CounterVec
}

// New checks cfg; it starts nothing.
func New(cfg netstrings.Config, d Deps) (*Server, error) {
	if d.Backend == nil {
		return nil, errors.New("qmtpd: no backend")
	}
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	if d.Now == nil {
		d.Now = time.Now
	}
	service := "qmtp"
	if cfg.TLS != nil {
		service = "qmtps"
	}
	s := &Server{cfg: cfg.WithDefaults(), deps: d, ends: netstrings.Ends(service, d.Metrics)}
	s.Server = listener.New(listener.Config{Service: service, MaxConnections: s.cfg.MaxConnections, Grace: s.cfg.Grace},
		func(c net.Conn) listener.Dialogue {
			return &conn{srv: s, Conn: netstrings.NewConn(c, &s.cfg, d.Log, d.Now)}
		}, d.Log, d.Metrics)
	return s, nil
}

type conn struct {
	srv *Server
	*netstrings.Conn
}

// Run takes the client's messages.
func (c *conn) Run(ctx context.Context) {
	defer c.In.Close()
	if !c.Enter(ctx) {
		c.srv.ends.WithLabelValues("denied").Inc()
		return
	}
	defer c.Peer.Gate.Leave()
	err := c.secure(ctx)
	if err == nil {
		err = c.messages(ctx)
	}
	if c.Session != nil {
		c.Session.Reset()
	}
	if flushed := c.Flush(); flushed != nil && errors.Is(err, io.EOF) {
		err = flushed
	}
	end := netstrings.EndOf(err)
	c.srv.ends.WithLabelValues(end).Inc()
	if !errors.Is(err, io.EOF) {
		c.Note(end, err)
	}
	if c.Peer.TLS != nil {
		c.Stream.Conn().Close() // says goodbye in TLS, too
		return
	}
	c.Linger()
}

// secure is the handshake of QMTPS.
func (c *conn) secure(ctx context.Context) error {
	if c.srv.cfg.TLS == nil {
		return nil
	}
	t := tls.Server(c.Stream.Conn(), c.srv.cfg.TLS)
	if err := c.Within(c.srv.cfg.IdleTimeout); err != nil {
		return err
	}
	if err := t.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("tls handshake: %w", err)
	}
	c.Secure(t)
	cs := t.ConnectionState()
	c.Peer.TLS = &cs
	return nil
}

// drainLimit is how much above the limit a message is read to its end to be
// refused by an answer.
const drainLimit = 64 << 20

// messages serves package after package, up to io.EOF.
func (c *conn) messages(ctx context.Context) (err error) {
	if c.Session, err = c.srv.deps.Backend(ctx, c.Peer); err != nil {
		return err
	}
	stream := c.In.Stream()
	for !c.Failed() {
		if err := c.Wait(c.srv.cfg.IdleTimeout); err != nil {
			return err
		}
		size, unix, err := stream.QMTPMessage(c.srv.cfg.MaxSize + drainLimit)
		if err = c.Came(err); err != nil {
			return err
		}
		if err := c.message(stream, size, unix); err != nil {
			return err
		}
	}
	return c.Flush()
}

// message reads the rest of a package and answers it; an error ends the
// connection without an answer.
func (c *conn) message(stream *wire.Frame, size int64, unix bool) error {
	defer c.Pace()()
	refusal, err := c.Content(size, unix, stream.Comma)
	if err != nil {
		return err
	}
	from, err := netstrings.Short(stream)
	if err != nil {
		return err
	}
	f, err := stream.Open(c.srv.cfg.MaxEnvelope())
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return err
	}
	to, more, err := c.Recipients(f)
	if err != nil {
		return err
	}
	c.settle(refusal, from, to)
	for range more {
		if refusal == nil {
			c.Answer("", c.Session.Refuse("recipients", netstrings.TooMany(452)))
		} else {
			c.Answer("", refusal)
		}
	}
	return nil
}

// settle answers for each recipient.
func (c *conn) settle(refusal *smtp.SMTPError, from []byte, to [][]byte) {
	answers := make([]*smtp.SMTPError, len(to))
	text := ""
	if refusal == nil {
		answers, refusal = c.Envelope(from, to)
	}
	if refusal == nil && anyTaken(answers) {
		text, refusal = c.Publish()
	}
	c.Session.Reset()
	for _, e := range answers {
		if e == nil {
			e = refusal
		}
		c.Answer(text, e)
	}
}

func anyTaken(answers []*smtp.SMTPError) bool {
	for _, e := range answers {
		if e == nil {
			return true
		}
	}
	return false
}
