// Package mail holds what every stage says about mail: statuses, addresses,
// envelopes, message ids, header and trace lines. It does no I/O.
package mail

import (
	"fmt"
	"strings"
)

// Status is an outcome in SMTP's terms: what a server answered, or what
// qstream itself decided. The zero Status means nothing was decided.
type Status struct {
	Code     int    // RFC 5321 reply code, 200 to 599
	Enhanced string // RFC 3463 code such as "5.1.1"; empty when the peer gave none
	Text     string // lines joined by "\n"; hostile when it came from outside
}

// Temporary reports whether the mail may succeed later. Whatever is not
// clearly a success or a permanent failure is temporary, so that mail never
// bounces for a fault of our own.
func (s Status) Temporary() bool { return !s.OK() && !s.Permanent() }

// OK reports a positive completion reply (2yz).
func (s Status) OK() bool { return s.Code >= 200 && s.Code < 300 }

// Permanent reports a permanent failure (5yz).
func (s Status) Permanent() bool { return s.Code >= 500 && s.Code < 600 }

// Error makes a Status an error: "550 5.1.1 no such user".
func (s Status) Error() string { return s.String() }

// String is the reply on one line, fit for logs: control characters become
// spaces.
func (s Status) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%03d", s.Code)
	if s.Enhanced != "" {
		b.WriteString(" " + s.Enhanced)
	}
	if s.Text != "" {
		b.WriteByte(' ')
		b.WriteString(Printable(s.Text))
	}
	return b.String()
}

// Printable makes hostile text safe for a terminal, a log line or a header:
// control characters (C0, DEL, C1) and bytes that are not UTF-8 become spaces.
func Printable(s string) string {
	clean := true
	for _, r := range s {
		if r < 0x20 || r >= 0x7f && r < 0xa0 || r == '�' {
			clean = false
			break
		}
	}
	if clean {
		return s
	}
	return strings.Map(func(r rune) rune {
		if r < 0x20 || r >= 0x7f && r < 0xa0 || r == '�' {
			return ' '
		}
		return r
	}, s)
}
