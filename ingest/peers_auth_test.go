package ingest

import (
	"strings"
	"testing"

	"qstream/bus/bustest"
	"qstream/test/peers"
)

// submitters runs an edge with all services for users, whose clients have
// certificates if they like.
func submitters(t *testing.T) (in *Ingest, robot [2]string, read func(n int) []string) {
	t.Helper()
	peers.Need(t)
	b := bustest.New(t)
	apply(t, b, usersSite(t))
	dir := t.TempDir()
	ca, _, authority := keyPair(t, dir, "ca", nil, "ca.example")
	cert, key, _ := keyPair(t, dir, "robot", &authority, "robot.acme.example")
	cfg := submissionConfig(t)
	cfg.TLSClientCA, cfg.SMTPAuth, cfg.SubmissionClientCert, cfg.SubmissionsClientCert = ca, true, "request", "request"
	in, _ = start(t, b, cfg)
	return in, [2]string{cert, key}, func(n int) (with []string) {
		for _, m := range received(t, b, n) {
			if m.Session.Tenant != "acme" || !strings.Contains(string(m.Prepend), " with ESMTPSA\r\n") {
				t.Errorf("%v\n%s", m.Session, m.Prepend)
			}
			with = append(with, m.Session.AuthUser)
		}
		return with
	}
}

// swaks knows PLAIN and LOGIN, with STARTTLS and with TLS from the first octet.
func TestSwaksAuth(t *testing.T) {
	in, _, read := submitters(t)
	const alice = "alice@acme.example"
	n := 0
	for _, service := range []string{ServiceSMTP, ServiceSubmission, ServiceSubmissions} {
		for _, mechanism := range []string{"PLAIN", "LOGIN"} {
			mode := "--tls"
			if service == ServiceSubmissions {
				mode = "--tls-on-connect"
			}
			addr := in.AddrOf(service).String()
			args := []string{mode, "--auth", mechanism, "--auth-user", alice, "--auth-password", "secret", "--from", alice, "--to", "b@elsewhere.example"}
			out, code := peers.Swaks(t, addr, args...)
			if n++; code != 0 || !strings.Contains(out, "235 2.7.0") {
				t.Errorf("%s %s: exit code %d\n%s", service, mechanism, code, out)
			}
			args[6] = "wrong"
			if out, code := peers.Swaks(t, addr, args...); code != 28 || !strings.Contains(out, "535 5.7.8") {
				t.Errorf("%s %s, wrong password: exit code %d\n%s", service, mechanism, code, out)
			}
		}
	}
	for args, want := range map[string]string{
		"": "530 5.7.0", "--tls": "530 5.7.0", "--tls --auth PLAIN --auth-user robot --auth-password secret --from x@else.example": "553 5.7.1",
	} {
		all := append([]string{"--from", alice, "--to", "b@elsewhere.example"}, strings.Fields(args)...)
		if out, code := peers.Swaks(t, in.AddrOf(ServiceSubmission).String(), all...); code == 0 || !strings.Contains(out, want) {
			t.Errorf("%s: exit code %d\n%s", args, code, out)
		}
	}
	read(n)
}

// msmtp has all mechanisms of ours but the variant with channel binding.
func TestMsmtpAuth(t *testing.T) {
	in, robot, read := submitters(t)
	n := 0
	for _, service := range []string{ServiceSubmission, ServiceSubmissions} {
		start := "tls_starttls on"
		if service == ServiceSubmissions {
			start = "tls_starttls off"
		}
		for _, mechanism := range []string{"plain", "login", "scram-sha-256", "external"} {
			settings := []string{"tls on", start, "auth " + mechanism, "user robot", "password secret"}
			if mechanism == "external" {
				settings = append(settings[:3], "tls_cert_file "+robot[0], "tls_key_file "+robot[1], "user robot")
			}
			n++
			if out, ok := peers.Msmtp(t, in.AddrOf(service).String(), "x@acme.example", "b@elsewhere.example", settings...); !ok {
				t.Errorf("%s %s:\n%s", service, mechanism, out)
			}
		}
	}
	for _, user := range read(n) {
		if user != "robot" {
			t.Errorf("user %q", user)
		}
	}
}

// GNU SASL's client binds SCRAM to the channel. Where that is offered it takes
// SCRAM without for an attack, and says so itself.
func TestGsasl(t *testing.T) {
	in, _, _ := submitters(t)
	addr := in.AddrOf(ServiceSubmission).String()
	for _, mechanism := range []string{"PLAIN", "LOGIN", "SCRAM-SHA-256-PLUS"} {
		if out, ok := peers.Gsasl(t, addr, mechanism, "robot", "secret", true); !ok {
			t.Errorf("%s:\n%s", mechanism, out)
		}
		if out, ok := peers.Gsasl(t, addr, mechanism, "robot", "secrets", true); ok {
			t.Errorf("%s, wrong password:\n%s", mechanism, out)
		}
	}
}
