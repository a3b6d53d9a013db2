// Package qmqpd speaks QMQP as a server (cr.yp.to/proto/qmqp.html): one
// message for each connection, one answer for all its recipients.
//
// Guarantee: nothing is answered before the last octet came, and nothing
// taken from a client that closed its side by then.
// Guarantee: only clients that are admitted are spoken with at all, since the
// protocol has no other protection.
//
// It knows no TLS: QMQP has none.
package qmqpd

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"time"

	"github.com/emersion/go-smtp"
	"github.com/prometheus/client_golang/prometheus"

	"qstream/ingest/listener"
	"qstream/ingest/netstrings"
)

// Deps are what a server works with; Backend and Admit are required.
type Deps struct {
	Backend netstrings.Backend
	Admit   func(netstrings.Peer) bool // whether a client may send to whomever it likes
	Log     *slog.Logger
	Metrics prometheus.Registerer
	Now     func() time.Time
}

// Server serves QMQP; it is safe for concurrent use.
type Server struct {
	*listener.Server
	cfg  netstrings.Config
	deps Deps
	ends *prometheus.CounterVec
}

// New checks cfg; it starts nothing.
func New(cfg netstrings.Config, d Deps) (*Server, error) {
	if d.Backend == nil || d.Admit == nil {
		return nil, errors.New("qmqpd: no backend or nothing to admit by")
	}
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	if d.Now == nil {
		d.Now = time.Now
	}
	s := &Server{cfg: cfg.WithDefaults(), deps: d, ends: netstrings.Ends("qmqp", d.Metrics)}
	s.Server = listener.New(listener.Config{Service: "qmqp", MaxConnections: s.cfg.MaxConnections, Grace: s.cfg.Grace},
		func(c net.Conn) listener.Dialogue {
			return &conn{srv: s, Conn: netstrings.NewConn(c, &s.cfg, d.Log, d.Now)}
		}, d.Log, d.Metrics)
	return s, nil
}

type conn struct {
	srv *Server
	*netstrings.Conn
}

// Run takes the client's message.
func (c *conn) Run(ctx context.Context) {
	defer c.In.Close()
	if !c.Enter(ctx) {
		c.srv.ends.WithLabelValues("denied").Inc()
		return
	}
	defer c.Peer.Gate.Leave()
	if !c.srv.deps.Admit(c.Peer) {
		c.srv.ends.WithLabelValues("denied").Inc()
		c.Note("not admitted", nil)
		return
	}
	err := c.message(ctx)
	if err == nil {
		err = c.Flush()
	}
	if c.Session != nil {
		c.Session.Reset()
	}
	end := netstrings.EndOf(err)
	c.srv.ends.WithLabelValues(end).Inc()
	if err != nil && !errors.Is(err, io.EOF) { // a client that said nothing is a check of the port
		c.Note(end, err)
	}
	c.Linger()
}

// message reads the request and answers it; an error ends it without one.
func (c *conn) message(ctx context.Context) error {
	if err := c.Wait(c.srv.cfg.IdleTimeout); err != nil {
		return err
	}
	f, size, err := c.In.QMQPMessage(c.srv.cfg.MaxSize, c.srv.cfg.MaxEnvelope())
	if err = c.Came(err); err != nil {
		return err
	}
	defer c.Pace()()
	if c.Session, err = c.srv.deps.Backend(ctx, c.Peer); err != nil {
		return err
	}
	refusal, err := c.Content(size, true, f.Comma)
	if err != nil {
		return err
	}
	from, err := netstrings.Short(f)
	if err != nil {
		return err
	}
	to, more, err := c.Recipients(f)
	if err != nil {
		return err
	}
	if c.Gone() {
		return errGone
	}
	c.settle(refusal, from, to, more)
	return nil
}

var errGone = errors.New("client closed before its answer")

// settle answers for all recipients at once: the message goes to all, or to
// none.
func (c *conn) settle(refusal *smtp.SMTPError, from []byte, to [][]byte, more int) {
	switch {
	case refusal != nil:
	case more > 0: // it would be too many next time, too
		refusal = c.Session.Refuse("recipients", netstrings.TooMany(550))
	case len(to) == 0:
		refusal = &smtp.SMTPError{Code: 554, EnhancedCode: smtp.EnhancedCode{5, 5, 1}, Message: "no recipients"}
	default:
		refusal = c.envelope(from, to)
	}
	text := ""
	if refusal == nil {
		text, refusal = c.Publish()
	}
	c.Answer(text, refusal)
}

// envelope offers the envelope; one recipient that is refused refuses it, and
// one that is refused for good decides over others that are not.
func (c *conn) envelope(from []byte, to [][]byte) *smtp.SMTPError {
	if bad := netstrings.BadAddress(from); bad != nil {
		return bad
	}
	answers, all := c.Envelope(from, to)
	for i, e := range answers {
		if e != nil && (all == nil || all.Code < 500 && e.Code >= 500) {
			told := *e
			if a := to[i]; a != nil && bytes.IndexByte(a, 0) < 0 && len(to) > 1 {
				told.Message += ": <" + string(a) + ">"
			}
			all = &told
		}
	}
	return all
}
