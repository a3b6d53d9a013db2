package smtpd

import (
	"encoding/base64"
	"errors"
	"slices"
	"strings"

	"github.com/emersion/go-smtp"

	"qstream/ingest/auth"
	"qstream/wire"
)

// maxAuthLine is the longest line of an exchange (RFC 4954 4).
const maxAuthLine = 12288

// identify is who the server asks about the client.
func (c *conn) identify() auth.Client {
	return auth.Client{Addr: c.peer.Addr.Addr(), TLS: c.peer.TLS}
}

// mechanisms are those that EHLO offers now.
func (c *conn) mechanisms() []string {
	if c.terms.auth == nil || c.peer.Auth.User != "" || !c.confidential() {
		return nil
	}
	return slices.DeleteFunc(c.terms.auth.Mechanisms(c.identify()), func(m string) bool { return !c.served(m) })
}

// confidential reports whether passwords may be sent here.
func (c *conn) confidential() bool { return c.peer.TLS != nil || c.cfg.PlainAuth }

// auth signs the client in (RFC 4954).
func (c *conn) auth(arg string) {
	mechanism, initial, given := strings.Cut(arg, " ")
	mechanism = strings.ToUpper(mechanism)
	switch {
	case c.terms.auth == nil:
		c.protocolError(502, "5.5.1", "command not implemented")
		return
	case c.session == nil || !c.peer.ESMTP:
		c.protocolError(503, "5.5.1", "say EHLO first")
		return
	case c.peer.Auth.User != "":
		c.protocolError(503, "5.5.1", "signed in already")
		return
	case c.state != idle:
		c.protocolError(503, "5.5.1", "not within a transaction")
		return
	case mechanism == "":
		c.protocolError(501, "5.5.4", "a mechanism is required")
		return
	case !c.confidential():
		c.protocolError(538, "5.7.11", "encryption required: say STARTTLS first")
		return
	}
	var x *auth.Exchange
	if c.served(mechanism) {
		x = c.terms.auth.Begin(c.ctx, c.identify(), mechanism)
	}
	if x == nil {
		c.protocolError(504, "5.5.4", "mechanism not supported")
		return
	}
	var response []byte
	if given {
		var ok bool
		if response, ok = decodeResponse([]byte(strings.Trim(initial, " ")), true); !ok {
			c.protocolError(501, "5.5.2", "not base64")
			return
		}
	}
	c.exchange(x, response)
}

// decodeResponse reads base64; "=" is the empty initial response. The result
// is never nil.
func decodeResponse(text []byte, initial bool) ([]byte, bool) {
	if initial && string(text) == "=" {
		return []byte{}, true
	}
	out := make([]byte, base64.StdEncoding.DecodedLen(len(text)))
	n, err := base64.StdEncoding.Strict().Decode(out, text)
	return out[:n], err == nil && (n > 0 || !initial)
}

// exchange plays an exchange to its end.
func (c *conn) exchange(x *auth.Exchange, response []byte) {
	for {
		challenge, done, err := x.Next(response)
		if err != nil {
			c.refuseAuth(err)
			return
		}
		if done {
			c.signedIn(x.Identity())
			return
		}
		c.reply(334, "", base64.StdEncoding.EncodeToString(challenge))
		var ok bool
		if response, ok = c.response(x); !ok {
			return
		}
	}
}

// response reads the client's next response; false: the exchange is over.
func (c *conn) response(x *auth.Exchange) ([]byte, bool) {
	line, err := c.readUpTo(maxAuthLine)
	switch {
	case errors.As(err, new(*wire.StrayError)):
		c.protocolError(501, "5.5.2", err.Error()+" in response")
		return nil, false
	case errors.Is(err, wire.ErrLineTooLong):
		c.protocolError(500, "5.5.6", "line too long")
		return nil, false
	case err != nil:
		c.giveUp(err)
		return nil, false
	case string(line) == "*":
		x.Cancel()
		c.protocolError(501, "5.7.0", "cancelled")
		return nil, false
	}
	response, ok := decodeResponse(line, false)
	if !ok {
		c.protocolError(501, "5.5.2", "not base64")
	}
	return response, ok
}

// refuseAuth answers a failed exchange.
func (c *conn) refuseAuth(err error) {
	switch {
	case errors.Is(err, auth.ErrMalformed):
		c.protocolError(501, "5.5.2", "malformed response")
		return
	case errors.Is(err, auth.ErrBusy):
		c.reply(454, "4.7.0", "cannot check at the moment, try again later")
	case errors.Is(err, auth.ErrRejected):
		c.reply(535, "5.7.8", "authentication failed")
	default: // auth has logged it
		c.reply(454, "4.7.0", "local trouble, try again later")
	}
	if c.refusals++; c.refusals >= c.cfg.MaxAuthFailures && !c.closing {
		c.reply(421, "4.7.0", "too many failed authentications")
		c.cutFor(endFailures)
	}
}

// signedIn goes on with a session of the user.
func (c *conn) signedIn(who auth.Identity) {
	peer := c.peer
	peer.Auth = who
	session, err := c.srv.backend(c.ctx, peer)
	if err != nil {
		c.fail(err)
		return
	}
	c.logout()
	c.forget()
	c.peer, c.session, c.refusals = peer, session, 0
	c.reply(235, "2.7.0", "authentication succeeded")
}

// allowAuthParameter is RFC 4954 5: AUTH= is known where AUTH is. What it
// claims is believed of nobody.
func (c *conn) allowAuthParameter(o *smtp.MailOptions) *smtp.SMTPError {
	if o.Auth != nil && c.terms.auth == nil {
		return unknownParameter("AUTH")
	}
	return nil
}

// commandLimit is the longest command line: AUTH may bring a long response.
func (c *conn) commandLimit() int {
	if c.terms.auth != nil && c.confidential() {
		return max(c.cfg.MaxCommand, maxAuthLine)
	}
	return c.cfg.MaxCommand
}
