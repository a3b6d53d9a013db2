package directory

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"qstream/engine"
	"qstream/mail"
	"qstream/schemas"
)

const scanText = `kind: engine
name: clamav
type: clamd
address: tcp://127.0.0.1:3310
deadline: 30s
max_size: 26214400
---
kind: engine
name: rspamd
type: rspamd
address: unix:/run/rspamd/normal.sock
---
kind: engine
name: measure
type: unpack
limits: {depth: 5, parts: 100, member: 1000, total: 2000, time: 10s}
---
kind: scan
name: standard
engines: [measure, clamav, rspamd]
rules:
  - {on: malware, action: reject, status: 550 5.7.1 not with us}
  - {on: spam, domains: [acme.example], score: 4.5, action: redirect, queue: spam, header: "X-Spam-Flag: YES"}
  - {on: spam, action: tag, subject: "[spam] "}
  - {on: unscannable, reason: too large, action: pass}
  - {on: down, engine: rspamd, after: 2h, action: tag}
  - {on: refused, action: forward, address: abuse@hub.example}
fallback: discard
tries: 3
quarantine: {keep: 7d, then: release}
---
kind: scan
name: strict
engines: [clamav]
---
kind: queue
name: spam
---
kind: queue
name: big
scan: standard
---
kind: tenant
name: acme
domains: [acme.example]
queue: big
---
kind: tenant
name: beta
domains: [beta.example]
queue: big
scan: strict
---
kind: tenant
name: gamma
domains: [gamma.example]
queue: gamma
---
kind: route
name: all
match: {domain: "*"}
via: smtp://mail.hub.example
---
kind: route
name: aside
match: {domain: aside.example}
via: smtp://mail.hub.example
queue: spam
`

func TestScan(t *testing.T) {
	s := snapshotOf(t, scanText)
	e := s.Engine("clamav")
	want := Engine{
		Spec:     engine.Spec{Name: "clamav", Type: engine.TypeClamd, Network: "tcp", Address: "127.0.0.1:3310", MaxSize: 25 << 20},
		Deadline: 30 * time.Second, PerMegabyte: 2 * time.Second, Concurrency: 8, Keep: 10 * time.Minute, MaxAge: 72 * time.Hour,
	}
	if d := cmp.Diff(want, *e); d != "" {
		t.Error(d)
	}
	if got := e.Limit(10 << 20); got != 50*time.Second {
		t.Errorf("10 MiB may take %v", got)
	}
	if e := s.Engine("rspamd"); e.Network != "unix" || e.Address != "/run/rspamd/normal.sock" {
		t.Errorf("%+v", e)
	}
	if e := s.Engine("measure"); e.Depth != 5 || e.Parts != 100 || e.Member != 1000 || e.Total != 2000 || e.Time != 10*time.Second {
		t.Errorf("%+v", e)
	}
	p, score := s.Scan("standard"), 4.5
	if d := cmp.Diff(ScanPolicy{
		Name: "standard", Engines: []string{"measure", "clamav", "rspamd"}, Concurrency: 16,
		Rules: []ScanRule{
			{On: FindMalware, Action: ActReject, Status: mail.Status{Code: 550, Enhanced: "5.7.1", Text: "not with us"}},
			{On: FindSpam, Domains: []string{"acme.example"}, Score: &score, Action: ActRedirect, Queue: "spam", Header: []string{"X-Spam-Flag: YES"}},
			{On: FindSpam, Action: ActTag, Subject: "[spam] "},
			{On: FindUnscannable, Reason: "too large", Action: ActPass},
			{On: FindDown, Engine: "rspamd", After: 2 * time.Hour, Action: ActTag},
			{On: FindRefused, Action: ActForward, Address: "abuse@hub.example"},
		},
		Fallback: ActDiscard, Tries: 3, Keep: 7 * day, Then: ActRelease,
	}, *p); d != "" {
		t.Error(d)
	}
	if !p.Rules[1].For("Acme.Example") || p.Rules[1].For("beta.example") || !p.Rules[2].For("beta.example") {
		t.Error("domains of rules")
	}
}

func TestScanOfARecipient(t *testing.T) {
	s := snapshotOf(t, scanText)
	for _, c := range []struct {
		q           Question
		queue, scan string
	}{
		{Question{Recipient: "a@acme.example"}, "big", "standard"},
		{Question{Recipient: "a@beta.example"}, "big", "strict"},
		{Question{Recipient: "a@gamma.example"}, "gamma", ""},
		{Question{Recipient: "a@aside.example", Tenant: "beta"}, "spam", "strict"},
		{Question{Recipient: "a@aside.example"}, "spam", ""},
		{Question{Recipient: "a@acme.example", Queue: "spam"}, "spam", ""},
		{Question{Recipient: "a@acme.example", Queue: "gone"}, "big", "standard"},
	} {
		if d := s.Decide(c.q); d.Queue.Name != c.queue || d.Scan != c.scan {
			t.Errorf("%+v: queue %s, policy %q", c.q, d.Queue.Name, d.Scan)
		}
	}
	var scanned []string
	for _, q := range s.Queues() {
		if q.Scanned {
			scanned = append(scanned, q.Name)
		}
	}
	if d := cmp.Diff([]string{"big", "spam"}, scanned); d != "" {
		t.Error(d)
	}
}

// A queue that was scanned keeps its scan topic, also as a retired generation:
// legs may still be on it.
func TestScanTopicsStay(t *testing.T) {
	const plain = "kind: queue\nname: big\n"
	l := lineage{}
	var s *Snapshot
	step := func(text string) {
		t.Helper()
		before := s
		if before == nil {
			before = snapshotOf(t, "")
		}
		after, err := newSnapshot(before.Number+1, documentsOf(t, text), lineage{})
		if err != nil {
			t.Fatal(err)
		}
		l = l.next(before, after, time.Now())
		after.relate(l)
		s = after
	}
	const scans = "---\nkind: engine\nname: measure\ntype: unpack\n---\nkind: scan\nname: p\nengines: measure\n"
	topics := func() (names []string) {
		for _, topic := range s.Topics(0) {
			if strings.HasPrefix(topic.Name, "qstream.scan.") {
				names = append(names, topic.Name)
			}
		}
		for _, q := range s.Retired() {
			if q.Scanned {
				names = append(names, "retired "+q.ScanTopic())
			}
		}
		return names
	}
	for _, c := range []struct {
		text string
		want []string
	}{
		{plain, nil},
		{plain + "scan: p\n" + scans, []string{schemas.Scan("big", 1)}},
		{plain, []string{schemas.Scan("big", 1)}},
		{plain + "partitions: 5\n", []string{"retired " + schemas.Scan("big", 1)}},
		{plain + "partitions: 5\nscan: p\n" + scans, []string{schemas.Scan("big", 2), "retired " + schemas.Scan("big", 1)}},
		{"", []string{"retired " + schemas.Scan("big", 1), "retired " + schemas.Scan("big", 2)}},
	} {
		step(c.text)
		if d := cmp.Diff(c.want, topics()); d != "" {
			t.Errorf("after %q: %s", c.text, d)
		}
	}
}

func TestBadScans(t *testing.T) {
	const clam = "kind: engine\nname: clamav\ntype: clamd\naddress: tcp://127.0.0.1:3310\n---\n"
	const scan = clam + "kind: scan\nname: p\nengines: clamav\n"
	for text, want := range map[string]string{
		"kind: engine\nname: x\n":                                                                "type is missing",
		"kind: engine\nname: x\ntype: clamd\n":                                                   "address is missing",
		"kind: engine\nname: x\ntype: clamd\naddress: 127.0.0.1:3310\n":                          "is no address",
		"kind: engine\nname: x\ntype: clamd\naddress: tcp://127.0.0.1\n":                         "is no address",
		"kind: engine\nname: x\ntype: clamd\naddress: tcp://h.example:70000\n":                   "65535",
		"kind: engine\nname: x\ntype: clamd\naddress: unix:sock\n":                               "absolute path",
		"kind: engine\nname: x\ntype: icap\naddress: unix:/s\n":                                  "service is missing",
		"kind: engine\nname: x\ntype: unpack\naddress: unix:/s\n":                                "address is not for",
		"kind: engine\nname: x\ntype: command\n":                                                 "program is missing",
		"kind: engine\nname: x\ntype: wrapper\nprogram: [scan.sh]\n":                             "absolute path",
		"kind: engine\nname: x\ntype: types\n":                                                   "bad_mime_types or",
		"kind: engine\nname: x\ntype: command\nprogram: [/s, a, b, c, d]\n":                      "up to three",
		"kind: engine\nname: x\ntype: command\nprogram: [/s]\nmin_size: 2\nmax_size: 1\n":        "larger than max_size",
		"kind: engine\nname: x\ntype: command\nprogram: [/s]\nenv: [x]\n":                        "write NAME=value",
		"kind: engine\nname: x\ntype: command\nprogram: [/s]\nhome: /var/qmail\n":                "home is not for",
		"kind: engine\nname: x\ntype: wrapper\nprogram: [/s]\nqmail_queue: qmail-queue\n":        "absolute path",
		"kind: engine\nname: x\ntype: wrapper\nprogram: [/s]\nuse: {files: 3}\n":                 "files",
		"kind: engine\nname: x\ntype: unpack\nuse: {files: 30}\n":                                "use is not for",
		"kind: engine\nname: x\ntype: unpack\nmax_age: 2d\n":                                     "max_age is not for",
		"kind: engine\nname: x\ntype: rspamd\naddress: unix:/s\nkeep: 1m\n":                      "keep is not for",
		"kind: engine\nname: x\ntype: quantum\n":                                                 "is none of",
		"kind: scan\nname: p\n":                                                                  "engines is missing",
		"kind: scan\nname: p\nengines: clamav\n":                                                 `no engine "clamav"`,
		clam + "kind: scan\nname: p\nengines: [clamav, clamav]\n":                                "named twice",
		scan + "rules: {on: malware, action: redirect, queue: gone}\n":                           `no queue "gone"`,
		scan + "rules: {on: malware, action: redirect}\n":                                        "needs queue",
		scan + "rules: {on: malware, action: forward}\n":                                         "needs address",
		scan + "rules: {on: malware, action: tag, queue: default}\n":                             "queue is for action redirect",
		scan + "rules: {on: malware, score: 3, action: tag}\n":                                   "score is for",
		scan + "rules: {on: spam, after: 3h, action: tag}\n":                                     "after is for",
		scan + "rules: {on: spam, action: wait}\n":                                               "wait is for",
		scan + "rules: {on: spam}\n":                                                             "needs on and action",
		scan + "rules: {on: spam, engine: rspamd, action: tag}\n":                                "doesn't ask",
		scan + "rules: {on: spam, action: reject, status: 451 4.7.1 later}\n":                    "temporary",
		scan + "rules: {on: spam, action: tag, header: \"no field\"}\n":                          "no header field",
		scan + "rules: {on: spam, action: tag, subject: " + strings.Repeat("x", 101) + "}\n":     "longer than 100",
		"kind: queue\nname: q\nscan: gone\n":                                                     `no scan policy "gone"`,
		"kind: tenant\nname: t\nscan: gone\n":                                                    `no scan policy "gone"`,
		scan + "rules: {on: spam, reason: because, action: tag}\n":                               "is none of",
		"kind: engine\nname: x\ntype: rspamd\naddress: unix:/s\nprogram: /bin/x\n":               "program is not for",
		"kind: engine\nname: x\ntype: unpack\nlimits: {depth: 0}\n":                              "limits.depth",
		"kind: engine\nname: x\ntype: milter\naddress: tcp://[2001:db8::1]:25\nhostname: a..b\n": "hostname",
	} {
		docs, err := Parse(File{Name: "x.yaml", Data: []byte(text)})
		if err == nil {
			_, err = Build(docs)
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

// TestProgramsOfEngines: every key arrives.
func TestProgramsOfEngines(t *testing.T) {
	s := snapshotOf(t, `kind: engine
name: hpsi
type: command
program: [/usr/bin/clamdscan, --fdpass]
env: [A=b, C=]
exit_code: 3
min_size: 10
max_size: 1000
base64: true
outside: clean
patience: 5s
use: {cpu: 2s, memory: 1073741824, file: 1048576, files: 64}
folder: /var/tmp
---
kind: engine
name: chain
type: wrapper
program: [/var/qmail/bin/qmail-queue-scan]
home: /var/qmail
qmail_queue: /usr/local/bin/qmail-queue
discards: true
---
kind: engine
name: kinds
type: types
bad_mime_types: TVqQAAMAA
blanks: true
`)
	for name, want := range map[string]engine.Spec{
		"hpsi": {Name: "hpsi", Type: "command", Program: []string{"/usr/bin/clamdscan", "--fdpass"}, Env: []string{"A=b", "C="},
			Code: 3, MinSize: 10, MaxSize: 1000, Base64: true, Outside: "clean", Patience: 5 * time.Second,
			CPU: 2 * time.Second, MaxMemory: 1 << 30, MaxFile: 1 << 20, MaxFiles: 64, Dir: "/var/tmp"},
		"chain": {Name: "chain", Type: "wrapper", Program: []string{"/var/qmail/bin/qmail-queue-scan"}, Home: "/var/qmail",
			Queue: "/usr/local/bin/qmail-queue", Discards: true},
		"kinds": {Name: "kinds", Type: "types", MIMETypes: "TVqQAAMAA", Blanks: true},
	} {
		if e := s.Engine(name); e == nil {
			t.Errorf("no engine %s", name)
		} else if d := cmp.Diff(want, e.Spec); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
}
