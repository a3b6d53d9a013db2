// Package dsn writes the reports that go back to senders: delivery status
// notifications (RFC 3464 in multipart/report, RFC 6522; internationalised,
// RFC 6533) and, where a queue asks for it, the qmail-send bounce message
// format (QSBMF). It also says how many a sender gets in an hour.
//
// Guarantee: the same Report makes the same bytes and the same id, so that a
// report made twice is recognised.
// Guarantee: whatever a remote host or a sender wrote can't break out of the
// field that it stands in: no line ends, no control characters, no boundary.
// Guarantee: lines have at most 998 bytes, except those of the quoted message
// itself.
//
// It decides nothing about who gets a report; deliver does.
package dsn

import (
	"fmt"
	"time"

	"qstream/mail"
)

// Kind is what a report tells (RFC 3464 2.3.3).
type Kind int

const (
	Failed    Kind = iota + 1 // bounced or expired
	Delayed                   // still tried
	Delivered                 // asked for by NOTIFY=SUCCESS
	Relayed                   // the same, at a host that makes no reports
)

// String is the Action field's value.
func (k Kind) String() string {
	return [...]string{"", "failed", "delayed", "delivered", "relayed"}[k]
}

// Report is one report: about one message, to its sender.
type Report struct {
	ID          string // message id of the report itself, see ID
	Kind        Kind
	At          time.Time
	Me          string // the reporting host; also the domain of MAILER-DAEMON
	To          string // reverse-path of the message, or who gets double bounces
	UTF8        bool   // the message was SMTPUTF8: RFC 6533
	EnvID       string // RFC 3461 4.4, decoded; empty: none
	Arrived     time.Time
	Expires     time.Time // of a delayed message; zero: not said
	Recipients  []Recipient
	Double      bool   // about a bounce, to somebody who looks after it
	MessageID   string // id of the message, for people to ask about
	ReversePath string // of the message; shown in a double bounce
	References  string // Message-ID field of the message; empty: none

	// What of the message goes along: its header, or all of it.
	Original Original
}

// Original is the quoted message, CRLF lines.
type Original struct {
	Data []byte
	Full bool // Data is the whole message; else its header only
	Cut  bool // the header was longer than what is quoted
}

// Recipient is one recipient's part.
type Recipient struct {
	Address   string
	Original  string // ORCPT: "addr-type;address", decoded; empty: none
	Status    mail.Status
	Remote    string // host that said Status; empty: we did
	Attempted time.Time
	Expired   bool // the status is the last one before the lifetime ended
}

// ID is the id of a report about a leg's step: the same each time it is made.
// At is a time that does not change with repetition.
func ID(parent string, leg uint32, step uint64, k Kind, at time.Time) string {
	return mail.DerivedID(at, fmt.Sprintf("dsn\x00%s\x00%d\x00%d\x00%d", parent, leg, step, k))
}

// enhanced is the Status field: what the peer gave if it fits the kind, else
// the most general code (RFC 3463 2).
func (r Report) enhanced(c Recipient) string {
	class := map[Kind]byte{Failed: '5', Delayed: '4', Delivered: '2', Relayed: '2'}[r.Kind]
	if c.Expired {
		return "4.4.7"
	}
	if e := c.Status.Enhanced; isEnhanced(e) && e[0] == class {
		return e
	}
	return string(class) + ".0.0"
}

func isEnhanced(s string) bool {
	var class, subject, detail int
	n, err := fmt.Sscanf(s, "%1d.%d.%d", &class, &subject, &detail)
	return err == nil && n == 3 && s == fmt.Sprintf("%d.%d.%d", class, subject, detail) &&
		(class == 2 || class == 4 || class == 5) && subject < 1000 && detail < 1000 && subject >= 0 && detail >= 0
}
