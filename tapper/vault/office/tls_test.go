package office

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net"
	"testing"
	"time"

	"qstream/bus/bustest"
)

// authority signs certificates.
type authority struct {
	cert *x509.Certificate
	key  ed25519.PrivateKey
	pool *x509.CertPool
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	a := &authority{key: key(name), pool: x509.NewCertPool()}
	a.cert = a.sign(t, &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, nil, a.key)
	a.pool.AddCert(a.cert)
	return a
}

func (a *authority) sign(t *testing.T, template, parent *x509.Certificate, of ed25519.PrivateKey) *x509.Certificate {
	t.Helper()
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, of.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// config is what one side of a connection has.
func (a *authority) config(t *testing.T, name string) *tls.Config {
	t.Helper()
	cert := a.sign(t, &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, a.cert, key(name))
	return &tls.Config{
		MinVersion: tls.VersionTLS13, RootCAs: a.pool, ClientCAs: a.pool, ClientAuth: tls.RequireAndVerifyClientCert,
		Certificates: []tls.Certificate{{Certificate: [][]byte{cert.Raw}, PrivateKey: key(name)}},
	}
}

// From other hosts officers come by TLS, with a certificate of the authority's
// and an officer's key; one of both is not enough.
func TestMutualTLS(t *testing.T) {
	ca := newAuthority(t, "ca")
	p := start(t, bustest.Start(t), newFolder(t), &clock{}, func(c *Config) {
		c.Listen, c.TLS = "127.0.0.1:0", ca.config(t, "tapper")
	})
	ask := func(cfg *tls.Config, who string) error {
		c := ByTLS(p.server.Addr(), cfg, "ann", key(who), p.clock.now)
		defer c.Close()
		if _, err := c.Hello(t.Context()); err != nil {
			return err
		}
		var orders []Order
		return c.Ask(t.Context(), VerbOrders, OrdersArgs{}, &orders)
	}
	if err := ask(ca.config(t, "laptop"), "ann"); err != nil {
		t.Errorf("an officer: %v", err)
	}
	if err := ask(ca.config(t, "laptop"), "eve"); !errors.Is(err, ErrStranger) {
		t.Errorf("a certificate, but another key: %v", err)
	}
	other := newAuthority(t, "other").config(t, "laptop")
	other.RootCAs = ca.pool
	if err := ask(other, "ann"); err == nil || errors.Is(err, ErrStranger) {
		t.Errorf("a certificate of another authority: %v", err)
	}
	if err := ask(&tls.Config{MinVersion: tls.VersionTLS13, RootCAs: ca.pool}, "ann"); err == nil || errors.Is(err, ErrStranger) {
		t.Errorf("no certificate: %v", err)
	}
	var d net.Dialer
	conn, err := d.DialContext(context.Background(), "tcp", p.server.Addr())
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
	for _, cfg := range []*tls.Config{nil, {}, {ClientAuth: tls.RequireAndVerifyClientCert}} {
		if _, err := New(Config{Docket: p.docket, Folder: p.folder, Listen: "127.0.0.1:0", TLS: cfg}); err == nil {
			t.Errorf("listens with %+v", cfg)
		}
	}
}
