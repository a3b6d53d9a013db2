package main

import (
	"strings"
	"testing"

	"qstream/directory"
)

// TestBanner: what is kept beside the way of mail is told, and nothing of it
// where nothing is.
func TestBanner(t *testing.T) {
	said := func(c upCmd, text string) string {
		t.Helper()
		docs, err := directory.Parse(directory.File{Name: "x", Data: []byte("{kind: tenant, name: acme, domains: [acme.example]}\n---\n" + text)})
		if err != nil {
			t.Fatal(err)
		}
		s, err := directory.Build(docs)
		if err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		if err := c.banner(&b, Running{SMTP: "127.0.0.1:2525", Kafka: []string{"k1.example:9092"}, Data: "/srv/q"}, s); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	plain := said(upCmd{}, "")
	for _, name := range []string{"archive", "custody", "vault"} {
		if strings.Contains(plain, name) {
			t.Errorf("%s stands in\n%s", name, plain)
		}
	}
	all := upCmd{}
	all.Vault, all.CheckpointKey = "/srv/vault", "/srv/custody.pem"
	text := said(all, "{kind: archive, name: copies, tenant: acme, sink: \"maildir:/srv/copies\"}\n")
	for _, line := range []string{
		"  archive   copies, to maildir:/srv/copies\n",
		"  custody   a chain over the log, signed by the key in /srv/custody.pem\n",
		"  vault     /srv/vault, lawful taps: its records are the same with and without orders\n",
	} {
		if !strings.Contains(text, line) {
			t.Errorf("%q is missing in\n%s", line, text)
		}
	}
	var many strings.Builder
	for _, name := range []string{"a", "b", "c", "d", "e", "f", "g"} {
		many.WriteString("{kind: archive, name: " + name + ", sink: \"maildir:/srv/" + name + "\"}\n---\n")
	}
	if text := said(upCmd{}, many.String()); strings.Contains(text, "/srv/f") || !strings.Contains(text, "and 2 more: qstream tap archive list\n") {
		t.Errorf("seven archives:\n%s", text)
	}
}
