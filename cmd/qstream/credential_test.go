package main

import (
	"bytes"
	"strings"
	"testing"

	"qstream/directory"
	"qstream/directory/password"
)

// What credential prints is a document whose password is the one given.
func TestCredentialVerb(t *testing.T) {
	call := func(want int, stdin string, args ...string) string {
		t.Helper()
		var out, errs bytes.Buffer
		if got := run(append([]string{"credential"}, args...), strings.NewReader(stdin), &out, &errs); got != want {
			t.Fatalf("%v: exit %d, want %d: %s", args, got, want, &errs)
		}
		if strings.Contains(out.String()+errs.String(), "horse") {
			t.Errorf("%v tells the password: %s%s", args, &out, &errs)
		}
		return out.String()
	}
	text := call(0, "correct horse\r\nmore", "Alice@acme.example", "--tenant", "acme", "--senders", "tenant,@acme.example")
	docs, err := directory.Parse(directory.File{Name: "out", Data: []byte(text + "---\n{kind: tenant, name: acme, domains: [acme.example]}\n")})
	if err != nil {
		t.Fatal(err)
	}
	s, err := directory.Build(docs)
	if err != nil {
		t.Fatal(err)
	}
	u := s.Credential("alice@acme.example")
	prepared, _ := password.Prepare("correct horse")
	if u == nil || !u.Password.Matches(prepared) || !u.SCRAM.Matches(prepared) || len(u.Senders) != 2 {
		t.Errorf("%+v", u)
	}
	if text := call(0, "horse", "bob", "--tenant", "acme", "--stdin", "--no-scram"); strings.Contains(text, "scram") || !strings.Contains(text, "argon2id") {
		t.Error(text)
	}
	call(2, "", "bob", "--tenant", "acme")
	call(2, "horse\x00", "bob", "--tenant", "acme")
	call(2, "horse", "bo b", "--tenant", "acme")
	call(2, "horse", "bob", "--tenant", "ac me")
	call(2, "horse", "bob", "--tenant", "acme", "--senders", "@*")
	call(2, "horse", "bob")
}
