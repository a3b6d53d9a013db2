package smtpd

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"math/big"
	"strings"
	"sync"
	"testing"
	"time"

	"qstream/directory"
	"qstream/directory/password"
	"qstream/ingest/auth"
)

// people are alice with the password "secret", and bob with none that is known.
var people = sync.OnceValues(func() (*directory.Snapshot, error) {
	hash := password.Hash{Memory: 64, Passes: 1, Threads: 1, Salt: []byte("somesalt"), Key: make([]byte, 32)}
	verifier := password.NewVerifier("secret").String()
	docs, err := directory.Parse(directory.File{Name: "t", Data: []byte(
		`{kind: credential, name: alice, tenant: default, scram_sha_256: "` + verifier + `"}` +
			"\n---\n{kind: credential, name: bob, tenant: default, password: \"" + hash.String() + "\"}\n")})
	if err != nil {
		return nil, err
	}
	return directory.Build(docs)
})

// users checks who they are.
func users(t testing.TB) *auth.Authenticator {
	t.Helper()
	s, err := people()
	if err != nil {
		t.Fatal(err)
	}
	a, err := auth.New(auth.Config{Delay: time.Nanosecond}, auth.Deps{Snapshot: func() *directory.Snapshot { return s }})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

// serverTLS is TLS with a certificate of our own.
func serverTLS(t testing.TB) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"mx.example"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: tls.VersionTLS12}
}

// secure goes on in TLS.
func (l *line) secure() *line {
	c := tls.Client(l.Conn, &tls.Config{InsecureSkipVerify: true}) // our own certificate
	return &line{Conn: c, t: l.t, in: bufio.NewReader(c)}
}

var (
	good    = b64("\x00alice\x00secret")
	wrong   = b64("\x00alice\x00wrong")
	signIn  = append(hello[:3:3], "> AUTH PLAIN "+good, "< 235 2.7.0")
	refused = []string{"> AUTH PLAIN " + wrong, "< 535 5.7.8"}
)

func TestAuthReplies(t *testing.T) {
	a := users(t)
	for _, tt := range []dialogue{
		{"plain", hello, []string{"> AUTH PLAIN " + good, "< 235 2.7.0", "> MAIL FROM:<a@x>", "< 250"}},
		{"lower case", hello, []string{"> auth plain " + good, "< 235 2.7.0"}},
		{"plain in two steps", hello, []string{"> AUTH PLAIN", "< 334 ", "> " + good, "< 235 2.7.0"}},
		{"login", hello, []string{"> AUTH LOGIN", "< 334 VXNlcm5hbWU6", "> " + b64("alice"), "< 334 UGFzc3dvcmQ6", "> " + b64("secret"), "< 235 2.7.0"}},
		{"login with initial response", hello, []string{"> AUTH LOGIN " + b64("alice"), "< 334 UGFzc3dvcmQ6", "> " + b64("secret"), "< 235 2.7.0"}},
		{"wrong password", hello, append(refused[:2:2], "> AUTH PLAIN "+good, "< 235 2.7.0")},
		{"no such user", hello, []string{"> AUTH PLAIN " + b64("\x00eve\x00secret"), "< 535 5.7.8"}},
		{"wrong hash", hello, []string{"> AUTH PLAIN " + b64("\x00bob\x00secret"), "< 535 5.7.8"}},
		{"cancelled", hello, []string{"> AUTH LOGIN", "< 334", "> *", "< 501 5.7.0", "> AUTH PLAIN " + good, "< 235"}},
		{"not base64", hello, []string{"> AUTH PLAIN !", "< 501 5.5.2", "> AUTH PLAIN", "< 334", "> AB", "< 501 5.5.2"}},
		{"empty initial response", hello, []string{"> AUTH PLAIN =", "< 501 5.5.2", "> AUTH LOGIN =", "< 334 UGFzc3dvcmQ6", "> *", "< 501"}},
		{"empty response", hello, []string{"> AUTH PLAIN", "< 334", "> ", "< 501 5.5.2"}},
		{"stray octets", hello, []string{"> AUTH PLAIN", "< 334", ">> " + good + "\n", "< 501 5.5.2 bare LF", "> NOOP", "< 250"}},
		{"response too long", hello, []string{"> AUTH PLAIN", "< 334", "> " + strings.Repeat("A", 12288), "< 500 5.5.6", "> NOOP", "< 250"}},
		{"long response", hello, []string{"> AUTH PLAIN", "< 334", "> " + b64("\x00alice\x00"+strings.Repeat("x", 9000)), "< 535"}},
		{"long initial response", hello, []string{"> AUTH PLAIN " + b64("\x00alice\x00"+strings.Repeat("x", 9000)), "< 535"}},
		{"no mechanism", hello, []string{"> AUTH", "< 501 5.5.4"}},
		{"unknown mechanism", hello, []string{"> AUTH CRAM-MD5", "< 504 5.5.4", "> AUTH EXTERNAL =", "< 504 5.5.4", "> AUTH SCRAM-SHA-256-PLUS", "< 504"}},
		{"malformed", hello, []string{"> AUTH PLAIN " + b64("alice"), "< 501 5.5.2"}},
		{"scram malformed", hello, []string{"> AUTH SCRAM-SHA-256 " + b64("n,,x"), "< 504 5.5.4"}},
		{"before ehlo", nil, []string{"< 220", "> AUTH PLAIN " + good, "< 503 5.5.1"}},
		{"after helo", nil, []string{"< 220", "> HELO x", "< 250", "> AUTH PLAIN " + good, "< 503 5.5.1"}},
		{"twice", signIn, []string{"> AUTH PLAIN " + good, "< 503 5.5.1"}},
		{"within a transaction", hello, []string{"> MAIL FROM:<a@x>", "< 250", "> AUTH PLAIN " + good, "< 503 5.5.1"}},
		{"survives ehlo and rset", signIn, []string{"> EHLO y", "< 250", "> RSET", "< 250", "> AUTH PLAIN " + good, "< 503"}},
		{"parameter", signIn, []string{"> MAIL FROM:<a@x> AUTH=<>", "< 250", "> RSET", "< 250", "> MAIL FROM:<a@x> AUTH=e+3Dmc2@example.com", "< 250"}},
		{"bad parameter", signIn, []string{"> MAIL FROM:<a@x> AUTH=", "< 501 5.5.4", "> MAIL FROM:<a@x> AUTH=+0", "< 501 5.5.4"}},
		{"too many failures", hello, append(append(append(refused[:2:2], refused...), refused...), "< 421 4.7.0", "< EOF")},
		{"too many faults", hello, append(repeat("> AUTH X", "< 504", 10), "< 421 4.7.0", "< EOF")},
		{"client gone", hello, []string{"> AUTH PLAIN", "< 334"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			addr, _, _ := serve(t, Config{Auth: a, PlainAuth: true})
			connect(t, addr).play(append(tt.before[:len(tt.before):len(tt.before)], tt.script...)...)
		})
	}
}

// A service for users takes nothing from others, and passwords only in TLS.
func TestSubmissionReplies(t *testing.T) {
	addr, k, _ := serve(t, Config{Auth: users(t), TLS: serverTLS(t), RequireTLS: true, RequireAuth: true})
	c := connect(t, addr)
	c.play("< 220", "> EHLO x", "< 250",
		"> MAIL FROM:<a@x>", "< 530 5.7.0 say STARTTLS", "> RCPT TO:<b@x>", "< 530", "> DATA", "< 530", ">> BDAT 4 LAST\r\nNOOP", "< 530",
		"> AUTH PLAIN "+good, "< 538 5.7.11", "> NOOP", "< 250", "> STARTTLS", "< 220 2.0.0")
	c = c.secure()
	c.play("> AUTH PLAIN "+good, "< 503 5.5.1", "> EHLO x", "< 250",
		"> MAIL FROM:<a@x>", "< 530 5.7.0 authentication", "> RCPT TO:<b@x>", "< 530", "> DATA", "< 530", ">> BDAT 4 LAST\r\nQUIT", "< 530",
		"> AUTH PLAIN "+good, "< 235 2.7.0", "> MAIL FROM:<a@x>", "< 250", "> RCPT TO:<b@x>", "< 250", "> DATA", "< 354", "> .", "< 250 2.0.0")
	if n := len(k.all()); n != 1 {
		t.Errorf("%d mails", n)
	}
	many := connect(t, addr)
	many.play("< 220", "> EHLO x", "< 250")
	for range 30 { // a client that pipelines hears of it late
		many.play("> RCPT TO:<b@x>", "< 530")
	}
}

func TestImplicitTLS(t *testing.T) {
	addr, _, _ := serve(t, Config{Auth: users(t), TLS: serverTLS(t), ImplicitTLS: true, RequireAuth: true})
	c := connect(t, addr).secure()
	c.play("< 220 mx.example", "> EHLO x", "< 250", "> STARTTLS", "< 503 5.5.1", "> AUTH PLAIN "+good, "< 235", "> QUIT", "< 221")
	plain := connect(t, addr)
	plain.send("EHLO x\r\n")
	if s, err := plain.reply(); err == nil {
		t.Errorf("answered %q without TLS", s)
	}
}

// What came before the handshake is nobody's words (CVE-2011-0411), and who
// signed in before has not signed in.
func TestStartTLSInjection(t *testing.T) {
	addr, k, _ := serve(t, Config{Auth: users(t), TLS: serverTLS(t), PlainAuth: true, RequireAuth: true})
	c := connect(t, addr)
	c.play("< 220", "> EHLO x", "< 250", "> AUTH PLAIN "+good, "< 235",
		">> STARTTLS\r\nEHLO evil\r\nAUTH PLAIN "+good+"\r\nMAIL FROM:<evil@x>\r\n", "< 220 2.0.0")
	c = c.secure()
	c.play("> NOOP", "< 250 2.0.0 ok", "> MAIL FROM:<a@x>", "< 503 5.5.1", "> EHLO x", "< 250", "> MAIL FROM:<a@x>", "< 530 5.7.0")
	if len(k.all()) > 0 {
		t.Error("mail was taken")
	}
}

func TestAuthIsAnnounced(t *testing.T) {
	a, secure := users(t), serverTLS(t)
	offer := func(cfg Config, after ...string) string {
		addr, _, _ := serve(t, cfg)
		c := connect(t, addr)
		c.play(append([]string{"< 220"}, after...)...)
		c.send("EHLO x\r\n")
		var all string
		for {
			s, err := c.in.ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			if all += s; s[3] == ' ' {
				return all
			}
		}
	}
	if s := offer(Config{Auth: a, TLS: secure}); strings.Contains(s, "AUTH") || !strings.Contains(s, "STARTTLS") {
		t.Errorf("without TLS: %s", s)
	}
	if s := offer(Config{Auth: a, PlainAuth: true}); !strings.HasSuffix(s, "250 AUTH PLAIN LOGIN\r\n") {
		t.Errorf("told to: %s", s)
	}
	if s := offer(Config{Auth: a, PlainAuth: true}, signIn[1:]...); strings.Contains(s, "AUTH") {
		t.Errorf("signed in already: %s", s)
	}
	for name, cfg := range map[string]Config{"TLS": {RequireTLS: true}, "implicit TLS": {ImplicitTLS: true}, "AUTH": {RequireAuth: true}} {
		cfg.Hostname = "mx.example"
		if _, err := New(cfg, (&keeper{}).backend, nil, nil); err == nil {
			t.Errorf("%s is required and can't be had", name)
		}
	}
}

// A client that pipelines whole transactions behind a refusal goes on in a
// known state, and is not cut off for what it could not know.
func TestPipelinedBehindRefusal(t *testing.T) {
	addr, k, _ := serve(t, Config{})
	c := connect(t, addr)
	c.play("< 220", "> EHLO x", "< 250")
	c.send("MAIL FROM:<refuse@x>\r\n" + strings.Repeat("RCPT TO:<b@x>\r\n", 30) + "DATA\r\n") // ends a group (RFC 2920 3.1)
	c.want("550 5.1.1")
	for range 31 {
		c.want("503 5.5.1")
	}
	c.send("RSET\r\nMAIL FROM:<a@x>\r\nRCPT TO:<refuse@x>\r\nRCPT TO:<b@x>\r\nDATA\r\n")
	c.play("< 250 2.0.0", "< 250 2.1.0", "< 550", "< 250 2.1.5", "< 354", "> hello", "> .", "< 250 2.0.0", "> RCPT TO:<b@x>", "< 503")
	if n := len(k.all()); n != 1 {
		t.Errorf("%d mails", n)
	}
	c.play(append(repeat("> RCPT TO:<b@x>", "< 503", 9), "< 421 4.7.0", "< EOF")...)

	// What comes with a refused DATA may be content: nobody obeys it.
	ahead := connect(t, addr)
	ahead.play("< 220", "> EHLO x", "< 250")
	ahead.send("MAIL FROM:<a@x>\r\nRCPT TO:<refuse@x>\r\nDATA\r\nMAIL FROM:<evil@x>\r\nRCPT TO:<b@x>\r\nDATA\r\nevil\r\n.\r\n")
	ahead.play("< 250", "< 550", "< 554 5.5.1", "< 421 4.7.0", "< EOF")
	if n := len(k.all()); n != 1 {
		t.Errorf("%d mails", n)
	}
}
