package smtpd

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/emersion/go-smtp"

	"qstream/wire"
)

// conn is one client's dialogue.
type conn struct {
	srv *Server
	cfg *Config
	raw net.Conn // the TCP connection; never changes
	nc  net.Conn // raw, or TLS over it
	in  *wire.Reader
	out []byte // replies not yet sent
	bad error  // sending failed

	ctx     context.Context
	peer    Peer
	session smtp.Session // nil before HELO
	state   state
	rcpts   int // accepted recipients of the transaction
	tried   int // recipients that were offered
	errors  int
	content *contentClock // while content is read
	pending []byte        // a command that came amid BDAT and is not answered yet
	closing bool
	unread  bool // closing although the client may be sending

	mu       sync.Mutex
	waiting  bool // for a command
	draining bool
}

// state is where the dialogue stands.
type state int

const (
	idle    state = iota // between transactions
	mailing              // MAIL was accepted
	chunked              // BDAT has begun; only within Session.Data
)

// flushAt is when replies are sent although the client isn't waiting.
const flushAt = 16 << 10

var errDraining = errors.New("server is shutting down")

func newConn(s *Server, nc net.Conn) *conn {
	c := &conn{srv: s, cfg: &s.cfg, raw: nc, nc: nc}
	c.peer.Addr = addrPort(nc.RemoteAddr())
	c.in = wire.NewReader(source{c})
	return c
}

func addrPort(a net.Addr) netip.AddrPort {
	if t, ok := a.(*net.TCPAddr); ok {
		return t.AddrPort()
	}
	return netip.AddrPort{}
}

// source reads from the client. Replies are sent before it waits, so that
// those of pipelined commands go out together.
type source struct{ c *conn }

func (s source) Read(p []byte) (int, error) {
	c := s.c
	if err := c.flush(); err != nil {
		return 0, err
	}
	if c.content == nil {
		return c.nc.Read(p)
	}
	if err := c.nc.SetReadDeadline(c.content.deadline(time.Now())); err != nil {
		return 0, err
	}
	started := time.Now()
	n, err := c.nc.Read(p)
	c.content.waited(time.Since(started), n)
	return n, err
}

// contentClock holds a client to a minimum rate. It counts only the time in
// which we wait for the client.
type contentClock struct {
	cfg   *Config
	spent time.Duration
	came  int64
}

func (k *contentClock) deadline(now time.Time) time.Time {
	allowed := k.cfg.RateGrace + time.Duration(float64(k.came)/float64(k.cfg.MinRate)*float64(time.Second))
	return now.Add(min(k.cfg.DataTimeout, max(allowed-k.spent, 0)))
}

func (k *contentClock) waited(d time.Duration, n int) {
	k.spent += d
	k.came += int64(n)
}

// run serves the dialogue to its end.
func (c *conn) run(ctx context.Context) {
	c.ctx = ctx
	defer c.end()
	c.reply(220, "", c.cfg.Hostname+" ESMTP")
	for !c.closing {
		line, err := c.nextCommand()
		if err != nil {
			c.giveUp(err)
			return
		}
		c.command(line)
	}
}

func (c *conn) end() {
	c.flush()
	if c.session != nil {
		c.logout()
	}
	if c.peer.TLS != nil {
		c.nc.Close() // says goodbye in TLS, too
	} else if c.unread && c.bad == nil {
		c.linger()
	}
	c.in.Close()
}

// cut ends the dialogue although the client may be sending.
func (c *conn) cut() { c.closing, c.unread = true, true }

// Bounds of linger.
const (
	lingerTime  = time.Second
	lingerBytes = 1 << 20
)

// linger takes what the client still sends, for a moment: closing at once
// would reset the connection, and the last reply would be lost on the way.
func (c *conn) linger() {
	t, ok := c.raw.(*net.TCPConn)
	if !ok || t.CloseWrite() != nil || t.SetReadDeadline(time.Now().Add(lingerTime)) != nil {
		return
	}
	_, _ = io.CopyN(io.Discard, t, lingerBytes) // whatever ends it, the end is near
}

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
	for !c.closing {
		line, err := c.readLine()
		var stray *wire.StrayError
		switch {
		case err == nil:
			return line, nil
		case errors.As(err, &stray):
			c.protocolError(500, "5.5.2", err.Error()+" in command")
		case errors.Is(err, wire.ErrLineTooLong):
			c.protocolError(500, "5.5.2", "line too long")
		default:
			return nil, err
		}
	}
	return nil, net.ErrClosed
}

func (c *conn) readLine() ([]byte, error) {
	if err := c.wait(); err != nil {
		return nil, err
	}
	line, err := c.in.ReadLine(c.cfg.MaxCommand, c.cfg.LineEnds)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting = false
	if c.draining && errors.Is(err, os.ErrDeadlineExceeded) {
		err = errDraining
	}
	return line, err
}

// wait says that the connection may be interrupted from now on.
func (c *conn) wait() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.draining && c.state != chunked {
		return errDraining
	}
	c.waiting = true
	return c.nc.SetReadDeadline(time.Now().Add(c.cfg.CommandTimeout))
}

// drain interrupts a connection that waits for a command, unless content has
// begun to come in.
func (c *conn) drain() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.draining = true
	if c.waiting && c.state != chunked {
		// An error means that the connection is broken, which its reader sees.
		_ = c.nc.SetReadDeadline(time.Unix(1, 0))
	}
}

// setState is seen by drain.
func (c *conn) setState(s state) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.state = s
}

// giveUp says goodbye to a client that can't go on, if it may still listen.
func (c *conn) giveUp(err error) {
	switch {
	case errors.Is(err, errDraining):
		c.reply(421, "4.3.2", "server is shutting down")
	case errors.Is(err, os.ErrDeadlineExceeded):
		c.reply(421, "4.4.2", "timeout")
	}
	c.closing = true
}

// reply queues a reply.
func (c *conn) reply(code int, enhanced, text string) {
	c.out = wire.AppendReply(c.out, code, enhanced, text)
	if len(c.out) > flushAt {
		c.flush()
	}
}

// flush sends what is queued.
func (c *conn) flush() error {
	if len(c.out) == 0 || c.bad != nil {
		return c.bad
	}
	if c.bad = c.nc.SetWriteDeadline(time.Now().Add(c.cfg.WriteTimeout)); c.bad == nil {
		_, c.bad = c.nc.Write(c.out)
	}
	c.out = c.out[:0]
	if c.bad != nil {
		c.closing = true
	}
	return c.bad
}

// protocolError answers a command that breaks the protocol; too many end the
// dialogue.
func (c *conn) protocolError(code int, enhanced, text string) {
	c.srv.metrics.errors.Inc()
	c.reply(code, enhanced, text)
	if c.errors++; c.errors >= c.cfg.MaxErrors && !c.closing {
		c.reply(421, "4.7.0", "too many errors")
		c.cut()
	}
}

// startTLS continues the dialogue in TLS; what the client sent before is
// thrown away (RFC 3207 4.2).
func (c *conn) startTLS() {
	c.reply(220, "2.0.0", "ready to start TLS")
	if c.flush() != nil {
		return
	}
	t := tls.Server(c.nc, c.cfg.TLS)
	if c.nc.SetDeadline(time.Now().Add(c.cfg.CommandTimeout)) != nil {
		c.closing = true
		return
	}
	if err := t.HandshakeContext(c.ctx); err != nil {
		c.srv.log.Debug("tls handshake", "stage", "ingest", "host", c.peer.Addr.Addr().String(), "err", err)
		c.closing = true
		return
	}
	if c.session != nil {
		c.logout()
	}
	c.mu.Lock()
	c.nc = t
	c.mu.Unlock()
	c.in.Reset(source{c})
	cs := t.ConnectionState()
	c.peer = Peer{Addr: c.peer.Addr, TLS: &cs}
	c.forget()
}
