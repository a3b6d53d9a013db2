package mail

import (
	"net/netip"
	"strings"
	"time"
)

// Received is what a Received trace line tells (RFC 5321 4.4). Texts from
// outside may hold anything.
type Received struct {
	HELO       string // what the client called itself; may be empty
	ClientName string // its name by DNS; may be empty
	ClientIP   string
	By         string // our host name
	Protocol   string // "ESMTPS" and others, RFC 3848 and RFC 6531
	TLS        string // version and cipher suite, for people; may be empty
	ID         string
	For        string // the only recipient; empty if there are several
	At         time.Time
}

// String is the line, folded, ended by CRLF.
func (r Received) String() string {
	var b strings.Builder
	b.Grow(256)
	b.WriteString("Received: from " + token(r.HELO, "unknown") + " (")
	if r.ClientName != "" {
		b.WriteString(token(r.ClientName, "unknown") + " ")
	}
	b.WriteString(literal(r.ClientIP) + ")\r\n\tby " + token(r.By, "localhost") + " with " + r.Protocol)
	if r.TLS != "" {
		b.WriteString("\r\n\t(" + comment(r.TLS) + ")")
	}
	b.WriteString(" id " + r.ID)
	if r.For != "" {
		b.WriteString("\r\n\tfor <" + Printable(r.For) + ">")
	}
	b.WriteString("; " + r.At.UTC().Format("Mon, 2 Jan 2006 15:04:05 -0700") + "\r\n")
	return b.String()
}

// literal is an address as RFC 5321 4.1.3 writes it.
func literal(ip string) string {
	a, err := netip.ParseAddr(ip)
	switch {
	case err != nil:
		return "[" + token(ip, "unknown") + "]"
	case a.Unmap().Is4():
		return "[" + a.Unmap().String() + "]"
	}
	return "[IPv6:" + a.WithZone("").String() + "]"
}

// token makes text fit for a place where a domain stands: what can't stand in
// a domain or an address literal becomes "?".
func token(s, empty string) string {
	if s == "" {
		return empty
	}
	if len(s) > MaxDomain {
		s = s[:MaxDomain]
	}
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', strings.ContainsRune("-._:[]", r):
			return r
		}
		return '?'
	}, s)
}

// comment makes text fit for a comment (RFC 5322 3.2.2).
func comment(s string) string {
	return strings.NewReplacer("(", `\(`, ")", `\)`, `\`, `\\`).Replace(Printable(s))
}
