package httpd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"qstream/ingest/gate"
)

// conn is one client's connection: a server of net/http for it alone, since
// connections come through the door one by one and end by the listener.
type conn struct {
	h      *Handler
	raw    net.Conn
	server *http.Server

	mu       sync.Mutex
	waiting  bool // for a request
	draining bool
}

// client is what a connection knows of its client.
type client struct {
	peer Peer
	ctx  context.Context // ends by force
}

type clientKey struct{}

func newConn(h *Handler, nc net.Conn) *conn { return &conn{h: h, raw: nc, waiting: true} }

// Refuse turns away a client that is one too many.
func (c *conn) Refuse() {
	c.tell(&gate.Refusal{Reason: "too many connections", Quiet: c.h.cfg.TLS != nil})
}

// tell answers without having read a request.
func (c *conn) tell(r *gate.Refusal) {
	if r.Quiet || c.h.cfg.TLS != nil {
		return
	}
	status := http.StatusServiceUnavailable
	if r.Status.Permanent() {
		status = http.StatusForbidden
	}
	_ = c.raw.SetWriteDeadline(time.Now().Add(time.Second)) // broken: Write tells
	_, _ = fmt.Fprintf(c.raw, "HTTP/1.1 %d %s\r\nConnection: close\r\nContent-Length: 0\r\n%s\r\n", status, http.StatusText(status), retryHeader(status))
}

func retryHeader(status int) string {
	if status == http.StatusServiceUnavailable {
		return fmt.Sprintf("Retry-After: %d\r\n", retryAfter[status])
	}
	return ""
}

// Run serves the client's requests.
func (c *conn) Run(ctx context.Context) {
	gated, refusal := c.h.cfg.Door.Enter(ctx, c.raw)
	if refusal != nil {
		c.tell(refusal)
		return
	}
	defer gated.Leave()
	who := client{peer: Peer{Addr: gated.Addr, Gate: gated}, ctx: ctx}
	over := c.raw
	if c.h.cfg.TLS != nil {
		t := tls.Server(c.raw, c.h.cfg.TLS)
		bounded, cancel := context.WithTimeout(ctx, c.h.cfg.HeaderTimeout)
		err := t.HandshakeContext(bounded)
		cancel()
		if err != nil {
			c.h.deps.Log.Debug("tls handshake", "stage", "ingest", "host", gated.Addr.Addr().String(), "err", err)
			return
		}
		state := t.ConnectionState()
		who.peer.TLS, over = &state, t
	}
	c.serve(over, who)
}

// serve runs a server for one connection to that's end.
func (c *conn) serve(over net.Conn, who client) {
	ended := make(chan struct{})
	s := &http.Server{
		Handler: c.h, ReadHeaderTimeout: c.h.cfg.HeaderTimeout, IdleTimeout: c.h.cfg.IdleTimeout, MaxHeaderBytes: maxHeader,
		ErrorLog:    slog.NewLogLogger(c.h.deps.Log.Handler(), slog.LevelError), // of bugs: it catches panics
		ConnContext: func(ctx context.Context, _ net.Conn) context.Context { return context.WithValue(ctx, clientKey{}, who) },
		ConnState:   c.state(ended),
	}
	c.mu.Lock()
	c.server = s
	c.mu.Unlock()
	c.drainIfWaiting()
	_ = s.Serve(&single{conn: over}) // errNoMore
	<-ended
}

// state follows the connection, and closes ended at its end.
func (c *conn) state(ended chan struct{}) func(net.Conn, http.ConnState) {
	return func(_ net.Conn, state http.ConnState) {
		c.mu.Lock()
		c.waiting = state == http.StateNew || state == http.StateIdle
		c.mu.Unlock()
		if state == http.StateClosed || state == http.StateHijacked {
			close(ended)
			return
		}
		c.drainIfWaiting()
	}
}

// Drain sends the client away as soon as no request is under way.
func (c *conn) Drain() {
	c.mu.Lock()
	c.draining = true
	c.mu.Unlock()
	c.drainIfWaiting()
}

func (c *conn) drainIfWaiting() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.draining {
		return
	}
	if c.server != nil {
		c.server.SetKeepAlivesEnabled(false)
	}
	if c.waiting {
		_ = c.raw.Close() // it is told nothing, and asks another edge
	}
}

// single is a listener with one connection.
type single struct {
	mu   sync.Mutex
	conn net.Conn // nil: handed out
}

var errNoMore = errors.New("no more connections")

func (s *single) Accept() (net.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn == nil {
		return nil, errNoMore
	}
	c := s.conn
	s.conn = nil
	return c, nil
}

func (s *single) Close() error   { return nil }
func (s *single) Addr() net.Addr { return &net.TCPAddr{} }
