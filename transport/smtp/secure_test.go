package smtp_test

import (
	"crypto/tls"
	"crypto/x509"
	"testing"

	"qstream/test/fakemx"
	"qstream/transport"

	"qstream/transport/smtp"
)

// TestSecure: where TLS is demanded, nothing goes out in clear, or to a host
// that can't show who it is.
func TestSecure(t *testing.T) {
	for _, c := range []struct {
		name   string
		server fakemx.Config
		roots  func(*fakemx.Server) *x509.CertPool
		taken  bool
	}{
		{"known", fakemx.Config{TLS: true}, (*fakemx.Server).Roots, true},
		{"unknown certificate", fakemx.Config{TLS: true}, func(*fakemx.Server) *x509.CertPool { return x509.NewCertPool() }, false},
		{"not offered", fakemx.Config{}, (*fakemx.Server).Roots, false},
		{"broken", fakemx.Config{BadTLS: true}, func(*fakemx.Server) *x509.CertPool { return x509.NewCertPool() }, false},
		{"refused", fakemx.Config{TLS: true, Rules: []fakemx.Rule{{Line: "STARTTLS", Reply: "454 4.7.0 not now"}}}, (*fakemx.Server).Roots, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := fakemx.Start(c.server)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(s.Close)
			client := newClient(t, smtp.Config{Secure: &tls.Config{RootCAs: c.roots(s)}})
			for range 2 { // a failed handshake must not be remembered as leave to go in clear
				r := client.Deliver(t.Context(), to(s), attempt(small, "a@r.example"))
				if r.Delivered() != c.taken {
					t.Fatalf("%+v", r)
				}
				if !c.taken && (r.Outcomes[0].Kind != transport.Failed || !r.Outcomes[0].Status.Temporary()) {
					t.Errorf("%+v", r.Outcomes[0])
				}
			}
			for _, m := range s.Messages() {
				if !m.TLS {
					t.Error("a message went in clear")
				}
			}
			if n := len(s.Messages()); c.taken != (n == 2) {
				t.Errorf("%d messages", n)
			}
		})
	}
}
