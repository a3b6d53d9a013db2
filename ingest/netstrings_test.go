package ingest

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"qstream/bus/bustest"
	"qstream/directory"
	pb "qstream/schemas/qstream/v1"
	"qstream/wire"
)

// anyPort serves all that speaks netstrings.
func anyPort(c Config) Config {
	c.QMQP, c.QMTP = "127.0.0.1:0", "127.0.0.1:0"
	if len(c.TLSCert) > 0 {
		c.QMTPS = "127.0.0.1:0"
	}
	return c
}

func connect(t testing.TB, in *Ingest, service string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", in.AddrOf(service).String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(5 * time.Minute))
	return c
}

// talk sends text and returns what comes back up to the end.
func talk(t testing.TB, c net.Conn, text string) string {
	t.Helper()
	go func() { _, _ = io.WriteString(c, text) }() // the server may close before
	got, _ := io.ReadAll(c)
	return string(got)
}

// answers are the answers in text, in short: K, or the letter and the code.
func answers(t testing.TB, text string) string {
	t.Helper()
	var all []string
	r := wire.NewReader(strings.NewReader(text))
	for {
		v, said, err := r.ReadAnswer()
		if err != nil {
			break
		}
		code := regexp.MustCompile(`#(\d\.\d\.\d)`).FindStringSubmatch(said)
		switch {
		case code != nil:
			all = append(all, string(v)+code[1])
		case !regexp.MustCompile(`^ok \d+ qp [0-9A-Z]{26}$`).MatchString(said):
			t.Errorf("answer %q", said)
		default:
			all = append(all, string(v))
		}
	}
	return strings.Join(all, " ")
}

func qmqp(content, from string, to ...string) string {
	before, after := wire.QMQPRequest(int64(len(content)), from, to)
	return string(before) + content + string(after)
}

func qmtp(content, from string, to ...string) string {
	before, after := wire.QMTPPackage(int64(len(content)), from, to)
	return string(before) + content + string(after)
}

func TestQMQPAnswers(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	apply(t, b, relaySite)
	in, _ := start(t, b, anyPort(Config{QMQPMaxSize: 40_000, MaxRecipients: 3}))
	const to = "a@acme.example"
	for _, tt := range []struct{ name, text, want string }{
		{"taken", qmqp("Subject: x\n\nhello\n", "s@x.example", to, "b@elsewhere.example"), "K"},
		{"null path", qmqp("x\n", "", to), "K"},
		{"double bounce of qmail", qmqp("x\n", "#@[]", to), "K"},
		{"UTF-8", qmqp("x\n", "", "ä@acme.example"), "K"},
		{"not UTF-8", qmqp("x\n", "", "\xff@acme.example"), "D5.6.7"},
		{"one refused", qmqp("x\n", "", to, "a@refused.example"), "D5.1.1"},
		{"no domain", qmqp("x\n", "", "a"), "D5.1.3"},
		{"bad sender", qmqp("x\n", "s", to), "D5.1.7"},
		{"address of 1000", qmqp("x\n", "", strings.Repeat("x", 987)+"@acme.example", to), "D5.1.3"},
		{"sender of 1000", qmqp("x\n", strings.Repeat("x", 987)+"@acme.example", to), "D5.1.3"},
		{"NUL", qmqp("x\n", "", "a\x00@acme.example"), "D5.1.3"},
		{"no recipients", qmqp("x\n", ""), "D5.5.1"},
		{"too many recipients", qmqp("x\n", "", to, to, to, to), "D5.5.3"},
		{"bare CR", qmqp("a\rb\n", "", to), "D5.5.2"},
		{"NUL in content", qmqp("a\x00b\n", "", to), "D5.5.2"},
		{"long line", qmqp(strings.Repeat("x", 2000)+"\n", "", to), "D5.6.0"},
		{"loop", qmqp(strings.Repeat("Received: x\n", 101)+"\n", "", to), "D5.4.6"},
		{"larger as content", qmqp(strings.Repeat("\n", 40_000), "", to), "D5.3.4"},
		{"above the limit", qmqp(strings.Repeat("x\n", 20_001), "", to), ""},
		{"outer far above the limit", "999999999:", ""},
		{"outer comma missing", strings.TrimSuffix(qmqp("x\n", "", to), ",") + "x", ""},
		{"inner beyond outer", "9:9:x", ""},
		{"leading zero", "0" + qmqp("x\n", "", to), ""},
		{"SMTP", "EHLO x\r\n", ""},
	} {
		if got := answers(t, talk(t, connect(t, in, "qmqp"), tt.text)); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
	ms := received(t, b, 4)
	m := find(ms, int64(len("Subject: x\r\n\r\nhello\r\n")))
	e := m.Envelope
	if string(m.Content.GetInline()) != "Subject: x\r\n\r\nhello\r\n" || e.ReversePath != "s@x.example" || len(e.Recipients) != 2 ||
		m.Session.Protocol != pb.Protocol_PROTOCOL_QMQP || m.Session.Tenant != "inside" {
		t.Errorf("%v", m)
	}
	if p := string(m.Prepend); !strings.Contains(p, "with QMQP id "+m.Id) {
		t.Errorf("trace line %q", p)
	}
	for _, m := range ms {
		if utf8 := strings.HasPrefix(m.Envelope.Recipients[0].Address, "ä"); m.Envelope.Smtputf8 != utf8 {
			t.Errorf("%v", m.Envelope)
		}
	}
}

// A client that goes away before its answer, at whatever place, has sent
// nothing.
func TestQMQPEarlyClose(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	apply(t, b, relaySite)
	in, _ := start(t, b, anyPort(Config{}))
	text := qmqp("hello\n", "s@x.example", "a@acme.example")
	for n := range len(text) {
		c := connect(t, in, "qmqp")
		if _, err := io.WriteString(c, text[:n]); err != nil {
			t.Fatal(err)
		}
		if err := c.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if got, _ := io.ReadAll(c); len(got) > 0 {
			t.Errorf("after %d octets: answer %q", n, got)
		}
	}
	if got := talk(t, connect(t, in, "qmqp"), text); answers(t, got) != "K" {
		t.Errorf("the whole: %q", got)
	}
	received(t, b, 1)
}

func TestQMQPIsForWhoMayRelay(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	apply(t, b, site)
	in, _ := start(t, b, anyPort(Config{}))
	if got := talk(t, connect(t, in, "qmqp"), qmqp("x\n", "", "a@acme.example")); got != "" {
		t.Errorf("a stranger got %q", got)
	}
	if got := talk(t, connect(t, in, "qmtp"), qmtp("x\r\n", "", "a@acme.example", "a@elsewhere.example")+"x"); answers(t, got) != "K D5.7.1" {
		t.Errorf("by QMTP: %q", got)
	}
}

// TestRulesOfNetstrings: a rule admits to QMQP, denies without an octet, and
// sets variables.
func TestRulesOfNetstrings(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	apply(t, b, site+everywhere+"---\nkind: rules\nname: qmqp\nrules: '127.:allow'\n---\nkind: rules\nname: qmtp\nrules: '127.0.0.1:allow,RBLSMTPD=\"-go away\"'\n")
	in, _ := start(t, b, anyPort(Config{}))
	if got := talk(t, connect(t, in, "qmqp"), qmqp("x\n", "", "a@elsewhere.example")); answers(t, got) != "K" {
		t.Errorf("admitted: %q", got)
	}
	if got := talk(t, connect(t, in, "qmtp"), qmtp("x\r\n", "", "a@acme.example")+"x"); answers(t, got) != "D5.7.1" {
		t.Errorf("listed: %q", got)
	}
	change(t, b, in, "kind: rules\nname: qmqp\nrules: '127.:deny'\n---\nkind: rules\nname: qmtp\nrules: '127.:deny'\n")
	for service, text := range map[string]string{"qmqp": qmqp("x\n", "", "a@acme.example"), "qmtp": qmtp("x\r\n", "", "a@acme.example")} {
		if got := talk(t, connect(t, in, service), text); got != "" {
			t.Errorf("%s, denied: %q", service, got)
		}
	}
}

func TestQMTPAnswers(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	apply(t, b, relaySite)
	in, _ := start(t, b, anyPort(Config{QMTPMaxSize: 40_000, MaxRecipients: 3}))
	const to = "a@acme.example"
	ok := qmtp("hello\r\n", "s@x.example", to)
	unix := func(content string, to string) string {
		return string(wire.AppendNetstring(nil, "\n"+content)) + "0:," + string(wire.AppendNetstring(nil, string(wire.AppendNetstring(nil, to))))
	}
	for _, tt := range []struct{ name, text, want string }{
		{"taken", ok, "K"},
		{"in order", qmtp("x\r\n", "", "a@refused.example", to, "a", to), "D5.1.1 K D5.1.3 Z4.5.3"},
		{"several packages", ok + qmtp("y\r\n", "", "a@refused.example") + ok, "K D5.1.1 K"},
		{"LF lines", unix("a\nb\n", to), "K"},
		{"bad sender", qmtp("x\r\n", "s", to, to) + ok, "D5.1.7 D5.1.7 K"},
		{"sender of 1000", qmtp("x\r\n", strings.Repeat("x", 1000), to) + ok, "D5.1.7 K"},
		{"address of 1000", qmtp("x\r\n", "", strings.Repeat("x", 1000), to), "D5.1.3 K"},
		{"no recipients", qmtp("x\r\n", "") + ok, "K"},
		{"bare LF", qmtp("a\nb\r\n", "", to, to) + ok, "D5.5.2 D5.5.2 K"},
		{"long line", qmtp(strings.Repeat("x", 2000)+"\r\n", "", to) + ok, "D5.6.0 K"},
		{"size", qmtp(strings.Repeat("x\r\n", 14_000), "", to) + ok, "D5.3.4 K"},
		{"far too large", ok + "999999999:\r", "K"},
		{"empty message", ok + "0:,0:,0:,", "K"},
		{"unknown encoding", ok + "2:ab,0:,0:,", "K"},
		{"cut", ok + ok[:len(ok)-1], "K"},
		{"cut in the message", ok + ok[:4], "K"},
		{"comma missing", ok + strings.TrimSuffix(ok, ",") + "x", "K"},
	} {
		c := connect(t, in, "qmtp")
		go func() {
			_, _ = io.WriteString(c, tt.text)
			_ = c.(*net.TCPConn).CloseWrite()
		}()
		got, _ := io.ReadAll(c)
		if got := answers(t, string(got)); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
	ms := received(t, b, 18)
	m := find(ms, 6)
	if string(m.Content.GetInline()) != "a\r\nb\r\n" || !strings.Contains(string(m.Prepend), "with QMTP id ") {
		t.Errorf("%v", m)
	}
}

// Answers wait until the client is waited for, and come as one.
func TestQMTPCoalesces(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	apply(t, b, relaySite)
	in, _ := start(t, b, anyPort(Config{}))
	c := connect(t, in, "qmtp")
	one := qmtp("x\r\n", "", "a@acme.example")
	if _, err := io.WriteString(c, strings.Repeat(one, 5)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 4096)
	n, err := c.Read(buf)
	if err != nil || answers(t, string(buf[:n])) != "K K K K K" {
		t.Errorf("%q %v", buf[:n], err)
	}
}

func TestQMTPSClientCertificate(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	apply(t, b, site+"\n---\nkind: route\nname: out\nmatch: {domain: \"*\"}\nvia: \"discard:\"\n")
	cfg := withCertificate(t, Config{})
	cert, key := newCertificate(t)
	cfg.ClientCA = t.TempDir() + "/ca.pem"
	if err := os.WriteFile(cfg.ClientCA, cert, 0o600); err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	other, otherKey := newCertificate(t)
	stranger, err := tls.X509KeyPair(other, otherKey)
	if err != nil {
		t.Fatal(err)
	}
	in, _ := start(t, b, anyPort(cfg))
	for _, tt := range []struct {
		name  string
		certs []tls.Certificate
		want  string
	}{
		{"none", nil, "K D5.7.1"}, {"of the authority", []tls.Certificate{pair}, "K K"}, {"of another", []tls.Certificate{stranger}, ""},
	} {
		c := tls.Client(connect(t, in, "qmtps"), &tls.Config{InsecureSkipVerify: true, Certificates: tt.certs}) // our own certificate
		_, _ = io.WriteString(c, qmtp("x\r\n", "", "a@acme.example", "a@elsewhere.example"))
		_ = c.CloseWrite()
		got, _ := io.ReadAll(c)
		if got := answers(t, string(got)); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
	var with []string
	for _, m := range received(t, b, 2) {
		_, after, _ := strings.Cut(string(m.Prepend), "with ")
		with = append(with, strings.Fields(after)[0])
	}
	if got := strings.Join(with, " "); got != "QMTPS QMTPSA" && got != "QMTPSA QMTPS" {
		t.Errorf("with %s", got)
	}
}

// Content above what travels inline is stored while it comes in.
func TestQMQPLargeContent(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	apply(t, b, relaySite)
	in, _ := start(t, b, anyPort(Config{}))
	line := strings.Repeat("x", 75)
	content := strings.Repeat(line+"\n", 40_000)
	if got := talk(t, connect(t, in, "qmqp"), qmqp(content, "", "a@acme.example")); answers(t, got) != "K" {
		t.Fatalf("%q", got)
	}
	m := received(t, b, 1)[0]
	r, err := b.Open(t.Context(), m.Content.GetRef())
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	got, err := io.ReadAll(r)
	if want := strings.ReplaceAll(content, "\n", "\r\n"); err != nil || !bytes.Equal(got, []byte(want)) {
		t.Errorf("%d octets, want %d, %v", len(got), len(want), err)
	}
}

func TestNetstringsTrouble(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	apply(t, b, relaySite)
	in, _ := start(t, b, anyPort(Config{PublishTimeout: 50 * time.Millisecond}))
	b.Close()
	if got := talk(t, connect(t, in, "qmqp"), qmqp("x\n", "", "a@acme.example")); answers(t, got) != "Z4.3.0" {
		t.Errorf("QMQP: %q", got)
	}
	c := connect(t, in, "qmtp")
	if _, err := io.WriteString(c, qmtp("x\r\n", "", "a@acme.example", "b@acme.example")); err != nil {
		t.Fatal(err)
	}
	_ = c.(*net.TCPConn).CloseWrite()
	if got, _ := io.ReadAll(c); answers(t, string(got)) != "Z4.3.0 Z4.3.0" {
		t.Errorf("QMTP: %q", got)
	}
}

// A stop lets what has begun finish, and sends who is waited for away.
func TestNetstringsDrain(t *testing.T) {
	b := bustest.New(t)
	apply(t, b, relaySite)
	in, stop := start(t, b, anyPort(Config{Grace: 20 * time.Second}))
	text := qmqp("hello\n", "", "a@acme.example")
	begun, idle := connect(t, in, "qmqp"), connect(t, in, "qmtp")
	if _, err := io.WriteString(idle, qmtp("x\r\n", "", "a@acme.example")); err != nil {
		t.Fatal(err)
	}
	if got := make([]byte, 10); must(idle.Read(got)) == 0 || got[0] == 0 {
		t.Fatal("no answer")
	}
	if _, err := io.WriteString(begun, text[:12]); err != nil {
		t.Fatal(err)
	}
	time.Sleep(50 * time.Millisecond) // it reaches the server
	stopped := make(chan error, 1)
	go func() { stopped <- stop() }()
	if rest, err := io.ReadAll(idle); err != nil || len(rest) > 100 {
		t.Errorf("%q %v", rest, err)
	}
	if got := talk(t, begun, text[12:]); answers(t, got) != "K" {
		t.Errorf("begun: %q", got)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

func must(n int, _ error) int { return n }

func TestNetstringsConfig(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	for want, cfg := range map[string]Config{
		"qmtps needs tls_cert":  {QMTPS: ":6209"},
		"client_ca is for":      {ClientCA: "x"},
		"qmqp address":          {QMQP: "628"},
		"needs its tls_key":     {TLSCert: []string{"x"}},
		"client_ca: open /none": func() Config { c := withCertificate(t, Config{QMTPS: ":0", ClientCA: "/none"}); return c }(),
	} {
		cfg.Hostname = "edge.example"
		if _, err := New(cfg, Deps{Bus: b, Directory: directory.Follow(b), Resolver: noNames(t)}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}
