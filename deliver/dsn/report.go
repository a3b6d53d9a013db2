package dsn

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"mime/quotedprintable"
	"net/netip"
	"strings"
)

const date = "Mon, 02 Jan 2006 15:04:05 -0700"

// Build is the report as RFC 3464 wants it: text for people, fields for
// programs, and the message or its header.
func Build(r Report) []byte {
	text, status := r.people(), r.status()
	boundary := r.boundary(text, status)
	var b bytes.Buffer
	b.WriteString(r.header())
	fmt.Fprintf(&b, "MIME-Version: 1.0\r\nContent-Type: multipart/report; report-type=%s;\r\n boundary=\"%s\"\r\n\r\n",
		r.statusType(), boundary)
	part := func(description, kind, encoding string, body []byte) {
		fmt.Fprintf(&b, "--%s\r\nContent-Description: %s\r\nContent-Type: %s\r\n", boundary, description, kind)
		if encoding != "" {
			fmt.Fprintf(&b, "Content-Transfer-Encoding: %s\r\n", encoding)
		}
		b.WriteString("\r\n")
		b.Write(body)
		b.WriteString("\r\n")
	}
	if isASCII(text) {
		part("Notification", "text/plain; charset=us-ascii", "", []byte(text))
	} else {
		part("Notification", "text/plain; charset=utf-8", "quoted-printable", quoted(text))
	}
	part("Delivery report", "message/"+r.statusType(), eight([]byte(status)), []byte(status))
	part("Message", r.originalType(), eight(r.Original.Data), r.Original.Data)
	fmt.Fprintf(&b, "--%s--\r\n", boundary)
	return b.Bytes()
}

// EightBit reports whether a report needs BODY=8BITMIME.
func EightBit(report []byte) bool { return eight(report) != "" }

func eight(b []byte) string {
	for _, c := range b {
		if c >= 0x80 {
			return "8bit"
		}
	}
	return ""
}

func quoted(text string) []byte {
	var b bytes.Buffer
	w := quotedprintable.NewWriter(&b)
	_, _ = w.Write([]byte(text)) // a bytes.Buffer doesn't fail
	_ = w.Close()
	return b.Bytes()
}

func (r Report) statusType() string {
	if r.UTF8 {
		return "global-delivery-status"
	}
	return "delivery-status"
}

func (r Report) originalType() string {
	switch {
	case r.UTF8 && r.Original.Full:
		return "message/global"
	case r.UTF8:
		return "message/global-headers"
	case r.Original.Full:
		return "message/rfc822"
	}
	return "text/rfc822-headers"
}

// header is what both formats begin with. Auto-Submitted keeps responders
// quiet (RFC 3834 5).
func (r Report) header() string {
	me := atom(r.Me, r.UTF8)
	var b strings.Builder
	b.WriteString(field("Date", r.At.UTC().Format(date)))
	b.WriteString(field("From", `"Mail Delivery System" <MAILER-DAEMON@`+me+">"))
	b.WriteString(field("To", "<"+atom(r.To, r.UTF8)+">"))
	b.WriteString(field("Subject", r.subject()))
	b.WriteString(field("Message-ID", "<"+r.ID+"@"+me+">"))
	if isMessageID(r.References) {
		b.WriteString(field("References", r.References))
	}
	b.WriteString("Auto-Submitted: auto-replied\r\n")
	return b.String()
}

// isMessageID: anything odd is left out, so that it can't spoil our header.
func isMessageID(s string) bool {
	return len(s) < 250 && len(s) > 2 && s == "<"+atom(s[1:len(s)-1], false)+">"
}

func (r Report) subject() string {
	switch {
	case r.Double:
		return "Double bounce: a bounce could not be delivered"
	case r.Kind == Failed:
		return "Undelivered mail returned to sender"
	case r.Kind == Delayed:
		return "Delayed mail (still being retried)"
	}
	return "Successful mail delivery report"
}

// people is the text part.
func (r Report) people() string {
	me := plain(r.Me, true)
	var b strings.Builder
	b.WriteString(para("This is the mail system at host "+me+".", "") + "\r\n")
	b.WriteString(para(r.opening(), "") + "\r\n")
	if r.Double {
		b.WriteString(para("The reverse-path of the message was <"+atom(r.ReversePath, true)+">.", "") + "\r\n")
	}
	for _, c := range r.Recipients {
		b.WriteString(para("<"+atom(c.Address, true)+">: "+c.reason(), "") + "\r\n")
	}
	if r.Kind == Delayed && !r.Expires.IsZero() {
		b.WriteString(para("It will be tried until "+r.Expires.UTC().Format(date)+".", "") + "\r\n")
	}
	b.WriteString(para("Id of the message here: "+plain(r.MessageID, true), ""))
	return b.String()
}

func (r Report) opening() string {
	switch {
	case r.Double:
		return "A message without a sender, mostly a bounce itself, could not be delivered to the recipients below. Nobody else is told."
	case r.Kind == Failed:
		return "Your message could not be delivered to one or more recipients. What was tried, and what the other side said, stands below. It will not be tried again for these recipients."
	case r.Kind == Delayed:
		return "This is a warning only: you need not send your message again. It could not be delivered yet to the recipients below, and will be tried further."
	case r.Kind == Relayed:
		return "Your message was handed to the mail system of the recipients below, which makes no reports of its own: this is the last you hear of it unless it comes back."
	}
	return "Your message was delivered to the recipients below."
}

func (c Recipient) reason() string {
	s := plain(c.Status.String(), true)
	switch {
	case c.Status.Code == 0 && c.Expired:
		return "it could not be delivered in the time allowed."
	case c.Expired:
		return "it could not be delivered in the time allowed. Last answer" + c.from() + ": " + s
	case c.Remote != "":
		return "host " + plain(c.Remote, true) + " said: " + s
	}
	return s
}

func (c Recipient) from() string {
	if c.Remote == "" {
		return ""
	}
	return " from " + plain(c.Remote, true)
}

// status is the part for programs (RFC 3464 2.2, 2.3; RFC 6533 4).
func (r Report) status() string {
	var b strings.Builder
	if r.EnvID != "" {
		b.WriteString(field("Original-Envelope-Id", plain(r.EnvID, r.UTF8)))
	}
	b.WriteString(field("Reporting-MTA", "dns; "+atom(r.Me, r.UTF8)))
	b.WriteString(field("X-Qstream-Id", plain(r.MessageID, r.UTF8)))
	if !r.Arrived.IsZero() {
		b.WriteString(field("Arrival-Date", r.Arrived.UTC().Format(date)))
	}
	for _, c := range r.Recipients {
		b.WriteString("\r\n" + r.fields(c))
	}
	return b.String()
}

func (r Report) fields(c Recipient) string {
	var b strings.Builder
	if kind, addr, ok := strings.Cut(c.Original, ";"); ok && kind != "" && addr != "" {
		b.WriteString(field("Original-Recipient", r.typed(kind, addr)))
	}
	b.WriteString(field("Final-Recipient", r.typed("rfc822", c.Address)))
	b.WriteString(field("Action", r.Kind.String()))
	b.WriteString(field("Status", r.enhanced(c)))
	if c.Remote != "" {
		b.WriteString(field("Remote-MTA", "dns; "+plain(mta(c.Remote), r.UTF8)))
	}
	if c.Status.Code != 0 && c.Remote != "" {
		b.WriteString(field("Diagnostic-Code", "smtp; "+plain(c.Status.String(), r.UTF8)))
	} else if c.Status.Code != 0 {
		b.WriteString(field("Diagnostic-Code", "X-Qstream; "+plain(c.Status.String(), r.UTF8)))
	}
	if !c.Attempted.IsZero() {
		b.WriteString(field("Last-Attempt-Date", c.Attempted.UTC().Format(date)))
	}
	if r.Kind == Delayed && !r.Expires.IsZero() {
		b.WriteString(field("Will-Retry-Until", r.Expires.UTC().Format(date)))
	}
	return b.String()
}

// mta is a host's name, or its address as a literal (RFC 5321 4.1.3).
func mta(host string) string {
	a, err := netip.ParseAddr(host)
	switch {
	case err != nil:
		return host
	case a.Is4():
		return "[" + host + "]"
	}
	return "[IPv6:" + host + "]"
}

// typed is an address with its type: utf-8 where it isn't ASCII (RFC 6533 3),
// with what ASCII lacks written as \x{HEX} in a report that is ASCII.
func (r Report) typed(kind, addr string) string {
	if !isASCII(addr) {
		kind = "utf-8"
	}
	return atom(kind, false) + ";" + plain(addr, r.UTF8)
}

// boundary is a delimiter that no part contains, the same each time.
func (r Report) boundary(parts ...string) string {
	for n := 0; ; n++ {
		sum := sha256.Sum256(fmt.Appendf(nil, "%s %d", r.ID, n))
		boundary := fmt.Sprintf("=_%x", sum[:12])
		if !bytes.Contains(r.Original.Data, []byte(boundary)) && !strings.Contains(strings.Join(parts, ""), boundary) {
			return boundary
		}
	}
}

// Header is the header of a message, at most limit bytes of whole lines.
func Header(message []byte, limit int) Original {
	o := Original{Data: message}
	if bytes.HasPrefix(message, []byte("\r\n")) {
		return Original{}
	}
	if i := bytes.Index(message, []byte("\r\n\r\n")); i >= 0 {
		o.Data = message[:i+2]
	}
	if len(o.Data) > limit {
		o.Data, o.Cut = o.Data[:1+bytes.LastIndexByte(o.Data[:limit], '\n')], true
	}
	return o
}
