package smtpd

import (
	"context"
	"errors"
	"io"
	"net"
	"os"

	"github.com/emersion/go-smtp"

	"qstream/ingest/gate"
	"qstream/ingest/listener"
	"qstream/wire"
)

// conn is one client's dialogue.
type conn struct {
	*listener.Stream
	srv *Server
	cfg *Config
	in  *wire.Reader

	ctx     context.Context
	peer    Peer
	entered *gate.Client // who made the connection; Leaves at its end
	terms   terms
	session smtp.Session // nil before HELO
	state   state
	rcpts   int // accepted recipients of the transaction
	tried   int // recipients that were offered
	errors  int
	refused bool   // the last MAIL was refused
	pending []byte // a command that came amid BDAT and is not answered yet
	closing bool
	ended   string // how, once that is known: of a closed set, as in the metric
	unread  bool   // closing although the client may be sending

	refusals int // of AUTH
}

// state is where the dialogue stands.
type state int

const (
	idle    state = iota // between transactions
	mailing              // MAIL was accepted
	chunked              // BDAT has begun; only within Session.Data
)

func newConn(s *Server, nc net.Conn) *conn {
	c := &conn{srv: s, cfg: &s.cfg, Stream: listener.NewStream(nc, listener.Limits{
		Write: s.cfg.WriteTimeout, Data: s.cfg.DataTimeout, MinRate: s.cfg.MinRate, RateGrace: s.cfg.RateGrace,
	})}
	c.peer.Addr = c.Addr()
	c.in = wire.NewReader(c.Stream)
	c.peer.Gone = func() bool { return c.in.Buffered() == 0 && c.Gone() }
	return c
}

// Refuse turns away a client that is one too many.
func (c *conn) Refuse() {
	c.reply(421, "4.3.2", "too many connections, try again later")
	_ = c.Flush() // it learns of it, or not
}

// Run serves the dialogue to its end.
func (c *conn) Run(ctx context.Context) {
	c.ctx = ctx
	defer c.end()
	if !c.admit(ctx) || c.cfg.ImplicitTLS && !c.handshake() {
		return
	}
	c.greeting()
	for !c.over() {
		line, err := c.nextCommand()
		if err != nil {
			c.giveUp(err)
			return
		}
		c.command(line)
	}
}

// over reports that the dialogue is to end, or that nobody listens.
func (c *conn) over() bool { return c.closing || c.Failed() }

func (c *conn) greeting() { c.reply(220, "", c.cfg.Hostname+" ESMTP") }

func (c *conn) end() {
	defer c.entered.Leave()
	_ = c.Flush() // it is the end either way
	if c.ended == "" && !c.closing {
		c.ended = endBroken
	}
	c.note()
	if c.session != nil {
		c.logout()
	}
	if c.peer.TLS != nil {
		c.Conn().Close() // says goodbye in TLS, too
	} else if c.unread {
		c.Linger()
	}
	c.in.Close()
}

// cut ends the dialogue although the client may be sending.
func (c *conn) cut() { c.cutFor(endRefused) }

func (c *conn) cutFor(end string) { c.closing, c.unread, c.ended = true, true, end }

func (c *conn) logout() {
	if err := c.session.Logout(); err != nil {
		c.srv.log.Debug("logout", "stage", "ingest", "err", err)
	}
	c.session = nil
}

// nextCommand reads a command line; lines that are none it answers itself.
func (c *conn) nextCommand() ([]byte, error) {
	if line := c.pending; line != nil {
		c.pending = nil
		return line, nil
	}
	for !c.over() {
		line, err := c.readLine()
		switch {
		case err == nil:
			return line, nil
		case errors.As(err, new(*wire.StrayError)):
			c.protocolError(500, "5.5.2", err.Error()+" in command")
		case errors.Is(err, wire.ErrLineTooLong):
			c.protocolError(500, "5.5.2", "line too long")
		default:
			return nil, err
		}
	}
	return nil, net.ErrClosed
}

func (c *conn) readLine() ([]byte, error) { return c.readUpTo(c.commandLimit()) }

func (c *conn) readUpTo(limit int) ([]byte, error) {
	if err := c.Wait(c.cfg.CommandTimeout); err != nil {
		return nil, err
	}
	line, err := c.in.ReadLine(limit, c.cfg.LineEnds)
	return line, c.Came(err)
}

// setState moves on. Amid content a client is waited for, but not sent away.
func (c *conn) setState(s state) {
	c.state = s
	c.Hold(s == chunked)
}

// giveUp says goodbye to a client that can't go on, if it may still listen.
func (c *conn) giveUp(err error) {
	c.ended = endBroken
	switch {
	case errors.Is(err, listener.ErrDraining):
		c.reply(421, "4.3.2", "server is shutting down")
		c.ended = endDrained
	case errors.Is(err, os.ErrDeadlineExceeded):
		c.reply(421, "4.4.2", "timeout")
		c.ended = endTimeout
	case errors.Is(err, io.EOF):
		c.ended = endDone
	}
	c.closing = true
}

// Ends of dialogues.
const (
	endDone     = "done"
	endRefused  = "refused"
	endTimeout  = "timeout"
	endDrained  = "drained"
	endErrors   = "errors"
	endFailures = "failures"
	endAhead    = "ahead"
	endBroken   = "broken"
)

// note counts the end, and tells of one that is a limit's.
func (c *conn) note() {
	if c.ended == "" {
		c.ended = endDone
	}
	c.srv.metrics.ends.WithLabelValues(c.ended).Inc()
	switch c.ended {
	case endTimeout, endErrors, endFailures, endAhead:
		c.srv.log.Info("client sent away", "stage", "ingest", "host", c.peer.Addr.Addr().String(), "reason", c.ended)
	}
}

// reply queues a reply.
func (c *conn) reply(code int, enhanced, text string) {
	c.Out = wire.AppendReply(c.Out, code, enhanced, text)
	c.Queued()
}

// protocolError answers a command that breaks the protocol; too many end the
// dialogue.
func (c *conn) protocolError(code int, enhanced, text string) {
	c.srv.metrics.errors.Inc()
	c.reply(code, enhanced, text)
	if c.errors++; c.errors >= c.cfg.MaxErrors && !c.closing {
		c.reply(421, "4.7.0", "too many errors")
		c.cutFor(endErrors)
	}
}

// startTLS continues the dialogue in TLS.
func (c *conn) startTLS() {
	c.reply(220, "2.0.0", "ready to start TLS")
	if c.Flush() != nil {
		return
	}
	c.handshake()
}
