package auth

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"time"
)

// certificateNames are what a client's certificate may stand for: its
// fingerprint, and if an authority vouches for it its mail addresses and host
// names. That the client has its key, the handshake has shown.
func certificateNames(state *tls.ConnectionState, authorities *x509.CertPool, now time.Time) []string {
	if state == nil || len(state.PeerCertificates) == 0 {
		return nil
	}
	leaf := state.PeerCertificates[0]
	sum := sha256.Sum256(leaf.Raw)
	names := []string{"sha256:" + hex.EncodeToString(sum[:])}
	if authorities == nil {
		return names
	}
	between := x509.NewCertPool()
	for _, c := range state.PeerCertificates[1:] {
		between.AddCert(c)
	}
	_, err := leaf.Verify(x509.VerifyOptions{
		Roots: authorities, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return names
	}
	return append(append(names, leaf.EmailAddresses...), leaf.DNSNames...)
}
