package smtpd

import (
	"crypto/tls"
	"errors"
	"os"
	"time"
)

// handshakeTimeout is how long a client may take for TLS, at most.
const handshakeTimeout = time.Minute

// handshake goes on in TLS. What the client sent before is thrown away (RFC
// 3207 4.2), and what it said of itself forgotten. False: the dialogue is over.
func (c *conn) handshake() bool {
	secure := c.terms.tls
	if secure == nil { // a rule takes STARTTLS away, not TLS from the first octet
		secure = c.cfg.TLS
	}
	t := tls.Server(c.Conn(), secure)
	if c.Within(min(c.cfg.CommandTimeout, handshakeTimeout)) != nil {
		c.closing, c.ended = true, endBroken
		return false
	}
	if err := t.HandshakeContext(c.ctx); err != nil {
		c.srv.log.Debug("tls handshake", "stage", "ingest", "host", c.peer.Addr.Addr().String(), "err", err)
		c.closing, c.ended = true, endBroken
		if errors.Is(err, os.ErrDeadlineExceeded) {
			c.ended = endTimeout
		}
		return false
	}
	if c.session != nil {
		c.logout()
	}
	c.Secure(t)
	c.in.Reset(c.Stream)
	cs := t.ConnectionState()
	c.peer = Peer{Addr: c.peer.Addr, TLS: &cs, Gate: c.peer.Gate, Proven: c.prove(&cs), Gone: c.peer.Gone}
	c.peer.CertSender = c.terms.sender
	c.forget()
	return true
}
