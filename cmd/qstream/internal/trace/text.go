package trace

import (
	"fmt"
	"io"
	"strings"
	"time"

	"qstream/mail"
	pb "qstream/schemas/qstream/v1"
)

const clock = "2006-01-02 15:04:05.000Z"

// about is what a message is to its parent.
var about = map[pb.Origin]string{
	pb.Origin_ORIGIN_DSN:     "DSN about",
	pb.Origin_ORIGIN_FORWARD: "forwarded from",
	pb.Origin_ORIGIN_DIGEST:  "digest by",
	pb.Origin_ORIGIN_REPLAY:  "replay of",
}

// Text prints lives for people; times are UTC.
func Text(w io.Writer, found Found) error {
	p := printer{w: w}
	if found.More {
		p.line("only the newest %d messages are shown", maxMessages)
	}
	for i, l := range found.Roots {
		if i > 0 {
			p.line("")
		}
		p.life(l)
	}
	return p.err
}

// printer keeps the first error of its writer.
type printer struct {
	w      io.Writer
	indent string
	err    error
}

func (p *printer) line(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintln(p.w, strings.TrimRight(p.indent+fmt.Sprintf(format, args...), " "))
	}
}

func (p *printer) life(l *Life) {
	first := l.first()
	p.line("message %s", printable(l.ID))
	if l.Parent != "" {
		p.line("  %s %s", about[l.Origin], printable(l.Parent))
	}
	p.line("  from <%s>, %d bytes, Message-ID %s", printable(first.ReversePath), first.Size, orNone(first.HeaderMessageId))
	if s := session(first.Session); s != "" {
		p.line("  %s", s)
	}
	for _, e := range l.Events {
		p.event(e)
	}
	for _, r := range l.Recipients {
		p.line("  = %s", r)
	}
	outer := p.indent
	p.indent += "    "
	for _, child := range l.Children {
		p.life(child)
	}
	p.indent = outer
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return printable(s)
}

// session is how the message came in.
func session(s *pb.Session) string {
	if s == nil {
		return ""
	}
	out := "by " + strings.TrimPrefix(s.Protocol.String(), "PROTOCOL_")
	if s.ClientIp != "" {
		out += " from " + peer(s.ClientName, s.ClientIp)
	}
	if s.Helo != "" {
		out += ", HELO " + printable(s.Helo)
	}
	if s.TlsVersion != "" {
		out += ", " + printable(s.TlsVersion)
	}
	if s.AuthUser != "" {
		out += ", user " + printable(s.AuthUser)
	}
	if s.Edge != "" {
		out += ", at " + printable(s.Edge)
	}
	return out
}

func (p *printer) event(e *pb.Event) {
	at := time.UnixMilli(e.AtMs).UTC().Format(clock)
	if e.Type == pb.EventType_EVENT_TYPE_ACCEPTED {
		p.line("  %s  accepted for %s%s", at, plural(len(e.Outcomes), "recipient"), inSession(e.Scan))
		return
	}
	p.line("  %s  leg %d: %s", at, e.Leg, said(e))
	for _, o := range e.Outcomes {
		text := "    <" + printable(o.Address) + ">"
		if o.Status != nil {
			text += " " + status(o.Status)
		}
		p.line("                            %s", text)
	}
}

// said is an event in words.
func said(e *pb.Event) string {
	word := strings.ToLower(strings.TrimPrefix(e.Type.String(), "EVENT_TYPE_"))
	switch e.Type {
	case pb.EventType_EVENT_TYPE_ROUTED:
		word = fmt.Sprintf("routed to tenant %s, queue %s, destination %s, route %s",
			e.Tenant, e.Queue, e.Destination, orNone(e.Route))
		if e.Scan.GetState() == pb.ScanState_SCAN_STATE_WANTED {
			word += ", to be scanned by policy " + e.Scan.Policy
		}
	case pb.EventType_EVENT_TYPE_SCANNED, pb.EventType_EVENT_TYPE_QUARANTINED, pb.EventType_EVENT_TYPE_UNSCANNED:
		word = scanned(e)
	case pb.EventType_EVENT_TYPE_FOUND_BAD:
		word = foundBad(e)
	case pb.EventType_EVENT_TYPE_COMPARED:
		word = compared(e.Comparison)
	case pb.EventType_EVENT_TYPE_FORWARDED:
		word = "forwarded as " + e.ChildId
	case pb.EventType_EVENT_TYPE_ATTEMPTED:
		word = fmt.Sprintf("attempt %d took %s", e.Attempt, time.Duration(e.TookMs)*time.Millisecond)
	case pb.EventType_EVENT_TYPE_DELIVERED:
		if e.TookMs > 0 {
			word += fmt.Sprintf(" by attempt %d in %s", e.Attempt, time.Duration(e.TookMs)*time.Millisecond)
		}
	case pb.EventType_EVENT_TYPE_DEFERRED, pb.EventType_EVENT_TYPE_SPILLED:
		if e.Reason != pb.Reason_REASON_DEFERRED {
			word += " (" + reason(e.Reason) + ")"
		}
		if e.DueMs > 0 {
			word += " until " + time.UnixMilli(e.DueMs).UTC().Format(clock)
		}
	case pb.EventType_EVENT_TYPE_RELEASED:
		word += " to queue " + e.Queue
		if e.Scan.GetState() == pb.ScanState_SCAN_STATE_WANTED {
			word = "released to be scanned by policy " + e.Scan.Policy
		}
	case pb.EventType_EVENT_TYPE_PARKED:
		word += ": suspended"
		if e.Reason == pb.Reason_REASON_HELD {
			word = strings.TrimSuffix(word, "suspended") + "held at a quota"
		}
	case pb.EventType_EVENT_TYPE_HELD:
		word = "content copied to hold"
	case pb.EventType_EVENT_TYPE_DSN:
		word = strings.TrimSpace("DSN " + e.ChildId + " says")
	}
	if (e.Host != "" || e.HostIp != "") && e.Type != pb.EventType_EVENT_TYPE_DEFERRED {
		word += " at " + peer(e.Host, e.HostIp)
	}
	if e.TlsVersion != "" {
		word += ", " + e.TlsVersion
	}
	if e.Text != "" {
		word += ": " + e.Text
	}
	return printable(word)
}

// peer is a host with its address, as far as they are known.
func peer(name, ip string) string {
	switch {
	case ip == "":
		return printable(name)
	case name == "" || name == ip:
		return "[" + printable(ip) + "]"
	}
	return printable(name) + " [" + printable(ip) + "]"
}

func reason(r pb.Reason) string {
	return strings.ToLower(strings.TrimPrefix(r.String(), "REASON_"))
}

func status(s *pb.Status) string {
	return mail.Status{Code: int(s.Code), Enhanced: printable(s.Enhanced), Text: s.Text}.String()
}

// String is a recipient's fate on one line.
func (r *Recipient) String() string {
	out := fmt.Sprintf("<%s> %s", printable(r.Address), r.State)
	if !r.Due.IsZero() {
		out += " until " + r.Due.Format(clock)
	}
	if !r.State.Final() && r.Queue != "" {
		out += ", queue " + printable(r.Queue)
	}
	if r.Status != nil {
		out += ": " + status(r.Status)
		if r.Host != "" {
			out += " (" + printable(r.Host) + ")"
		}
	}
	return out
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
