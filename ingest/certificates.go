package ingest

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"
)

// certificates are those of the edge, found by the names that they are for.
// They are safe for concurrent use.
type certificates struct {
	pairs []*certificate

	mu     sync.Mutex
	loaded []*tls.Certificate            // as they were when byName was made
	byName map[string][]*tls.Certificate // "*.acme.example" as it stands in them
}

// loadCertificates reads pairs of files.
func loadCertificates(certs, keys []string, log *slog.Logger, now func() time.Time) (*certificates, error) {
	s := &certificates{}
	for i := range certs {
		pair := &certificate{cert: certs[i], key: keys[i], log: log, now: now, checked: now()}
		pair.of = pair.written()
		if err := pair.load(); err != nil {
			return nil, err
		}
		s.pairs = append(s.pairs, pair)
	}
	return s, nil
}

// get is the newest certificate for the name that the client asked for (RFC
// 6066 3) and the algorithms that it knows; the first pair's if none fits.
func (s *certificates) get(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	newest := make([]*tls.Certificate, len(s.pairs))
	for i, p := range s.pairs {
		c, err := p.get(hello)
		if err != nil {
			return nil, err
		}
		newest[i] = c
	}
	for _, candidates := range [][]*tls.Certificate{s.named(newest, hello.ServerName), newest} {
		for _, c := range candidates {
			if hello.SupportsCertificate(c) == nil {
				return c, nil
			}
		}
	}
	return newest[0], nil
}

// named are the certificates for a name, exact ones first.
func (s *certificates) named(newest []*tls.Certificate, name string) []*tls.Certificate {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	_, parent, _ := strings.Cut(name, ".")
	s.mu.Lock()
	defer s.mu.Unlock()
	if !same(s.loaded, newest) {
		s.loaded, s.byName = newest, index(newest)
	}
	exact, wild := s.byName[name], s.byName["*."+parent]
	return append(exact[:len(exact):len(exact)], wild...)
}

func same(a, b []*tls.Certificate) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

func index(all []*tls.Certificate) map[string][]*tls.Certificate {
	m := map[string][]*tls.Certificate{}
	for _, c := range all {
		if c.Leaf == nil {
			continue
		}
		for _, name := range c.Leaf.DNSNames {
			name = strings.ToLower(name)
			m[name] = append(m[name], c)
		}
	}
	return m
}

// How a service asks for the certificates of clients.
const (
	clientNone    = "none"
	clientRequest = "request" // and takes any, or none: only who signs in by it is asked for a good one
	clientRequire = "require" // a verified one
)

// service makes the TLS of one service. Each has keys of its own for session
// tickets, so that what was agreed with one is nothing to another.
func (s *certificates) service(client string, authorities *x509.CertPool) (*tls.Config, error) {
	cfg := &tls.Config{GetCertificate: s.get, MinVersion: tls.VersionTLS12, ClientCAs: authorities}
	switch client {
	case "", clientNone:
	case clientRequest:
		cfg.ClientAuth = tls.RequestClientCert
	case clientRequire:
		if authorities == nil {
			return nil, fmt.Errorf("ingest: client certificates are required, and there is no tls_client_ca to verify them")
		}
		cfg.ClientAuth = tls.RequireAndVerifyClientCert
	default:
		return nil, fmt.Errorf("ingest: client certificates are %q: want none, request or require", client)
	}
	return cfg, nil
}

// loadAuthorities reads a PEM file; nil without a name.
func loadAuthorities(name string) (*x509.CertPool, error) {
	if name == "" {
		return nil, nil
	}
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("ingest: load tls_client_ca: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("ingest: tls_client_ca %s holds no certificate", name)
	}
	return pool, nil
}
