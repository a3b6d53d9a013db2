// Package qmtp is the client of QMTP, QMTPS (QMTP in TLS from the first octet)
// and QMQP, the protocols of the qmail world: a message goes out in one piece,
// and is answered for each recipient, with QMQP for all at once.
//
// Guarantee: content arrives with exactly the lines given; stray CR, LF and
// NUL are refused with 5.6.0, not mended.
// Guarantee: a peer can take a message for whole only after its last octets,
// which are the point of no return that an SMTP client's final dot is.
//
// It makes one connection for each attempt. It verifies no certificates and
// presents none.
package qmtp

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"time"

	"qstream/mail"
	"qstream/transport"
	"qstream/transport/resolver"
)

// Protocol is which of them a Client speaks.
type Protocol string

// The protocols, by the names of their schemes.
const (
	QMTP  Protocol = "qmtp"
	QMTPS Protocol = "qmtps"
	QMQP  Protocol = "qmqp"
)

// Config is what all attempts share. Protocol and Resolver are required; zero
// values take the defaults, which are qmail's.
type Config struct {
	Protocol Protocol
	Resolver *resolver.Resolver
	Connect  time.Duration // default 10 s
	IO       time.Duration // for each read and write; default 60 s
	MinRate  int64         // octets a second that a peer must take, beyond one IO; default 4096
	MaxHosts int           // addresses tried in an attempt; default 5
}

var ports = map[Protocol]int{QMTP: 209, QMTPS: 6209, QMQP: 628}

// Client makes attempts.
type Client struct{ cfg Config }

var _ transport.Transport = (*Client)(nil)

// New checks cfg; it opens nothing.
func New(cfg Config) (*Client, error) {
	switch {
	case ports[cfg.Protocol] == 0:
		return nil, fmt.Errorf("no protocol %q", cfg.Protocol)
	case cfg.Resolver == nil:
		return nil, errors.New("no resolver")
	case min(cfg.Connect, cfg.IO) < 0 || cfg.MinRate < 0 || cfg.MaxHosts < 0:
		return nil, errors.New("limits must not be negative")
	}
	orDefault(&cfg.Connect, 10*time.Second)
	orDefault(&cfg.IO, time.Minute)
	orDefault(&cfg.MinRate, 4096)
	orDefault(&cfg.MaxHosts, 5)
	return &Client{cfg: cfg}, nil
}

func orDefault[T int | int64 | time.Duration](v *T, to T) {
	if *v == 0 {
		*v = to
	}
}

// Close has nothing to end.
func (c *Client) Close() error { return nil }

// Deliver makes one attempt over the target's addresses: the next is tried as
// long as nobody can have taken the message.
func (c *Client) Deliver(ctx context.Context, t transport.Target, a *transport.Attempt) transport.Result {
	early, release := a.Early(ctx)
	defer release()
	d := &delivery{c: c, ctx: ctx, early: early, cut: release, a: a}
	if f := d.overHosts(t); f != nil {
		d.res.Outcomes = a.All(f.outcome(early))
	}
	return d.res
}

// delivery is one attempt under way.
type delivery struct {
	c     *Client
	ctx   context.Context // bounds the wait for answers
	early context.Context // bounds all before the last octets
	cut   func()          // ends early
	a     *transport.Attempt
	res   transport.Result
}

// errNoSource: the queue's identity has no address of the hosts' families.
var errNoSource = mail.Status{Code: 451, Enhanced: "4.4.4", Text: "no source address for the address family of any host"}

func (d *delivery) overHosts(t transport.Target) *failure {
	found, err := d.c.cfg.Resolver.Addresses(d.early, t.Host)
	if err != nil {
		return lookupFailure(t.Host, err)
	}
	port := t.Port
	if port == 0 {
		port = ports[d.c.cfg.Protocol]
	}
	last := &failure{at: transport.AtLookup, status: errNoSource, final: true}
	tried := 0
	for _, h := range found {
		source, ok := d.a.SourceFor(h.Addr)
		if !ok {
			continue
		}
		if tried++; tried > d.c.cfg.MaxHosts || d.early.Err() != nil {
			break
		}
		d.res.Host, d.res.IP, d.res.Source = h.Name, h.Addr, source
		f := d.overHost(net.JoinHostPort(h.Addr.String(), strconv.Itoa(port)), source)
		if f == nil {
			return nil
		}
		if last = f; f.final || d.early.Err() != nil {
			return f
		}
		d.res.Tries = append(d.res.Tries, transport.Try{Host: h.Name, IP: h.Addr, At: f.at, Status: f.status})
	}
	return last
}

// overHost sends the message to one address.
func (d *delivery) overHost(addr string, source netip.Addr) *failure {
	p, f := d.prepare()
	if f != nil {
		return f
	}
	defer p.close()
	dialer := net.Dialer{Timeout: d.c.cfg.Connect}
	if source.IsValid() {
		dialer.LocalAddr = &net.TCPAddr{IP: source.AsSlice(), Zone: source.Zone()}
	}
	conn, err := dialer.DialContext(d.early, "tcp", addr)
	if err != nil {
		return broken(transport.AtConnect, err)
	}
	defer conn.Close()
	s := newSession(conn, d.c.cfg.IO)
	unbind := s.bind(d.early)
	defer func() { unbind() }()
	if d.c.cfg.Protocol == QMTPS {
		if f := s.secure(d.early); f != nil {
			return f
		}
		d.res.TLS = s.tls
		unbind()
		unbind = s.bind(d.early)
	}
	s.until = time.Now().Add(d.c.cfg.IO + time.Duration(p.size/d.c.cfg.MinRate)*time.Second)
	tail, f := p.send(s, d.early)
	if f != nil {
		return f
	}
	if !d.a.AtDot() {
		d.cut()
	}
	if !unbind() {
		return broken(transport.AtContent, d.early.Err())
	}
	unbind = s.bind(d.ctx)
	if f := s.finish(tail); f != nil {
		return f
	}
	d.res.Sent = true
	if d.a.AfterDot != nil {
		d.a.AfterDot()
	}
	d.answers(s)
	return nil
}

// answers reads what became of the message: an answer for each recipient in
// order, or one for all.
func (d *delivery) answers(s *session) {
	s.until = time.Time{}
	for len(d.res.Outcomes) < len(d.a.Recipients) {
		o := transport.Outcome{At: transport.AtDot, Host: d.res.Host}
		status, err := s.answer()
		if err != nil {
			o.Kind, o.Status = transport.Unconfirmed, broken(transport.AtDot, err).status
			o.Status.Text = "no answer, the message may have been taken: " + o.Status.Text
			for len(d.res.Outcomes) < len(d.a.Recipients) {
				d.res.Outcomes = append(d.res.Outcomes, o)
			}
			return
		}
		o.Status = status
		if d.c.cfg.Protocol == QMQP {
			d.res.Outcomes = d.a.All(o)
			return
		}
		d.res.Outcomes = append(d.res.Outcomes, o)
	}
}

// secure is the handshake of QMTPS.
func (s *session) secure(ctx context.Context) *failure {
	t := tls.Client(s.conn, &tls.Config{
		// No identity is known to verify: this protects from eavesdropping
		// only, as the SMTP client's STARTTLS does.
		InsecureSkipVerify: true,
		MinVersion:         tls.VersionTLS12,
	})
	if err := s.within(); err != nil {
		return broken(transport.AtTLS, err)
	}
	if err := t.HandshakeContext(ctx); err != nil {
		return broken(transport.AtTLS, err)
	}
	state := t.ConnectionState()
	s.tls = tls.VersionName(state.Version) + " " + tls.CipherSuiteName(state.CipherSuite)
	s.use(t)
	return nil
}
