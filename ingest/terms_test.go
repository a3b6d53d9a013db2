package ingest

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"qstream/bus/bustest"
)

// TestRuleOffers: SMTPAUTH and UCSPITLS of a rule hold for its connections.
func TestRuleOffers(t *testing.T) {
	t.Parallel()
	const mail = "MAIL FROM:<a@strange.example>\r\n"
	alice := plain("alice@acme.example", "secret")
	for _, tt := range []struct {
		name, rule    string
		secure        bool
		offers, lacks string // of EHLO's reply
		say           string
		want          []string
	}{
		{"nothing said", ``, false, "STARTTLS", "AUTH ", alice + mail, []string{"502 5.5.1", "250"}},
		{"auth is offered", `,SMTPAUTH=""`, true, "AUTH SCRAM-SHA-256-PLUS SCRAM-SHA-256 PLAIN LOGIN", "", alice + mail, []string{"235", "553 5.7.1"}},
		{"auth in clear", `,SMTPAUTH=""`, false, "STARTTLS", "AUTH ", alice + mail, []string{"538 5.7.11", "250"}},
		{"auth is required", `,SMTPAUTH="!"`, true, "AUTH ", "", mail + alice + "MAIL FROM:<alice@acme.example>\r\n", []string{"535 5.7.0", "235", "250"}},
		{"challenges only", `,SMTPAUTH="cram"`, true, "AUTH SCRAM-SHA-256-PLUS SCRAM-SHA-256", "PLAIN", alice + mail, []string{"504 5.5.4", "250"}},
		{"challenges too", `,SMTPAUTH="+cram"`, true, "PLAIN LOGIN", "", alice, []string{"235"}},
		{"a challenge is required", `,SMTPAUTH="!cram"`, true, "AUTH SCRAM", "PLAIN", mail, []string{"535 5.7.0"}},
		{"auth is off", `,SMTPAUTH="-"`, true, "SIZE", "AUTH ", alice, []string{"502 5.5.1"}},
		{"tls is offered", `,UCSPITLS=""`, false, "STARTTLS", "", mail, []string{"250"}},
		{"tls is required", `,UCSPITLS="!"`, false, "STARTTLS", "", mail, []string{"535 5.7.0"}},
		{"tls is required and there", `,UCSPITLS="!"`, true, "SIZE", "STARTTLS", mail, []string{"250"}},
		{"tls is off", `,UCSPITLS="-"`, false, "SIZE", "STARTTLS", "STARTTLS\r\n" + mail, []string{"502 5.5.1", "250"}},
		{"certificates without authorities", `,UCSPITLS="?"`, false, "SIZE", "STARTTLS", mail, []string{"454 4.7.0"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := bustest.New(t)
			apply(t, b, strings.Replace(usersSite(t), "127.0.0.0/8", "192.0.2.0/24", 1)+"---\nkind: rules\nname: smtp\nrules: '127.:allow"+tt.rule+"'\n")
			cfg := withCertificate(t, Config{})
			cfg.Auth.Delay = authDelay
			in, _ := start(t, b, cfg)
			var secure *tls.Config
			if tt.secure {
				secure = anyServer
			}
			c := dialService(t, in, ServiceSMTP, secure)
			if got := c.say("EHLO x\r\n", "250"); !strings.Contains(got, tt.offers) || tt.lacks != "" && strings.Contains(got, tt.lacks) {
				t.Errorf("offers %q, want %q without %q", got, tt.offers, tt.lacks)
			}
			c.say(tt.say, tt.want...)
		})
	}
}

// TestRuleCertificates: by UCSPITLS "?" and "@" a verified certificate lets
// its client relay, by "@" as its own address alone.
func TestRuleCertificates(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ca, _, authority := keyPair(t, dir, "ca", nil, "ca.example")
	_, _, known := keyPair(t, dir, "robot", &authority, "robot.acme.example")
	_, _, stranger := keyPair(t, dir, "stranger", nil, "robot.acme.example")
	leaf, err := x509.ParseCertificate(known.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	if len(leaf.EmailAddresses) != 1 {
		t.Fatalf("addresses %v", leaf.EmailAddresses)
	}
	with := func(all ...tls.Certificate) *tls.Config {
		return &tls.Config{InsecureSkipVerify: true, Certificates: all}
	}
	const away = "RCPT TO:<b@elsewhere.example>\r\n"
	mine, other := "MAIL FROM:<"+leaf.EmailAddresses[0]+">\r\n"+away, "MAIL FROM:<else@strange.example>\r\n"+away
	for _, tt := range []struct {
		name, value string
		cert        *tls.Config
		say         string
		want        string
	}{
		{"relays", "?", with(known), other, "250"},
		{"no certificate", "?", anyServer, other, "553 5.7.1"},
		{"a stranger's", "?", with(stranger), other, "553 5.7.1"},
		{"relays as itself", "@", with(known), mine, "250"},
		{"null sender", "@", with(known), "MAIL FROM:<>\r\n" + away, "250"},
		{"relays as another", "@", with(known), other, "553 5.7.1"},
		{"another rule", "!", with(known), other, "553 5.7.1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := bustest.New(t)
			apply(t, b, strings.Replace(usersSite(t), "127.0.0.0/8", "192.0.2.0/24", 1)+
				fmt.Sprintf("---\nkind: rules\nname: smtp\nrules: '127.:allow,UCSPITLS=\"%s\"'\n", tt.value))
			in, _ := start(t, b, withCertificate(t, Config{TLSClientCA: ca}))
			dialService(t, in, ServiceSMTP, nil).say("MAIL FROM:<>\r\n", "535 5.7.0")
			dialService(t, in, ServiceSMTP, tt.cert).say(tt.say, "250", tt.want)
		})
	}
}

// A recipient program finds in its environment what qmail-smtpd's would.
func TestProgramEnvironment(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	out, program := filepath.Join(dir, "out"), filepath.Join(dir, "ask")
	if err := os.WriteFile(program, []byte("#!/bin/sh\nenv >"+out+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	b := bustest.New(t)
	apply(t, b, site+"\n---\nkind: policy\nname: p\nrecipients: {program: ["+program+"]}\n---\nkind: rules\nname: smtp\nrules: '127.:allow,DELIVERTO=\"log@acme.example\",MINE=\"a b\",TCPREMOTEIP=\"192.0.2.9\",AUTHUSER=\"eve\",SSL_CLIENT_S_DN_CN=\"eve\"'\n")
	in, _ := start(t, b, withCertificate(t, Config{}))
	c := dialService(t, in, ServiceSMTP, anyServer)
	c.say("MAIL FROM:<a@strange.example>\r\nRCPT TO:<b@acme.example>\r\n", "250", "250")
	text, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"MINE=a b", "DELIVERTO=log@acme.example", "RCPTTO=log@acme.example b@acme.example", "MAILFROM=a@strange.example", "HELOHOST=x", "PROTO=TCP",
		"TCPREMOTEIP=127.0.0.1", "TCPLOCALIP=127.0.0.1", "SSL_PROTOCOL=TLSv1.3", "SSL_CIPHER=TLS_",
	} {
		if !strings.Contains("\n"+string(text), "\n"+want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if strings.Contains(string(text), "=eve") {
		t.Errorf("a rule says who the client is:\n%s", text)
	}
}
