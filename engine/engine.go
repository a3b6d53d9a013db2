// Package engine is what looks into mail: the common shape of a scan and of
// its verdict. The clients are in the folders below (clamd), each a package
// with New and a Config; enginetest holds the suite that each of them passes.
//
// Guarantee: the zero Verdict is a failure. Clean is only said by an engine
// that answered that it found nothing, after it was given all of the message or
// said itself that it wants no more of it.
// Guarantee: content that fails to read is never ended towards an engine as if
// it were whole.
// Guarantee: what an engine answers is bounded in size and time, and can't
// make the caller panic; its texts are printable and at most MaxText long.
//
// An engine makes no decision about mail: what becomes of a verdict is the
// policy of who asked. It keeps no verdicts, and tries nothing twice on its own
// once content has been read.
package engine

import (
	"context"
	"io"
	"net/netip"
	"strings"
	"time"
	"unicode/utf8"

	"qstream/mail"
)

// Engine scans messages. Its methods are safe for concurrent use.
type Engine interface {
	// Name is what the engine is called in verdicts, logs and metrics; it never
	// changes.
	Name() string
	// Scan reads content, the message as it would be delivered with lines
	// ended by CRLF, and returns the verdict. It returns soon after ctx ends,
	// if content's own reads do, and reads no more after it has returned. It
	// may return before the end of content. f is only read; its facts are hints that content itself doesn't
	// tell, and hostile text.
	Scan(ctx context.Context, content io.Reader, f *Facts) Verdict
	// State asks the engine what it knows at present. An error says that it
	// can't be used now.
	State(ctx context.Context) (State, error)
	// Close ends what is kept open between scans. No Scan may run.
	Close() error
}

// Facts are what the envelope and the session tell of a message. Every field
// may be zero.
type Facts struct {
	MessageID   string // ours
	Client      netip.Addr
	ClientName  string // its verified name by DNS
	HELO        string
	User        string // who authenticated
	ReversePath string // empty for the null reverse-path
	Recipients  []string
	Size        int64 // of content in bytes; 0: not known
}

// State is what an engine tells of itself.
type State struct {
	Software string // name and version, for people
	// Signatures names the set of signatures or rules in force. Two scans of
	// the same content under the same name give the same verdict. Empty: the
	// engine doesn't tell, and verdicts can't be kept by it.
	Signatures string
	Built      time.Time // when that set was made; zero: not known
}

// Outcome is what a scan came to.
type Outcome uint8

const (
	// Failed: no verdict, for a reason that may pass. The message wasn't
	// scanned, or not to its end. It is the zero value.
	Failed Outcome = iota
	// Clean: the engine looked at all of it and found nothing, or its own
	// settings say that such mail passes without a look; Detail tells that.
	Clean
	// Malware: Name says which.
	Malware
	// Spam: Score is above the engine's own threshold. Engines that score
	// give their score with Clean, too.
	Spam
	// Refused: the engine wants the message refused and says no more than
	// Status and Advice.
	Refused
	// Unscannable: the engine can't look at all of it, and will not be able to
	// later. Reason says why.
	Unscannable
	// Encrypted: parts can't be looked into because they are encrypted, and
	// nothing was found in the others.
	Encrypted
)

var outcomes = [...]string{"failed", "clean", "malware", "spam", "refused", "unscannable", "encrypted"}

// String is the outcome in lower case.
func (o Outcome) String() string { return outcomes[o] }

// Reason says why an outcome is Failed, Unscannable or Encrypted. It is from a
// closed set, fit for a label.
type Reason uint8

const (
	NoReason Reason = iota

	// Of Failed.
	Unreachable // no connection
	Late        // no answer, or no progress, in time; or the scan was called off
	Broken      // the engine said what its protocol doesn't know, or ended the connection
	Trouble     // the engine reported a failure of its own
	Unreadable  // content could not be read; not the engine's fault

	// Of Unscannable.
	TooLarge     // the message, or something in it, is larger than is scanned
	TooDeep      // nested deeper than is scanned
	TooMany      // more parts than are scanned
	TooLong      // takes longer than is allowed
	Damaged      // not what it says it is
	NotSupported // of a form that can't be looked into
	OutOfScope   // the engine is set up not to look at such mail

	// Of Encrypted.
	Archive // a member of an archive, or a document
	Message // the mail itself: S/MIME or OpenPGP
)

var reasons = [...]string{"", "unreachable", "late", "broken", "trouble", "unreadable",
	"too large", "too deep", "too many", "too long", "damaged", "not supported", "out of scope", "archive", "message"}

// String is the reason in lower case; empty for none.
func (r Reason) String() string { return reasons[r] }

// Verdict is what an engine says of a message. Texts are printable and at most
// MaxText long.
type Verdict struct {
	Engine  string
	Outcome Outcome
	Reason  Reason
	Name    string // of what was found
	Detail  string // for people; may name what was tried
	// Signatures is State.Signatures as it was when the scan began; what was in
	// force at its end can only be newer.
	Signatures string

	// Of engines that score or advise.
	Score, Threshold float64 // Threshold is the engine's own for refusing
	Advice           Advice
	Symbols          []Symbol    // at most MaxSymbols
	Changes          []Change    // of the header, in order; at most MaxChanges
	Status           mail.Status // the reply it wants given; zero: none
	Refusals         []Refusal   // recipients it refuses while it judges the message for the others
}

// Refusal is a recipient that an engine refuses.
type Refusal struct {
	Recipient int // index in Facts.Recipients
	Status    mail.Status
}

// Bad reports an outcome that says something against the message.
func (v Verdict) Bad() bool { return v.Outcome == Malware || v.Outcome == Spam || v.Outcome == Refused }

// MaxText is the longest text in a verdict, in bytes.
const MaxText = 256

// Text makes what an engine said fit for a verdict.
func Text(s string) string {
	if len(s) > MaxText {
		s = s[:MaxText]
		for len(s) > 0 && !utf8.ValidString(s[max(0, len(s)-utf8.UTFMax):]) && !utf8.RuneStart(s[len(s)-1]) {
			s = s[:len(s)-1]
		}
	}
	return strings.TrimSpace(mail.Printable(s))
}
