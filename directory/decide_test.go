package directory

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// snapshotOf builds documents that the test gives as text.
func snapshotOf(t testing.TB, text string) *Snapshot {
	t.Helper()
	docs, err := Parse(File{Name: "test.yaml", Data: []byte(text)})
	if err != nil {
		t.Fatal(err)
	}
	s, err := Build(docs)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

const exampleSite = `
kind: site
me: mx.hub.example
---
kind: queue
name: acme
number: 1
lifetime: 5d
schedule: {quadratic: 20}
---
kind: queue
name: bounces
role: bounces
---
kind: tenant
name: acme
domains: [acme.example, .acme.example, bücher.example]
networks: [192.0.2.0/24, 2001:db8::/32]
queue: acme
---
kind: tenant
name: beta
domains: [beta.example, deep.acme.example]
networks: [192.0.2.64/26]
---
kind: route
name: acme-inbound
match: {domain: acme.example}
via: smtp://mail.acme.example:25
---
kind: route
name: acme-sub
match: {domain: .acme.example}
via: lmtp://[2001:db8::5]:24
---
kind: route
name: beta
match: {domain: beta.example}
via: maildir:/var/mail/beta
---
kind: route
name: refused
match: {domain: gone.example}
via: error:550 5.1.1 no such domain any more
---
kind: route
name: hole
match: {domain: sink.example}
via: "discard:"
---
kind: route
name: internet
match: {domain: .example}
via: smtp://mx
---
kind: route
name: bounces
match: {domain: .out.example, null_sender: true}
queue: bounces
via: smtp://bounce.hub.example
---
kind: route
name: local
match: {domain: .localhost}
via: smtp://mx
`

func TestDecide(t *testing.T) {
	s := snapshotOf(t, exampleSite)
	cases := []struct {
		name, to, tenant        string
		null                    bool
		wantTenant, queue, dest string
		route, via, refusal     string
	}{
		{"fixed host", "a@acme.example", "", false, "acme", "acme", "mail.acme.example:25", "acme-inbound", "smtp://mail.acme.example:25", ""},
		{"case of the domain", "a@ACME.Example", "", false, "acme", "acme", "mail.acme.example:25", "acme-inbound", "smtp://mail.acme.example:25", ""},
		{"subdomain", "a@x.y.acme.example", "", false, "acme", "acme", "[2001:db8::5]:24", "acme-sub", "lmtp://[2001:db8::5]:24", ""},
		{"subdomain of another owner", "a@deep.acme.example", "", false, "beta", "beta", "[2001:db8::5]:24", "acme-sub", "lmtp://[2001:db8::5]:24", ""},
		{"idna", "a@BÜCHER.example", "", false, "acme", "acme", "xn--bcher-kva.example", "internet", "smtp://mx", ""},
		{"maildir", "b@beta.example", "", false, "beta", "beta", "/var/mail/beta", "beta", "maildir:/var/mail/beta", ""},
		{"the owner wins over the submitter", "b@beta.example", "acme", false, "beta", "beta", "/var/mail/beta", "beta", "maildir:/var/mail/beta", ""},
		{"discard", "b@sink.example", "acme", false, "acme", "acme", "discard", "hole", "discard:", ""},
		{"outbound by mx", "c@far.example", "acme", false, "acme", "acme", "far.example", "internet", "smtp://mx", ""},
		{"outbound of nobody", "c@far.example", "", false, "default", "default", "far.example", "internet", "smtp://mx", ""},
		{"a deleted tenant relays no more", "c@far.example", "gone", false, "default", "default", "error", "", "error:550 5.7.1 far.example is no longer served here", "550 5.7.1 far.example is no longer served here"},
		{"a report about a deleted tenant's mail", "c@far.example", "gone", true, "default", "default", "far.example", "internet", "smtp://mx", ""},
		{"bounce route", "c@x.out.example", "acme", true, "acme", "bounces", "bounce.hub.example:25", "bounces", "smtp://bounce.hub.example:25", ""},
		{"no bounce route for others", "c@x.out.example", "acme", false, "acme", "acme", "x.out.example", "internet", "smtp://mx", ""},
		{"null reverse-path without bounce route", "a@acme.example", "", true, "acme", "acme", "mail.acme.example:25", "acme-inbound", "smtp://mail.acme.example:25", ""},
		{"refused by route", "a@gone.example", "", false, "default", "default", "error", "refused", "error:550 5.1.1 no such domain any more", "550 5.1.1 no such domain any more"},
		{"unroutable", "a@nowhere.test", "acme", false, "acme", "acme", "error", "", "error:550 5.1.2 no route to nowhere.test", "550 5.1.2 no route to nowhere.test"},
		{"postmaster without domain", "postmaster", "", false, "default", "default", "mx.hub.example", "internet", "smtp://mx", ""},
		{"localhost is the site", "root@localhost", "", false, "default", "default", "mx.hub.example", "internet", "smtp://mx", ""},
		{"never by mx to below localhost", "root@a.localhost", "", false, "default", "default", "error", "local", "error:554 5.4.6 mail for a.localhost would come back to this host", "554 5.4.6 mail for a.localhost would come back to this host"},
		{"no domain at all", "a@-x-.example", "acme", false, "acme", "acme", "error", "", `error:550 5.1.3 domain "-x-.example": label "-x-" begins or ends with a hyphen`, `550 5.1.3 domain "-x-.example": label "-x-" begins or ends with a hyphen`},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			d := s.Decide(Question{Recipient: c.to, NullSender: c.null, Tenant: c.tenant})
			refusal := ""
			if d.Refusal != nil {
				refusal = d.Refusal.String()
			}
			got := []string{d.Tenant, d.Queue.Name, d.Destination, d.Route, d.Via.String(), refusal}
			want := []string{c.wantTenant, c.queue, c.dest, c.route, c.via, c.refusal}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got)\n%s\n%s", diff, strings.Join(s.Explain(Question{Recipient: c.to}).Steps, "\n"))
			}
		})
	}
}

// A route that somebody chose decides via, destination and, where it names one,
// queue, whatever it matches; whose mail it is, and what is refused, is as ever.
func TestDecideByChosenRoute(t *testing.T) {
	s := snapshotOf(t, exampleSite)
	for _, c := range []struct {
		name string
		q    Question
		want string
		step string
	}{
		{"another host", Question{Recipient: "b@beta.example", Route: "acme-inbound"}, "beta beta mail.acme.example:25 acme-inbound", "route acme-inbound, which somebody chose for this message"},
		{"by mx", Question{Recipient: "a@acme.example", Route: "internet"}, "acme acme acme.example internet", ""},
		{"its queue", Question{Recipient: "a@acme.example", Route: "bounces"}, "acme bounces bounce.hub.example:25 bounces", ""},
		{"the queue of a scan policy", Question{Recipient: "a@acme.example", Route: "bounces", Queue: "beta"}, "acme beta bounce.hub.example:25 bounces", ""},
		{"a null reverse-path", Question{Recipient: "c@x.out.example", NullSender: true, Tenant: "acme", Route: "hole"}, "acme acme discard hole", ""},
		{"where nothing matches", Question{Recipient: "a@nowhere.test", Tenant: "acme", Route: "acme-inbound"}, "acme acme mail.acme.example:25 acme-inbound", ""},
		{"one that is gone", Question{Recipient: "b@beta.example", Route: "gone"}, "beta beta /var/mail/beta beta", "no route gone, which somebody chose for this message"},
		{"one that refuses", Question{Recipient: "a@acme.example", Route: "refused"}, "acme acme error refused", ""},
		{"of a deleted tenant", Question{Recipient: "c@far.example", Tenant: "gone", Route: "acme-inbound"}, "default default error ", ""},
		{"none", Question{Recipient: "b@beta.example"}, "beta beta /var/mail/beta beta", ""},
	} {
		for range 2 { // the second is from memory
			d := s.Decide(c.q)
			if got := strings.Join([]string{d.Tenant, d.Queue.Name, d.Destination, d.Route}, " "); got != c.want {
				t.Errorf("%s: %s, want %s", c.name, got, c.want)
			}
		}
		if steps := strings.Join(s.Explain(c.q).Steps, "\n"); !strings.Contains(steps, c.step) {
			t.Errorf("%s: %s", c.name, steps)
		}
	}
}

func TestExplainTellsEachStep(t *testing.T) {
	s := snapshotOf(t, exampleSite)
	got := s.Explain(Question{Recipient: "c@x.out.example", NullSender: true, Tenant: "beta"}).Steps
	want := []string{
		"directory number 0",
		"recipient c@x.out.example has domain x.out.example",
		"no tenant owns x.out.example",
		"tenant beta submitted it",
		"route bounces matches a null reverse-path and .out.example",
		"queue bounces (generation 1) of route bounces",
		"destination bounce.hub.example:25 via smtp://bounce.hub.example:25",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestLiteralOfLoopbackIsNeverLookedUp(t *testing.T) {
	s := snapshotOf(t, "kind: route\nname: all\nmatch: {domain: \"*\"}\nvia: smtp://mx\n")
	for _, to := range []string{"a@[127.0.0.1]", "a@[IPv6:::1]", "a@[0.0.0.0]", "a@localhost"} {
		if d := s.Decide(Question{Recipient: to}); d.Refusal == nil || d.Refusal.Enhanced != "5.4.6" {
			t.Errorf("%s: %+v", to, d)
		}
	}
	if d := s.Decide(Question{Recipient: "a@[192.0.2.7]"}); d.Refusal != nil || d.Destination != "[192.0.2.7]" {
		t.Errorf("%+v", d)
	}
}
