package ingest

import (
	"context"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"qstream/bus"
	"qstream/bus/bustest"
	"qstream/directory"
	"qstream/ingest/intake"
	"qstream/ingest/quota"
	pb "qstream/schemas/qstream/v1"
)

const quotaSite = `
kind: site
name: site
me: mx.hub.example
---
kind: tenant
name: flood
domains: [flood.example]
queue: default
quota: {in: {messages: 5/1h}, reports: {messages: 2/1h}, waiting: {messages: 10, oldest: 1m}}
---
kind: tenant
name: small
domains: [small.example]
queue: default
quota: {in: {bytes: 3000/1h, recipients: 3/1h}, action: reject}
---
kind: tenant
name: patient
domains: [patient.example]
queue: default
quota: {in: {messages: 1/1h}, action: hold}
---
kind: tenant
name: calm
domains: [calm.example]
queue: default
---
kind: tenant
name: inside
domains: [inside.example]
networks: [127.0.0.0/8]
queue: default
quota: {out: {messages: 4/1h, recipients: 12/1h}}
---
kind: route
name: all
match: {domain: "*"}
via: "discard:"
`

// stranger is quotaSite without the network of this host.
var stranger = strings.Replace(quotaSite, "networks: [127.0.0.0/8]\n", "", 1)

// mails sends so many mails and wants their replies at RCPT.
func (c *client) mails(n int, from, to, want string) {
	c.t.Helper()
	for range n {
		c.say("MAIL FROM:<"+from+">\r\n", "250")
		if c.say("RCPT TO:<"+to+">\r\n", want); want[0] != '2' {
			c.say("RSET\r\n", "250")
			continue
		}
		c.say("DATA\r\n", "354")
		c.say("Subject: x\r\n\r\nx\r\n.\r\n", "250")
	}
}

// refused tries until the recipient is refused, or the time is over. What is
// taken meanwhile is not sent.
func (c *client) refused(from, to, want string) {
	c.t.Helper()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		_, _ = io.WriteString(c, "MAIL FROM:<"+from+">\r\nRCPT TO:<"+to+">\r\nRSET\r\n")
		var replies []string
		for range 3 {
			line, err := c.in.ReadString('\n')
			if err != nil {
				c.t.Fatal(err)
			}
			replies = append(replies, line)
		}
		if strings.HasPrefix(replies[0], want) || strings.HasPrefix(replies[1], want) {
			return
		}
		if time.Now().After(end) {
			c.t.Fatalf("got %q, want %s", replies, want)
		}
	}
}

// TestQuotaOverEdges: what one edge took another refuses, and one that starts
// later; only mail of the tenant that floods, and reports still come.
func TestQuotaOverEdges(t *testing.T) {
	t.Parallel()
	broker := bustest.Start(t)
	b := broker.Dial(t, bus.Config{})
	apply(t, b, stranger)
	registry := prometheus.NewRegistry()
	one, _ := startWith(t, b, Config{}, func(d *Deps) { d.Metrics = registry })
	two, _ := start(t, broker.Dial(t, bus.Config{}), Config{})
	await(t, one, two)
	first, second := dial(t, one), dial(t, two)
	first.say("EHLO x\r\n", "250")
	second.say("EHLO x\r\n", "250")

	first.mails(5, "ann@sender.example", "a@flood.example", "250")
	first.mails(1, "ann@sender.example", "a@flood.example", "452 4.7.1 too many messages in an hour for flood.example")
	began := time.Now()
	second.refused("ann@sender.example", "a@flood.example", "452 4.7.1")
	t.Logf("refused at another edge after %v", time.Since(began))
	second.mails(2, "", "a@flood.example", "250")
	second.mails(1, "", "a@flood.example", "452 4.7.1")
	second.mails(3, "ann@sender.example", "a@calm.example", "250")

	three, _ := start(t, broker.Dial(t, bus.Config{}), Config{})
	await(t, three)
	third := dial(t, three)
	third.say("EHLO x\r\n", "250")
	third.refused("ann@sender.example", "a@flood.example", "452 4.7.1")
	third.mails(1, "ann@sender.example", "a@calm.example", "250")

	if n := quotaMet(t, registry, "messages", "defer"); n != 1 {
		t.Errorf("%v limits are counted", n)
	}
}

func quotaMet(t *testing.T, r *prometheus.Registry, limit, action string) float64 {
	t.Helper()
	all, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range all {
		if f.GetName() != "qstream_ingest_quota_limits_total" {
			continue
		}
		for _, m := range f.Metric {
			if m.Label[0].GetValue() == action && m.Label[1].GetValue() == limit {
				return m.Counter.GetValue()
			}
		}
	}
	return 0
}

func await(t testing.TB, edges ...*Ingest) {
	t.Helper()
	for _, e := range edges {
		for end := time.Now().Add(20 * time.Second); e.Ready() != nil; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal(e.Ready())
			}
		}
	}
}

// TestQuotaReplies: every limit, where it is asked and what is answered.
func TestQuotaReplies(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	apply(t, b, stranger)
	in, _ := start(t, b, Config{})
	await(t, in)
	c := dial(t, in)
	c.say("EHLO x\r\n", "250")

	c.say("MAIL FROM:<a@x.example> SIZE=3001\r\nRCPT TO:<a@small.example>\r\nRCPT TO:<a@calm.example>\r\nRSET\r\n",
		"250", "550 5.7.1 too much mail in an hour for small.example", "250", "250")
	c.say("MAIL FROM:<a@x.example>\r\nRCPT TO:<a@small.example>\r\nRCPT TO:<b@small.example>\r\nRCPT TO:<c@small.example>\r\n"+
		"RCPT TO:<d@small.example>\r\nDATA\r\n", "250", "250", "250", "250", "550 5.7.1 too many recipients in an hour", "354")
	c.say("Subject: x\r\n\r\n.\r\n", "250")
	c.say("MAIL FROM:<a@x.example>\r\nRCPT TO:<a@small.example>\r\nRSET\r\n", "250", "550 5.7.1 too many recipients", "250")

	c.mails(3, "a@x.example", "a@patient.example", "250")
	held := 0
	for _, m := range received(t, b, 4) {
		if m.Envelope.Recipients[0].Held {
			held++
		}
	}
	if held != 2 {
		t.Errorf("%d are held", held)
	}

	for _, tt := range []struct {
		u    *pb.Usage
		want string
	}{
		{&pb.Usage{Messages: 10}, "452 4.4.5 too many messages wait for flood.example"},
		{&pb.Usage{Messages: 1, OldestMs: time.Now().Add(-time.Hour).UnixMilli()}, "452 4.4.5 mail waits too long for flood.example"},
	} {
		tt.u.Kind, tt.u.Writer, tt.u.Tenant = pb.UsageKind_USAGE_KIND_WAITING, "ledger", "flood"
		bustest.Put(t, b, bus.NewUsage(tt.u), bus.NewUsage(&pb.Usage{
			Kind: pb.UsageKind_USAGE_KIND_LEDGER, Writer: "ledger", AtMs: time.Now().UnixMilli()}))
		c.refused("a@x.example", "a@flood.example", tt.want)
		c.mails(1, "", "a@flood.example", "250") // reports come
		c.mails(1, "a@x.example", "a@calm.example", "250")
	}
}

// TestQuotaOfSubmitters: who hands mail in is told at MAIL, a user by its own
// quota too; mail between a tenant's own domains counts for what goes out.
func TestQuotaOfSubmitters(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	apply(t, b, quotaSite)
	in, _ := start(t, b, Config{})
	await(t, in)
	c := dial(t, in)
	c.say("EHLO x\r\n", "250")
	c.say("MAIL FROM:<a@inside.example>\r\n"+strings.Repeat("RCPT TO:<a@x.example>\r\n", 2)+"RCPT TO:<b@x.example>\r\nDATA\r\n", "250", "250", "250", "250", "354")
	c.say("Subject: two recipients\r\n\r\n.\r\n", "250")
	c.mails(2, "a@inside.example", "b@inside.example", "250")
	c.say("MAIL FROM:<a@inside.example>\r\n", "250")
	for i := range 9 { // four were used
		want := "250"
		if i == 8 {
			want = "452 4.7.1 too many recipients in an hour, try again later"
		}
		c.say("RCPT TO:<user"+string(rune('a'+i))+"@x.example>\r\n", want)
	}
	c.say("RSET\r\n", "250")
	c.mails(1, "a@inside.example", "b@x.example", "250")
	c.say("MAIL FROM:<a@inside.example>\r\n", "452 4.7.1 too many messages in an hour, try again later")
	c.mails(1, "", "b@x.example", "250")
}

// TestQuotaOfNetstrings: by QMTP each recipient has its answer, by QMQP one
// stands for all; the size is known in advance.
func TestQuotaOfNetstrings(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	apply(t, b, stranger)
	in, _ := start(t, b, anyPort(Config{}))
	await(t, in)
	ask := func(text, want string) {
		t.Helper()
		if got := answers(t, talk(t, connect(t, in, "qmtp"), text+"x")); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	ask(qmtp(strings.Repeat("x", 1500)+"\r\n"+strings.Repeat("x", 1500)+"\r\n", "a@x.example", "a@small.example", "a@calm.example"), "D5.7.1 K")
	for range 5 {
		ask(qmtp("x\r\n", "a@x.example", "a@flood.example"), "K")
	}
	ask(qmtp("x\r\n", "a@x.example", "a@calm.example", "a@flood.example", "b@calm.example"), "K Z4.7.1 K")

	apply(t, b, quotaSite)
	await(t, in)
	for end := time.Now().Add(20 * time.Second); in.snapshot().Number < 2 && time.Now().Before(end); {
		time.Sleep(5 * time.Millisecond)
	}
	send := func(want string) {
		t.Helper()
		if got := answers(t, talk(t, connect(t, in, "qmqp"), qmqp("x\n", "a@inside.example", "a@x.example", "b@x.example"))); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	for range 4 {
		send("K")
	}
	send("Z4.7.1")
}

// TestQuotaOfUsers: a user's limits, and those of its tenant; the hardest
// action counts.
func TestQuotaOfUsers(t *testing.T) {
	t.Parallel()
	docs, err := directory.Parse(directory.File{Name: "t.yaml", Data: []byte(`
kind: tenant
name: acme
domains: [acme.example]
quota: {out: {messages: 6/1h}, action: reject}
---
kind: credential
name: ann@acme.example
tenant: acme
quota: {out: {messages: 2/1h}, waiting: {messages: 5}}
---
kind: credential
name: bob@acme.example
tenant: acme
quota: {out: {messages: 1/1h}, action: hold}
---
kind: route
name: all
match: {domain: "*"}
via: "discard:"
`)})
	if err != nil {
		t.Fatal(err)
	}
	snap, err := directory.Build(docs)
	if err != nil {
		t.Fatal(err)
	}
	b := bustest.New(t)
	book, err := quota.New(quota.Config{Bus: b, Wanted: func(tenant, user string) bool { return snap.Quota(tenant, user) != nil }})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- book.Run(ctx) }()
	defer func() { cancel(); <-done }()
	<-book.CaughtUp()
	in, err := intake.New(intake.Config{Hostname: "edge.example"}, intake.Deps{Bus: b, Snapshot: func() *directory.Snapshot { return snap }, Quota: book})
	if err != nil {
		t.Fatal(err)
	}
	mail := func(user, want string) {
		t.Helper()
		s, err := in.NewSession(t.Context(), intake.Client{User: user})
		if err == nil {
			err = s.Mail(user, nil)
		}
		if err == nil {
			err = s.Rcpt("x@elsewhere.example", nil)
		}
		if err == nil {
			err = s.Data(strings.NewReader("Subject: x\r\n\r\n"))
		}
		got := ""
		if err != nil {
			got = err.Error()
		}
		if !strings.HasPrefix(got, want) || got != "" && want == "" {
			t.Errorf("%s: %q, want %q", user, got, want)
		}
	}
	ann, bob := "ann@acme.example", "bob@acme.example"
	mail(ann, "")
	mail(ann, "")
	mail(ann, "SMTP error 452: too many messages in an hour for ann@acme.example")
	for range 4 {
		mail(bob, "") // three are held
	}
	mail(bob, "SMTP error 550: too many messages in an hour")
	mail(ann, "SMTP error 550: too many messages in an hour")
	held := 0
	for _, m := range received(t, b, 6) {
		if m.Envelope.Recipients[0].Held {
			held++
		}
	}
	if held != 3 {
		t.Errorf("%d are held, want 3", held)
	}
}

// TestQuotaOfHTTP: a client that submits too much is told to come later.
func TestQuotaOfHTTP(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	apply(t, b, strings.Replace(usersSite(t), "name: alice@acme.example, tenant: acme,",
		"name: alice@acme.example, tenant: acme, quota: {out: {messages: 2/1h}},", 1))
	in, _ := start(t, b, httpConfig())
	await(t, in)
	for range 2 {
		if got := (post{query: fromAlice, body: note}).to(t, in); got.status != 202 {
			t.Fatalf("%d %s", got.status, got.body)
		}
	}
	got := post{query: fromAlice, body: note}.to(t, in)
	if got.status != 429 || got.SMTP.Code != 452 || got.SMTP.Enhanced != "4.7.1" || got.header.Get("Retry-After") == "" {
		t.Errorf("%d %s", got.status, got.body)
	}
}
