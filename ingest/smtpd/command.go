package smtpd

import (
	"fmt"
	"strings"

	"github.com/emersion/go-smtp"

	"qstream/ingest/gate"
	"qstream/wire"
)

// handlers are the commands; each gets what follows its verb.
var handlers = map[string]func(*conn, string){
	"HELO":     (*conn).helo,
	"EHLO":     (*conn).ehlo,
	"MAIL":     (*conn).mail,
	"RCPT":     (*conn).rcpt,
	"DATA":     (*conn).data,
	"BDAT":     (*conn).bdat,
	"RSET":     (*conn).rset,
	"NOOP":     (*conn).noop,
	"VRFY":     (*conn).vrfy,
	"HELP":     (*conn).help,
	"QUIT":     (*conn).quit,
	"STARTTLS": (*conn).starttls,
	"AUTH":     (*conn).auth,
	"XCLIENT":  (*conn).xclient,
}

// known are commands that exist and are not served.
var known = map[string]bool{
	"EXPN": true, "ETRN": true, "SEND": true, "SOML": true, "SAML": true, "TURN": true, "LHLO": true,
}

// foreign are verbs of other protocols: a browser that was led here must not
// have its text taken for a dialogue.
var foreign = map[string]bool{
	"GET": true, "POST": true, "PUT": true, "HEAD": true, "OPTIONS": true, "CONNECT": true, "DELETE": true, "PATCH": true, "HOST:": true,
}

func (c *conn) command(line []byte) {
	verb, arg, _ := strings.Cut(strings.TrimRight(string(line), " \t"), " ")
	verb = strings.ToUpper(verb)
	arg = strings.Trim(arg, " \t")
	handle := handlers[verb]
	switch {
	case handle != nil:
		handle(c, arg)
	case foreign[verb]:
		c.protocolError(500, "5.5.2", "this is SMTP")
		c.cut()
	case known[verb]:
		c.protocolError(502, "5.5.1", "command not implemented")
	default:
		c.protocolError(500, "5.5.2", "command not recognized")
	}
}

func (c *conn) helo(arg string) {
	if c.greet(arg, false) {
		c.reply(250, "", c.cfg.Hostname)
	}
}

func (c *conn) ehlo(arg string) {
	if !c.greet(arg, true) {
		return
	}
	lines := []string{
		c.cfg.Hostname, "PIPELINING", fmt.Sprintf("SIZE %d", c.least(c.cfg.MaxSize, gate.DataBytes)), "8BITMIME",
		"ENHANCEDSTATUSCODES", "DSN", "SMTPUTF8", "CHUNKING",
		fmt.Sprintf("LIMITS RCPTMAX=%d", c.least(int64(c.cfg.MaxRecipients), gate.MaxRecipients)),
	}
	if c.terms.tls != nil && c.peer.TLS == nil {
		lines = append(lines, "STARTTLS")
	}
	if names := c.mechanisms(); len(names) > 0 {
		lines = append(lines, "AUTH "+strings.Join(names, " "))
	}
	if c.entered.XClient {
		lines = append(lines, "XCLIENT NAME ADDR PORT PROTO HELO LOGIN")
	}
	c.reply(250, "", strings.Join(lines, "\n"))
}

// greet starts a session, anew if there is one (RFC 5321 4.1.4).
func (c *conn) greet(name string, esmtp bool) bool {
	if name == "" || len(name) > 255 {
		c.protocolError(501, "5.5.4", "a host name is required")
		return false
	}
	if c.session != nil {
		c.logout()
	}
	c.forget()
	c.peer.HELO, c.peer.ESMTP = name, esmtp
	session, err := c.srv.backend(c.ctx, c.peer)
	if err != nil {
		c.fail(err)
		return false
	}
	c.session = session
	return true
}

func (c *conn) starttls(arg string) {
	switch {
	case arg != "":
		c.protocolError(501, "5.5.4", "no argument is allowed")
	case c.terms.tls == nil:
		c.protocolError(502, "5.5.1", "no TLS here")
	case c.peer.TLS != nil:
		c.protocolError(503, "5.5.1", "already in TLS")
	case c.state != idle:
		c.protocolError(503, "5.5.1", "not within a transaction")
	default:
		c.startTLS()
	}
}

// ready reports whether the client has said hello; if not it is told.
func (c *conn) ready() bool {
	if c.session == nil {
		c.protocolError(503, "5.5.1", "say EHLO first")
		return false
	}
	return c.permitted()
}

// orphan answers what belongs to a transaction that isn't open. A client that
// pipelines behind a refused MAIL breaks no rule.
func (c *conn) orphan(text string) {
	if c.refused {
		c.reply(503, "5.5.1", text)
		return
	}
	c.protocolError(503, "5.5.1", text)
}

func (c *conn) mail(arg string) {
	if !c.ready() {
		return
	}
	if c.state != idle {
		c.protocolError(503, "5.5.1", "a transaction is open already")
		return
	}
	c.refused = true
	path, opts, e := parseMail(arg)
	if e == nil {
		e = c.allowAuthParameter(opts)
	}
	if e != nil {
		c.badArgument(e)
		return
	}
	if err := c.session.Mail(path, opts); err != nil {
		c.fail(err)
		return
	}
	c.refused = false
	c.setState(mailing)
	c.reply(250, "2.1.0", "sender ok")
}

func (c *conn) badArgument(e *smtp.SMTPError) {
	if addressFault(e) {
		c.reply(e.Code, enhanced(e), e.Message)
		return
	}
	c.protocolError(e.Code, enhanced(e), e.Message)
}

func (c *conn) rcpt(arg string) {
	if !c.ready() {
		return
	}
	if c.state == idle {
		c.orphan("say MAIL first")
		return
	}
	c.tried++
	path, opts, e := parseRcpt(arg)
	if e != nil {
		c.badArgument(e)
		return
	}
	if err := c.session.Rcpt(path, opts); err != nil {
		c.fail(err)
		return
	}
	c.rcpts++
	c.reply(250, "2.1.5", "recipient ok")
}

// deliverable reports whether content may follow; if not the client is told.
func (c *conn) deliverable() bool {
	switch {
	case !c.ready():
		return false
	case c.contentRefused():
		return false
	case c.rcpts > 0:
		return true
	case c.tried > 0: // all were refused; the client need not have noticed
		c.reply(554, "5.5.1", "no valid recipients")
	default:
		c.orphan("say MAIL and RCPT first")
	}
	return false
}

// contentRefused reports whether the session takes no content whatever comes; then
// the client was told, and the dialogue ends.
func (c *conn) contentRefused() bool {
	s, ok := c.session.(interface{ Refused() error })
	if !ok {
		return false
	}
	err := s.Refused()
	if err == nil {
		return false
	}
	c.fail(err)
	c.cut()
	return true
}

func (c *conn) rset(string) {
	if c.session != nil {
		c.session.Reset()
	}
	c.forget()
	c.reply(250, "2.0.0", "ok")
}

// forget ends the transaction on our side.
func (c *conn) forget() {
	c.setState(idle)
	c.rcpts, c.tried, c.refused = 0, 0, false
}

func (c *conn) noop(string) { c.reply(250, "2.0.0", "ok") }

func (c *conn) vrfy(arg string) {
	if arg == "" {
		c.protocolError(501, "5.5.4", "an address is required")
		return
	}
	c.reply(252, "2.5.0", "cannot verify, send mail to find out")
}

func (c *conn) help(string) {
	c.reply(214, "2.0.0", "commands: HELO EHLO MAIL RCPT DATA BDAT RSET NOOP VRFY HELP STARTTLS AUTH QUIT")
}

func (c *conn) quit(string) {
	c.reply(221, "2.0.0", "bye")
	c.closing = true
}

// textOptions are how content is read.
func (c *conn) textOptions() wire.Options {
	return wire.Options{Policy: c.cfg.LineEnds, MaxLine: c.cfg.MaxLine}
}
