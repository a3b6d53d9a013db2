package auth

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math/big"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/google/go-cmp/cmp"

	"qstream/directory"
	"qstream/directory/password"
)

func externalServer(x *Exchange) sasl.Server { return sasl.NewExternalServer(x.external) }

// keys are a SCRAM client's own computation.
func keys(t testing.TB, pw string, salt []byte) (client, server []byte) {
	t.Helper()
	salted, err := pbkdf2.Key(sha256.New, pw, salt, password.Iterations, 32)
	if err != nil {
		t.Fatal(err)
	}
	return password.MAC(salted, "Client Key"), password.MAC(salted, "Server Key")
}

// newCertificate makes a certificate for alice, signed by an authority or by
// itself.
func newCertificate(t testing.TB, by *tls.Certificate) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), EmailAddresses: []string{"Alice@acme.example"}, DNSNames: []string{"host.acme.example"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		IsCA: by == nil, BasicConstraintsValid: true,
	}
	parent, signer := template, any(key)
	if by != nil {
		parent, signer = by.Leaf, by.PrivateKey
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

func TestCertificateNames(t *testing.T) {
	authority := newCertificate(t, nil)
	signed, own := newCertificate(t, &authority), newCertificate(t, nil)
	pool := x509.NewCertPool()
	pool.AddCert(authority.Leaf)
	state := func(c tls.Certificate) *tls.ConnectionState {
		return &tls.ConnectionState{PeerCertificates: []*x509.Certificate{c.Leaf}}
	}
	now := time.Now()
	if got := certificateNames(state(signed), pool, now); len(got) != 3 || cmp.Diff([]string{"Alice@acme.example", "host.acme.example"}, got[1:]) != "" || len(got[0]) != 71 {
		t.Error(got)
	}
	for name, got := range map[string][]string{
		"own":          certificateNames(state(own), pool, now),
		"expired":      certificateNames(state(signed), pool, now.Add(2*time.Hour)),
		"no authority": certificateNames(state(signed), nil, now),
	} {
		if len(got) != 1 {
			t.Errorf("%s: %v", name, got)
		}
	}
	if certificateNames(nil, pool, now) != nil || certificateNames(&tls.ConnectionState{}, pool, now) != nil {
		t.Error("names of nothing")
	}
}

func TestExternal(t *testing.T) {
	authority := newCertificate(t, nil)
	cert := newCertificate(t, &authority)
	pool := x509.NewCertPool()
	pool.AddCert(authority.Leaf)
	docs, err := directory.Parse(directory.File{Name: "t", Data: []byte(`
{kind: credential, name: robot, tenant: default, certificates: [alice@acme.example], networks: [192.0.2.0/24]}
`)})
	if err != nil {
		t.Fatal(err)
	}
	s, err := directory.Build(docs)
	if err != nil {
		t.Fatal(err)
	}
	a, err := New(Config{Delay: time.Nanosecond}, Deps{Snapshot: func() *directory.Snapshot { return s }, ClientCAs: pool})
	if err != nil {
		t.Fatal(err)
	}
	c := someone
	c.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{cert.Leaf}}
	if got := a.Mechanisms(c); got[0] != External {
		t.Error(got)
	}
	for identity, want := range map[string]error{"": nil, "Robot": nil, "alice": ErrRejected, "\x00": ErrMalformed} {
		x := a.Begin(t.Context(), c, External)
		if _, _, err := x.Next([]byte(identity)); !errors.Is(err, want) || want == nil && (err != nil || x.Identity().User != "robot") {
			t.Errorf("%q: %v", identity, err)
		}
	}
	other := c
	other.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{newCertificate(t, nil).Leaf}}
	if a.Begin(t.Context(), other, External) != nil {
		t.Error("offered to an unknown certificate")
	}
}
