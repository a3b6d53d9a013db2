package directory

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"qstream/engine"
	"qstream/qmail"
)

// sessionSite is a directory with two policies and a rules document.
func sessionSite(rules string) string {
	return `
kind: engine
name: clam
type: unpack
---
kind: scan
name: p
engines: clam
rules:
  - {on: malware, action: quarantine}
---
kind: scan
name: q
engines: clam
---
kind: rules
name: smtp
` + rules
}

func built(t *testing.T, text string) (*Snapshot, error) {
	t.Helper()
	docs, err := Parse(File{Name: "x", Data: []byte(text)})
	if err != nil {
		return nil, err
	}
	return Build(docs)
}

// What scans the sessions of clients, by the rule that was found for them.
func TestSessionScan(t *testing.T) {
	const text = `
scan: {policy: p, deadline: 10s, late: defer}
env: [QHPSIRC=2]
rules: |
  192.0.2.1:allow,SCANPOLICY="q"
  192.0.2.2:allow,SCANPOLICY=""
  192.0.2.3:allow,QMAILQUEUE="/opt/scan",X="1"
  192.0.2.4:allow,QHPSI="clamdscan",QHPSIARG1="--no-summary",QHPSIARG3="lost",QHPSIMINSIZE="10",QHPSIMAXSIZE="20000",BASE64="",SCANPOLICY=""
  192.0.2.5:allow,QMAILQUEUE="bin/simscan",QHPSI="/usr/bin/clamdscan",!QHPSIRC
  192.0.2.6:allow,QMAILQUEUE="/var/qmail/bin/qmail-queue"
  192.0.2.7:allow,RELAYCLIENT=""
  192.0.2.8:deny
  192.0.2.9:allow,QMAILQUEUE="bin/qmail-queue",QMAILHOME="/srv/qmail/"
`
	s, err := built(t, sessionSite(text))
	if err != nil {
		t.Fatal(err)
	}
	rules := s.ConnRules(ServiceSMTP).Rules
	scan := func(ip string) SessionScan {
		var rule qmail.Rule
		for _, r := range rules.All() {
			if r.Pattern == ip {
				rule = r
			}
		}
		return s.SessionScan(ServiceSMTP, rule)
	}
	for _, c := range []struct {
		ip, policy string
		engines    []string
	}{
		{"198.51.100.1", "p", []string{"clam"}},
		{"192.0.2.1", "q", []string{"clam"}},
		{"192.0.2.2", "", nil},
		{"192.0.2.3", "smtp:192.0.2.3", []string{"clam", "smtp:192.0.2.3/QMAILQUEUE"}},
		{"192.0.2.4", "smtp:192.0.2.4", []string{"smtp:192.0.2.4/QHPSI"}},
		{"192.0.2.5", "smtp:192.0.2.5", []string{"clam", "smtp:192.0.2.5/QMAILQUEUE", "smtp:192.0.2.5/QHPSI"}},
		{"192.0.2.6", "p", []string{"clam"}},
		{"192.0.2.7", "p", []string{"clam"}},
		{"192.0.2.9", "p", []string{"clam"}},
		{"192.0.2.8", "p", []string{"clam"}},
	} {
		got := scan(c.ip)
		if got.Policy != c.policy || got.Deadline != 10*time.Second || got.Late != AtDefer || got.Busy != AtStage || got.Down != AtStage {
			t.Errorf("%s: %+v", c.ip, got)
		}
		if p := s.Scan(got.Policy); c.policy != "" && (p == nil || !slices.Equal(p.Engines, c.engines)) {
			t.Errorf("%s: policy %+v", c.ip, p)
		}
	}
	if d := cmp.Diff(engine.Spec{
		Name: "smtp:192.0.2.4/QHPSI", Type: engine.TypeCommand, Program: []string{"clamdscan", "--no-summary"}, Outside: "clean",
		Env:  []string{"BASE64=", "QHPSI=clamdscan", "QHPSIARG1=--no-summary", "QHPSIARG3=lost", "QHPSIMAXSIZE=20000", "QHPSIMINSIZE=10", "QHPSIRC=2", "SCANPOLICY="},
		Code: 2, MinSize: 10, MaxSize: 20000, Base64: true,
	}, s.Engine("smtp:192.0.2.4/QHPSI").Spec); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(engine.Spec{
		Name: "smtp:192.0.2.5/QMAILQUEUE", Type: engine.TypeWrapper, Program: []string{"/var/qmail/bin/simscan"}, Env: []string{"QHPSI=/usr/bin/clamdscan"},
		Home: "/var/qmail", Queue: "/var/qmail/bin/qmail-queue",
	}, s.Engine("smtp:192.0.2.5/QMAILQUEUE").Spec); d != "" {
		t.Error(d)
	}
	if e := s.Engine("smtp:192.0.2.5/QHPSI"); e.Code != 0 || e.Base64 {
		t.Errorf("%+v", e)
	}
	// What the rule's own programs find is refused; the policy's own rules stand.
	p := s.Scan("smtp:192.0.2.3")
	if len(p.Rules) != 3 || p.Rules[0].Action != ActReject || p.Rules[0].Engine != "smtp:192.0.2.3/QMAILQUEUE" || p.Rules[2].Action != ActQuarantine || p.Rules[2].Engine != "" {
		t.Errorf("%+v", p.Rules)
	}
	if got := s.Scan("p"); len(got.Rules) != 1 || len(got.Engines) != 1 {
		t.Errorf("the policy itself was changed: %+v", got)
	}
	if !s.Queue(Default).Scanned {
		t.Error("no scan topic for mail that a session leaves")
	}
	if got := s.SessionScan(ServiceQMQP, qmail.Rule{}); got.Policy != "" {
		t.Errorf("a service without a document: %+v", got)
	}
}

// Without policy and programs nothing is scanned, and no queue has a scan topic.
func TestNoSessionScan(t *testing.T) {
	s, err := built(t, sessionSite("rules: |\n  :allow,QHPSIRC=\"2\",BASE64=\"\"\n"))
	if err != nil {
		t.Fatal(err)
	}
	if got := s.SessionScan(ServiceSMTP, s.ConnRules(ServiceSMTP).Rules.All()[0]); got.Policy != "" || s.Queue(Default).Scanned {
		t.Errorf("%+v", got)
	}
}

func TestSessionScanRefused(t *testing.T) {
	for _, c := range []struct{ rules, want string }{
		{"scan: {policy: nowhere}", `there is no scan policy "nowhere"`},
		{"scan: {deadline: 6m}", "scan.deadline"},
		{"scan: {deadline: 30}", "scan.deadline"},
		{"scan: {late: reject}", "scan.late"},
		{"scan: {speed: 1}", `unknown key "scan.speed"`},
		{"env: [SCANPOLICY=nowhere]", `there is no scan policy "nowhere"`},
		{"rules: '192.0.2.1:allow,SCANPOLICY=\"nowhere\"'", `there is no scan policy "nowhere"`},
		{"rules: '192.0.2.1:allow,SCANPOLICY=\"smtp:all\"'", "smtp:all"},
		{"rules: '192.0.2.1:allow,QHPSI=\"bin/scan\"'", "QHPSI"},
		{"rules: '192.0.2.1:allow,QMAILHOME=\"qmail\"'", "QMAILHOME"},
		{"rules: '192.0.2.1:allow,QHPSIRC=\"0\"'", "QHPSIRC"},
		{"rules: '192.0.2.1:allow,QHPSIMINSIZE=\"x\"'", "QHPSIMINSIZE"},
		{"rules: '192.0.2.1:allow,QHPSI=\"/s\",QHPSIMINSIZE=\"2\",QHPSIMAXSIZE=\"1\"'", "QHPSIMINSIZE 2"},
	} {
		if _, err := built(t, sessionSite(c.rules)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.rules, err)
		}
	}
}

// The engines of a policy are others once one of them looks otherwise, and the
// same whoever has to wait for them.
func TestEnginesOfAPolicy(t *testing.T) {
	of := func(engine string) string {
		t.Helper()
		docs, err := Parse(File{Name: "x", Data: []byte("kind: engine\nname: e\n" + engine + "---\nkind: scan\nname: p\nengines: [e]\n")})
		if err != nil {
			t.Fatal(err)
		}
		s, err := Build(docs)
		if err != nil {
			t.Fatal(err)
		}
		return string(s.EnginesOf(s.Scan("p")))
	}
	const clamd = "type: clamd\naddress: tcp://127.0.0.1:3310\n"
	first := of(clamd)
	if first == "" || of(clamd+"concurrency: 3\ndeadline: 5s\nkeep: 0s\nmax_age: 0s\n") != first {
		t.Error("the same engine with more room is taken for another")
	}
	seen := map[string]string{first: clamd}
	for _, other := range []string{
		"type: clamd\naddress: tcp://127.0.0.1:3311\n", "type: clamd\naddress: unix:/127.0.0.1:3310\n", clamd + "parts: false\n", clamd + "max_size: 1000\n",
		"type: rspamd\naddress: tcp://127.0.0.1:3310\n", "type: unpack\n", "type: unpack\nlimits: {member: 1000}\n", "type: unpack\nlimits: {total: 1000}\n",
		"type: command\nprogram: [/bin/a, b]\n", "type: command\nprogram: [\"/bin/a b\"]\n", "type: command\nprogram: [/bin/a]\nenv: [b=c]\n",
	} {
		sum := of(other)
		if was, twice := seen[sum]; twice {
			t.Errorf("%q is taken for %q", other, was)
		}
		seen[sum] = other
	}
}
