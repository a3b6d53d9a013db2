package smtpd

import (
	"crypto/tls"
	"crypto/x509"

	"qstream/ingest/auth"
	"qstream/qmail"
)

// Variables of a connection's rule that say what it is offered.
const (
	smtpAuth = "SMTPAUTH"
	ucspiTLS = "UCSPITLS"
)

// terms are what a client is offered and must do: what the service says, and
// above it what the connection's rule says.
type terms struct {
	tls       *tls.Config // nil: no STARTTLS
	auth      *auth.Authenticator
	challenge bool // only mechanisms that never show the password

	// What the rule requires before MAIL. The service's own requirements stay.
	requireTLS, requireAuth bool

	certs  bool // a verified certificate lets its client relay
	sender bool // as the address that it holds
	broken bool // the rule asks for what this edge doesn't have
}

// agree finds the terms of a client that came through the door. What the
// directory has taken can be read; anything else changes nothing.
func (c *conn) agree() {
	c.terms = terms{tls: c.cfg.TLS, auth: c.cfg.Auth}
	t := &c.terms
	if text, set := c.peer.Gate.Var(smtpAuth); set {
		if o, err := qmail.ParseSMTPAuth(text); err == nil {
			t.auth, t.challenge, t.requireAuth = c.cfg.RuleAuth, o.Challenge, o.Required
			if o.Off {
				t.auth = nil
			}
			t.broken = o.Required && t.auth == nil
		}
	}
	if text, set := c.peer.Gate.Var(ucspiTLS); set {
		if o, err := qmail.ParseUCSPITLS(text); err == nil {
			t.requireTLS, t.certs, t.sender = o.Required, o.Relay, o.Sender
			if o.Relay {
				t.tls = c.cfg.RuleTLS
			}
			t.broken = t.broken || o.Required && t.tls == nil
			if o.Off {
				t.tls = nil
			}
		}
	}
	if t.broken {
		c.srv.log.Warn("rule asks for TLS, certificates or users, and the edge has none", "stage", "ingest",
			"host", c.peer.Addr.Addr().String(), "line", c.peer.Gate.Rule.Line)
	}
}

// permitted reports whether the client may submit yet; if not it is told. It
// is no protocol error: a client that pipelines notices late. What a rule
// requires is refused by qmail's code.
func (c *conn) permitted() bool {
	const tlsText, authText = "say STARTTLS first", "authentication required"
	anonymous := c.peer.Auth.User == ""
	switch {
	case c.terms.broken:
		c.reply(454, "4.7.0", "local trouble, try again later")
	case c.cfg.RequireTLS && c.peer.TLS == nil:
		c.reply(530, "5.7.0", tlsText)
	case c.terms.requireTLS && c.peer.TLS == nil:
		c.reply(535, "5.7.0", tlsText)
	case c.cfg.RequireAuth && anonymous:
		c.reply(530, "5.7.0", authText)
	case c.terms.requireAuth && anonymous && !c.peer.Proven:
		c.reply(535, "5.7.0", authText)
	default:
		return true
	}
	return false
}

// served reports whether the terms let a mechanism be used.
func (c *conn) served(mechanism string) bool {
	return !c.terms.challenge || mechanism != auth.Plain && mechanism != auth.Login
}

// prove looks at the client's certificate, where a rule makes it count. The
// state is ours: what was verified is noted there.
func (c *conn) prove(cs *tls.ConnectionState) bool {
	if !c.terms.certs || c.terms.tls == nil || c.terms.tls.ClientCAs == nil || len(cs.PeerCertificates) == 0 {
		return false
	}
	between := x509.NewCertPool()
	for _, one := range cs.PeerCertificates[1:] {
		between.AddCert(one)
	}
	chains, err := cs.PeerCertificates[0].Verify(x509.VerifyOptions{
		Roots: c.terms.tls.ClientCAs, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		c.srv.log.Info("client certificate not verified", "stage", "ingest", "host", c.peer.Addr.Addr().String(), "err", err)
		return false
	}
	cs.VerifiedChains = chains
	return true
}
