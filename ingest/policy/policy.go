// Package policy decides what the edge answers a client, beyond who may relay:
// greeting, sender, recipient, numbers, content, as the directory's policy for
// the recipient and the connection's rule ask for it.
//
// Guarantee: a verdict is a function of settings and facts alone. What it
// takes to know a fact (DNS, programs, files) is done elsewhere, and only for
// facts that a verdict asked for.
// Guarantee: what could not be found out is temporary.
//
// Codes follow qmail-smtpd; where it has none or two, RFC 3463 decides.
package policy

import (
	"net/netip"
	"strings"
	"time"

	"qstream/directory"
	"qstream/mail"
	"qstream/qmail"
)

// Settings are what holds for one recipient. Lists are nil where none are
// given.
type Settings struct {
	qmail.Variables
	Policy         *directory.Policy // nil: only the connection's rule speaks
	BadMailFrom    *qmail.List
	BadRcptTo      *qmail.List
	BadHELO        *qmail.List
	MailFromRules  *qmail.SenderRules
	BadMIMETypes   *qmail.Types
	BadLoaderTypes *qmail.Types
	Broken         bool // a file that the policy names can't be read
}

// Answer is what was found out of a fact.
type Answer int

// Answers.
const (
	Unknown Answer = iota // nobody asked yet
	Yes
	No
	Fault // there was no answer
)

// Need is a fact that a verdict waits for.
type Need int

// Needs.
const (
	Nothing     Need = iota
	HELODNS          // whether the greeting is in DNS
	SenderDNS        // whether the sender's domain takes mail
	OwnDomain        // whether the sender's domain is one of ours
	MailboxHere      // whether the recipient exists
)

// Facts are what is known of a client, its transaction and one recipient.
type Facts struct {
	Relay     bool // it may relay
	Owned     bool // the recipient's domain is one of ours
	IP        netip.Addr
	Name      string // by DNS, verified; empty without one
	User      string // who authenticated
	CertEmail string // address in a verified client certificate
	HELO      string
	// Greeting is what a list says of HELO; nil: it is looked up. A session
	// that remembers it saves a look at every pattern for each recipient.
	Greeting  func(*qmail.List) qmail.Match
	Sender    string // "" for the null path
	Recipient string
	Size      int64 // announced; 0 if not

	Offered   int // recipients of the transaction, with this one
	Accepted  int // recipients of the session
	Notfound  int // of the session, that didn't exist
	Answers   [MailboxHere + 1]Answer
	Companion *Content // of recipients already taken; nil: none is
}

// Verdict is what becomes of a recipient. The zero Verdict takes it.
type Verdict struct {
	Status   mail.Status // zero: it is taken
	Reason   string      // of a refusal, from a closed set
	Delay    time.Duration
	Notfound bool // the recipient doesn't exist
	End      bool // DATA is refused, and the session ends there
}

func refuse(reason string, code int, enhanced, text, custom string) Verdict {
	if custom != "" {
		text += " " + mail.Printable(custom)
	}
	return Verdict{Status: mail.Status{Code: code, Enhanced: enhanced, Text: text}, Reason: reason}
}

// RelayDenied is the refusal of a recipient that is not ours.
func RelayDenied(s *Settings) Verdict {
	return refuse("relay", 553, "5.7.1", "relaying denied", s.Replies.NoGateway)
}

// check is a rule of a recipient's fate: a verdict that refuses or a need end
// the evaluation.
type check func(*Settings, *Facts) (Verdict, Need)

// checks in their order, which is qmail-smtpd's.
var (
	ofStrangers = []check{broken, greeting, senderDNS, relaying, tarpit, mailbox}
	ofRelays    = []check{broken, localSender}
	ofAll       = []check{badSender, badRecipient, announced, number, company}
)

// Recipient evaluates everything that is known at RCPT. If it needs a fact it
// says so: find it and call again.
func Recipient(s *Settings, f *Facts) (Verdict, Need) {
	first := ofStrangers
	if f.Relay {
		first = ofRelays
	}
	var delay time.Duration
	for _, checks := range [][]check{first, ofAll} {
		for _, c := range checks {
			v, need := c(s, f)
			if need != Nothing {
				return Verdict{}, need
			}
			if v.Status.Code != 0 {
				v.Delay = max(delay, v.Delay)
				return v, Nothing
			}
			delay = max(delay, v.Delay)
		}
	}
	return Verdict{Delay: delay}, Nothing
}

func broken(s *Settings, _ *Facts) (Verdict, Need) {
	if s.Broken {
		return refuse("policy", 451, "4.3.0", "cannot read policy at the moment, try again later", ""), Nothing
	}
	return Verdict{}, Nothing
}

// greeting is HELOCHECK.
func greeting(s *Settings, f *Facts) (Verdict, Need) {
	how := s.HELO
	if how == qmail.HELOUnset && s.BadHELO != nil {
		how = qmail.HELOList
	}
	bad := refuse("helo", 550, "5.7.1", "invalid HELO/EHLO greeting", s.Replies.HELO)
	switch {
	case how == qmail.HELOUnset || how == qmail.HELOOff:
		return Verdict{}, Nothing
	case f.HELO == "" && how != qmail.HELOList:
		return bad, Nothing
	case how == qmail.HELORequired:
		return Verdict{}, Nothing
	}
	switch m := f.greeting(s.BadHELO); {
	case m.Allowed:
		return Verdict{}, Nothing
	case m.Bad:
		return bad, Nothing
	}
	switch how {
	case qmail.HELOEqual:
		if !strings.EqualFold(f.HELO, f.Name) {
			return bad, Nothing
		}
	case qmail.HELOAddress, qmail.HELOMail:
		return inDNS(f.Answers[HELODNS], HELODNS, bad)
	}
	return Verdict{}, Nothing
}

func (f *Facts) greeting(l *qmail.List) qmail.Match {
	if f.Greeting != nil {
		return f.Greeting(l)
	}
	return l.HELO(f.HELO)
}

// inDNS turns an answer of DNS into a verdict.
func inDNS(a Answer, need Need, bad Verdict) (Verdict, Need) {
	switch a {
	case Unknown:
		return Verdict{}, need
	case No:
		return bad, Nothing
	case Fault:
		return refuse("dns", 451, "4.4.3", "DNS temporary failure, try again later", ""), Nothing
	}
	return Verdict{}, Nothing
}

// senderDNS is MFDNSCHECK.
func senderDNS(s *Settings, f *Facts) (Verdict, Need) {
	if s.SenderDNS != qmail.On || mail.Domain(f.Sender) == "" || s.BadMailFrom.Address(f.Sender, f.peer()).Allowed {
		return Verdict{}, Nothing
	}
	return inDNS(f.Answers[SenderDNS], SenderDNS,
		refuse("sender_dns", 553, "5.1.8", "your envelope sender must exist", s.Replies.SenderExist))
}

func relaying(s *Settings, f *Facts) (Verdict, Need) {
	if f.Owned {
		return Verdict{}, Nothing
	}
	return RelayDenied(s), Nothing
}

// tarpit is TARPITCOUNT and TARPITDELAY.
func tarpit(s *Settings, f *Facts) (Verdict, Need) {
	if s.TarpitCount == 0 {
		return Verdict{}, Nothing
	}
	if s.TarpitDelay == qmail.TarpitRefuse || s.TarpitDelay == qmail.TarpitEnd {
		if f.Notfound < s.TarpitCount {
			return Verdict{}, Nothing
		}
		v := refuse("tarpit", 452, "4.5.3", "too many recipients", "")
		v.End = s.TarpitDelay == qmail.TarpitEnd
		return v, Nothing
	}
	if f.Offered >= s.TarpitCount {
		return Verdict{Delay: time.Duration(s.TarpitDelay) * time.Second}, Nothing
	}
	return Verdict{}, Nothing
}

// mailbox is the recipient check.
func mailbox(s *Settings, f *Facts) (Verdict, Need) {
	if s.Policy == nil || s.Policy.Recipients == nil {
		return Verdict{}, Nothing
	}
	switch f.Answers[MailboxHere] {
	case Unknown:
		return Verdict{}, MailboxHere
	case No:
		v := refuse("mailbox", 550, "5.1.1", "no mailbox by that name", s.Replies.Mailbox)
		if s.Recipients450 == qmail.On {
			v = refuse("mailbox", 450, "4.2.1", "mailbox currently unavailable", s.Replies.Mailbox)
		}
		v.Notfound = true
		return v, Nothing
	case Fault:
		return mailboxFault(s.Policy.Recipients.OnFault), Nothing
	}
	return Verdict{}, Nothing
}

func mailboxFault(how string) Verdict {
	switch how {
	case directory.FaultAccept:
		return Verdict{}
	case directory.FaultClose:
		return refuse("lookup", 421, "4.3.0", "unable to check recipients", "")
	}
	return refuse("lookup", 451, "4.3.0", "unable to check recipients, try again later", "")
}

// localSender is LOCALMFCHECK (MAV).
func localSender(s *Settings, f *Facts) (Verdict, Need) {
	how := s.LocalSender
	if how == "" && s.MailFromRules != nil {
		how = qmail.SenderByRules
	}
	if how == "" || how == qmail.SenderAny || f.Sender == "" {
		return Verdict{}, Nothing
	}
	ok := false
	switch {
	case how == qmail.SenderByRules && s.MailFromRules != nil:
		ok = s.MailFromRules.Admits(qmail.Submitter{IP: f.IP, Name: f.Name, User: f.User}, f.Sender)
	case how == qmail.SenderIsUser:
		ok = strings.EqualFold(f.Sender, f.User)
	case how == qmail.SenderInCert:
		ok = strings.EqualFold(f.Sender, f.CertEmail)
	case how == qmail.SenderDomainOurs || how == qmail.SenderByRules: // rules that aren't there
		if f.Answers[OwnDomain] == Unknown {
			return Verdict{}, OwnDomain
		}
		ok = f.Answers[OwnDomain] == Yes
	default:
		ok = mail.Domain(f.Sender) == how
	}
	if ok {
		return Verdict{}, Nothing
	}
	return refuse("sender", 553, "5.7.1", "invalid sender address specified", s.Replies.SenderInvalid), Nothing
}

func (f *Facts) peer() qmail.Peer { return qmail.Peer{Name: f.Name, Relay: f.Relay} }

func badSender(s *Settings, f *Facts) (Verdict, Need) {
	if s.BadMailFrom.Address(f.Sender, f.peer()).Bad {
		return refuse("bad_sender", 553, "5.7.1", "your envelope sender is in my badmailfrom list", s.Replies.BadMailFrom), Nothing
	}
	return Verdict{}, Nothing
}

func badRecipient(s *Settings, f *Facts) (Verdict, Need) {
	if s.BadRcptTo.Address(f.Recipient, f.peer()).Bad {
		return refuse("bad_recipient", 550, "5.7.1", "your envelope recipient is in my badrcptto list", s.Replies.BadRcptTo), Nothing
	}
	return Verdict{}, Nothing
}

// announced is DATABYTES against SIZE=.
func announced(s *Settings, f *Facts) (Verdict, Need) {
	if s.DataBytes > 0 && f.Size > s.DataBytes {
		return TooBig(s.Replies.MaxSize), Nothing
	}
	return Verdict{}, Nothing
}

// TooBig is the refusal of what exceeds DATABYTES.
func TooBig(custom string) Verdict {
	return refuse("size", 552, "5.3.4", "that message size exceeds my databytes limit", custom)
}

// number is MAXRECIPIENTS.
func number(s *Settings, f *Facts) (Verdict, Need) {
	if s.MaxRecipients > 0 && f.Accepted >= s.MaxRecipients {
		return refuse("recipients", 452, "4.5.3", "too many recipients", ""), Nothing
	}
	return Verdict{}, Nothing
}

// company keeps recipients apart that one reply to DATA can't serve.
func company(s *Settings, f *Facts) (Verdict, Need) {
	if f.Companion == nil || f.Companion.Equal(s.Content(f.Relay)) {
		return Verdict{}, Nothing
	}
	return refuse("company", 452, "4.5.3", "send this recipient's mail by itself: its policy differs from others'", ""), Nothing
}

// Content is what is asked of content; recipients of one message share it.
type Content struct {
	Rules     qmail.ContentRules
	DataBytes int64 // 0: no limit beyond the listener's
	BadReply  string
	BigReply  string
}

// Equal reports whether one reply serves both.
func (c Content) Equal(o Content) bool {
	return c.Rules.Equal(o.Rules) && c.DataBytes == o.DataBytes && c.BadReply == o.BadReply && c.BigReply == o.BigReply
}

// Content is what is asked of a recipient's content.
func (s *Settings) Content(relay bool) Content {
	c := Content{DataBytes: s.DataBytes}
	if c.DataBytes > 0 {
		c.BigReply = s.Replies.MaxSize
	}
	if searched(s.MIMEType, relay) {
		c.Rules.MIME = s.BadMIMETypes
		c.Rules.Blanks = s.MIMEType == qmail.ContentBlanks
	}
	if searched(s.LoaderType, relay) {
		c.Rules.Loaders, c.Rules.Loader = s.BadLoaderTypes, s.Loader
	}
	if !c.Rules.Empty() {
		c.BadReply = s.Replies.Content
	}
	return c
}

func searched(how qmail.ContentCheck, relay bool) bool {
	return how != qmail.ContentOff && (how != qmail.ContentStrangers || !relay)
}

// Found is the refusal of content.
func (c Content) Found(f qmail.Finding) Verdict {
	if f == qmail.BadLoaderType {
		return refuse("content", 554, "5.7.1", "invalid message content", c.BadReply)
	}
	return refuse("content", 554, "5.3.2", "invalid message content", c.BadReply)
}

// Tarpitted is the answer to DATA after Verdict.End.
func Tarpitted() Verdict {
	return refuse("tarpit", 503, "5.5.1", "DATA command not accepted at this time", "")
}
