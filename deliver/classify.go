package deliver

import (
	"strings"

	"qstream/mail"
	"qstream/transport"
)

// verdict is what becomes of a recipient.
type verdict int

const (
	deferred verdict = iota // tried again; the zero verdict, so that doubt is temporary
	delivered
	bounced
)

func (v verdict) String() string {
	return [...]string{"deferred", "delivered", "bounced"}[v]
}

// scope is what a reply is about.
type scope int

const (
	ofRecipient scope = iota // this recipient only
	ofLeg                    // the message: every recipient of it
	ofHost                   // the peer or the way to it: says nothing about the mail
)

func (s scope) String() string {
	return [...]string{"recipient", "leg", "host"}[s]
}

// rule is a row of the reply table. The first row that matches decides.
type rule struct {
	at       []transport.Phase // nil: every phase
	from, to int               // reply codes
	enhanced []string          // prefixes of the enhanced code; nil: any, also none
	verdict  verdict
	scope    scope
	why      string
}

// session are the phases before a message is spoken of.
var session = []transport.Phase{transport.AtLookup, transport.AtConnect, transport.AtGreeting, transport.AtHello, transport.AtTLS}

// rules is how a peer's reply is taken. What no row matches is deferred:
// nothing bounces that we don't understand, and nothing bounces for what we
// or the way to the peer got wrong.
var rules = []rule{
	{nil, 421, 421, nil, deferred, ofHost, "service closing the channel (RFC 5321 3.8)"},
	// As Postfix does by default (smtp_skip_5xx_greeting), also after the
	// greeting: what a host says before it heard of the mail is about us or
	// itself. 521 and 554 in greetings (RFC 7504, RFC 5321 3.1) come from hosts
	// that may stand beside a working one, or be there by mistake of a day.
	{session, 200, 599, nil, deferred, ofHost, "the session failed before the mail was named"},

	{[]transport.Phase{transport.AtDot, transport.AtFile}, 200, 299, nil, delivered, ofRecipient, "taken"},
	{nil, 200, 399, nil, deferred, ofLeg, "no reply that ends this phase"},
	{nil, 400, 499, nil, deferred, ofRecipient, "transient (RFC 5321 4.2.1)"},

	{nil, 500, 599, []string{"4.", "2."}, deferred, ofRecipient, "code and enhanced code contradict each other (RFC 3463 2)"},
	{nil, 500, 500, nil, deferred, ofHost, "command not understood: a fault of the dialogue"},
	{nil, 502, 504, nil, deferred, ofHost, "not implemented or out of sequence: a fault of the dialogue"},
	{nil, 530, 538, nil, deferred, ofHost, "we should have authenticated or encrypted (RFC 4954 6): a fault of the route"},
	// RFC 5321 4.5.3.1.10: 552 for too many recipients is old usage for 452.
	// A full mailbox or a size limit tells itself by its enhanced code.
	{[]transport.Phase{transport.AtRcpt}, 552, 552, []string{"5.2.", "5.3.4"}, bounced, ofRecipient, "mailbox full or message too large"},
	{[]transport.Phase{transport.AtRcpt}, 552, 552, nil, deferred, ofRecipient, "too many recipients (RFC 5321 4.5.3.1.10)"},
	{[]transport.Phase{transport.AtRcpt}, 500, 599, nil, bounced, ofRecipient, "recipient refused"},
	{[]transport.Phase{transport.AtMail, transport.AtData}, 500, 599, nil, bounced, ofLeg, "message refused"},
	{[]transport.Phase{transport.AtDot, transport.AtFile}, 500, 599, nil, bounced, ofRecipient, "message refused after it was read"},
}

// unknown is the row for what no other matches: codes that no RFC has, and
// replies to content while it is sent.
var unknown = rule{verdict: deferred, scope: ofHost, why: "not understood"}

// ruleFor finds the row of a reply.
func ruleFor(at transport.Phase, s mail.Status) rule {
	for _, r := range rules {
		if r.matches(at, s) {
			return r
		}
	}
	return unknown
}

func (r rule) matches(at transport.Phase, s mail.Status) bool {
	return s.Code >= r.from && s.Code <= r.to && r.inPhase(at) && r.hasEnhanced(s.Enhanced)
}

func (r rule) inPhase(at transport.Phase) bool {
	for _, p := range r.at {
		if p == at {
			return true
		}
	}
	return r.at == nil
}

func (r rule) hasEnhanced(code string) bool {
	for _, p := range r.enhanced {
		if strings.HasPrefix(code, p) {
			return true
		}
	}
	return r.enhanced == nil
}

// classify says what becomes of a recipient after an attempt.
func classify(o transport.Outcome) (verdict, scope) {
	switch o.Kind {
	case transport.Replied:
		r := ruleFor(o.At, o.Status)
		return r.verdict, r.scope
	case transport.Decided:
		return decided(o.Status), ofRecipient
	case transport.Failed:
		return deferred, failedScope(o.At)
	}
	return deferred, ofLeg
}

func decided(s mail.Status) verdict {
	switch {
	case s.OK():
		return delivered
	case s.Permanent():
		return bounced
	}
	return deferred
}

func failedScope(at transport.Phase) scope {
	if at == transport.AtContent || at == transport.AtFile {
		return ofLeg
	}
	return ofHost
}

// reached reports whether an outcome shows that a host answered: the breaker
// counts what happens before a host has taken our greeting.
func reached(o transport.Outcome) bool {
	switch o.Kind {
	case transport.Replied:
		return o.At > transport.AtHello
	case transport.Failed:
		return o.At > transport.AtHello
	}
	return true
}
