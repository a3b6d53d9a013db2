package qmail

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const recipientsFile = `# as s/qmail's page has it
!nocheck.example
@mydomain.example:users/recipients.cdb
acme.example|bin/qmail-smtpam mx.acme.example
acme.example:acme.cdb
*:etc/fastforward.cdb
*|/usr/bin/ldapam server 389 dn pass base
legacy.cdb
!*
`

func TestRecipientLines(t *testing.T) {
	r, err := ParseRecipients(recipientsFile)
	if err != nil {
		t.Fatal(err)
	}
	for domain, want := range map[string]string{
		"nocheck.example":      "2 all",
		"sub.nocheck.example":  "6 etc/fastforward.cdb, 7 /usr/bin/ldapam server 389 dn pass base, 8 legacy.cdb, 9 all",
		"MyDomain.example":     "3 users/recipients.cdb, 6 etc/fastforward.cdb, 7 /usr/bin/ldapam server 389 dn pass base",
		"sub.mydomain.example": "6 etc/fastforward.cdb, 7 /usr/bin/ldapam server 389 dn pass base, 8 legacy.cdb, 9 all",
		"acme.example":         "4 bin/qmail-smtpam mx.acme.example, 5 acme.cdb, 6 etc/fastforward.cdb, 7 /usr/bin/ldapam server 389 dn pass base",
		"sub.acme.example":     "4 bin/qmail-smtpam mx.acme.example, 5 acme.cdb, 6 etc/fastforward.cdb, 7 /usr/bin/ldapam server 389 dn pass base",
		"notacme.example":      "6 etc/fastforward.cdb, 7 /usr/bin/ldapam server 389 dn pass base, 8 legacy.cdb, 9 all",
	} {
		var got []string
		for _, l := range r.For(domain) {
			got = append(got, fmt.Sprintf("%d %s", l.Line, map[RecipientMethod]string{
				TakeAll: "all", AskCDB: l.File, AskHelper: strings.Join(l.Args, " "),
			}[l.Method]))
		}
		if diff := cmp.Diff(want, strings.Join(got, ", ")); diff != "" {
			t.Errorf("%s: %s", domain, diff)
		}
	}
	if diff := cmp.Diff([]string{"users/recipients.cdb", "acme.cdb", "etc/fastforward.cdb", "legacy.cdb"}, r.Files()); diff != "" {
		t.Error(diff)
	}
}

func TestRecipientLineErrors(t *testing.T) {
	for _, text := range []string{"!", "!a:b", ":cdb", "a.example:", "a.example|", "a.example| ", "a.example|p 1 2 3 4 5 6"} {
		_, err := ParseRecipients(text)
		var at *LineError
		if !errors.As(err, &at) || at.Line != 1 {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestExtension(t *testing.T) {
	for address, want := range map[string]string{
		"me-list@acme.example": "me-@acme.example", "a-b-c@acme.example": "a-@acme.example",
		"me@acme.example": "", "me-@acme.example": "", "-x@acme.example": "-@acme.example",
	} {
		if got, ok := Extension(address); got != want || ok != (want != "") {
			t.Errorf("%s: %q", address, got)
		}
	}
	if RecipientKey("Me@Acme.Example") != ":me@acme.example" {
		t.Error("key")
	}
}

func FuzzRecipients(f *testing.F) {
	f.Add(recipientsFile, "acme.example")
	f.Fuzz(func(t *testing.T, text, domain string) {
		r, err := ParseRecipients(text)
		if err != nil {
			return
		}
		for i, l := range r.For(domain) {
			if l.Method == TakeAll && i != len(r.For(domain))-1 {
				t.Error("a line follows one that takes all")
			}
			if l.Method == AskHelper && (len(l.Args) == 0 || len(l.Args) > 6) {
				t.Errorf("%d arguments", len(l.Args))
			}
		}
	})
}
