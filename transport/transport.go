// Package transport hands one message to where its recipients are: the common
// shape of an attempt and of its result. The clients are in the folders below
// (smtp, which also speaks LMTP; qmtp, which also speaks QMQP; maildir), schemes finds the one for a
// route's via, resolver finds hosts.
//
// Guarantee: a recipient whose outcome is not Unconfirmed and whose status is
// not OK has not been delivered by this attempt.
// Guarantee: content that fails to read, or fails its check at the end, is
// never ended with the final dot: the peer can't take it for a whole message.
// Guarantee: nothing in an envelope or in content makes a client send a line
// ending that is not CRLF, or a NUL.
//
// A transport makes no decision about retries: it says what happened, who
// asked decides.
package transport

import (
	"context"
	"io"
	"net/netip"

	"qstream/mail"
	pb "qstream/schemas/qstream/v1"
)

// Transport makes attempts. Its methods are safe for concurrent use.
type Transport interface {
	// Deliver makes one attempt: one pass over the target's hosts. It returns
	// when every recipient has an outcome or ctx ends. It never panics on what
	// a peer says.
	Deliver(ctx context.Context, t Target, a *Attempt) Result
	// Close ends what is kept open between attempts. No Deliver may run.
	Close() error
}

// Target says where to, as a route's via does.
type Target struct {
	Scheme string // "smtp", "lmtp", "qmtp", "qmtps", "qmqp", "maildir", "discard"
	Host   string // name or address; "mx": the MX hosts of Domain
	Port   int    // 0: the scheme's own (smtp 25, lmtp 24, qmtp 209, qmtps 6209, qmqp 628)
	Path   string // folder of a maildir, socket of an LMTP server
	Domain string // the recipients' domain; used with Host "mx" only
}

// Attempt is one message for some recipients.
type Attempt struct {
	MessageID   string // ours; with Leg it names the attempt's files and logs
	Leg         uint32
	ReversePath string // empty for the null reverse-path
	Recipients  []*pb.Recipient
	EnvID       string // RFC 3461 4.4, decoded; empty: none
	Ret         pb.Ret
	Body        pb.Body
	SMTPUTF8    bool

	Size    int64  // bytes that Content returns, without Prepend
	Prepend []byte // header lines ended by CRLF that go before the content
	// Content opens the content; it is called once for each transaction, and
	// once more to measure it where a protocol needs to know that before. The
	// reader may fail instead of returning io.EOF; the message is then
	// not sent, and the outcome is temporary.
	Content func(ctx context.Context) (io.ReadCloser, error)

	HELO      string       // how the client presents itself; required by smtp and lmtp
	SourceIPs []netip.Addr // to send from, by the family of the host; empty: the system's choice
	Own       []string     // names and addresses that are ourselves, for MX loops

	// Revoked, when it ends, cuts the attempt if its final dot is not yet sent.
	// After the dot the reply is awaited until ctx ends. Nil: never.
	Revoked context.Context
	// Held is asked at the final dot: false cuts the attempt, as Revoked does,
	// where nobody may have been told yet. Nil: yes.
	Held func() bool
	// BeforeDot and AfterDot are called around the point of no return: just
	// before the bytes that end the message are written (or a file gets its
	// final name), and just after, before the reply. Nil: nothing is called.
	BeforeDot, AfterDot func()
}

// Result is what an attempt came to.
type Result struct {
	Outcomes []Outcome // one per recipient, in their order
	Host     string    // the host that answered last; empty: none was reached
	IP       netip.Addr
	Source   netip.Addr // address we sent from
	TLS      string     // version and cipher suite; empty: plain
	Sent     bool       // the final dot was sent (or a file written)
	Reused   bool       // on a connection that was open already
	Tries    []Try      // hosts that were tried and gave no outcome, in order
}

// Try is one host that could not be used.
type Try struct {
	Host   string
	IP     netip.Addr
	At     Phase
	Status mail.Status
	Remote bool // Status is the host's own reply
}

// Outcome is one recipient's part of a result.
type Outcome struct {
	Status mail.Status
	Kind   Kind
	At     Phase
	Host   string // that it comes from; empty: none was spoken with
	DSN    bool   // that host takes the DSN parameters: reports are its duty now
}

// Kind says whose word an outcome is, and whether it is certain.
type Kind uint8

const (
	// Replied: Status is the peer's own reply to the phase At.
	Replied Kind = iota
	// Decided: Status is our own decision about the message or recipient, such
	// as too large for the peer, no such domain, or delivered into a file.
	Decided
	// Failed: a host could not be reached or spoken with, content could not be
	// read, a disk was full. Nothing was delivered; always temporary.
	Failed
	// Cut: given up before the final dot because Revoked or ctx
	// ended. Nothing was delivered, the attempt counts as not made.
	Cut
	// Unconfirmed: the final dot was sent and no reply came. The message may
	// have been delivered; always temporary.
	Unconfirmed
)

// String is the kind in lower case.
func (k Kind) String() string {
	return [...]string{"replied", "decided", "failed", "cut", "unconfirmed"}[k]
}

// Phase is where in an attempt something happened.
type Phase uint8

const (
	AtLookup   Phase = iota // finding hosts
	AtConnect               // TCP or socket
	AtGreeting              // the peer's first reply
	AtHello                 // EHLO, HELO or LHLO
	AtTLS                   // STARTTLS and its handshake
	AtMail                  // MAIL
	AtRcpt                  // RCPT
	AtData                  // DATA
	AtContent               // reading or sending content
	AtDot                   // the reply after the final dot
	AtFile                  // a file system
)

// String is the phase as logs and events name it.
func (p Phase) String() string {
	return [...]string{"lookup", "connect", "greeting", "hello", "starttls", "mail", "rcpt",
		"data", "content", "dot", "file"}[p]
}

// All is a result in which every recipient has the same outcome.
func (a *Attempt) All(o Outcome) []Outcome {
	os := make([]Outcome, len(a.Recipients))
	for i := range os {
		os[i] = o
	}
	return os
}

// Delivered reports whether every recipient was.
func (r Result) Delivered() bool {
	for _, o := range r.Outcomes {
		if !o.Status.OK() {
			return false
		}
	}
	return true
}
