package smtpd

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
)

// Mail that is never taken leaves a line that says who was refused what, and
// how; a client that goes on and on leaves no more than mostTold.
func TestRefusalsAreLogged(t *testing.T) {
	var out bytes.Buffer
	addr, _, stop := serveLog(t, Config{}, slog.New(slog.NewTextHandler(&out, nil)))
	connect(t, addr).play("< 220", "> EHLO c\x1b[31m.example", "< 250",
		"> MAIL FROM:<refuse@sender.example>", "< 550",
		"> MAIL FROM:<early@x>", "< 250", "> RCPT TO:<refuse@acme.example>", "< 550", "> RCPT TO:<later@acme.example>", "< 450",
		"> RCPT TO:<break@acme.example>", "< 451", "> RCPT TO:<a@acme.example>", "< 250",
		"> DATA", "< 354", "> Subject: x", "> .", "< 554", "> QUIT", "< 221")
	flood := connect(t, addr)
	flood.play("< 220", "> EHLO flood.example", "< 250", "> MAIL FROM:<a@x>", "< 250")
	for range mostTold + 5 {
		flood.play("> RCPT TO:<refuse@flood.example>", "< 550")
	}
	flood.play("> QUIT", "< 221")
	stop()
	text := out.String()
	for _, want := range []string{
		`from=refuse@sender.example rcpt="" code=550 reply="5.1.1 no such user"`,
		`from=early@x rcpt=refuse@acme.example code=550 reply="5.1.1 no such user"`,
		`from=early@x rcpt=later@acme.example code=450 reply="4.0.0 later"`,
		`from=early@x rcpt="" code=554 reply="5.4.6 too many hops"`,
		`more="not logged for this connection"`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%s is missing in\n%s", want, text)
		}
	}
	if n := strings.Count(text, "rcpt=refuse@flood.example"); n != mostTold {
		t.Errorf("%d lines of one connection, want %d", n, mostTold)
	}
	if strings.Contains(text, "\x1b") || strings.Contains(text, "rcpt=break@") {
		t.Errorf("hostile text, or our own trouble as a refusal:\n%s", text)
	}
}
