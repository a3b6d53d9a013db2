package ingest

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"math/big"
	"os"
	"strings"
	"testing"
	"time"

	"qstream/bus/bustest"
)

// newCertificate makes a certificate and its key in PEM.
func newCertificate(t testing.TB) (cert, key []byte) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"mx.acme.example"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	pk, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pk})
}

// withCertificate adds a certificate for mx.acme.example.
func withCertificate(t testing.TB, cfg Config) Config {
	t.Helper()
	dir := t.TempDir()
	cert, key := newCertificate(t)
	cfg.TLSCert, cfg.TLSKey = []string{dir + "/cert.pem"}, []string{dir + "/key.pem"}
	for name, text := range map[string][]byte{cfg.TLSCert[0]: cert, cfg.TLSKey[0]: key} {
		if err := os.WriteFile(name, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cfg
}

func TestTLSIsRecorded(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	apply(t, b, site)
	in, _ := start(t, b, withCertificate(t, Config{}))
	c := dial(t, in)
	c.say("EHLO x\r\nSTARTTLS\r\n", "250 edge.example", "220 2.0.0")
	s := tls.Client(c.Conn, &tls.Config{InsecureSkipVerify: true}) // our own certificate
	c.Conn, c.in = s, bufio.NewReader(s)
	c.say(begin+"hello\r\n.\r\n", append(begun, "250 2.0.0")...)
	m := received(t, b, 1)[0]
	if m.Session.TlsVersion != "TLS 1.3" || m.Session.TlsCipher == "" {
		t.Errorf("session %v", m.Session)
	}
	if p := string(m.Prepend); !strings.Contains(p, "with ESMTPS\r\n\t(TLS 1.3 TLS_") {
		t.Errorf("trace line %q", p)
	}
}

func TestCertificateIsRenewed(t *testing.T) {
	cfg := withCertificate(t, Config{})
	now := time.Now()
	certs, err := loadCertificates(cfg.TLSCert, cfg.TLSKey, slog.New(slog.DiscardHandler), func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	serial := func() *tls.Certificate {
		c, err := certs.get(&tls.ClientHelloInfo{})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	first := serial()
	write := func(name string, text []byte, at time.Time) {
		if err := os.WriteFile(name, text, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(name, at, at); err != nil {
			t.Fatal(err)
		}
	}
	cert, key := newCertificate(t)
	write(cfg.TLSCert[0], cert, now.Add(time.Second))
	now = now.Add(renewal)
	if serial() != first {
		t.Error("a certificate without its key was taken")
	}
	write(cfg.TLSKey[0], key, now)
	if serial() != first {
		t.Error("the files are read at every handshake")
	}
	now = now.Add(renewal)
	if second := serial(); second == first || serial() != second {
		t.Error("not renewed once")
	}
}
