package ingest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"qstream/bus"
	"qstream/bus/bustest"
	"qstream/directory"
	"qstream/ingest/intake"
	"qstream/schemas"
)

// newIntake is an intake over a bus and a fixed directory.
func newIntake(t testing.TB, b *bus.Bus) *intake.Intake {
	t.Helper()
	docs, err := directory.Parse(directory.File{Name: "test.yaml", Data: []byte(site)})
	if err != nil {
		t.Fatal(err)
	}
	snapshot, err := directory.Build(docs)
	if err != nil {
		t.Fatal(err)
	}
	in, err := intake.New(intake.Config{Hostname: "edge.example"}, intake.Deps{Bus: b, Snapshot: func() *directory.Snapshot { return snapshot }})
	if err != nil {
		t.Fatal(err)
	}
	return in
}

func TestManyRecipients(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	apply(t, b, site)
	in, _ := start(t, b, Config{})
	c := dial(t, in)
	c.say("EHLO x\r\nMAIL FROM:<>\r\n", "250", "250")
	for i := range 10_000 {
		want := "250 2.1.5"
		if i >= 1000 {
			want = "452 4.5.3"
		}
		c.say(fmt.Sprintf("RCPT TO:<user%d@acme.example>\r\n", i), want)
	}
	c.say("DATA\r\nhello\r\n.\r\n", "354", "250 2.0.0")
	rs := received(t, b, 1)[0].Envelope.Recipients
	if len(rs) != 1000 || rs[999].Number != 999 || rs[999].Address != "user999@acme.example" {
		t.Errorf("%d recipients, the last %v", len(rs), rs[len(rs)-1])
	}
}

func TestSizeLimit(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	apply(t, b, site)
	in, _ := start(t, b, Config{MaxSize: 100_000})
	c := dial(t, in)
	c.say("EHLO x\r\nMAIL FROM:<> SIZE=100001\r\n", "250", "552 5.3.4")
	c.say("MAIL FROM:<> SIZE=100000\r\nRCPT TO:<a@acme.example>\r\nDATA\r\n", "250", "250", "354")
	c.say(huge+".\r\n", "552 5.3.4")
	c.say("MAIL FROM:<>\r\nRCPT TO:<a@acme.example>\r\n"+fmt.Sprintf("BDAT %d\r\n", len(huge))+huge, "250", "250", "552 5.3.4")
	line := strings.Repeat("x", 98) + "\r\n"
	c.say("RSET\r\n"+begin[8:]+strings.Repeat(line, 1000)+".\r\n", "250", "250", "250", "354", "250 2.0.0")
	c.say(begin[8:]+strings.Repeat(line, 1000)+"\r\n.\r\n", "250", "250", "354", "552 5.3.4")
	if n := len(received(t, b, 1)); n != 1 {
		t.Errorf("%d taken", n)
	}
}

func TestHopLimit(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	apply(t, b, site)
	in, _ := start(t, b, Config{})
	hops := strings.Repeat("Received: from x by y; Tue, 3 Nov 2026 14:04:05 +0000\r\n", 100)
	dial(t, in).say(begin+hops+"\r\nhello\r\n.\r\n", append(begun, "250 2.0.0")...)
	dial(t, in).say(begin+hops+"received: once more\r\n\r\n"+huge+".\r\n", append(begun, "554 5.4.6")...)
}

func TestBrokenTexts(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	apply(t, b, site)
	in, _ := start(t, b, Config{})
	c := dial(t, in)
	c.say("EHLO cl\xffient(x\r\n", "250")
	c.say("MAIL FROM:<\xff@x.example>\r\n", "501 5.6.7")
	c.say("MAIL FROM:<j\u00fcrg@x.example>\r\n", "553 5.6.7")
	c.say("MAIL FROM:<a@x.example>\r\nRCPT TO:<j\u00fcrg@acme.example>\r\nRSET\r\n", "250", "553 5.6.7", "250")
	c.say("MAIL FROM:<j\u00fcrg@x.example> SMTPUTF8\r\nRCPT TO:<\u00fc@acme.example>\r\nRCPT TO:<\xff@acme.example>\r\n", "250", "250", "501 5.6.7")
	c.say("DATA\r\n", "354")
	c.say("Message-ID: <\xfe@x>\r\nSubject: \xff\r\n\r\n\xff\r\n.\r\n", "250 2.0.0")
	m := received(t, b, 1)[0]
	if m.Session.Helo != "cl\uFFFDient(x" || m.HeaderMessageId != "<\uFFFD@x>" || m.Envelope.ReversePath != "j\u00fcrg@x.example" || !m.Envelope.Smtputf8 {
		t.Errorf("%v", m)
	}
	if p := string(m.Prepend); !utf8.ValidString(p) || !strings.HasPrefix(p, "Received: from cl?ient?x ([127.0.0.1])\r\n\tby edge.example with UTF8SMTP id ") {
		t.Errorf("trace line %q", p)
	}
	if !strings.HasSuffix(string(m.Content.GetInline()), "\r\n\r\n\xff\r\n") {
		t.Error("content was changed")
	}
}

func TestPostmaster(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	apply(t, b, strings.Replace(site, "me: mx.acme.example", "me: mx.acme.example\npostmaster: admin@acme.example", 1))
	in, _ := start(t, b, Config{})
	dial(t, in).say("EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<PostMaster>\r\nDATA\r\nhello\r\n.\r\n", append(begun, "250 2.0.0")...)
	if m := received(t, b, 1)[0]; m.Envelope.Recipients[0].Address != "admin@acme.example" {
		t.Errorf("%v", m.Envelope)
	}
}

// A route that refuses for now leaves the mail to its queue.
func TestTemporaryRefusalIsTaken(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	apply(t, b, strings.Replace(site, "error:550 5.1.1 no such user", "error:451 4.2.1 not now", 1))
	in, _ := start(t, b, Config{})
	dial(t, in).say("EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<a@refused.example>\r\nRCPT TO:<a@acme.example>\r\n", "250", "250", "250", "250")
}

func TestContentClass(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	apply(t, b, strings.Replace(site, "kind: queue\nname: acme", "kind: queue\nname: acme\ncontent_class: archive", 1))
	in, _ := start(t, b, Config{})
	dial(t, in).say(begin+huge+".\r\n", append(begun, "250 2.0.0")...)
	if ref := received(t, b, 1)[0].Content.GetRef(); ref.GetTopic() != schemas.Content("archive") {
		t.Errorf("%v", ref)
	}
}

func TestConfigIsChecked(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	empty := filepath.Join(t.TempDir(), "empty.pem")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, cfg := range map[string]Config{
		"address":     {SMTP: "nowhere"},
		"host name":   {Hostname: "a b"},
		"line ends":   {LineEnds: "keep"},
		"size":        {MaxSize: -5},
		"JSON":        {HTTPMaxJSON: -1},
		"keys":        {MaxKeys: -1},
		"time":        {DataTimeout: -time.Second},
		"key missing": {TLSCert: []string{empty}},
		"certificate": {TLSCert: []string{empty}, TLSKey: []string{empty}},
	} {
		if _, err := New(cfg, Deps{Bus: b, Directory: directory.Follow(b)}); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	if _, err := New(Config{}, Deps{Bus: b}); err == nil {
		t.Error("no directory: taken")
	}
}

// What runs when the end comes is finished.
func TestEndFinishesMail(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	apply(t, b, site)
	in, stop := start(t, b, Config{Grace: 20 * time.Second})
	c := dial(t, in)
	c.say(begin, begun...)
	stopped := make(chan error, 1)
	go func() { stopped <- stop() }()
	c.say("hello\r\n.\r\n", "250 2.0.0", "421 4.3.2")
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	if len(received(t, b, 1)) != 1 {
		t.Error("not stored")
	}
}
