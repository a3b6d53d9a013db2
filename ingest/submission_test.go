package ingest

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"qstream/bus/bustest"
	"qstream/directory"
	"qstream/directory/password"
	pb "qstream/schemas/qstream/v1"
)

// usersSite has alice, who sends as herself, and a robot with limits.
func usersSite(t testing.TB) string {
	t.Helper()
	hash := password.New("secret").String()
	verifier := password.NewVerifier("secret").String()
	return relaySite + `
---
{kind: credential, name: alice@acme.example, tenant: acme, password: "` + hash + `", scram_sha_256: "` + verifier + `"}
---
{kind: credential, name: robot, tenant: acme, password: "` + hash + `", scram_sha_256: "` + verifier + `", senders: [tenant], max_size: 1000, max_recipients: 1, certificates: [robot.acme.example]}
`
}

// keyPair writes a certificate for names, signed by an authority's files or by
// itself, and says where.
func keyPair(t testing.TB, dir, name string, authority *tls.Certificate, names ...string) (cert, key string, pair tls.Certificate) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: names, EmailAddresses: []string{name + "@cert.example"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: authority == nil, BasicConstraintsValid: true, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	parent, signer := template, any(k)
	if authority != nil {
		parent, signer = authority.Leaf, authority.PrivateKey
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &k.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	pk, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(dir, name+".pem"), filepath.Join(dir, name+".key")
	for file, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: pk}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if pair, err = tls.LoadX509KeyPair(cert, key); err != nil {
		t.Fatal(err)
	}
	return cert, key, pair
}

// dialService says EHLO to a service, in TLS if a config is given.
func dialService(t testing.TB, in *Ingest, name string, secure *tls.Config) *client {
	t.Helper()
	nc, err := net.Dial("tcp", in.AddrOf(name).String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	_ = nc.SetDeadline(time.Now().Add(5 * time.Minute))
	c := &client{Conn: nc, t: t, in: bufio.NewReader(nc)}
	if name == ServiceSubmissions {
		c.over(secure)
		c.expect("220")
	} else if c.expect("220"); secure != nil {
		c.say("EHLO x\r\nSTARTTLS\r\n", "250", "220")
		c.over(secure)
	}
	c.say("EHLO x\r\n", "250")
	return c
}

func (c *client) over(cfg *tls.Config) {
	s := tls.Client(c.Conn, cfg)
	c.Conn, c.in = s, bufio.NewReader(s)
}

func plain(user, pass string) string {
	return "AUTH PLAIN " + base64.StdEncoding.EncodeToString([]byte("\x00"+user+"\x00"+pass)) + "\r\n"
}

var anyServer = &tls.Config{InsecureSkipVerify: true} // certificates of our own

const authDelay = time.Millisecond

func submissionConfig(t testing.TB) Config {
	cfg := withCertificate(t, Config{Submission: "127.0.0.1:0", Submissions: "127.0.0.1:0"})
	cfg.Auth.Delay = authDelay
	return cfg
}

func TestSubmission(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	apply(t, b, usersSite(t))
	in, _ := start(t, b, submissionConfig(t))

	c := dialService(t, in, ServiceSubmission, nil)
	c.say("MAIL FROM:<alice@acme.example>\r\n"+plain("alice@acme.example", "secret"), "530 5.7.0", "538 5.7.11")

	c = dialService(t, in, ServiceSubmission, anyServer)
	c.say("MAIL FROM:<alice@acme.example>\r\n", "530 5.7.0")
	c.say(plain("alice@acme.example", "wrong")+plain("Alice@acme.example", "secret"), "535 5.7.8", "235 2.7.0")
	c.say("MAIL FROM:<bob@acme.example>\r\n", "553 5.7.1 alice@acme.example may not send as bob@acme.example")
	c.say("MAIL FROM:<alice@acme.example>\r\nRCPT TO:<x@elsewhere.example>\r\nDATA\r\n", "250", "250", "354")
	c.say("Subject: bare\r\n\r\nhello\r\n.\r\n", "250 2.0.0")
	c.say("MAIL FROM:<>\r\nRCPT TO:<x@elsewhere.example>\r\nDATA\r\n", "250", "250", "354")
	c.say("message-id:\r\nDATE: today\r\n\r\nhello\r\n.\r\n", "250 2.0.0")

	c = dialService(t, in, ServiceSubmissions, anyServer)
	c.say("MAIL FROM:<robot@acme.example>\r\n"+plain("robot", "secret"), "530 5.7.0", "235")
	c.say("MAIL FROM:<x@elsewhere.example>\r\nMAIL FROM:<x@acme.example> SIZE=1001\r\n", "553 5.7.1", "552 5.3.4")
	c.say("MAIL FROM:<x@acme.example> SMTPUTF8\r\nRCPT TO:<y@elsewhere.example>\r\nRCPT TO:<z@elsewhere.example>\r\nDATA\r\n", "250", "250", "452 4.5.3", "354")
	c.say(strings.Repeat("x", 1000)+"\r\n.\r\n", "552 5.3.4")
	c.say("MAIL FROM:<x@acme.example> SMTPUTF8\r\nRCPT TO:<y@elsewhere.example>\r\nDATA\r\n", "250", "250", "354")
	c.say("Message-ID: <own@acme.example>\r\n\r\n.\r\n", "250 2.0.0")

	ms := received(t, b, 3)
	bare, given := find(ms, int64(len("Subject: bare\r\n\r\nhello\r\n"))), find(ms, int64(len("message-id:\r\nDATE: today\r\n\r\nhello\r\n")))
	robot := find(ms, int64(len("Message-ID: <own@acme.example>\r\n\r\n")))
	want := func(m *pb.Received, user, with string, lines ...string) {
		t.Helper()
		if m.Session.AuthUser != user || m.Session.Tenant != "acme" || !m.Session.Relay {
			t.Errorf("session %v", m.Session)
		}
		p := string(m.Prepend)
		for _, line := range append(lines, " with "+with+"\r\n") {
			if !strings.Contains(p, line) {
				t.Errorf("%q lacks %q", p, line)
			}
		}
		if n := strings.Count(p, "\r\nMessage-ID: ") + strings.Count(p, "\r\nDate: "); n != len(lines) {
			t.Errorf("%d fields added: %q", n, p)
		}
	}
	id := "<" + bare.Id + "@edge.example>"
	want(bare, "alice@acme.example", "ESMTPSA", "\r\nMessage-ID: "+id+"\r\n", "\r\nDate: ")
	want(given, "alice@acme.example", "ESMTPSA")
	want(robot, "robot", "UTF8SMTPSA", "\r\nDate: ")
	if bare.HeaderMessageId != id || robot.HeaderMessageId != "<own@acme.example>" || given.HeaderMessageId != "" {
		t.Errorf("ids %q %q %q", bare.HeaderMessageId, given.HeaderMessageId, robot.HeaderMessageId)
	}
	if got := string(bare.Content.GetInline()); got != "Subject: bare\r\n\r\nhello\r\n" {
		t.Errorf("content %q", got)
	}

	// What is taken from the directory ends what was allowed by it.
	c = dialService(t, in, ServiceSubmissions, anyServer)
	c.say(plain("robot", "secret"), "235")
	if _, err := directory.Apply(t.Context(), b, directory.Change{Delete: []directory.Ref{{Kind: directory.KindCredential, Name: "robot"}}}, directory.Options{}); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(30 * time.Second); in.snapshot().Credential("robot") != nil && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond)
	}
	c.say("MAIL FROM:<x@acme.example>\r\n", "530 5.7.0")
}

// On smtp AUTH is an offer: strangers stay strangers, and nothing is added.
func TestAuthOnSMTP(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	apply(t, b, strings.Replace(usersSite(t), "127.0.0.0/8", "192.0.2.0/24", 1))
	in, _ := start(t, b, Config{SMTPAuth: true, PlainAuth: true})
	c := dial(t, in)
	c.say("EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<x@elsewhere.example>\r\nRSET\r\n", "250", "250", "553 5.7.1", "250")
	c.say(plain("alice@acme.example", "secret")+"MAIL FROM:<alice@acme.example>\r\nRCPT TO:<x@elsewhere.example>\r\nDATA\r\n", "235", "250", "250", "354")
	c.say("hello\r\n.\r\n", "250")
	if p := string(received(t, b, 1)[0].Prepend); !strings.Contains(p, "with ESMTPA id") || strings.Contains(p, "Date:") {
		t.Errorf("%q", p)
	}
}

func TestClientCertificates(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	apply(t, b, usersSite(t))
	dir := t.TempDir()
	ca, _, authority := keyPair(t, dir, "ca", nil, "ca.example")
	_, _, robot := keyPair(t, dir, "robot", &authority, "robot.acme.example")
	_, _, stranger := keyPair(t, dir, "stranger", nil, "robot.acme.example")
	cfg := submissionConfig(t)
	cfg.TLSClientCA, cfg.SubmissionClientCert, cfg.SubmissionsClientCert = ca, "request", "require"
	in, _ := start(t, b, cfg)

	with := func(c tls.Certificate) *tls.Config {
		return &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{c}}
	}
	c := dialService(t, in, ServiceSubmission, with(robot))
	if got := c.say("EHLO x\r\n", "250"); !strings.Contains(got, "AUTH EXTERNAL ") {
		t.Errorf("offer %q", got)
	}
	c.say("AUTH EXTERNAL =\r\nMAIL FROM:<x@acme.example>\r\n", "235", "250")
	c = dialService(t, in, ServiceSubmission, with(stranger)) // may come, and is nobody
	c.say("AUTH EXTERNAL =\r\n"+plain("robot", "secret"), "504", "235")
	c = dialService(t, in, ServiceSubmissions, with(robot))
	c.say("AUTH EXTERNAL "+base64.StdEncoding.EncodeToString([]byte("robot"))+"\r\n", "235")

	nc, err := tls.Dial("tcp", in.AddrOf(ServiceSubmissions).String(), with(stranger))
	if err == nil {
		_ = nc.SetDeadline(time.Now().Add(5 * time.Minute))
		_, err = nc.Read(make([]byte, 1))
		nc.Close()
	}
	if err == nil {
		t.Error("a stranger's certificate was taken where a verified one is required")
	}
}

func TestCertificatesByName(t *testing.T) {
	dir := t.TempDir()
	c1, k1, _ := keyPair(t, dir, "one", nil, "mx.acme.example", "*.acme.example")
	c2, k2, _ := keyPair(t, dir, "two", nil, "mx.beta.example")
	c3, k3, _ := keyPair(t, dir, "three", nil, "smtp.acme.example")
	certs, err := loadCertificates([]string{c1, c2, c3}, []string{k1, k2, k3}, slog.New(slog.DiscardHandler), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	hello := func(name string) *tls.ClientHelloInfo {
		return &tls.ClientHelloInfo{
			ServerName: name, SupportedVersions: []uint16{tls.VersionTLS13}, SignatureSchemes: []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256},
			SupportedCurves: []tls.CurveID{tls.CurveP256},
		}
	}
	for name, want := range map[string]string{
		"mx.acme.example": "mx.acme.example", "MX.beta.example.": "mx.beta.example", "smtp.acme.example": "smtp.acme.example",
		"x.acme.example": "mx.acme.example", "y.x.acme.example": "mx.acme.example", "": "mx.acme.example", "else.example": "mx.acme.example",
	} {
		c, err := certs.get(hello(name))
		if err != nil || c.Leaf.DNSNames[0] != want {
			t.Errorf("%q: %v, %v", name, c.Leaf.DNSNames, err)
		}
	}
	old := hello("mx.beta.example")
	old.SignatureSchemes = []tls.SignatureScheme{tls.PKCS1WithSHA256}
	if c, err := certs.get(old); err != nil || c == nil {
		t.Error("a client that none fits gets none", err)
	}
}

// A session of one service is not resumed at another, and older TLS is refused.
func TestTicketsOfServices(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	apply(t, b, usersSite(t))
	cfg := submissionConfig(t)
	in, _ := start(t, b, cfg)
	secure := &tls.Config{InsecureSkipVerify: true, ServerName: "mx.acme.example", ClientSessionCache: tls.NewLRUClientSessionCache(10)}
	resumed := func(name string) bool {
		c := dialService(t, in, name, secure)
		c.say("QUIT\r\n", "221")
		return c.Conn.(*tls.Conn).ConnectionState().DidResume
	}
	for i, step := range []struct {
		service string
		want    bool
	}{{ServiceSubmissions, false}, {ServiceSubmissions, true}, {ServiceSubmission, false}, {ServiceSubmission, true}, {ServiceSMTP, false}} {
		if got := resumed(step.service); got != step.want {
			t.Errorf("step %d, %s: resumed %v", i, step.service, got)
		}
	}
	nc, err := tls.Dial("tcp", in.AddrOf(ServiceSubmissions).String(), &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11})
	if err == nil {
		nc.Close()
		t.Error("TLS 1.1 was taken")
	}
}

func TestServicesAreChecked(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	dir := directory.Follow(b)
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Config){
		"submission without TLS":  func(c *Config) { c.TLSCert, c.TLSKey = nil, nil; c.Submissions = "" },
		"submissions without TLS": func(c *Config) { c.TLSCert, c.TLSKey = nil, nil; c.PlainAuth = true },
		"smtp that requires TLS":  func(c *Config) { *c = Config{SMTPTLS: "require"} },
		"smtp_tls":                func(c *Config) { c.SMTPTLS = "maybe" },
		"address":                 func(c *Config) { c.Submission = "587" },
		"a key too few":           func(c *Config) { c.TLSCert = append(c.TLSCert, empty) },
		"mode":                    func(c *Config) { c.SMTPClientCert = "want" },
		"required without a CA":   func(c *Config) { c.SMTPClientCert = "require" },
		"CA missing":              func(c *Config) { c.TLSClientCA = empty + ".pem" },
		"CA empty":                func(c *Config) { c.TLSClientCA = empty },
		"mechanism":               func(c *Config) { c.Auth.Mechanisms = []string{"CRAM-MD5"} },
	} {
		cfg := submissionConfig(t)
		cfg.Hostname = "edge.example"
		change(&cfg)
		if _, err := New(cfg, Deps{Bus: b, Directory: dir}); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}
