// Package smtpd speaks SMTP as a server (RFC 5321): it drives sessions of
// go-smtp's interfaces with a loop of its own.
//
// Guarantee: only CRLF.CRLF ends DATA, content reaches the session as the
// client's mail held it, and a message that was cut short is never accepted.
// Guarantee: an error of a session that says nothing about itself is
// temporary (451), never permanent.
// Guarantee: every wait has an end: for commands, for content (with a minimum
// rate), for a client that doesn't read its replies.
//
// It knows PIPELINING, SIZE, 8BITMIME, SMTPUTF8, DSN, CHUNKING,
// ENHANCEDSTATUSCODES, STARTTLS, AUTH, TLS from the first octet and, from listed
// clients, XCLIENT. It knows no BINARYMIME.
package smtpd

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"github.com/emersion/go-smtp"
	"github.com/prometheus/client_golang/prometheus"

	"qstream/ingest/auth"
	"qstream/ingest/gate"
	"qstream/ingest/listener"
	"qstream/wire"
)

// Config is how the server speaks. Zero values take the defaults.
type Config struct {
	Hostname        string // in the greeting; required
	MaxSize         int64  // announced by SIZE; the session enforces it; default 50 MiB
	MaxRecipients   int    // announced by LIMITS (RFC 9422); the session enforces it; default 1000
	MaxConnections  int    // default 1000
	MaxErrors       int    // protocol errors until 421; default 10
	MaxCommand      int    // octets of a command line; default 2048
	MaxLine         int    // octets of a text line; default 2000; below 0: no limit
	LineEnds        wire.Policy
	TLS             *tls.Config // nil: no STARTTLS
	Door            *gate.Door  // what clients come through; nil: all are let in
	ImplicitTLS     bool        // TLS from the first octet (RFC 8314 3)
	RequireTLS      bool        // before MAIL
	Auth            *auth.Authenticator
	RuleAuth        *auth.Authenticator // instead of Auth where a connection's rule has SMTPAUTH; nil: none
	RuleTLS         *tls.Config         // instead of TLS where UCSPITLS asks for certificates, with the authorities that count; nil: none
	RequireAuth     bool                // before MAIL
	PlainAuth       bool                // AUTH without TLS, too
	MaxAuthFailures int                 // until 421; default 3
	CommandTimeout  time.Duration       // for a command line; default 5 min (RFC 5321 4.5.3.2.7)
	DataTimeout     time.Duration       // for the next octets of content; default 3 min (RFC 5321 4.5.3.2.5)
	WriteTimeout    time.Duration       // for replies; default 1 min
	MinRate         int                 // octets of content a second; default 128
	RateGrace       time.Duration       // for which a client may be slower; default 1 min
	Grace           time.Duration       // for running transactions at the end; default 30 s
}

func (c Config) withDefaults() Config {
	setDefault(&c.MaxSize, 50<<20)
	setDefault(&c.MaxRecipients, 1000)
	setDefault(&c.MaxConnections, 1000)
	setDefault(&c.MaxErrors, 10)
	setDefault(&c.MaxAuthFailures, 3)
	setDefault(&c.MaxCommand, 2048)
	setDefault(&c.CommandTimeout, 5*time.Minute)
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

// Peer is the client of a session.
type Peer struct {
	Addr  netip.AddrPort
	HELO  string // hostile text
	ESMTP bool
	TLS   *tls.ConnectionState // nil without TLS
	Auth  auth.Identity        // without a user: nobody has signed in
	Gate  *gate.Client         // what is known from before the session; never nil
	// Proven says that a certificate lets the client relay, as its rule asks;
	// CertSender that it may do so by the address in the certificate alone.
	Proven, CertSender bool
	Gone               func() bool // at any time: the client has closed its side, and nothing of it is left to be read
}

// Backend makes the session of a client that has said HELO or EHLO. ctx ends
// when the server gives up waiting for running transactions.
//
// Session.Data gets a reader whose errors it must return. If the session has
// a method Accepted() string, it names the message in the reply. If it has a
// method Refused() error, that is asked before content is: an error is the
// reply to DATA, and ends the dialogue.
type Backend func(ctx context.Context, p Peer) (smtp.Session, error)

// Server serves SMTP; it is safe for concurrent use.
type Server struct {
	*listener.Server
	cfg     Config
	backend Backend
	log     *slog.Logger
	metrics *metrics
}

// New checks cfg; it starts nothing. log and r may be nil.
func New(cfg Config, b Backend, log *slog.Logger, r prometheus.Registerer) (*Server, error) {
	if cfg.Hostname == "" || b == nil {
		return nil, errors.New("smtpd: no host name or no backend")
	}
	if cfg.TLS == nil && (cfg.ImplicitTLS || cfg.RequireTLS) || cfg.Auth == nil && cfg.RequireAuth {
		return nil, errors.New("smtpd: TLS or AUTH is required and can't be had")
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	s := &Server{cfg: cfg.withDefaults(), backend: b, log: log, metrics: newMetrics(r)}
	s.Server = listener.New(listener.Config{Service: "smtp", MaxConnections: s.cfg.MaxConnections, Grace: s.cfg.Grace},
		func(nc net.Conn) listener.Dialogue { return newConn(s, nc) }, log, r)
	return s, nil
}
