package peers

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// Msmtp runs msmtp against addr with further lines of its settings
// ("auth plain"), and hands it a message. It returns what msmtp printed, and
// whether the message was taken.
func Msmtp(t testing.TB, addr, from, to string, settings ...string) (string, bool) {
	t.Helper()
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	lines := append([]string{"account default", "host " + host, "port " + port, "from " + from, "tls_certcheck off"}, settings...)
	rc := write(t, folder(t), "msmtprc", strings.Join(lines, "\n")+"\n")
	out, err := give("Subject: hello\n\nhello\n", "msmtp", "-v", "-C", rc, "--", to)
	return out, err == nil
}

// Gsasl signs in at addr by a mechanism with GNU SASL's client, over TLS if
// secure. It returns what the client printed, and whether it succeeded.
func Gsasl(t testing.TB, addr, mechanism, user, password string, secure bool) (string, bool) {
	t.Helper()
	args := []string{"--smtp", "--connect", addr, "-m", mechanism, "-a", user, "-p", password, "--hostname", "mx.acme.example", "--x509-ca-file=", "--no-starttls"}
	if secure {
		args[len(args)-1] = "--starttls"
	}
	out, err := give("", "gsasl", args...)
	return out, err == nil
}

// give runs a command with standard input.
func give(stdin, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var out bytes.Buffer
	c := exec.CommandContext(ctx, name, args...)
	c.Stdin, c.Stdout, c.Stderr = strings.NewReader(stdin), &out, &out
	c.WaitDelay = time.Second
	if err := c.Run(); err != nil {
		return out.String(), fmt.Errorf("%s: %w", name, err)
	}
	return out.String(), nil
}
