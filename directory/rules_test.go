package directory

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"qstream/qmail"
)

func TestRules(t *testing.T) {
	s := snapshotOf(t, `kind: rules
name: smtp
env: [SPF=3, "TEXT=a b"]
deny: reply
proxy: 192.0.2.10
xclient: [192.0.2.11, "2001:db8::/64"]
limits: {connections: 900, per_address: 20, per_network: 40, rate: 500/1m, address_rate: 30/10s, network_rate: 2/1h, network_ipv4: 16, network_ipv6: 56}
greet: {delay: 5s, early: 421}
dnsbl:
  threshold: 2
  reply: 553
  wait: 2s
  block: [bl.example.test, {zone: Dyn.Example.Test, answers: [127.0.0.2, 127.0.1.0/24], weight: 2, text: go away}]
  allow: {zone: wl.example.test}
rules: |
  # comment with blanks  
  192.0.2.:allow,RELAYCLIENT="@fix.me",!SPF

  :deny
`)
	r := s.ConnRules(ServiceSMTP)
	if r.Env["SPF"] != "3" || r.Env["TEXT"] != "a b" || !r.Reply || len(r.Proxy) != 1 || len(r.XClient) != 2 {
		t.Errorf("%+v", r)
	}
	want := ConnLimits{900, 20, 40, ConnRate{500, time.Minute}, ConnRate{30, 10 * time.Second}, ConnRate{2, time.Hour}, 16, 56}
	if r.Limits != want || r.Greet != (Greet{5 * time.Second, 421}) {
		t.Errorf("%+v, %+v", r.Limits, r.Greet)
	}
	d := r.DNSBL
	if d.Threshold != 2 || d.Reply != 553 || d.Wait != 2*time.Second || len(d.Block) != 2 || len(d.Allow) != 1 ||
		d.Block[0].Weight != 1 || d.Block[1].Zone != "dyn.example.test" || len(d.Block[1].Answers) != 2 || d.Block[1].Text != "go away" {
		t.Errorf("%+v", d)
	}
	rule, ok := r.Rules.Find(qmail.Client{IP: netip.MustParseAddr("192.0.2.9")})
	if !ok || rule.Line != 2 || rule.Pattern != "192.0.2." {
		t.Errorf("%+v", rule)
	}
	if env := rule.Over(r.Env); env["RELAYCLIENT"] != "@fix.me" || len(env) != 2 {
		t.Errorf("%v", env)
	}
	// What is stored reads as what was given, line for line.
	doc := s.Documents()[0]
	again := snapshotOf(t, doc.YAML)
	if got := again.Documents()[0].YAML; got != doc.YAML {
		t.Errorf("canonical form changes from\n%s\nto\n%s", doc.YAML, got)
	}
	if rule, _ := again.ConnRules(ServiceSMTP).Rules.Find(qmail.Client{IP: netip.MustParseAddr("198.51.100.1")}); rule.Line != 4 || !rule.Deny {
		t.Errorf("read again: %+v", rule)
	}
	if other := s.ConnRules(ServiceQMQP); other.Limits.IPv6Bits != 64 || len(other.Rules.All()) != 0 {
		t.Errorf("without a document: %+v", other)
	}
}

func TestRulesRefused(t *testing.T) {
	const head = "kind: rules\nname: smtp\n"
	for _, c := range []struct {
		name, text string
		line       int
		reason     string
	}{
		{"bad line", head + "rules: |\n  :allow\n  # c\n  192.0.2:deny\n", 6, "can never match"},
		{"on one line", head + "rules: \"192.0.2.1:permit\"\n", 3, "is no rule"},
		{"a level that SPF hasn't", head + "rules: |\n  :allow,SPF=\"7\"\n", 4, "from 0 to 6"},
		{"no level", head + "env: [SPF=x]\n", 3, "from 0 to 6"},
		{"no policy server", head + "rules: |\n  :allow,POSTGREY=\"nowhere\"\n", 4, "is not ip;port"},
		{"AUTH that nobody knows", head + "rules: |\n  :allow,SMTPAUTH=\"md5\"\n", 4, "SMTPAUTH is"},
		{"TLS that nobody knows", head + "rules: |\n  :allow,UCSPITLS=\"yes\"\n", 4, "UCSPITLS is"},
		{"a count that is none", head + "rules: |\n  :allow,TARPITCOUNT=\"many\"\n", 4, "no whole number"},
		{"a loader that is none", head + "rules: |\n  :allow,BADLOADERTYPE=\"MZ\"\n", 4, "not one character"},
		{"open relay", head + "rules: |\n  :allow,RELAYCLIENT=\"\"\n", 4, "open relay"},
		{"open relay by name", head + "rules: |\n  =:allow,RELAYCLIENT=\"\"\n", 4, "open relay"},
		{"open relay by network", head + "rules: |\n  128.0.0.0/1:allow,RELAYCLIENT=\"\"\n", 4, "open relay"},
		{"open relay by env", head + "env: [RELAYCLIENT=]\n", 3, "open relay"},
		{"open relay by QMQP", "kind: rules\nname: qmqp\nrules: |\n  192.0.2.:allow\n  :allow\n", 3, "line 2 of the text allows everybody"},
		{"no number", head + "rules: |\n  :allow,DATABYTES=\"1M\"\n", 4, "wants a number"},
		{"no number in env", head + "env: [GREETDELAY=5s]\n", 3, "wants a number"},
		{"no variable", head + "env: [A]\n", 3, "NAME=value"},
		{"unknown service", "kind: rules\nname: pop3\n", 2, "none of"},
		{"no name", "kind: rules\n", 1, "name is missing"},
		{"rate", head + "limits: {rate: 30}\n", 3, "30/1m"},
		{"rate of nothing", head + "limits: {rate: 0/1m}\n", 3, "30/1m"},
		{"answers", head + "dnsbl: {block: [{zone: a.test, answers: [x]}]}\n", 3, "no answer"},
		{"no zone", head + "dnsbl: {block: [{weight: 2}]}\n", 3, "wants a zone"},
		{"unknown key", head + "limits: {per_ip: 3}\n", 3, "unknown key"},
		{"twice", head + "---\n" + head, 5, "already belongs"},
	} {
		t.Run(c.name, func(t *testing.T) {
			docs, err := Parse(File{Name: "r.yaml", Data: []byte(c.text)})
			if err == nil {
				_, err = Build(docs)
			}
			var errs Errors
			if !errors.As(err, &errs) || errs[0].Line != c.line || !strings.Contains(err.Error(), c.reason) {
				t.Errorf("%v", err)
			}
		})
	}
}
