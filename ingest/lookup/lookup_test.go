package lookup

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"qstream/directory"
	"qstream/ingest/policy"
	"qstream/qmail"
	"qstream/test/fakemx"
	"qstream/transport/resolver"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// deadDNS is a server that never answers.
func deadDNS(t *testing.T) string {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c.LocalAddr().String()
}

func newLookup(t *testing.T, cfg Config, now func() time.Time) *Lookup {
	t.Helper()
	dns, err := resolver.New(resolver.Config{Servers: []string{deadDNS(t)}, Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	cfg.Hostname = "edge.acme.example"
	l, err := New(cfg, dns, nil, nil, now)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// about makes a question of a policy document's recipients.
func about(t *testing.T, l *Lookup, document, address string) Question {
	t.Helper()
	docs, err := directory.Parse(directory.File{Name: "x", Data: []byte("kind: policy\nname: p\n" + document)})
	if err != nil {
		t.Fatal(err)
	}
	snap, err := directory.Build(docs)
	if err != nil {
		t.Fatal(err)
	}
	return Question{
		Snapshot: snap, Settings: l.Settings(snap, snap.Policy(false, "", "acme.example"), nil),
		Facts: &policy.Facts{Recipient: address, Sender: "x@other.example"}, Env: func() []string { return []string{"MAILFROM=x@other.example"} },
	}
}

func write(t *testing.T, path string, data []byte, mode os.FileMode) string {
	t.Helper()
	if err := os.WriteFile(path, data, mode); err != nil {
		t.Fatal(err)
	}
	return path
}

// helper is a recipient program in the shell.
const helper = `#!/bin/sh
IFS= read -r all <<END
$(tr '\0' '!' <&3)
END
case "$1:$MAILFROM:$all" in
"arg:x@other.example:yes@acme.example!!!") exit 0 ;;
"arg:x@other.example:list-@acme.example!!!") exit 0 ;;
*no@acme.example*|*list-*) exit 1 ;;
*slow@*) sleep 60 ;;
*dies@*) kill -9 $$ ;;
esac
exit 111
`

func TestMailbox(t *testing.T) {
	dir := t.TempDir()
	program := write(t, filepath.Join(dir, "pam"), []byte(helper), 0o700)
	cdb := write(t, filepath.Join(dir, "users.cdb"), qmail.AppendCDB(nil, [2]string{":bob@acme.example", ""}, [2]string{":me-@acme.example", ""}), 0o600)
	broken := write(t, filepath.Join(dir, "broken.cdb"), []byte("no"), 0o600)
	write(t, filepath.Join(dir, "recipients"), []byte("!all.example\nacme.example:users.cdb\nacme.example|./pam arg\n"), 0o600)
	rules := "recipients: {rules: {file: " + dir + "/recipients}, home: " + dir + "}"
	for _, tt := range []struct {
		document, address string
		want              policy.Answer
	}{
		{"recipients: {list: bob@acme.example}", "Bob@acme.example", policy.Yes},
		{"recipients: {list: bob@acme.example}", "eve@acme.example", policy.No},
		{"recipients: {cdb: " + cdb + "}", "BOB@acme.example", policy.Yes},
		{"recipients: {cdb: " + cdb + "}", "me-list@acme.example", policy.Yes},
		{"recipients: {cdb: " + cdb + "}", "me@acme.example", policy.No},
		{"recipients: {cdb: " + broken + "}", "bob@acme.example", policy.Fault},
		{"recipients: {cdb: " + dir + "/none}", "bob@acme.example", policy.Fault},
		{"recipients: {cdb: " + dir + "/none, list: bob@acme.example}", "bob@acme.example", policy.Yes},
		{"recipients: {program: [" + program + ", arg]}", "yes@acme.example", policy.Yes},
		{"recipients: {program: [" + program + ", arg]}", "no@acme.example", policy.No},
		{"recipients: {program: [" + program + ", arg]}", "list-x@acme.example", policy.Yes},
		{"recipients: {program: [" + program + "]}", "list-x@acme.example", policy.No},
		{"recipients: {program: [" + program + "]}", "yes@acme.example", policy.Fault},
		{"recipients: {program: [" + program + "]}", "dies@acme.example", policy.Fault},
		{"recipients: {program: [" + program + "], timeout: 1s}", "slow@acme.example", policy.Fault},
		{"recipients: {program: [" + dir + "/none]}", "yes@acme.example", policy.Fault},
		{rules, "bob@acme.example", policy.Yes},
		{rules, "yes@acme.example", policy.Yes},
		{rules, "no@acme.example", policy.No},
		{rules, "other@acme.example", policy.Fault},
		{rules, "any@all.example", policy.Yes},
		{rules, "any@unlisted.example", policy.No},
		{"recipients: {rules: {file: " + dir + "/none}}", "bob@acme.example", policy.Fault},
	} {
		l := newLookup(t, Config{}, time.Now)
		started := time.Now()
		if got := l.Answer(t.Context(), policy.MailboxHere, about(t, l, tt.document, tt.address)); got != tt.want {
			t.Errorf("%s, %s: %v, want %v", tt.document, tt.address, got, tt.want)
		}
		if d := time.Since(started); d > 10*time.Second {
			t.Errorf("%s: %s", tt.address, d)
		}
	}
}

// Programs at once are bounded: who finds no place has no answer in time.
func TestConcurrency(t *testing.T) {
	program := write(t, filepath.Join(t.TempDir(), "pam"), []byte(helper), 0o700)
	l := newLookup(t, Config{}, time.Now)
	q := about(t, l, "recipients: {program: ["+program+", arg], timeout: 1s, concurrency: 1}", "yes@acme.example")
	c := l.ready(q.Snapshot.Number, q.Settings.Policy)
	c.places <- struct{}{}
	if got := l.Answer(t.Context(), policy.MailboxHere, q); got != policy.Fault {
		t.Errorf("%v", got)
	}
	<-c.places
	if got := l.Answer(t.Context(), policy.MailboxHere, q); got != policy.Yes {
		t.Errorf("%v", got)
	}
}

func TestCallout(t *testing.T) {
	for _, tt := range []struct {
		rule fakemx.Rule
		want policy.Answer
	}{
		{fakemx.Rule{}, policy.Yes},
		{fakemx.Rule{Line: "RCPT", Reply: "550 5.1.1 nobody\n5.1.1 at all"}, policy.No},
		{fakemx.Rule{Line: "RCPT", Reply: "450 4.2.0 later"}, policy.Fault},
		{fakemx.Rule{Line: "MAIL", Reply: "550 5.7.1 not you"}, policy.Fault},
		{fakemx.Rule{Line: "EHLO", Reply: "502 5.5.1 no"}, policy.Yes},
		{fakemx.Rule{Line: "RCPT", Reply: "nonsense"}, policy.Fault},
	} {
		cfg := fakemx.Config{}
		if tt.rule.Line != "" {
			cfg.Rules = []fakemx.Rule{tt.rule}
		}
		mx, err := fakemx.Start(cfg)
		if err != nil {
			t.Fatal(err)
		}
		l := newLookup(t, Config{}, time.Now)
		q := about(t, l, "recipients: {callout: \""+mx.Addr()+"\", timeout: 3s}", "bob@acme.example")
		if got := l.Answer(t.Context(), policy.MailboxHere, q); got != tt.want {
			t.Errorf("%+v: %v, want %v", tt.rule, got, tt.want)
		}
		mx.Close()
		// What was found out holds without the host; a fault is not held.
		want := tt.want
		if got := l.Answer(t.Context(), policy.MailboxHere, q); got != want {
			t.Errorf("%+v again: %v, want %v", tt.rule, got, want)
		}
	}
}

func TestMemory(t *testing.T) {
	now := time.Unix(1000, 0)
	m := newMemory(func() time.Time { return now })
	m.put("a", policy.Yes, time.Minute)
	m.put("b", policy.No, 0)
	if m.get("a") != policy.Yes || m.get("b") != policy.Unknown {
		t.Error("what is remembered")
	}
	now = now.Add(time.Minute)
	if m.get("a") != policy.Unknown {
		t.Error("it is remembered for too long")
	}
	for i := range maxKnown + 500 {
		m.put(fmt.Sprint(i), policy.Yes, time.Hour)
	}
	if len(m.all) > maxKnown {
		t.Error(len(m.all))
	}
}

// A changed file is in force within two seconds; one that is gone, or that
// holds nonsense, stays as it was.
func TestFileChanges(t *testing.T) {
	path := write(t, filepath.Join(t.TempDir(), "badmimetypes"), []byte("TVqQAAMAA\n"), 0o600)
	now := time.Now()
	l := newLookup(t, Config{}, func() time.Time { return now })
	doc := "bad_mime_types: {file: " + path + "}"
	first := about(t, l, doc, "").Settings.BadMIMETypes
	change := func(text string) *policy.Settings {
		next := path + ".new"
		write(t, next, []byte(text), 0o600)
		if err := os.Rename(next, path); err != nil {
			t.Fatal(err)
		}
		now = now.Add(2 * time.Second)
		return about(t, l, doc, "").Settings
	}
	second := change("TVoAAAQAA\n")
	if second.BadMIMETypes.Equal(first) || second.Broken {
		t.Error("the change is not noticed")
	}
	third := change("short\n")
	if !third.BadMIMETypes.Equal(second.BadMIMETypes) || third.Broken {
		t.Error("nonsense is taken")
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	now = now.Add(2 * time.Second)
	if s := about(t, l, doc, "").Settings; s.Broken || !s.BadMIMETypes.Equal(second.BadMIMETypes) {
		t.Error("a file that is gone takes its content along")
	}
	fresh := newLookup(t, Config{}, time.Now)
	if s := about(t, fresh, doc, "").Settings; !s.Broken {
		t.Error("a file that never was there is no fault")
	}
}

// A DNS server that never answers delays who asks, by the deadline and no
// more, however many ask; who doesn't ask isn't delayed.
func TestDeadDNS(t *testing.T) {
	l := newLookup(t, Config{DNSTimeout: 300 * time.Millisecond, DNSAtOnce: 2}, time.Now)
	started := time.Now()
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			q := Question{Settings: &policy.Settings{}, Facts: &policy.Facts{Sender: fmt.Sprintf("x@%d.example", i)}}
			if got := l.Answer(t.Context(), policy.SenderDNS, q); got != policy.Fault {
				t.Errorf("%v", got)
			}
		})
	}
	l.Answer(t.Context(), policy.MailboxHere, about(t, l, "recipients: {list: bob@acme.example}", "bob@acme.example"))
	if d := time.Since(started); d > 200*time.Millisecond {
		t.Errorf("who doesn't ask DNS waits %s", d)
	}
	wg.Wait()
	if d := time.Since(started); d > 2*time.Second {
		t.Errorf("who asks waits %s", d)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	q := Question{Settings: &policy.Settings{}, Facts: &policy.Facts{HELO: "a.example"}}
	for _, how := range []qmail.HELOCheck{qmail.HELOAddress, qmail.HELOMail} {
		q.Settings.HELO = how
		if got := l.Answer(ctx, policy.HELODNS, q); got != policy.Fault {
			t.Errorf("%c: %v", how, got)
		}
	}
	q.Facts.HELO = "[192.0.2.1]"
	q.Settings.HELO = qmail.HELOAddress
	if got := l.Answer(ctx, policy.HELODNS, q); got != policy.Yes {
		t.Errorf("literal: %v", got)
	}
}

func TestEnvironmentOverPolicy(t *testing.T) {
	l := newLookup(t, Config{}, time.Now)
	q := about(t, l, "variables: {MAXRECIPIENTS: 7, DATABYTES: 100}", "")
	s := l.Settings(q.Snapshot, q.Settings.Policy, map[string]string{"MAXRECIPIENTS": "9", "DATABYTES": "much"})
	if s.MaxRecipients != 9 || s.DataBytes != 100 {
		t.Errorf("%+v", s.Variables)
	}
}
