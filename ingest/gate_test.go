package ingest

import (
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"qstream/bus/bustest"
)

// rulesFor are rules for SMTP beside the site's documents.
func rulesFor(text string) string { return site + "---\nkind: rules\nname: smtp\n" + text }

const everywhere = `
---
kind: route
name: out
match: {domain: "*"}
via: "discard:"
`

// said is all that the edge says to text, until it closes the connection.
func said(t *testing.T, in *Ingest, text string) string {
	t.Helper()
	nc, err := net.Dial("tcp", in.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	_ = nc.SetDeadline(time.Now().Add(2 * time.Minute))
	_, _ = io.WriteString(nc, text)
	all, err := io.ReadAll(nc)
	if err != nil && len(all) == 0 && !strings.Contains(err.Error(), "reset") {
		t.Fatal(err)
	}
	return string(all)
}

// TestGateLive: rules hold for the next connection after they have arrived.
func TestGateLive(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	apply(t, b, site+everywhere)
	in, _ := start(t, b, Config{})
	const outward = "EHLO x\r\nMAIL FROM:<a@strange.example>\r\nRCPT TO:<b@elsewhere.example>\r\nQUIT\r\n"
	until := func(rules, want string) {
		t.Helper()
		apply(t, b, "kind: rules\nname: smtp\n"+rules)
		applied := time.Now()
		for got := ""; ; {
			if got = said(t, in, outward); strings.Contains(got, want) && (want != "" || got == "") {
				return
			}
			if time.Since(applied) > 20*time.Second {
				t.Fatalf("after 20 s:\n%s\nwant %q", got, want)
			}
		}
	}
	if got := said(t, in, outward); !strings.Contains(got, "553 5.7.1") {
		t.Errorf("without rules:\n%s", got)
	}
	until("rules: '127.0.0.1:allow,RELAYCLIENT=\"\"'\n", "250 2.1.5")
	until("rules: '127.:deny'\n", "")
	until("deny: reply\nrules: '127.0.0.0/8:deny'\n", "554 5.7.1")
	until("rules: '127.:allow,RBLSMTPD=\"-listed\"'\n", "553 5.7.1 listed")
	until("rules: '127.:allow'\n", "553 5.7.1")
}

func TestGateVariables(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	apply(t, b, rulesFor("rules: '127.:allow,RELAYCLIENT=\"@relay.example\",DATABYTES=\"1000\",MAXRECIPIENTS=\"2\"'\n")+everywhere)
	in, _ := start(t, b, Config{})
	c := dial(t, in)
	if got := said(t, in, "EHLO x\r\nQUIT\r\n"); !strings.Contains(got, "SIZE 1000\r\n") || !strings.Contains(got, "RCPTMAX=2\r\n") {
		t.Errorf("%q", got)
	}
	c.say("EHLO x\r\n", "250")
	c.say("MAIL FROM:<a@strange.example> SIZE=1001\r\n", "552 5.3.4")
	c.say("MAIL FROM:<a@strange.example>\r\n", "250")
	c.say("RCPT TO:<b@elsewhere.example>\r\n", "250")
	c.say("DATA\r\n"+strings.Repeat("0123456789\r\n", 100)+".\r\n", "354", "552 5.3.4")
	c.say("MAIL FROM:<a@strange.example>\r\nRCPT TO:<b@elsewhere.example>\r\nRCPT TO:<c@elsewhere.example>\r\n", "250", "250", "452 4.5.3")
	c.say("DATA\r\nhello\r\n.\r\n", "354", "250 2.0.0")
	m := received(t, b, 1)[0]
	if got := m.Envelope.Recipients[0].Address; got != `"b@elsewhere.example"@relay.example` || !m.Session.Relay {
		t.Errorf("recipient %s, %v", got, m.Session)
	}
}

func TestGateLimits(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	apply(t, b, rulesFor("limits: {per_address: 1}\n"))
	in, _ := start(t, b, Config{})
	c := dial(t, in)
	c.say("EHLO x\r\n", "250")
	if got := said(t, in, ""); !strings.HasPrefix(got, "421 4.7.0") {
		t.Errorf("%q", got)
	}
	c.say("QUIT\r\n", "221")
	for end := time.Now().Add(30 * time.Second); !strings.HasPrefix(said(t, in, "QUIT\r\n"), "220"); {
		if time.Now().After(end) {
			t.Fatal("the place is not given back")
		}
	}
}

func TestProxied(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	apply(t, b, rulesFor("proxy: 127.0.0.1\nrules: '192.0.2.66:deny'\n"))
	in, _ := start(t, b, Config{})
	const mail = "EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<b@acme.example>\r\nDATA\r\nhello\r\n.\r\nQUIT\r\n"
	if got := said(t, in, "PROXY TCP4 192.0.2.66 192.0.2.25 4000 25\r\n"+mail); got != "" {
		t.Errorf("denied: %q", got)
	}
	if got := said(t, in, mail); got != "" {
		t.Errorf("without a header: %q", got)
	}
	if got := said(t, in, "PROXY TCP6 2001:db8::1 2001:db8::25 4000 25\r\n"+mail); !strings.Contains(got, "250 2.0.0 ok") {
		t.Errorf("%q", got)
	}
	if s := received(t, b, 1)[0].Session; s.ClientIp != "2001:db8::1" || s.ClientPort != 4000 {
		t.Errorf("%v", s)
	}
}

func TestXClient(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	apply(t, b, rulesFor("xclient: 127.0.0.1\ndeny: reply\nrules: '192.0.2.66:deny'\n"))
	in, _ := start(t, b, Config{})
	c := dial(t, in)
	if got := said(t, in, "EHLO x\r\nQUIT\r\n"); !strings.Contains(got, "XCLIENT NAME ADDR PORT PROTO HELO LOGIN\r\n") {
		t.Errorf("%q", got)
	}
	c.say("EHLO x\r\n", "250")
	for _, bad := range []string{"", "ADDR", "ADDR=x", "PORT=x", "COLOUR=red", "NAME=a+0Db", "PROTO=LMTP"} {
		c.say("XCLIENT "+bad+"\r\n", "501 5.5.4")
	}
	c.say("MAIL FROM:<>\r\nXCLIENT ADDR=192.0.2.1\r\nRSET\r\n", "250", "503 5.5.1", "250")
	c.say("XCLIENT NAME=mail.acme.example ADDR=192.0.2.1 PORT=4000 LOGIN=Ann@acme.example\r\n", "220")
	c.say("MAIL FROM:<>\r\n", "503")
	c.say("EHLO real.example\r\nMAIL FROM:<>\r\nRCPT TO:<b@acme.example>\r\nDATA\r\nhello\r\n.\r\n", "250", "250", "250", "354", "250 2.0.0")
	c.say("XCLIENT ADDR=IPv6:2001:db8::9 NAME=[UNAVAILABLE] PROTO=SMTP HELO=said.example\r\n", "220")
	c.say("MAIL FROM:<>\r\nRCPT TO:<b@acme.example>\r\nDATA\r\nhello\r\n.\r\n", "250", "250", "354", "250 2.0.0")
	c.say("XCLIENT ADDR=192.0.2.66\r\n", "554 5.7.1")
	ms := received(t, b, 2)
	if ms[0].Session.Helo != "real.example" { // they are on partitions of their own
		ms[0], ms[1] = ms[1], ms[0]
	}
	if s := ms[0].Session; s.ClientIp != "192.0.2.1" || s.ClientPort != 4000 || s.ClientName != "mail.acme.example" || s.Helo != "real.example" || s.AuthUser != "ann@acme.example" || s.Tenant != "acme" {
		t.Errorf("first: %v", s)
	}
	if s := ms[1].Session; s.ClientIp != "2001:db8::9" || s.ClientName != "" || s.Helo != "said.example" {
		t.Errorf("second: %v", s)
	}
	if w := ms[1].Prepend; !strings.Contains(string(w), "with SMTP") {
		t.Errorf("%s", w)
	}
	change(t, b, in, "kind: rules\nname: smtp\n")
	dial(t, in).say("EHLO x\r\nXCLIENT ADDR=192.0.2.1\r\n", "250", "550 5.7.0")
}

// TestIdleConnections: what 5,000 idle clients cost. Their own ends are in
// this process too, so an edge needs less.
func TestIdleConnections(t *testing.T) {
	n := 500
	if os.Getenv("QSTREAM_TEST_LONG") != "" {
		n = 5000
	}
	b := bustest.New(t)
	apply(t, b, rulesFor("limits: {per_address: 6000, address_rate: 10000/1m, per_network: 6000}\nrules: ':allow,SPF=\"3\"'\n"))
	in, _ := start(t, b, Config{MaxConnections: 6000})
	before := resident(t)
	buf := make([]byte, 512)
	for i := range n {
		nc, err := net.Dial("tcp", in.Addr().String())
		if err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		defer nc.Close()
		_ = nc.SetDeadline(time.Now().Add(2 * time.Minute))
		_, err = nc.Read(buf)
		if err == nil {
			_, _ = io.WriteString(nc, "EHLO x\r\n")
			_, err = nc.Read(buf)
		}
		if err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
	}
	grown := resident(t) - before
	t.Logf("%d idle connections: %d KiB, %d KiB each", n, grown, grown/n)
	if n == 5000 && grown > 200<<10 {
		t.Errorf("%d KiB", grown)
	}
}

// resident is the memory of this process in KiB.
func resident(t testing.TB) int {
	t.Helper()
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Skip("no /proc here")
	}
	_, rest, _ := strings.Cut(string(text), "VmRSS:")
	n, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		t.Fatal(fmt.Errorf("VmRSS: %w", err))
	}
	return n
}
