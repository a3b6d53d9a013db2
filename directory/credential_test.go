package directory

import (
	"net/netip"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"qstream/bus"
	"qstream/bus/bustest"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
)

const (
	someHash  = "$argon2id$v=19$m=64,t=3,p=2$c29tZXNhbHQ$RdescudvJCsgt3ub+b+dWRWJTmaaZzzz"
	otherHash = "$argon2id$v=19$m=64,t=3,p=2$c29tZXNhbHQ$SdescudvJCsgt3ub+b+dWRWJTmaaZzzz"
	pencil    = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="

	users = `
kind: tenant
name: acme
domains: [acme.example, .acme.example]
---
kind: tenant
name: beta
domains: [beta.example]
---
kind: credential
name: alice@acme.example
tenant: acme
password: ` + someHash + `
scram_sha_256: ` + pencil + `
`
)

func TestMaySend(t *testing.T) {
	s := snapshotOf(t, users+`---
{kind: credential, name: robot, tenant: acme, senders: [tenant]}
---
{kind: credential, name: shop, tenant: acme, senders: [Orders@Shop.example, "@list.example", "@.list.example"]}
---
{kind: credential, name: mute, tenant: acme}
`)
	for _, tt := range []struct {
		user, from string
		want       bool
	}{
		{"alice@acme.example", "alice@acme.example", true}, {"alice@acme.example", "Alice@ACME.example", true},
		{"alice@acme.example", "bob@acme.example", false}, {"alice@acme.example", "", true}, {"alice@acme.example", "alice", false},
		{"robot", "anybody@acme.example", true}, {"robot", "x@deep.acme.example", true}, {"robot", "x@beta.example", false},
		{"robot", "x@elsewhere.example", false}, {"robot", "robot", false}, {"robot", "postmaster", false},
		{"shop", "orders@shop.example", true}, {"shop", "other@shop.example", false}, {"shop", "x@list.example", true},
		{"shop", "x@a.list.example", true}, {"shop", "x@xlist.example", false}, {"shop", "x@acme.example", false},
		{"mute", "mute", true}, {"mute", "a@acme.example", false}, {"mute", "", true},
	} {
		if got := s.MaySend(s.Credential(tt.user), tt.from); got != tt.want {
			t.Errorf("%s as %q: %v", tt.user, tt.from, got)
		}
	}
}

func TestSubmitter(t *testing.T) {
	s := snapshotOf(t, users)
	if u := s.Submitter("alice@acme.example", false); u == nil || u.Tenant != "acme" {
		t.Errorf("%+v", u)
	}
	if u := s.Submitter("carol@beta.example", false); u != nil {
		t.Errorf("%+v", u)
	}
	for name, tenant := range map[string]string{"carol@beta.example": "beta", "dave@x.example": Default, "dave": Default} {
		u := s.Submitter(name, true)
		if u == nil || u.Tenant != tenant || !s.MaySend(u, name) || s.MaySend(u, "x@beta.example") {
			t.Errorf("%s: %+v", name, u)
		}
	}
}

func TestCredentials(t *testing.T) {
	const print = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	s := snapshotOf(t, users+`---
{kind: credential, name: host, tenant: acme, certificates: ["`+print+`", Alice@Acme.example, Host.acme.example], networks: [192.0.2.0/24], disabled: false}
---
{kind: credential, name: gone, tenant: acme, disabled: true}
`)
	for _, name := range []string{print, "alice@acme.example", "host.acme.example"} {
		if u := s.CredentialOf(name); u == nil || u.User != "host" {
			t.Errorf("%s: %+v", name, u)
		}
	}
	host := s.Credential("host")
	for addr, want := range map[string]bool{"192.0.2.7": true, "::ffff:192.0.2.7": true, "198.51.100.1": false, "2001:db8::1": false} {
		if host.Admits(netip.MustParseAddr(addr)) != want {
			t.Error(addr)
		}
	}
	if s.Credential("gone").Admits(netip.MustParseAddr("192.0.2.7")) {
		t.Error("admits who is disabled")
	}
	if !s.AllSCRAM() || len(s.Decoy()) == 0 {
		t.Error("SCRAM is not for all")
	}
	if s := snapshotOf(t, users+"---\n{kind: credential, name: b, tenant: acme, password: \""+someHash+"\"}\n"); s.AllSCRAM() {
		t.Error("SCRAM is for all")
	}
	if n, err := NormalUser("Álice@ACME.example"); err != nil || n != "álice@acme.example" {
		t.Error(n, err)
	}
}

// What is shown never holds a secret, and can be applied all the same.
func TestSecretsAreHidden(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	first := applyText(t, b, users)
	clean := func(what, text string) {
		t.Helper()
		for _, part := range []string{"RdescudvJCsgt3ub", "SdescudvJCsgt3ub", "WG5d8oPm3", "wfPLwcE6n", "c29tZXNhbHQ"} {
			if strings.Contains(text, part) {
				t.Errorf("%s tells a secret: %s", what, text)
			}
		}
	}
	d, ok := first.After.Document(Ref{KindCredential, "alice@acme.example"})
	if !ok || !strings.Contains(d.YAML, "password: hidden:") || !strings.Contains(d.YAML, "scram_sha_256: hidden:") {
		t.Fatalf("%+v", d.YAML)
	}
	clean("document", d.YAML)
	edited := applyText(t, b, d.YAML+"senders: [tenant]\n")
	if u := edited.After.Credential("alice@acme.example"); u.Password.String() != someHash || u.SCRAM.String() != pencil || len(u.Senders) != 1 {
		t.Errorf("%+v", u)
	}
	changed := applyText(t, b, strings.Replace(users, someHash, otherHash, 1))
	edits := Edits(edited.After, changed.After)
	if len(edits) != 1 || !strings.Contains(edits[0].String(), "+ password: hidden:") {
		t.Errorf("%v", edits)
	}
	for _, e := range append(Edits(first.Before, first.After), edits...) {
		clean("edit", e.String())
	}
	if err := History(t.Context(), b, func(p Past) error {
		for _, e := range p.Edits {
			clean("history", e.String())
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	for name, text := range map[string]string{"another": d.YAML, "nobody's": strings.Replace(d.YAML, "alice", "bob", 1)} {
		_, err := Apply(t.Context(), b, Change{Documents: documentsOf(t, text)}, Options{})
		if err == nil || !strings.Contains(err.Error(), "test.yaml:4") || !strings.Contains(err.Error(), "is hidden, and another one") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := b.Read(t.Context(), []string{schemas.Directory}, bus.Start{}, func(r bus.Record) error {
		a := &pb.Apply{}
		if err := proto.Unmarshal(r.Value, a); err != nil {
			return err
		}
		clean("record", Shown(a).String())
		return nil
	}); err != nil {
		t.Error(err)
	}
	follow(t, b)
}

// Errors about secrets don't repeat them, and neither do documents that this
// version doesn't understand.
func TestBrokenSecretsAreHidden(t *testing.T) {
	for _, line := range []string{"password: open-sesame", "password: open-sesame: x", "password: [open-sesame]", "scram_sha_256: open-sesame", "password: \"open-sesame"} {
		_, err := Parse(File{Name: "f", Data: []byte("kind: credential\nname: a\ntenant: acme\n" + line + "\n")})
		if err == nil || strings.Contains(err.Error(), "sesame") {
			t.Errorf("%s: %v", line, err)
		}
	}
	e := readEntry(1, Ref{KindCredential, "a"}, "kind: credential\nname: a\ncolour: open-sesame\n")
	if e.err == nil || strings.Contains(e.doc.YAML+e.err.Error(), "sesame") {
		t.Errorf("%+v", e)
	}
}
