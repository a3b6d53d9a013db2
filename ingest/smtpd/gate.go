package smtpd

import (
	"context"
	"net/netip"
	"strconv"
	"strings"

	"qstream/directory"
	"qstream/ingest/auth"
	"qstream/ingest/gate"
	"qstream/mail"
)

// admit takes the client through the door; false: it was refused, and told if
// it is to be.
func (c *conn) admit(ctx context.Context) bool {
	client, refusal := c.cfg.Door.Enter(ctx, c.Conn())
	if refusal != nil {
		refusal.Quiet = refusal.Quiet || c.cfg.ImplicitTLS // it waits for a handshake
		c.sendAway(refusal)
		return false
	}
	c.entered = client
	c.peer.Addr, c.peer.Gate = client.Addr, client
	c.agree()
	return true
}

func (c *conn) sendAway(r *gate.Refusal) {
	if r.Quiet {
		c.closing, c.ended = true, endRefused
		return
	}
	c.reply(r.Status.Code, r.Status.Enhanced, r.Status.Text)
	c.cut()
}

// least is a limit of ours, or a variable's where that is lower; 0 is none
// there.
func (c *conn) least(limit int64, variable string) int64 {
	if n, set := c.peer.Gate.Number(variable); set && n > 0 && n < limit {
		return n
	}
	return limit
}

// xclient takes the word of a listed client about whom it comes for, with the
// meaning that Postfix gives it (XCLIENT_README): the dialogue begins anew.
func (c *conn) xclient(arg string) {
	switch {
	case !c.entered.XClient:
		c.protocolError(550, "5.7.0", "not authorised to use XCLIENT")
		return
	case c.state != idle:
		c.protocolError(503, "5.5.1", "not within a transaction")
		return
	}
	x := xclient{peer: c.peer, proto: c.peer.ESMTP, helo: c.peer.HELO}
	words := strings.Fields(arg)
	for _, word := range words {
		if !x.set(word) {
			c.protocolError(501, "5.5.4", "bad XCLIENT attribute")
			return
		}
	}
	if len(words) == 0 {
		c.protocolError(501, "5.5.4", "XCLIENT wants attributes")
		return
	}
	if c.session != nil {
		c.logout()
	}
	c.forget()
	client, refusal := c.entered.As(c.ctx, x.peer.Addr, x.name)
	if refusal != nil {
		c.sendAway(refusal)
		return
	}
	c.peer = Peer{Addr: x.peer.Addr, TLS: c.peer.TLS, Auth: x.peer.Auth, Gate: client, Gone: c.peer.Gone}
	c.agree()
	c.peer.CertSender = c.terms.sender
	if x.said && x.helo != "" && !c.greet(x.helo, x.proto) {
		return
	}
	c.greeting()
}

// xclient are the attributes of one command.
type xclient struct {
	peer  Peer
	name  string
	helo  string
	proto bool // ESMTP
	said  bool // HELO was given
}

// set takes NAME=value in xtext; [UNAVAILABLE] and [TEMPUNAVAIL] stand for
// nothing.
func (x *xclient) set(word string) bool {
	key, text, ok := strings.Cut(word, "=")
	value, err := mail.DecodeXtext(text)
	if !ok || err != nil || len(value) > 255 || mail.Printable(value) != value {
		return false
	}
	if v := strings.ToUpper(value); v == "[UNAVAILABLE]" || v == "[TEMPUNAVAIL]" {
		value = ""
	}
	switch strings.ToUpper(key) {
	case "NAME":
		x.name = value
		return !strings.ContainsAny(value, " @=/:")
	case "ADDR":
		if len(value) > 5 && strings.EqualFold(value[:5], "IPv6:") {
			value = value[5:]
		}
		a, err := netip.ParseAddr(value)
		if value == "" {
			return true // who it is stays as it was: nobody becomes a client without an address
		}
		x.peer.Addr = netip.AddrPortFrom(a.Unmap(), 0)
		return err == nil && a.Zone() == ""
	case "PORT":
		n, err := strconv.ParseUint(value, 10, 16)
		x.peer.Addr = netip.AddrPortFrom(x.peer.Addr.Addr(), uint16(n))
		return err == nil || value == ""
	case "PROTO":
		x.proto = strings.EqualFold(value, "ESMTP")
		return x.proto || strings.EqualFold(value, "SMTP") || value == ""
	case "HELO":
		x.helo, x.said = value, true
		return true
	case "LOGIN":
		x.peer.Auth = auth.Identity{}
		if value == "" {
			return true
		}
		user, err := directory.NormalUser(value)
		x.peer.Auth = auth.Identity{User: user, Vouched: true}
		return err == nil
	}
	return false
}
