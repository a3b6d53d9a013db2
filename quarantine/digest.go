package quarantine

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"mime"
	"mime/quotedprintable"
	"slices"
	"strings"
	"time"

	"qstream/bus"
	"qstream/directory"
	"qstream/mail"
	pb "qstream/schemas/qstream/v1"
)

// Bounds of a digest.
const (
	digestText   = 10 << 10 // of the text: encoded it fits a record in any case
	headerLooked = 64 << 10 // of a message, for its subject and sender
	shownText    = 80       // characters of a subject or sender
)

// Digest is what a recipient is told.
type Digest struct {
	Recipient string
	Tenant    string
	Legs      []Leg // by the time they were held back
}

// Digests are what the recipients of legs may be told, by address.
func Digests(legs []Leg) []Digest {
	type key struct{ tenant, address string }
	of := map[key]*Digest{}
	for _, l := range legs {
		for _, r := range l.Meant {
			k := key{l.Tenant, r.Address}
			if of[k] == nil {
				of[k] = &Digest{Recipient: r.Address, Tenant: l.Tenant}
			}
			of[k].Legs = append(of[k].Legs, l)
		}
	}
	all := make([]Digest, 0, len(of))
	for _, d := range of {
		all = append(all, *d)
	}
	slices.SortFunc(all, func(a, b Digest) int {
		return cmp.Or(cmp.Compare(a.Tenant, b.Tenant), cmp.Compare(a.Recipient, b.Recipient))
	})
	return all
}

// Letter is how digests are written.
type Letter struct {
	From    mail.Address // of the header; the reverse-path is null
	Host    string       // of Message-ID
	Contact string       // whom to ask for a release, as the text names it
	Who     Who
}

// Send sends a digest and returns the id of its message, the same for the same
// legs: one that is sent twice arrives once while the first is remembered.
// Content that can't be read is told of without its subject.
func (d Digest) Send(ctx context.Context, b *bus.Bus, by Letter, s *directory.Snapshot) (string, error) {
	named := make([]string, len(d.Legs))
	for i, l := range d.Legs {
		named[i] = fmt.Sprintf("%s %d", l.ID(), l.ParkedMs)
	}
	last := d.Legs[len(d.Legs)-1].Since()
	id := mail.DerivedID(last, "digest\x00"+d.Tenant+"\x00"+d.Recipient+"\x00"+strings.Join(named, "\x00"))
	text := d.text(ctx, b, by, id)
	sum := sha256.Sum256(text)
	record := bus.NewReinject(&pb.Reinject{
		Id: id, Origin: pb.Origin_ORIGIN_DIGEST,
		Envelope:        &pb.Envelope{Recipients: []*pb.Recipient{{Address: d.Recipient, Notify: []pb.Notify{pb.Notify_NOTIFY_NEVER}}}},
		Content:         &pb.Content{Where: &pb.Content_Inline{Inline: text}, Size: int64(len(text)), Sha256: sum[:]},
		Tenant:          d.Tenant,
		Directory:       s.Number,
		HeaderMessageId: "<" + id + "@" + by.Host + ">",
		Scan:            &pb.Scan{State: pb.ScanState_SCAN_STATE_EXEMPT},
		Session:         &pb.Session{Protocol: pb.Protocol_PROTOCOL_INTERNAL, Tenant: d.Tenant},
	})
	return id, b.Publish(ctx, &record)
}

// text is the message.
func (d Digest) text(ctx context.Context, b *bus.Bus, by Letter, id string) []byte {
	var out, body bytes.Buffer
	header := func(name, value string) { fmt.Fprintf(&out, "%s: %s\r\n", name, value) }
	header("From", "<"+by.From.String()+">")
	header("To", "<"+mail.Printable(d.Recipient)+">")
	header("Subject", fmt.Sprintf("Held back: %d messages", len(d.Legs)))
	header("Date", by.Who.Now.UTC().Format(time.RFC1123Z))
	header("Message-ID", "<"+id+"@"+by.Host+">")
	header("Auto-Submitted", "auto-generated") // RFC 3834 5
	header("MIME-Version", "1.0")
	header("Content-Type", "text/plain; charset=utf-8")
	header("Content-Transfer-Encoding", "quoted-printable")
	out.WriteString("\r\n")

	fmt.Fprintf(&body, "These messages to %s were held back because of what was found in them:\r\n\r\n", mail.Printable(d.Recipient))
	for i, l := range d.Legs {
		if body.Len() > digestText {
			fmt.Fprintf(&body, "and %d more\r\n\r\n", len(d.Legs)-i)
			break
		}
		from, subject := l.heading(ctx, b)
		engine, name := l.Found()
		fmt.Fprintf(&body, "%s\r\n  from     %s\r\n  subject  %s\r\n  found    %s", l.Since().UTC().Format("2006-01-02 15:04 UTC"), from, subject, short(l.GetScan().GetFinding()))
		if name != "" {
			fmt.Fprintf(&body, " (%s, by %s)", short(name), short(engine))
		}
		fmt.Fprintf(&body, "\r\n  kept     until %s\r\n  id       %s\r\n\r\n", l.Until().UTC().Format("2006-01-02"), l.ID())
	}
	if by.Contact != "" {
		fmt.Fprintf(&body, "To get one of them, ask %s and name its id.\r\n", mail.Printable(by.Contact))
	}
	w := quotedprintable.NewWriter(&out)
	_, _ = w.Write(body.Bytes()) // into memory
	_ = w.Close()
	return out.Bytes()
}

// heading is who a message says it is from, and its subject.
func (l Leg) heading(ctx context.Context, b *bus.Bus) (from, subject string) {
	from = short(l.ReversePath)
	body, err := b.Open(ctx, l.Content)
	if err != nil {
		return from, "(can't be read)"
	}
	defer body.Close()
	lines := bufio.NewReader(io.LimitReader(body, headerLooked))
	h, _, err := mail.ReadFields(func() ([]byte, error) { return lines.ReadBytes('\n') }, headerLooked)
	if err != nil {
		return from, "(can't be read)"
	}
	for _, v := range h.Values("from") {
		from = short(decoded(v))
	}
	subject = "-"
	for _, v := range h.Values("subject") {
		subject = short(decoded(v))
	}
	return from, subject
}

// decoded undoes encoded words (RFC 2047); what can't be decoded stays.
func decoded(s string) string {
	d := mime.WordDecoder{}
	if t, err := d.DecodeHeader(s); err == nil {
		return t
	}
	return s
}

// short makes hostile text fit for one line.
func short(s string) string {
	s = strings.TrimSpace(mail.Printable(strings.ToValidUTF8(s, "?")))
	if s == "" {
		return "-"
	}
	if rs := []rune(s); len(rs) > shownText {
		return string(rs[:shownText-1]) + "…"
	}
	return s
}
