package mail

import (
	"strings"
	"testing"
	"time"
)

func TestReceived(t *testing.T) {
	at := time.Date(2026, 11, 3, 15, 4, 5, 0, time.FixedZone("", 3600))
	for _, tt := range []struct {
		name string
		in   Received
		want string
	}{
		{"all", Received{"client.example", "c.acme.example", "192.0.2.1", "mx.acme.example", "ESMTPS", "TLS 1.3 (AES)", "ID", "a@acme.example", at},
			"Received: from client.example (c.acme.example [192.0.2.1])\r\n\tby mx.acme.example with ESMTPS\r\n\t(TLS 1.3 \\(AES\\)) id ID\r\n\tfor <a@acme.example>; Tue, 3 Nov 2026 14:04:05 +0000\r\n"},
		{"least", Received{By: "mx", Protocol: "SMTP", ID: "ID", ClientIP: "2001:db8::1", At: at},
			"Received: from unknown ([IPv6:2001:db8::1])\r\n\tby mx with SMTP id ID; Tue, 3 Nov 2026 14:04:05 +0000\r\n"},
		{"hostile", Received{HELO: "a\r\nBcc: (x)\x00\xff", By: "mx", Protocol: "SMTP", ID: "ID", ClientIP: "::ffff:192.0.2.1", At: at},
			"Received: from a??Bcc:??x??? ([192.0.2.1])\r\n\tby mx with SMTP id ID; Tue, 3 Nov 2026 14:04:05 +0000\r\n"},
	} {
		if got := tt.in.String(); got != tt.want {
			t.Errorf("%s: got\n%s, want\n%s", tt.name, got, tt.want)
		}
	}
}

func FuzzReceived(f *testing.F) {
	f.Add("a(b", "c\r\nd", "e\\")
	f.Fuzz(func(t *testing.T, helo, rcpt, tls string) {
		s := Received{HELO: helo, For: rcpt, TLS: tls, By: "mx", Protocol: "SMTP", ID: "ID"}.String()
		bare := strings.ReplaceAll(strings.TrimSuffix(s, "\r\n"), "\r\n\t", "")
		if strings.ContainsAny(bare, "\r\n\x00") || !strings.HasSuffix(s, "\r\n") {
			t.Fatalf("line breaks in %q", s)
		}
	})
}
