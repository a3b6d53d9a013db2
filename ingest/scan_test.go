package ingest

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"qstream/bus"
	"qstream/bus/bustest"
	"qstream/directory"
	pb "qstream/schemas/qstream/v1"
	"qstream/test/fakeclamd"
)

func clam(t testing.TB) *fakeclamd.Server {
	t.Helper()
	c, err := fakeclamd.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Down)
	return c
}

// guarded has mail of each service scanned within its session by a fake clamd.
func guarded(before, addr, scan string) string {
	text := before + fmt.Sprintf(`
---
kind: engine
name: clam
type: clamd
address: tcp://%s
per_megabyte: 0s
concurrency: 100
---
kind: queue
name: junk
---
kind: scan
name: guard
engines: clam
rules:
  - {on: malware, domains: [late.example], action: redirect, queue: junk}
  - {on: malware, action: reject, status: 554 5.7.1 infected}
---
kind: tenant
name: late
domains: [late.example]
---
kind: route
name: late
match: {domain: late.example}
via: "discard:"
`, addr)
	for _, service := range directory.Services {
		text += fmt.Sprintf("---\nkind: rules\nname: %s\nscan: {policy: guard%s}\nrules: '127.:allow'\n", service, scan)
	}
	return text
}

// watched runs an edge whose log and metrics are looked at.
func watched(t testing.TB, b *bus.Bus, cfg Config) (*Ingest, *prometheus.Registry, *lines) {
	t.Helper()
	r, log := prometheus.NewRegistry(), &lines{}
	in, _ := startWith(t, b, cfg, func(d *Deps) { d.Metrics, d.Log = r, slog.New(slog.NewTextHandler(log, nil)) })
	return in, r, log
}

const (
	scans     = "qstream_ingest_scan_messages_total"
	unscanned = "qstream_ingest_scan_unscanned_total"
	letter    = "MAIL FROM:<a@client.example>\r\nRCPT TO:<bob@acme.example>\r\n"
)

// isDone wants a message that was scanned, and isOwed one that is left to the
// scanners.
func isDone(t *testing.T, m *pb.Received) {
	t.Helper()
	if s := m.Scan; s.GetState() != pb.ScanState_SCAN_STATE_DONE || s.Policy != "guard" || !s.OfRule || s.Action != "pass" || s.Directory == 0 ||
		len(s.Verdicts) != 1 || s.Verdicts[0].Outcome != "clean" {
		t.Errorf("scan %v", s)
	}
}

func isOwed(t *testing.T, m *pb.Received) {
	t.Helper()
	if s := m.Scan; s.GetState() != pb.ScanState_SCAN_STATE_WANTED || s.Owed != "guard" || s.Policy != "guard" {
		t.Errorf("scan %v", s)
	}
}

// What is found is refused at the end of content, and the session goes on.
func TestScanBySMTP(t *testing.T) {
	t.Parallel()
	c, b := clam(t), bustest.New(t)
	apply(t, b, guarded(site, c.Addr(), ""))
	in, r, log := watched(t, b, Config{})
	s := dial(t, in)
	bad := "Subject: x\r\n\r\n" + fakeclamd.Eicar + "\r\n"
	s.say("EHLO x\r\n", "250")
	s.say(letter+"DATA\r\n", "250", "250", "354")
	s.say(bad+".\r\n", "554 5.7.1 infected")
	s.say(letter+"DATA\r\n", "250", "250", "354")
	s.say("Subject: clean\r\n\r\nhello\r\n.\r\n", "250 2.0.0")
	// In chunks, the last of which may be empty.
	s.say(letter+fmt.Sprintf("BDAT %d\r\n%sBDAT 0 LAST\r\n", len(bad), bad), "250", "250", "250", "554 5.7.1")
	half := len(bad) / 2
	s.say(letter+fmt.Sprintf("BDAT %d\r\n%sBDAT %d LAST\r\n%s", half, bad[:half], len(bad)-half, bad[half:]), "250", "250", "250", "554 5.7.1")
	// Two messages at once.
	chunk := func(body string) string { return fmt.Sprintf("BDAT %d LAST\r\n%s", len(body), body) }
	s.say(letter+chunk(bad)+letter+chunk("Subject: y\r\n\r\nhello\r\n"), "250", "250", "554 5.7.1", "250", "250", "250 2.0.0")
	// What is stored while it comes is read back.
	filler := strings.Repeat(strings.Repeat("x", 70)+"\r\n", 20_000)
	s.say(letter+"DATA\r\n", "250", "250", "354")
	s.say(filler+".\r\n", "250 2.0.0")
	s.say(letter+"DATA\r\n", "250", "250", "354")
	s.say(filler+bad+".\r\n", "554 5.7.1")
	for _, m := range received(t, b, 3) {
		isDone(t, m)
	}
	if n := counted(t, r, scans, "refused"); n != 5 {
		t.Errorf("%v refused", n)
	}
	if n := counted(t, r, scans, "accepted"); n != 3 {
		t.Errorf("%v accepted", n)
	}
	if !log.have("msg=scanned", "policy=guard", "outcome=malware") || !log.have("mail refused", "reason=scan", "code=554", "rcpt=") {
		t.Error("not told")
	}
}

// What isn't the message's alone to be refused for is left to the scanners, and
// so is what the policy wants done with it.
func TestScanForSeveral(t *testing.T) {
	t.Parallel()
	c, b := clam(t), bustest.New(t)
	apply(t, b, guarded(site, c.Addr(), ""))
	in, _ := start(t, b, Config{})
	s := dial(t, in)
	s.say("EHLO x\r\nMAIL FROM:<a@client.example>\r\nRCPT TO:<bob@acme.example>\r\nRCPT TO:<ann@late.example>\r\nDATA\r\n", "250", "250", "250", "250", "354")
	s.say(fakeclamd.Eicar+"\r\n.\r\n", "250 2.0.0")
	s.say("MAIL FROM:<a@client.example>\r\nRCPT TO:<ann@late.example>\r\nDATA\r\n", "250", "250", "354")
	s.say(fakeclamd.Eicar+"\r\n.\r\n", "250 2.0.0")
	for _, m := range received(t, b, 2) {
		isOwed(t, m)
	}
}

func TestScanByOtherProtocols(t *testing.T) {
	t.Parallel()
	c, b := clam(t), bustest.New(t)
	apply(t, b, guarded(usersSite(t), c.Addr(), ""))
	cfg := anyPort(httpConfig())
	in, _ := start(t, b, cfg)
	bad := "Subject: x\n\n" + fakeclamd.Eicar + "\n"
	large := strings.Repeat(strings.Repeat("x", 70)+"\n", 2000)
	if got := answers(t, talk(t, connect(t, in, "qmqp"), qmqp(bad, "a@client.example", "bob@acme.example"))); got != "D5.7.1" {
		t.Errorf("QMQP: %s", got)
	}
	if got := answers(t, talk(t, connect(t, in, "qmqp"), qmqp(large, "a@client.example", "bob@acme.example"))); got != "K" {
		t.Errorf("QMQP: %s", got)
	}
	crlf := func(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") }
	all := qmtp(crlf(bad), "a@client.example", "bob@acme.example", "x@refused.example") +
		qmtp(crlf(note), "a@client.example", "bob@acme.example") + qmtp(crlf(large+bad), "a@client.example", "bob@acme.example")
	nc := connect(t, in, "qmtp")
	if _, err := nc.Write([]byte(all)); err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	buf := make([]byte, 1000)
	for strings.Count(answers(t, got.String()), " ") < 3 {
		n, err := nc.Read(buf)
		if err != nil {
			t.Fatalf("%q: %v", got.String(), err)
		}
		got.Write(buf[:n])
	}
	if got := answers(t, got.String()); got != "D5.7.1 D5.1.1 K D5.7.1" {
		t.Errorf("QMTP: %s", got)
	}
	if got := (post{query: fromAlice, body: bad, key: "1"}).to(t, in); got.status != 403 || got.SMTP.Code != 554 || got.SMTP.Enhanced != "5.7.1" {
		t.Errorf("HTTP: %+v", got)
	}
	if got := (post{query: fromAlice, body: note, key: "2"}).to(t, in); got.status != 202 {
		t.Errorf("HTTP: %+v", got)
	}
	for _, m := range received(t, b, 3) {
		isDone(t, m)
	}
}

// What programs of this host hand in by HTTP is scanned by the rule that HTTP has
// for their address.
func TestScanOfThisHost(t *testing.T) {
	c, b := clam(t), bustest.New(t)
	text := strings.Replace(guarded(usersSite(t), c.Addr(), ""), "name: http\nscan: {policy: guard}\nrules: '127.:allow'",
		"name: http\nscan: {policy: guard}\nrules: '127.0.0.2:allow,SCANPOLICY=\"\"'", 1)
	apply(t, b, text)
	in, _ := start(t, b, Config{})
	bad := "Subject: x\n\n" + fakeclamd.Eicar + "\n"
	for _, tt := range []struct {
		from, body string
		want       int
	}{{"127.0.0.1:4000", bad, 403}, {"127.0.0.1:4000", note, 202}, {"127.0.0.2:4000", bad, 202}} {
		r := post{query: "?from=x@any.example&to=y@acme.example", body: tt.body, user: "-"}.request(t, "http://127.0.0.1:8025")
		r.RemoteAddr, r.Host = tt.from, "127.0.0.1:8025"
		w := httptest.NewRecorder()
		in.Local().ServeHTTP(deadlines{w}, r)
		if w.Code != tt.want {
			t.Errorf("%s: %d %s", tt.from, w.Code, w.Body)
		}
	}
	scanned := 0
	for _, m := range received(t, b, 2) {
		if m.Scan != nil {
			scanned++
			isDone(t, m)
		}
	}
	if scanned != 1 {
		t.Errorf("%d of 2 were scanned, want the one that has a policy", scanned)
	}
}

// An engine that hangs, is down or dies amid a scan refuses nothing: the mail is
// left to the scanners, or deferred where the rule says so.
func TestScanInTrouble(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, scan, fate, reason string
		down                     bool // before; else it hangs
		kill                     bool // amid the scan
		want                     string
	}{
		{"hangs", ", deadline: 1s", "left", "late", false, false, "250 2.0.0"},
		{"hangs, deferred", ", deadline: 1s, late: defer", "deferred", "late", false, false, "451 4.7.1"},
		{"down", "", "left", "down", true, false, "250 2.0.0"},
		{"down, deferred", ", down: defer", "deferred", "down", true, false, "451 4.7.1"},
		{"killed amid the scan", ", deadline: 5m", "left", "down", false, true, "250 2.0.0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, b := clam(t), bustest.New(t)
			apply(t, b, guarded(site, c.Addr(), tt.scan))
			c.Feel(fakeclamd.Mood{Hang: !tt.kill, Slow: time.Hour})
			if tt.down {
				c.Down()
			}
			in, r, log := watched(t, b, Config{})
			s := dial(t, in)
			s.say("EHLO x\r\n"+letter+"DATA\r\n", "250", "250", "250", "354")
			s.say(fakeclamd.Eicar + "\r\n.\r\n")
			if tt.kill {
				awaited(t, "the message is with the engine", func() bool { _, most := c.Scans(); return most == 1 })
				c.Down()
			}
			s.expect(tt.want)
			if counted(t, r, scans, tt.fate) != 1 || counted(t, r, unscanned, tt.reason) != 1 {
				t.Error("not counted")
			}
			if !log.have("not scanned in its session", "reason="+tt.reason, "mail="+tt.fate) {
				t.Error("not told")
			}
			if tt.fate == "left" {
				isOwed(t, received(t, b, 1)[0])
			} else {
				received(t, b, 0)
			}
		})
	}
}

// A message for whose scan there is no room in time is told as any limit, and left
// or deferred.
func TestScanIsBusy(t *testing.T) {
	t.Parallel()
	c, b := clam(t), bustest.New(t)
	text := guarded(site, c.Addr(), ", deadline: 5m")
	apply(t, b, strings.Replace(text, "name: smtp\nscan: {policy: guard, deadline: 5m", "name: smtp\nscan: {policy: guard, deadline: 1s", 1))
	c.Feel(fakeclamd.Mood{Slow: time.Hour})
	in, r, log := watched(t, b, anyPort(Config{MaxScans: 1}))
	if _, err := connect(t, in, "qmqp").Write([]byte(qmqp("hello\n", "", "b@acme.example"))); err != nil {
		t.Fatal(err)
	}
	awaited(t, "a message is scanned", func() bool { return running(t, r) == 1 })
	s := dial(t, in)
	s.say("EHLO x\r\n"+letter+"DATA\r\n", "250", "250", "250", "354")
	s.say("hello\r\n.\r\n", "250 2.0.0")
	isOwed(t, received(t, b, 1)[0])
	if counted(t, r, unscanned, "busy") != 1 || !log.have("not scanned in its session", "reason=busy", "mail=left", "127.0.0.1") {
		t.Error("not told")
	}
}

// A client that leaves amid the scan has sent nothing, also over TLS; one that
// has said more and waits for the answer is there.
func TestScanAndTheClientLeaves(t *testing.T) {
	t.Parallel()
	c, b := clam(t), bustest.New(t)
	apply(t, b, guarded(site, c.Addr(), ", deadline: 5m"))
	c.Feel(fakeclamd.Mood{Hang: true})
	in, r, _ := watched(t, b, withCertificate(t, anyPort(Config{})))
	gone := 0.0
	leave := func(close func()) {
		t.Helper()
		awaited(t, "the message is scanned", func() bool { return running(t, r) == 1 })
		close()
		gone++
		awaited(t, "the scan ends", func() bool { return counted(t, r, scans, "gone") == gone })
	}
	s := dial(t, in)
	s.say("EHLO x\r\n"+letter+"DATA\r\n", "250", "250", "250", "354")
	s.say("hello\r\n.\r\n")
	leave(func() { s.Close() })
	s = dial(t, in)
	s.say("EHLO x\r\nSTARTTLS\r\n", "250", "220 2.0.0")
	s = newClient(t, tls.Client(s.Conn, &tls.Config{InsecureSkipVerify: true})) // our own certificate
	s.say("EHLO x\r\n"+letter+"DATA\r\n", "250", "250", "250", "354")
	s.say("hello\r\n.\r\n")
	leave(func() { s.Close() })
	q := connect(t, in, "qmtp")
	if _, err := q.Write([]byte(qmtp("hello\r\n", "a@client.example", "bob@acme.example"))); err != nil {
		t.Fatal(err)
	}
	leave(func() { q.Close() })
	s = dial(t, in)
	s.say("EHLO x\r\n"+letter+"DATA\r\n", "250", "250", "250", "354")
	s.say("hello\r\n.\r\nQUIT\r\n")
	if err := s.Conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	awaited(t, "the message is scanned", func() bool { return running(t, r) == 1 })
	c.Feel(fakeclamd.Mood{})
	s.expect("250 2.0.0")
	isDone(t, received(t, b, 1)[0])
}

// running is how many messages are scanned now.
func running(t *testing.T, r *prometheus.Registry) float64 {
	t.Helper()
	all, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range all {
		if f.GetName() == "qstream_ingest_scan_running_scans" {
			return f.Metric[0].Gauge.GetValue()
		}
	}
	return -1
}

// Many sessions with an engine that hangs leave others theirs: those of services
// without scanning go on, and another client finds a place.
func TestScanLeavesOthersAlone(t *testing.T) {
	t.Parallel()
	const flood = 64
	c, b := clam(t), bustest.New(t)
	text := guarded(site, c.Addr(), ", deadline: 5m, busy: defer")
	apply(t, b, strings.ReplaceAll(text, "name: qmtp\nscan: {policy: guard,", "name: qmtp\nscan: {"))
	c.Feel(fakeclamd.Mood{Hang: true})
	in, r, _ := watched(t, b, anyPort(Config{MaxScans: 16}))
	var clients []*client
	for range flood {
		s := dial(t, in)
		s.say("EHLO x\r\n"+letter+"DATA\r\n", "250", "250", "250", "354")
		s.say("hello\r\n.\r\n")
		clients = append(clients, s)
	}
	awaited(t, "the flood has all that it may", func() bool { return running(t, r) == 14 })
	other := from(t, in, "127.0.0.2")
	other.say("EHLO x\r\n"+letter+"DATA\r\n", "250", "250", "250", "354")
	other.say("hello\r\n.\r\n")
	awaited(t, "another client has a place", func() bool { return running(t, r) == 15 })
	for range 20 {
		q := connect(t, in, "qmtp")
		if _, err := q.Write([]byte(qmtp("hello\r\n", "a@client.example", "bob@acme.example"))); err != nil {
			t.Fatal(err)
		}
		if _, err := q.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(received(t, b, 20)); n != 20 {
		t.Errorf("%d messages passed", n)
	}
	c.Feel(fakeclamd.Mood{})
	for _, s := range append(clients, other) {
		s.expect("250 2.0.0")
	}
	received(t, b, 20+flood+1)
}

// from dials from another address of this host.
func from(t *testing.T, in *Ingest, local string) *client {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(local)}}
	c, err := d.Dial("tcp", in.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(5 * time.Minute))
	cl := newClient(t, c)
	cl.expect("220")
	return cl
}

// The programs that rules name are asked as s/qmail asks them.
func TestScanByPrograms(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	script := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o700); err != nil {
			t.Fatal(err)
		}
		return path
	}
	scanner := script("scanner", `grep -q "$2" "$1" && exit "$CODE"; exit 0`)
	queue := script("queue", `case "$(cat)" in *VIRUS*) exit 32 ;; *SPAM*) exit 33 ;; *CUSTOM*) printf 'Dnot that' >&6; exit 82 ;; *LATER*) printf 'Zcome again' >&6; exit 82 ;; esac; exit 71`)
	for _, tt := range []struct{ name, vars, body, want string }{
		{"QHPSI", `QHPSI="` + scanner + `",QHPSIARG1="BAD",CODE="1"`, "BAD", "554 5.7.1"},
		{"QHPSI clean", `QHPSI="` + scanner + `",QHPSIARG1="BAD",CODE="1"`, "good", "250 2.0.0"},
		{"QHPSI with QHPSIRC", `QHPSI="` + scanner + `",QHPSIARG1="BAD",CODE="7",QHPSIRC="7"`, "BAD", "554 5.7.1"},
		{"QHPSI fails", `QHPSI="` + scanner + `",QHPSIARG1="BAD",CODE="7"`, "BAD", "451 4.7.1"},
		{"QHPSI without base64", `QHPSI="` + scanner + `",QHPSIARG1="BAD",CODE="1",BASE64=""`, "BAD", "250 2.0.0"},
		{"QHPSI too small", `QHPSI="` + scanner + `",QHPSIARG1="BAD",CODE="1",QHPSIMINSIZE="1000"`, "BAD", "250 2.0.0"},
		{"QHPSI too large", `QHPSI="` + scanner + `",QHPSIARG1="BAD",CODE="1",QHPSIMAXSIZE="1"`, "BAD", "250 2.0.0"},
		{"QHPSI isn't there", `QHPSI="/nonexistent/scanner"`, "good", "451 4.7.1"},
		{"QMAILQUEUE, a virus", `QMAILHOME="` + dir + `",QMAILQUEUE="queue"`, "VIRUS", "554 5.7.1"},
		{"QMAILQUEUE, spam", `QMAILHOME="` + dir + `",QMAILQUEUE="` + queue + `"`, "SPAM", "554 5.7.1"},
		{"QMAILQUEUE, its own words", `QMAILHOME="` + dir + `",QMAILQUEUE="queue"`, "CUSTOM", "554 5.7.1 not that"},
		{"QMAILQUEUE, later", `QMAILHOME="` + dir + `",QMAILQUEUE="queue"`, "LATER", "451 4.3.0 come again"},
		{"QMAILQUEUE fails", `QMAILHOME="` + dir + `",QMAILQUEUE="queue"`, "good", "451 4.7.1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := bustest.New(t)
			apply(t, b, rulesFor("scan: {down: defer}\nrules: |\n  127.0.0.2:allow\n  127.0.0.1:allow,"+tt.vars+"\n"))
			in, _ := start(t, b, Config{})
			s := dial(t, in)
			s.say("EHLO x\r\n"+letter+"DATA\r\n", "250", "250", "250", "354")
			s.say("Subject: x\r\n\r\n"+tt.body+"\r\n.\r\n", tt.want)
			s = from(t, in, "127.0.0.2")
			s.say("EHLO x\r\n"+letter+"DATA\r\n", "250", "250", "250", "354")
			s.say("Subject: x\r\n\r\n"+tt.body+"\r\n.\r\n", "250 2.0.0")
		})
	}
}
