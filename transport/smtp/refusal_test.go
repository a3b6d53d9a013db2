package smtp_test

import (
	"fmt"
	"testing"

	"qstream/mail"
	"qstream/test/fakemx"
	"qstream/transport"
	"qstream/transport/smtp"
)

// none is an EHLO without extensions: no pipelining.
var none = []string{}

// outcome is what two recipients, b and c, end with.
type outcome struct {
	kind transport.Kind
	at   transport.Phase
	code int
}

func (o outcome) String() string { return fmt.Sprintf("%d %s at %s", o.code, o.kind, o.at) }

func outcomeOf(o transport.Outcome) outcome { return outcome{o.Kind, o.At, o.Status.Code} }

var taken = outcome{transport.Replied, transport.AtDot, 250}

// refusals is every verb with every sort of answer, and what the recipients
// end with. The first recipient's RCPT is the one that is answered.
var refusals = []struct {
	name string
	rule fakemx.Rule
	b, c outcome
}{
	{"greeting 421", fakemx.Rule{Line: "CONNECT", Reply: "421 4.3.2 busy"}, outcome{0, transport.AtGreeting, 421}, outcome{0, transport.AtGreeting, 421}},
	{"greeting 450", fakemx.Rule{Line: "CONNECT", Reply: "450 no"}, outcome{0, transport.AtGreeting, 450}, outcome{0, transport.AtGreeting, 450}},
	{"greeting 554", fakemx.Rule{Line: "CONNECT", Reply: "554 5.7.1 blocked"}, failed(transport.AtGreeting), failed(transport.AtGreeting)},
	{"greeting 250", fakemx.Rule{Line: "CONNECT", Reply: "250 odd"}, failed(transport.AtGreeting), failed(transport.AtGreeting)},
	{"greeting of HTTP", fakemx.Rule{Line: "CONNECT", Raw: "HTTP/1.1 400 Bad Request\r\n\r\n"}, failed(transport.AtGreeting), failed(transport.AtGreeting)},
	{"greeting never", fakemx.Rule{Line: "CONNECT", Silent: true}, failed(transport.AtGreeting), failed(transport.AtGreeting)},
	{"greeting hung up", fakemx.Rule{Line: "CONNECT", Drop: true}, failed(transport.AtGreeting), failed(transport.AtGreeting)},
	{"greeting reset", fakemx.Rule{Line: "CONNECT", Reset: true}, outcome{}, outcome{}},
	{"greeting half closed", fakemx.Rule{Line: "CONNECT", Half: true}, failed(transport.AtHello), failed(transport.AtHello)},

	{"EHLO 421", fakemx.Rule{Line: "EHLO", Reply: "421 bye"}, outcome{0, transport.AtHello, 421}, outcome{0, transport.AtHello, 421}},
	{"EHLO 550", fakemx.Rule{Line: "EHLO", Reply: "550 HELO only"}, taken, taken},
	{"EHLO and HELO 550", fakemx.Rule{Line: "", After: 1, Reply: "550 5.7.1 not you"}, failed(transport.AtHello), failed(transport.AtHello)},
	{"EHLO hung up", fakemx.Rule{Line: "EHLO", Drop: true}, failed(transport.AtHello), failed(transport.AtHello)},

	{"MAIL 451", fakemx.Rule{Line: "MAIL", Reply: "451 4.3.0 later"}, outcome{0, transport.AtMail, 451}, outcome{0, transport.AtMail, 451}},
	{"MAIL 421", fakemx.Rule{Line: "MAIL", Reply: "421 bye", Hangup: true}, outcome{0, transport.AtMail, 421}, outcome{0, transport.AtMail, 421}},
	{"MAIL 550", fakemx.Rule{Line: "MAIL", Reply: "550 5.7.1 no"}, outcome{0, transport.AtMail, 550}, outcome{0, transport.AtMail, 550}},
	{"MAIL 550 hung up", fakemx.Rule{Line: "MAIL", Reply: "550 5.7.1 no", Hangup: true}, outcome{0, transport.AtMail, 550}, outcome{0, transport.AtMail, 550}},
	{"MAIL 354", fakemx.Rule{Line: "MAIL", Reply: "354 odd"}, failed(transport.AtMail), failed(transport.AtMail)},
	{"MAIL garbage", fakemx.Rule{Line: "MAIL", Raw: "what?\r\n"}, failed(transport.AtMail), failed(transport.AtMail)},
	{"MAIL never", fakemx.Rule{Line: "MAIL", Silent: true}, failed(transport.AtMail), failed(transport.AtMail)},
	{"MAIL hung up", fakemx.Rule{Line: "MAIL", Drop: true}, failed(transport.AtMail), failed(transport.AtMail)},

	{"RCPT 550 one", fakemx.Rule{Line: "RCPT TO:<b@", Reply: "550 5.1.1 unknown"}, outcome{0, transport.AtRcpt, 550}, taken},
	{"RCPT 450 one", fakemx.Rule{Line: "RCPT TO:<b@", Reply: "450 4.2.0 greylisted"}, outcome{0, transport.AtRcpt, 450}, taken},
	{"RCPT 251 one", fakemx.Rule{Line: "RCPT TO:<b@", Reply: "251 will forward"}, taken, taken},
	{"RCPT 550 all", fakemx.Rule{Line: "RCPT", Reply: "550 5.1.1 unknown"}, outcome{0, transport.AtRcpt, 550}, outcome{0, transport.AtRcpt, 550}},
	{"RCPT 421 at the second", fakemx.Rule{Line: "RCPT TO:<c@", Reply: "421 bye", Hangup: true}, outcome{0, transport.AtRcpt, 421}, outcome{0, transport.AtRcpt, 421}},
	{"RCPT 354", fakemx.Rule{Line: "RCPT TO:<b@", Reply: "354 odd"}, failed(transport.AtRcpt), failed(transport.AtRcpt)},
	{"RCPT 550, then hung up", fakemx.Rule{Line: "RCPT TO:<b@", Reply: "550 5.1.1 unknown", Hangup: true}, outcome{0, transport.AtRcpt, 550}, failed(transport.AtRcpt)},
	{"RCPT never", fakemx.Rule{Line: "RCPT TO:<c@", Silent: true}, failed(transport.AtRcpt), failed(transport.AtRcpt)},

	{"DATA 451", fakemx.Rule{Line: "DATA", Reply: "451 4.3.0 later"}, outcome{0, transport.AtData, 451}, outcome{0, transport.AtData, 451}},
	{"DATA 554", fakemx.Rule{Line: "DATA", Reply: "554 5.7.1 no"}, outcome{0, transport.AtData, 554}, outcome{0, transport.AtData, 554}},
	{"DATA 421", fakemx.Rule{Line: "DATA", Reply: "421 bye", Hangup: true}, outcome{0, transport.AtData, 421}, outcome{0, transport.AtData, 421}},
	{"DATA 250", fakemx.Rule{Line: "DATA", Reply: "250 odd"}, failed(transport.AtData), failed(transport.AtData)},
	{"DATA hung up", fakemx.Rule{Line: "DATA", Drop: true}, failed(transport.AtData), failed(transport.AtData)},
	{"DATA never", fakemx.Rule{Line: "DATA", Silent: true}, failed(transport.AtData), failed(transport.AtData)},

	{"dot 451", fakemx.Rule{Line: ".", Reply: "451 4.3.0 later"}, outcome{0, transport.AtDot, 451}, outcome{0, transport.AtDot, 451}},
	{"dot 550", fakemx.Rule{Line: ".", Reply: "550 5.7.1 spam"}, outcome{0, transport.AtDot, 550}, outcome{0, transport.AtDot, 550}},
	{"dot 421", fakemx.Rule{Line: ".", Reply: "421 bye", Hangup: true}, outcome{0, transport.AtDot, 421}, outcome{0, transport.AtDot, 421}},
	{"dot 354", fakemx.Rule{Line: ".", Reply: "354 odd"}, unconfirmed, unconfirmed},
	{"dot garbage", fakemx.Rule{Line: ".", Raw: "what?\r\n"}, unconfirmed, unconfirmed},
	{"dot half a reply", fakemx.Rule{Line: ".", Raw: "250-so", Hangup: true}, unconfirmed, unconfirmed},
	{"dot hung up", fakemx.Rule{Line: ".", Drop: true}, unconfirmed, unconfirmed},
	{"dot reset", fakemx.Rule{Line: ".", Reset: true}, unconfirmed, unconfirmed},
	{"dot never", fakemx.Rule{Line: ".", Silent: true}, unconfirmed, unconfirmed},
	{"dot half closed", fakemx.Rule{Line: ".", Half: true}, taken, taken},
	{"nothing", fakemx.Rule{Line: "nothing"}, taken, taken},
}

var unconfirmed = outcome{transport.Unconfirmed, transport.AtDot, 451}

func failed(at transport.Phase) outcome { return outcome{transport.Failed, at, 451} }

func TestRefusals(t *testing.T) {
	for mode, extensions := range map[string][]string{"pipelining": nil, "one by one": none} {
		for _, c := range refusals {
			t.Run(mode+"/"+c.name, func(t *testing.T) {
				t.Parallel()
				s := start(t, fakemx.Config{Extensions: extensions, Rules: []fakemx.Rule{c.rule}})
				r := newClient(t, smtp.Config{Timeouts: short}).
					Deliver(t.Context(), to(s), attempt(small, "b@rcpt.example", "c@rcpt.example"))
				check(t, s, r, c.b, c.c)
			})
		}
	}
}

// check compares outcomes, and holds them against what the peer accepted. The
// zero outcome stands for "failed, wherever it showed".
func check(t *testing.T, s *fakemx.Server, r transport.Result, wants ...outcome) {
	t.Helper()
	ok := 0
	for i, want := range wants {
		got := outcomeOf(r.Outcomes[i])
		if want == (outcome{}) {
			if got.kind != transport.Failed || got.code != 451 {
				t.Errorf("recipient %d: %v, want a failure", i, got)
			}
			continue
		}
		if got != want {
			t.Errorf("recipient %d: %v (%s), want %v", i, got, r.Outcomes[i].Status, want)
		}
		if got.kind == transport.Failed && !r.Outcomes[i].Status.Temporary() {
			t.Errorf("recipient %d: a failure that is not temporary: %v", i, r.Outcomes[i].Status)
		}
		if got == taken {
			ok++
		}
	}
	rcpts := 0
	for _, m := range s.Accepted() {
		rcpts += len(m.Rcpts)
	}
	if ok != 0 && rcpts != ok {
		t.Errorf("%d recipients delivered, the peer took %d", ok, rcpts)
	}
	if r.Outcomes[0].Kind != transport.Unconfirmed && ok == 0 && rcpts != 0 {
		t.Errorf("the peer took mail that is reported as not delivered: %+v", r.Outcomes)
	}
}

// TestHostilePipeline: replies that don't fit to what was asked.
func TestHostilePipeline(t *testing.T) {
	for name, rules := range map[string][]fakemx.Rule{
		// RFC 2920 3.1: 354 though nobody was accepted; the client must end it.
		"354 after refused recipients": {
			{Line: "RCPT", Reply: "550 5.1.1 unknown"}, {Line: "DATA", Reply: "354 go on"}},
		"354 after refused MAIL": {
			{Line: "MAIL", Reply: "550 5.7.1 no"}, {Line: "RCPT", Reply: "550 5.7.1 no"}, {Line: "DATA", Reply: "354 go on"}},
		"RCPT accepted after refused MAIL": {
			{Line: "MAIL", Reply: "550 5.7.1 no"}, {Line: "RCPT", Reply: "250 fine"}, {Line: "DATA", Reply: "354 go on"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t, fakemx.Config{Rules: rules})
			c := newClient(t, smtp.Config{Timeouts: short})
			r := c.Deliver(t.Context(), to(s), attempt(small, "b@rcpt.example"))
			if o := outcomeOf(r.Outcomes[0]); o.code != 550 || o.kind != transport.Replied || r.Sent {
				t.Errorf("outcome %v, sent %v", o, r.Sent)
			}
			for _, m := range s.Messages() {
				if len(m.Data) > 0 {
					t.Errorf("content was sent: %q", m.Data)
				}
			}
			s.SetRules()
			if r = c.Deliver(t.Context(), to(s), attempt(small, "b@rcpt.example")); !r.Delivered() {
				t.Errorf("the next message failed: %+v", r)
			}
		})
	}
}

// TestTextsAreKept: what the peer said is what the sender will read.
func TestTextsAreKept(t *testing.T) {
	s := start(t, fakemx.Config{Rules: []fakemx.Rule{{Line: "RCPT", Reply: "550 5.7.1 first\n5.7.1 second"}}})
	r := newClient(t, smtp.Config{}).Deliver(t.Context(), to(s), attempt(small, "b@rcpt.example"))
	want := mail.Status{Code: 550, Enhanced: "5.7.1", Text: "first\nsecond"}
	if r.Outcomes[0].Status != want {
		t.Errorf("got %+v, want %+v", r.Outcomes[0].Status, want)
	}
}
