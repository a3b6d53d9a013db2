package smtp_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"qstream/test/fakedns"
	"qstream/test/fakemx"
	"qstream/transport"
	"qstream/transport/resolver"
	"qstream/transport/smtp"
)

// mxs starts one fake per address of 127.0.0.x, all on one port, and a
// resolver that knows them as MX hosts of r.example, preference 1, 2 and so on.
func mxs(t *testing.T, rules ...[]fakemx.Rule) ([]*fakemx.Server, *resolver.Resolver, transport.Target) {
	t.Helper()
	var all []*fakemx.Server
	zone, port := "", 0
	for i, r := range rules {
		s := start(t, fakemx.Config{Addr: fmt.Sprintf("127.0.0.%d:%d", i+1, port), Rules: r})
		port = s.Port()
		all = append(all, s)
		zone += fmt.Sprintf("r.example. 60 MX %d mx%d.r.example.\nmx%d.r.example. 60 A 127.0.0.%d\n", i+1, i, i, i+1)
	}
	zone += "null.example. 60 MX 0 .\n"
	names, err := fakedns.Start(zone)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(names.Close)
	r, err := resolver.New(resolver.Config{Servers: []string{names.Addr()}, Timeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	return all, r, transport.Target{Scheme: "smtp", Host: "mx", Port: port, Domain: "r.example"}
}

func TestNextHost(t *testing.T) {
	dead := []fakemx.Rule{{Line: "CONNECT", Drop: true}}
	for name, c := range map[string]struct {
		first []fakemx.Rule
		next  bool // the second host is asked
		code  int  // of the first recipient
	}{
		"first answers":             {nil, false, 250},
		"first is dead":             {dead, true, 250},
		"first refuses to talk":     {[]fakemx.Rule{{Line: "CONNECT", Reply: "554 go away"}}, true, 250},
		"first has no room":         {[]fakemx.Rule{{Line: "MAIL", Reply: "452 4.3.1 full"}}, true, 250},
		"first hangs up at DATA":    {[]fakemx.Rule{{Line: "DATA", Drop: true}}, true, 250},
		"first greylists":           {[]fakemx.Rule{{Line: "RCPT", Reply: "450 4.7.1 later"}}, false, 450},
		"first refuses a recipient": {[]fakemx.Rule{{Line: "RCPT TO:<b@", Reply: "550 5.1.1 no"}}, false, 550},
		"first refuses, then dies":  {[]fakemx.Rule{{Line: "RCPT TO:<b@", Reply: "550 5.1.1 no"}, {Line: "DATA", Drop: true}}, true, 550},
		"first refuses the content": {[]fakemx.Rule{{Line: ".", Reply: "554 5.6.0 no"}}, false, 554},
		"first dies at the dot":     {[]fakemx.Rule{{Line: ".", Drop: true}}, false, 451},
	} {
		t.Run(name, func(t *testing.T) {
			all, r, target := mxs(t, c.first, nil)
			res := newClient(t, smtp.Config{Resolver: r}).Deliver(soon(t), target, attempt(small, "b@r.example", "c@r.example"))
			if got := all[1].Connections() > 0; got != c.next {
				t.Errorf("second host asked: %v, want %v", got, c.next)
			}
			if got := res.Outcomes[0].Status.Code; got != c.code {
				t.Errorf("%+v, want %d", res.Outcomes, c.code)
			}
			if c.next && (len(res.Tries) != 1 || res.Tries[0].Host != "mx0.r.example" || res.Host != "mx1.r.example") {
				t.Errorf("tries %+v, host %s", res.Tries, res.Host)
			}
			if from := res.Outcomes[0].Host; from != "mx0.r.example" && (!c.next || c.code == 550) {
				t.Errorf("first recipient's outcome comes from %q", from)
			}
			if c.next && (!res.Outcomes[1].Status.OK() || res.Outcomes[1].Host != "mx1.r.example") {
				t.Errorf("second recipient: %+v", res.Outcomes[1])
			}
		})
	}
}

func TestHostsAreBounded(t *testing.T) {
	busy := []fakemx.Rule{{Line: "MAIL", Reply: "452 4.3.1 full"}}
	all, r, target := mxs(t, busy, busy, nil)
	res := newClient(t, smtp.Config{Resolver: r}).Deliver(soon(t), target, attempt(small, "b@r.example"))
	if o := res.Outcomes[0]; o.Status.Code != 452 || o.Host != "mx1.r.example" || len(res.Tries) != 2 || all[2].Connections() != 0 {
		t.Errorf("%+v", res)
	}
	res = newClient(t, smtp.Config{Resolver: r, MaxSessions: 3}).Deliver(soon(t), target, attempt(small, "b@r.example"))
	if !res.Delivered() || res.IP != netip.MustParseAddr("127.0.0.3") {
		t.Errorf("%+v", res)
	}
}

func TestLookupsThatFail(t *testing.T) {
	_, r, target := mxs(t, nil)
	c := newClient(t, smtp.Config{Resolver: r})
	for domain, want := range map[string]outcome{
		"null.example":     {transport.Decided, transport.AtLookup, 556},
		"nowhere.example":  {transport.Decided, transport.AtLookup, 550},
		"servfail.example": failed(transport.AtLookup),
	} {
		target.Domain = domain
		res := c.Deliver(soon(t), target, attempt(small, "b@"+domain))
		if got := outcomeOf(res.Outcomes[0]); got != want || res.Sent {
			t.Errorf("%s: %v, want %v", domain, got, want)
		}
	}
	target.Domain = "r.example"
	a := attempt(small, "b@r.example")
	a.Own = []string{"MX0.r.example"}
	if o := c.Deliver(soon(t), target, a).Outcomes[0]; o.Status.Enhanced != "5.4.6" || o.Kind != transport.Decided {
		t.Errorf("a loop: %+v", o)
	}
}

func TestNobodyListens(t *testing.T) {
	s := start(t, fakemx.Config{})
	target := to(s)
	s.Close()
	res := newClient(t, smtp.Config{}).Deliver(soon(t), target, attempt(small, "b@r.example"))
	if got := outcomeOf(res.Outcomes[0]); got != failed(transport.AtConnect) {
		t.Errorf("%v: %+v", got, res)
	}
}
