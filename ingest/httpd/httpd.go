// Package httpd takes mail by HTTP: POST /v1/messages with a message as it is
// (message/rfc822), or with JSON that holds one or describes one, or several.
// Sessions of intake take them as they take SMTP's.
//
// Guarantee: a message has an id in an answer only after it is durable.
// Guarantee: trouble of our own is 503, never an answer that means for good.
// Guarantee: a request that is repeated with its idempotency key is one
// submission, at whatever edge; while it is under way it is 409.
// Guarantee: memory is bounded: a message as it is streams, JSON has a limit
// for each request and one for all.
// Guarantee: every wait for a client has an end.
//
// It speaks HTTP/1.1 only, so that a connection is one client's one request,
// and knows no tokens: users sign in by password or certificate.
package httpd

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"github.com/emersion/go-smtp"
	"github.com/prometheus/client_golang/prometheus"

	"qstream/ingest/auth"
	"qstream/ingest/gate"
	"qstream/ingest/idempotency"
	"qstream/ingest/listener"
	"qstream/ingest/share"
	"qstream/wire"
)

// Path is where messages are posted.
const Path = "/v1/messages"

// Config is how the server speaks. Zero values take the defaults.
type Config struct {
	MaxSize        int64 // octets of a message; the session enforces it; default 50 MiB
	MaxRecipients  int   // of a request; default 1000
	MaxMessages    int   // of a request; default 100
	MaxJSON        int64 // octets of a request in JSON; default 8 MiB
	JSONMemory     int64 // octets for all of them, eight for each of a request's; default 256 MiB. One client has half of it at most, or room for one request
	MaxConnections int   // default 1000
	MaxLine        int   // octets of a text line; default 2000; below 0: no limit
	LineEnds       wire.Policy
	TLS            *tls.Config // nil: in clear
	Door           *gate.Door  // what clients come through; nil: all are let in
	Auth           *auth.Authenticator
	RequireAuth    bool          // of every request
	HeaderTimeout  time.Duration // for a handshake, and for a request's header; default 30 s
	IdleTimeout    time.Duration // between requests; default 1 min
	DataTimeout    time.Duration // for the next octets of a body; default 3 min
	WriteTimeout   time.Duration // for an answer; default 1 min
	MinRate        int           // octets of a body a second; default 128
	RateGrace      time.Duration // for which a client may be slower; default 1 min
	Grace          time.Duration // for running requests at the end; default 30 s
}

// HeaderTimeout is the default of Config.
const HeaderTimeout = 30 * time.Second

func (c Config) withDefaults() Config {
	setDefault(&c.MaxSize, 50<<20)
	setDefault(&c.MaxRecipients, 1000)
	setDefault(&c.MaxMessages, 100)
	setDefault(&c.MaxJSON, 8<<20)
	setDefault(&c.JSONMemory, 256<<20)
	c.JSONMemory = max(c.JSONMemory, jsonCost*c.MaxJSON)
	setDefault(&c.MaxConnections, 1000)
	setDefault(&c.HeaderTimeout, HeaderTimeout)
	setDefault(&c.IdleTimeout, time.Minute)
	setDefault(&c.DataTimeout, 3*time.Minute)
	setDefault(&c.WriteTimeout, time.Minute)
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

// limits are those of a client's body.
func (c *Config) limits() listener.Limits {
	return listener.Limits{Write: c.WriteTimeout, Data: c.DataTimeout, MinRate: c.MinRate, RateGrace: c.RateGrace}
}

// Peer is the client of a session.
type Peer struct {
	Addr netip.AddrPort
	TLS  *tls.ConnectionState // nil without TLS
	Auth auth.Identity        // without a user: nobody has signed in
	Gate *gate.Client         // what is known from before the session; nil: nothing
	Gone func() bool          // at any time: the client has left; nil: nobody knows
}

// Session takes messages. Errors for the client are *smtp.SMTPError.
type Session interface {
	Mail(from string, opts *smtp.MailOptions) error
	Rcpt(to string, opts *smtp.RcptOptions) error
	Data(r io.Reader) error
	// UseID names the next message.
	UseID(id string)
	Reset()
}

// Backend makes the session of a client. ctx ends when the server gives up
// waiting for running requests.
type Backend func(ctx context.Context, p Peer) (Session, error)

// Deps are what a server works with; Backend and Keys are required.
type Deps struct {
	Backend   Backend
	Keys      *idempotency.Keys // run by the caller
	Log       *slog.Logger
	Metrics   prometheus.Registerer
	Now       func() time.Time
	Failpoint func(name string)
}

// Server serves submission by HTTP; it is safe for concurrent use.
type Server struct {
	*listener.Server
	*Handler
}

// New checks cfg; it starts nothing.
func New(cfg Config, d Deps) (*Server, error) {
	if cfg.RequireAuth && cfg.Auth == nil {
		return nil, errors.New("httpd: users have to sign in, and can't")
	}
	if cfg.TLS != nil {
		cfg.TLS = cfg.TLS.Clone()
		cfg.TLS.NextProtos = []string{"http/1.1"}
	}
	h, err := NewHandler(cfg, d)
	if err != nil {
		return nil, err
	}
	s := &Server{Handler: h}
	s.Server = listener.New(listener.Config{Service: "http", MaxConnections: h.cfg.MaxConnections, Grace: h.cfg.Grace},
		func(c net.Conn) listener.Dialogue { return newConn(h, c) }, h.deps.Log, d.Metrics)
	return s, nil
}

// NewHandler makes the handler alone, for another server's connections. It
// knows their clients by their addresses only.
func NewHandler(cfg Config, d Deps) (*Handler, error) {
	if d.Backend == nil || d.Keys == nil {
		return nil, errors.New("httpd: no backend or no keys")
	}
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	if d.Now == nil {
		d.Now = time.Now
	}
	if d.Failpoint == nil {
		d.Failpoint = func(string) {}
	}
	cfg = cfg.withDefaults()
	return &Handler{cfg: cfg, deps: d, metrics: newMetrics(d.Metrics), json: share.New(cfg.JSONMemory, max(cfg.JSONMemory/2, jsonCost*cfg.MaxJSON))}, nil
}
