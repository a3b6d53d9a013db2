package deliver

import (
	"fmt"
	"strings"
	"testing"

	"qstream/mail"
	"qstream/transport"
)

// replyTable is what becomes of every code from 200 to 599 in every phase,
// without an enhanced code. Codes that aren't listed in a phase are as its
// last row says.
var replyTable = map[transport.Phase]string{
	transport.AtLookup:   "200-599 deferred host",
	transport.AtConnect:  "200-599 deferred host",
	transport.AtGreeting: "200-599 deferred host",
	transport.AtHello:    "200-599 deferred host",
	transport.AtTLS:      "200-599 deferred host",
	transport.AtMail: `200-399 deferred leg, 400-420 deferred recipient, 421 deferred host, 422-499 deferred recipient,
		500 deferred host, 501 bounced leg, 502-504 deferred host, 505-529 bounced leg, 530-538 deferred host, 539-599 bounced leg`,
	transport.AtRcpt: `200-399 deferred leg, 400-420 deferred recipient, 421 deferred host, 422-499 deferred recipient,
		500 deferred host, 501 bounced recipient, 502-504 deferred host, 505-529 bounced recipient, 530-538 deferred host,
		539-551 bounced recipient, 552 deferred recipient, 553-599 bounced recipient`,
	transport.AtData: `200-399 deferred leg, 400-420 deferred recipient, 421 deferred host, 422-499 deferred recipient,
		500 deferred host, 501 bounced leg, 502-504 deferred host, 505-529 bounced leg, 530-538 deferred host, 539-599 bounced leg`,
	transport.AtContent: `200-399 deferred leg, 400-420 deferred recipient, 421 deferred host, 422-499 deferred recipient, 500-599 deferred host`,
	transport.AtDot: `200-299 delivered recipient, 300-399 deferred leg, 400-420 deferred recipient, 421 deferred host, 422-499 deferred recipient,
		500 deferred host, 501 bounced recipient, 502-504 deferred host, 505-529 bounced recipient, 530-538 deferred host, 539-599 bounced recipient`,
	transport.AtFile: `200-299 delivered recipient, 300-399 deferred leg, 400-420 deferred recipient, 421 deferred host, 422-499 deferred recipient,
		500 deferred host, 501 bounced recipient, 502-504 deferred host, 505-529 bounced recipient, 530-538 deferred host, 539-599 bounced recipient`,
}

func TestEveryReplyInEveryPhase(t *testing.T) {
	for at := transport.AtLookup; at <= transport.AtFile; at++ {
		code := 200
		for _, row := range strings.Split(replyTable[at], ",") {
			from, to, want := parseRow(t, row)
			if from != code {
				t.Fatalf("%v: the table goes on at %d, want %d", at, from, code)
			}
			for ; code <= to; code++ {
				v, s := classify(transport.Outcome{At: at, Status: mail.Status{Code: code}})
				if got := fmt.Sprint(v, " ", s); got != want {
					t.Errorf("%v %d: %s, want %s", at, code, got, want)
				}
			}
		}
		if code != 600 {
			t.Errorf("%v: the table ends before %d", at, code)
		}
	}
}

func parseRow(t *testing.T, row string) (from, to int, want string) {
	t.Helper()
	codes, want, _ := strings.Cut(strings.TrimSpace(row), " ")
	if _, err := fmt.Sscanf(codes, "%d-%d", &from, &to); err == nil {
		return from, to, want
	}
	if _, err := fmt.Sscanf(codes, "%d", &from); err != nil {
		t.Fatalf("row %q: %v", row, err)
	}
	return from, from, want
}

func TestClassify(t *testing.T) {
	for _, c := range []struct {
		name string
		o    transport.Outcome
		want verdict
	}{
		{"nothing known", transport.Outcome{}, deferred},
		{"552 too many recipients", replied(transport.AtRcpt, 552, "5.5.3"), deferred},
		{"552 mailbox full", replied(transport.AtRcpt, 552, "5.2.2"), bounced},
		{"552 too large at MAIL", replied(transport.AtMail, 552, "5.3.4"), bounced},
		{"contradicting enhanced code", replied(transport.AtRcpt, 550, "4.2.1"), deferred},
		{"450 with 5.1.1", replied(transport.AtRcpt, 450, "5.1.1"), deferred},
		{"taken with odd enhanced code", replied(transport.AtDot, 250, "5.0.0"), delivered},
		{"delivered before the dot is nonsense", replied(transport.AtRcpt, 250, "2.1.5"), deferred},
		{"code out of range", replied(transport.AtDot, 999, ""), deferred},
		{"no such domain", transport.Outcome{Kind: transport.Decided, At: transport.AtLookup, Status: mail.Status{Code: 550, Enhanced: "5.1.2"}}, bounced},
		{"into a file", transport.Outcome{Kind: transport.Decided, At: transport.AtFile, Status: mail.Status{Code: 250}}, delivered},
		{"failure with a permanent text", transport.Outcome{Kind: transport.Failed, At: transport.AtConnect, Status: mail.Status{Code: 550}}, deferred},
		{"cut", transport.Outcome{Kind: transport.Cut, Status: mail.Status{Code: 550}}, deferred},
		{"unconfirmed", transport.Outcome{Kind: transport.Unconfirmed, Status: mail.Status{Code: 250}}, deferred},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got, _ := classify(c.o); got != c.want {
				t.Errorf("%v, want %v", got, c.want)
			}
		})
	}
}

func replied(at transport.Phase, code int, enhanced string) transport.Outcome {
	return transport.Outcome{At: at, Status: mail.Status{Code: code, Enhanced: enhanced}}
}
