package directory

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"qstream/qmail"
)

const policyText = `kind: tenant
name: acme
domains: [acme.example]
---
kind: policy
name: acme-in
match: {domains: [acme.example, .acme.example]}
bad_mail_from: |
  @spam.example
  *%*
bad_helo: [localhost, "*.dialup.example"]
bad_rcpt_to: {file: /etc/qstream/badrcptto}
bad_mime_types: TVqQAAMAA
recipients:
  list: [Bob@acme.example, me-@acme.example]
  program: [/usr/local/bin/ldapam, server]
  callout: mail.acme.example
  timeout: 5s
  on_fault: accept
variables: {HELOCHECK: "=", MFDNSCHECK: "", MAXRECIPIENTS: 50, BADMIMETYPE: "!", REPLY_HELO: see acme.example}
---
kind: policy
name: everybody
match: {clients: all}
variables: {MAXRECIPIENTS: 7}
---
kind: policy
name: acme-out
match: {clients: relays, tenant: acme}
mail_from_rules: |
  192.0.2.&@acme.example
`

func TestPolicy(t *testing.T) {
	s := snapshotOf(t, policyText)
	for _, tt := range []struct {
		relay          bool
		tenant, domain string
		want           string
	}{
		{false, "", "acme.example", "acme-in"},
		{false, "", "Sub.acme.example", "acme-in"},
		{false, "acme", "other.example", "everybody"},
		{true, "", "acme.example", "everybody"},
		{true, "acme", "acme.example", "acme-out"},
		{true, "acme", "far.example", "acme-out"},
		{true, "beta", "far.example", "everybody"},
	} {
		if got := s.Policy(tt.relay, tt.tenant, tt.domain); got == nil || got.Name != tt.want {
			t.Errorf("%+v: %+v", tt, got)
		}
	}
	p := s.Policy(false, "", "acme.example")
	want := Policy{
		Name: "acme-in", Clients: Strangers, Domains: []string{"acme.example", ".acme.example"},
		BadMailFrom: Source{Text: "@spam.example\n*%*\n"}, BadHELO: Source{Text: "localhost\n*.dialup.example"},
		BadRcptTo: Source{File: "/etc/qstream/badrcptto"}, BadMIMETypes: Source{Text: "TVqQAAMAA"},
		Recipients: &RecipientCheck{
			List: []string{"bob@acme.example", "me-@acme.example"}, Program: []string{"/usr/local/bin/ldapam", "server"},
			Home: "/var/qmail", Callout: "mail.acme.example:25", Timeout: 5 * time.Second, Concurrency: 20,
			AcceptFor: time.Hour, RejectFor: 5 * time.Minute, OnFault: FaultAccept,
		},
		Variables: qmail.Variables{
			HELO: qmail.HELOEqual, SenderDNS: qmail.On, MaxRecipients: 50, MIMEType: qmail.ContentBlanks,
			Replies: qmail.Replies{HELO: "see acme.example"},
		},
	}
	if diff := cmp.Diff(want, *p); diff != "" {
		t.Error(diff)
	}
	for address, listed := range map[string]bool{"bob@acme.example": true, "BOB@acme.example": true, "me-list@acme.example": true, "me@acme.example": false, "x@acme.example": false} {
		if p.Recipients.Lists(address) != listed {
			t.Errorf("%s: listed %v", address, !listed)
		}
	}
}

// A client's reverse name costs DNS: only policies that may compare it ask.
func TestAsksNames(t *testing.T) {
	for text, want := range map[string]bool{
		"bad_mail_from: [\"@a.example\", \"*%*\"]": false, "bad_mail_from: [\"@a.example-\"]": true, "bad_mail_from: [\"@a.example=\"]": true,
		"bad_rcpt_to: [\"~a.example\"]": true, "bad_mail_from: {file: /x}": true, "variables: {HELOCHECK: \"=\"}": true,
		"variables: {HELOCHECK: A}": false, "match: {clients: all}\nmail_from_rules: =.a.example&@a.example": true,
	} {
		if got := snapshotOf(t, "kind: policy\nname: p\n"+text+"\n").AsksNames(); got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
}

// What a document says in canonical form is what it said.
func TestPolicyCanonical(t *testing.T) {
	before := snapshotOf(t, policyText)
	var text []string
	for _, d := range before.Documents() {
		text = append(text, d.YAML)
	}
	after := snapshotOf(t, strings.Join(text, "---\n"))
	if len(Edits(before, after)) > 0 {
		t.Error(Edits(before, after))
	}
	for _, domain := range []string{"acme.example", "far.example"} {
		if diff := cmp.Diff(before.Policy(false, "", domain), after.Policy(false, "", domain)); diff != "" {
			t.Error(diff)
		}
	}
}

func TestBadPolicies(t *testing.T) {
	for reason, text := range map[string]string{
		"line 1: wants 9 characters":       "bad_mime_types: short",
		"no absolute path":                 "bad_helo: {file: relative}",
		"wants a text, a list":             "bad_helo: {}",
		"names no list":                    "recipients: {timeout: 5s}",
		"is no domain":                     "recipients: {rules: \":x\"}",
		"MAXRECIPIENTS":                    "variables: {MAXRECIPIENTS: many}",
		"unknown key \"variables.RBLSMTPD": "variables: {RBLSMTPD: x}",
		"asked of strangers only":          "match: {clients: relays}\nbad_helo: x",
		"bad_helo, recipients, verify":     "match: {clients: relays}\nverify: {dkim: true}",
		"asked of relays only":             "mail_from_rules: 192.0.2.&@x.example",
		"is for clients: relays":           "match: {tenant: default}",
		"there is no tenant":               "match: {clients: relays, tenant: nobody}",
		"one host":                         "recipients: {callout: mx}",
		"not in 1 to 65535":                "recipients: {callout: \"a.example:99999\"}",
		"already belongs to policy/p":      "bad_helo: x\n---\nkind: policy\nname: q",
	} {
		docs, err := Parse(File{Name: "x", Data: []byte("kind: policy\nname: p\n" + text + "\n")})
		if err == nil {
			_, err = Build(docs)
		}
		if err == nil || !strings.Contains(err.Error(), reason) {
			t.Errorf("%q: %v, want %q", text, err, reason)
		}
	}
}
