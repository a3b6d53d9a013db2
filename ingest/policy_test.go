package ingest

import (
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"qstream/bus/bustest"
	"qstream/transport/resolver"
)

const policySite = site + `
---
kind: tenant
name: beta
domains: [beta.example]
queue: acme
---
kind: route
name: beta
match: {domain: beta.example}
via: "discard:"
---
kind: policy
name: acme
match: {domains: acme.example}
bad_mail_from: [bad@strange.example]
bad_helo: [bad.example]
bad_mime_types: TVqQAAMAA
recipients: {list: [bob@acme.example, ann@acme.example, c1@acme.example, c2@acme.example]}
variables: {DATABYTES: 200000, REPLY_CONTENT: not here, REPLY_MAXSIZE: so small, MAXRECIPIENTS: 3}
---
kind: policy
name: others
variables: {TARPITCOUNT: 1, TARPITDELAY: 999}
recipients: {list: [d@beta.example]}
`

const program = "MIME-Version: 1.0\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n\r\n"

// Every stage of the dialogue, against a policy's domain and another's.
func TestPolicies(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	apply(t, b, policySite)
	in, _ := start(t, b, Config{})
	c := dial(t, in)
	const from = "MAIL FROM:<a@strange.example>\r\n"
	c.say("EHLO bad.example\r\n"+from, "250", "250 2.1.0")
	c.say("RCPT TO:<bob@acme.example>\r\n", "550 5.7.1 invalid HELO/EHLO greeting")
	c.say("EHLO x\r\nMAIL FROM:<bad@strange.example>\r\nRCPT TO:<bob@acme.example>\r\n", "250", "250", "553 5.7.1")
	c.say("RSET\r\n"+from+"RCPT TO:<bob@acme.example>\r\n", "250", "250", "250")
	// One reply to DATA can't serve both.
	c.say("RCPT TO:<d@beta.example>\r\n", "452 4.5.3")
	content := func(text string) string { return "DATA\r\n" + text + "\r\n.\r\n" }
	c.say(content(program+"TVqQAAMAAAAEAAAA"), "354", "554 5.3.2 invalid message content not here")
	// A large one is cut while it comes.
	c.say(from+"RCPT TO:<ann@acme.example>\r\n", "250", "250")
	large := strings.Repeat(strings.Repeat("QUJD", 19)+"\r\n", 1000)
	c.say(content(program+large+"--x\r\nContent-Transfer-Encoding: base64\r\n\r\nTVqQAAMAAAAEAAAA"), "354", "554 5.3.2")
	c.say("MAIL FROM:<a@strange.example> SIZE=200001\r\nRCPT TO:<c1@acme.example>\r\n", "250", "552 5.3.4")
	c.say("RSET\r\n"+from+"RCPT TO:<c1@acme.example>\r\n", "250", "250", "250")
	c.say(content(strings.Repeat(large, 3)), "354", "552 5.3.4 that message size exceeds my databytes limit so small")
	// Three recipients of this session were taken.
	c.say(from+"RCPT TO:<c2@acme.example>\r\n", "250", "452 4.5.3")
	// After one that doesn't exist the other policy ends the session at DATA.
	c.say("RCPT TO:<eve@acme.example>\r\nRCPT TO:<d@beta.example>\r\n"+content("hello"), "550 5.1.1", "452 4.5.3", "503 5.5.1 DATA command not accepted")
	if rest, err := io.ReadAll(c.in); err != nil || len(rest) > 0 {
		t.Errorf("%q and %v behind the end", rest, err)
	}
	clean := dial(t, in)
	clean.say("EHLO x\r\n"+from+"RCPT TO:<d@beta.example>\r\n"+content(program+"TVqQAAMAAAAEAAAA"), "250", "250", "250", "354", "250")
	if got := received(t, b, 1); got[0].Envelope.Recipients[0].Address != "d@beta.example" {
		t.Error(got)
	}
}

// With a DNS server that never answers, who needs it hears 451 after the
// deadline, and others are served meanwhile.
func TestDeadDNSDelaysNobodyElse(t *testing.T) { // alone: it compares times
	dead, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer dead.Close()
	dns, err := resolver.New(resolver.Config{Servers: []string{dead.LocalAddr().String()}, Timeout: 4 * time.Second, Tries: 2})
	if err != nil {
		t.Fatal(err)
	}
	b := bustest.New(t)
	apply(t, b, site+"\n---\nkind: policy\nname: p\nvariables: {MFDNSCHECK: \"\"}\n")
	in, _ := startWith(t, b, Config{}, func(d *Deps) { d.Resolver = dns })
	asking, free := dial(t, in), dial(t, in)
	started := time.Now()
	slow := make(chan time.Duration, 1)
	go func() {
		asking.say("EHLO x\r\nMAIL FROM:<a@strange.example>\r\nRCPT TO:<b@acme.example>\r\n", "250", "250", "451 4.4.3")
		slow <- time.Since(started)
	}()
	free.say("EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<b@acme.example>\r\nDATA\r\nhello\r\n.\r\n", "250", "250", "250", "354", "250")
	select {
	case d := <-slow:
		t.Errorf("a session without need of DNS took longer than one that waits, %s", d)
		slow <- d
	default:
	}
	if d := <-slow; d < 4*time.Second || d > time.Minute {
		t.Errorf("a session in need of DNS took %s", d)
	}
}
