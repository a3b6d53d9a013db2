package ingest

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-msgauth/dkim"

	"qstream/bus"
	"qstream/bus/bustest"
	pb "qstream/schemas/qstream/v1"
	"qstream/test/fakedns"
	"qstream/transport/resolver"
)

const verifySite = `
kind: site
name: site
me: mx.hub.example
---
kind: tenant
name: plain
domains: [plain.example]
queue: default
---
kind: tenant
name: seen
domains: [seen.example]
queue: default
verify: {spf: {level: 1}, dkim: true, dmarc: record}
---
kind: tenant
name: strict
domains: [strict.example, .strict.example]
queue: default
verify: {spf: {level: 3, explain: "%{i} may not speak for %{o}"}, dmarc: enforce}
---
kind: tenant
name: grey
domains: [grey.example]
queue: default
verify: {greylist: {delay: 4s}}
---
kind: policy
name: grey
match: {domains: grey.example}
variables: {REPLY_GREYLISTED: (see our page)}
---
kind: policy
name: open
match: {domains: open.strict.example}
verify: {spf: {level: 1}}
---
kind: route
name: all
match: {domain: "*"}
via: "discard:"
`

var signer = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))

func verifyZone() string {
	return `
good.example.  60 TXT "v=spf1 ip4:127.0.0.1 -all"
bad.example.   60 TXT "v=spf1 -all"
_dmarc.bad.example. 60 TXT "v=DMARC1; p=reject"
k._domainkey.good.example. 60 TXT "v=DKIM1; k=ed25519; p=` + base64.StdEncoding.EncodeToString(signer.Public().(ed25519.PublicKey)) + `"
_dmarc.good.example. 60 TXT "v=DMARC1; p=reject"
`
}

func asking(t *testing.T, server string) func(*Deps) {
	t.Helper()
	r, err := resolver.New(resolver.Config{Servers: []string{server}})
	if err != nil {
		t.Fatal(err)
	}
	return func(d *Deps) { d.Resolver = r }
}

func signedMail(t *testing.T, text string) string {
	t.Helper()
	var out bytes.Buffer
	if err := dkim.Sign(&out, strings.NewReader(text), &dkim.SignOptions{Domain: "good.example", Selector: "k", Signer: signer}); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func checks(m *pb.Received) string {
	var all []string
	for _, c := range m.Checks {
		all = append(all, strings.TrimSuffix(c.Method+"="+c.Result+"/"+c.Policy, "/"))
	}
	return strings.Join(all, " ")
}

// TestStrangersAreVerified: what is asked and what follows is said by the
// owner of the recipient's domain, what was found stands before the content.
func TestStrangersAreVerified(t *testing.T) {
	t.Parallel()
	dns, err := fakedns.Start(verifyZone())
	if err != nil {
		t.Fatal(err)
	}
	defer dns.Close()
	b := bustest.New(t)
	apply(t, b, verifySite)
	in, _ := startWith(t, b, Config{}, asking(t, dns.Addr()))
	c := dial(t, in)
	c.say("EHLO out.good.example\r\n", "250")
	good := signedMail(t, "From: ann@good.example\r\nSubject: good\r\n\r\nx\r\n")
	forged := "Authentication-Results: edge.example; spf=pass\r\nFrom: ann@bad.example\r\nSubject: bad\r\n\r\nx\r\n"

	c.say("MAIL FROM:<ann@good.example>\r\nRCPT TO:<a@seen.example>\r\nRCPT TO:<a@plain.example>\r\nRCPT TO:<a@strict.example>\r\nDATA\r\n",
		"250", "250", "250", "452 4.5.3", "354")
	c.say(good+".\r\n", "250")
	c.say("MAIL FROM:<ann@bad.example>\r\nRCPT TO:<a@strict.example>\r\n", "250", "550 5.7.1 127.0.0.1 may not speak for bad.example")
	c.say("RCPT TO:<a@seen.example>\r\nDATA\r\n", "250", "354")
	c.say(forged+".\r\n", "250")
	c.say("MAIL FROM:<ann@good.example>\r\nRCPT TO:<a@strict.example>\r\nDATA\r\n", "250", "250", "354")
	c.say(forged+".\r\n", "550 5.7.1 refused as the DMARC policy of bad.example asks")
	// Another policy holds for a domain of the same tenant.
	c.say("MAIL FROM:<ann@bad.example>\r\nRCPT TO:<a@open.strict.example>\r\nRSET\r\n", "250", "250", "250")
	asked := dns.Asked()
	c.say("MAIL FROM:<ann@new.example>\r\nRCPT TO:<a@plain.example>\r\nDATA\r\n", "250", "250", "354")
	c.say("Subject: plain\r\n\r\n.\r\n", "250")
	if dns.Asked() != asked {
		t.Error("DNS was asked although nobody wanted it")
	}

	for _, m := range received(t, b, 3) {
		subject := string(m.Content.GetInline())
		before := string(m.Prepend)
		switch {
		case strings.Contains(subject, "Subject: good"):
			if got := checks(m); got != "spf=pass dkim=pass dmarc=pass" {
				t.Errorf("good: %s", got)
			}
			if !strings.HasPrefix(before, "Authentication-Results: edge.example;\r\n\tspf=pass smtp.mailfrom=good.example;\r\n\tdkim=pass header.d=good.example") ||
				strings.Index(before, "\r\nReceived-SPF: pass") > strings.Index(before, "\r\nReceived: ") {
				t.Errorf("good:\n%s", before)
			}
			if subject != good {
				t.Error("content was changed")
			}
		case strings.Contains(subject, "Subject: bad"):
			if got := checks(m); got != "spf=fail dkim=none dmarc=fail/reject authentication-results=fail" {
				t.Errorf("bad: %s", got)
			}
			if !strings.Contains(before, "claim this name and are not ours") || subject != forged {
				t.Errorf("bad:\n%s%s", before, subject)
			}
		default:
			if !strings.HasPrefix(before, "Received: ") || len(m.Checks) != 0 {
				t.Errorf("plain:\n%s%v", before, m.Checks)
			}
		}
	}
}

// TestGreylistOfTwoEdges: who was deferred by one edge may come back to
// another.
func TestGreylistOfTwoEdges(t *testing.T) {
	t.Parallel()
	dns, err := fakedns.Start("")
	if err != nil {
		t.Fatal(err)
	}
	defer dns.Close()
	broker := bustest.Start(t)
	one := broker.Dial(t, bus.Config{})
	apply(t, one, verifySite)
	var edges []*client
	for _, b := range []*bus.Bus{one, broker.Dial(t, bus.Config{})} {
		in, _ := startWith(t, b, Config{}, asking(t, dns.Addr()))
		<-in.verify.Greylist.CaughtUp()
		c := dial(t, in)
		c.say("EHLO out.good.example\r\n", "250")
		edges = append(edges, c)
	}
	const ask = "RSET\r\nMAIL FROM:<ann@good.example>\r\nRCPT TO:<a@grey.example>\r\n"
	edges[0].say(ask, "250", "250", "450 4.7.1 greylisted, try again later (see our page)")
	time.Sleep(300 * time.Millisecond)
	edges[1].say(ask, "250", "250", "450 4.7.1 greylisted")
	time.Sleep(4 * time.Second)
	edges[1].say(ask, "250", "250", "250")
	edges[0].say("RSET\r\nMAIL FROM:<>\r\nRCPT TO:<a@plain.example>\r\n", "250", "250", "250")
}

// TestDeadNameServer: DNS that never answers delays only those who need it,
// and never refuses for good.
func TestDeadNameServer(t *testing.T) { // alone: it compares times
	silent, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	b := bustest.New(t)
	apply(t, b, verifySite)
	dns, err := resolver.New(resolver.Config{Servers: []string{silent.LocalAddr().String()}, Timeout: 4 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	in, _ := startWith(t, b, Config{}, func(d *Deps) { d.Resolver = dns })
	slow, quick := dial(t, in), dial(t, in)
	begun, answered := time.Now(), make(chan time.Duration, 1)
	go func() {
		// temperror at level 1 is only written down
		slow.say("EHLO x\r\nMAIL FROM:<a@good.example>\r\nRCPT TO:<a@seen.example>\r\n", "250", "250", "250")
		answered <- time.Since(begun)
	}()
	quick.say("EHLO x\r\nMAIL FROM:<a@good.example>\r\nRCPT TO:<a@plain.example>\r\nDATA\r\n", "250", "250", "250", "354")
	quick.say("Subject: x\r\n\r\nx\r\n.\r\n", "250")
	select {
	case took := <-answered:
		t.Errorf("a session that needs no DNS took longer than one that does, %v", took)
		answered <- took
	default:
	}
	if took := <-answered; took < 4*time.Second || took > time.Minute {
		t.Errorf("the other one took %v", took)
	}
}
