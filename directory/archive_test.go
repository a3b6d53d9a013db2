package directory

import (
	"fmt"
	"testing"
)

// TestRecipientsOfArchives: whose mail an archive gets, of a message from a
// client of a tenant, or a stranger, to two tenants and the rest of the world.
func TestRecipientsOfArchives(t *testing.T) {
	to := []string{"a@acme.example", "b@blue.example", "c@sub.acme.example", "d@elsewhere.example"}
	for _, c := range []struct {
		archive string
		party   Party
		want    string
	}{
		{"", Party{}, "[0 1 2 3]"},
		{"direction: in", Party{}, "[0 1 2]"},
		{"direction: out", Party{}, "[]"},
		{"direction: out", Party{Tenant: "acme", ReversePath: "x@acme.example"}, "[0 1 2 3]"},
		{"tenant: acme", Party{ReversePath: "x@acme.example"}, "[0 2]"},
		{"tenant: acme", Party{Tenant: "blue", ReversePath: "x@blue.example"}, "[0 2]"},
		{"tenant: acme", Party{Tenant: "acme", ReversePath: "x@acme.example"}, "[0 1 2 3]"},
		{"tenant: acme\ndirection: in", Party{Tenant: "acme", ReversePath: "x@acme.example"}, "[0 2]"},
		{"tenant: acme\ndirection: out", Party{Tenant: "blue", ReversePath: "x@acme.example"}, "[]"},
		{"domains: [acme.example]", Party{}, "[0]"},
		{"domains: [.acme.example]", Party{}, "[2]"},
		{"domains: [acme.example]", Party{Tenant: "acme", ReversePath: "x@acme.example"}, "[0 1 2 3]"},
		{"domains: [acme.example]", Party{Tenant: "blue", ReversePath: "x@acme.example"}, "[0]"}, // it isn't blue's
		{"domains: [acme.example]\ndirection: out", Party{ReversePath: "x@acme.example"}, "[]"},
		{"tenant: blue\ndomains: [acme.example]", Party{}, "[]"},
		{"queue: special", Party{}, "[1]"},
		{"queue: special\ntenant: acme", Party{Tenant: "acme", ReversePath: "x@acme.example"}, "[1]"},
	} {
		s := snapshotOf(t, fmt.Sprintf(`
kind: tenant
name: acme
domains: [acme.example, .acme.example]
---
kind: tenant
name: blue
domains: [blue.example]
---
kind: queue
name: special
---
kind: route
name: blue
match: {domain: blue.example}
queue: special
via: smtp://mail.blue.example
---
kind: route
name: all
match: {domain: "*"}
via: smtp://mx
---
kind: archive
name: one
sink: maildir:/var/mail/one
%s
`, c.archive))
		if got := fmt.Sprint(s.Recipients(s.Archive("one"), c.party, to)); got != c.want {
			t.Errorf("%q, %+v: %s, want %s", c.archive, c.party, got, c.want)
		}
	}
}

func TestArchiveTopics(t *testing.T) {
	s := snapshotOf(t, "kind: archive\nname: one\nsink: maildir:/var/mail/one\npartitions: 7\nretention: 90d\n")
	for _, topic := range s.Topics(7 * day) {
		if topic.Name == "qstream.tap.one.v1" {
			if topic.Partitions != 7 || topic.Retention != 90*day || fmt.Sprint(topic.Groups) != "[qstream.archive.one]" {
				t.Errorf("%+v", topic)
			}
			return
		}
	}
	t.Error("no topic")
}
