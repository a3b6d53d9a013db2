package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"qstream/bus/bustest"
)

// verbs runs verbs against one broker.
type verbs struct {
	t     *testing.T
	seeds string
}

func (v verbs) run(want int, stdin string, args ...string) string {
	v.t.Helper()
	var out, errs bytes.Buffer
	args = append(args, "--kafka", v.seeds)
	if got := run(args, strings.NewReader(stdin), &out, &errs); got != want {
		v.t.Fatalf("qstream %s: exit %d, want %d\n%s%s", strings.Join(args, " "), got, want, &out, &errs)
	}
	return out.String() + errs.String()
}

func (v verbs) wants(got string, parts ...string) {
	v.t.Helper()
	for _, part := range parts {
		if !strings.Contains(got, part) {
			v.t.Errorf("%q is missing in\n%s", part, got)
		}
	}
}

func TestDirectoryVerbs(t *testing.T) {
	v := verbs{t, bustest.Start(t).Seeds[0]}
	file := filepath.Join(t.TempDir(), "acme.yaml")
	text := "kind: tenant\nname: acme\ndomains: [acme.example]\nnetworks: [192.0.2.0/24]\n---\n" +
		"kind: route\nname: acme\nmatch: {domain: acme.example}\nvia: smtp://mail.acme.example\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	v.wants(v.run(0, "", "diff", file), "added tenant/acme", "+ domains:")
	v.wants(v.run(0, "", "apply", "-f", file, "--dry-run"), "dry run", "number 1")
	v.wants(v.run(0, "", "apply", "--note", "first customer", file), "added tenant/acme", "created topic qstream.queue.acme.v1", "number 1")
	v.wants(v.run(0, "", "apply", file), "nothing changes")
	v.wants(v.run(1, "kind: queue\nname: acme\nlifetime: 5\n", "apply", "-"), "standard input:3: lifetime: ", "has no unit")
	v.wants(v.run(1, "kind: queue\nname: acme\nlifetime: 30d\n", "apply", "-"), "standard input:3:", "longer than the received topic keeps mail")
	v.run(2, "", "apply")
	v.run(2, "", "apply", "--delete", "acme")
	v.wants(v.run(1, "", "apply", "--base", "0", "--delete", "route/acme"), "changed meanwhile")

	v.wants(v.run(0, "", "get", "tenant/acme"), "# directory number 1", "kind: tenant", "- acme.example")
	v.run(3, "", "get", "tenant/gone")
	v.run(2, "", "get", "nonsense")
	v.run(3, "", "get", "--number", "9")
	var got struct {
		Documents []struct{ Kind, Name, Via string }
	}
	if err := json.Unmarshal([]byte(v.run(0, "", "get", "route", "--json")), &got); err != nil || len(got.Documents) != 1 || got.Documents[0].Via != "smtp://mail.acme.example" {
		t.Errorf("%v %+v", err, got)
	}
	v.wants(v.run(0, "", "explain", "route", "bob@acme.example", "--client", "192.0.2.9"),
		"directory number 1", "tenant acme owns acme.example", "destination mail.acme.example:25", "may relay")
	v.wants(v.run(0, "", "explain", "route", "bob@far.example", "--client", "198.51.100.1"), "5.1.2", "refused at RCPT")
	v.run(0, "", "apply", "--delete", "route/acme", "--delete", "tenant/acme")
	v.wants(v.run(0, "", "get", "--history"), "first customer", "1  2", "added route/acme", "deleted tenant/acme")
	v.wants(v.run(0, "", "get", "tenant", "--number", "1"), "name: acme")
}

// What a new document claims and a standing one has is told at the new one,
// in its file and line.
func TestApplyTellsWhoCame(t *testing.T) {
	v := verbs{t, bustest.Start(t).Seeds[0]}
	v.run(0, "kind: queue\nname: zeta\nnumber: 1\n", "apply", "-")
	v.wants(v.run(1, "kind: queue\nname: acme\nnumber: 1\n", "apply", "-"),
		"standard input:3: queue/acme: queue number 1 already belongs to queue/zeta (directory number 1, queue/zeta:1)")
	v.run(0, "kind: queue\nname: beta\nnumber: 2\n", "apply", "-")
	v.wants(v.run(1, "kind: queue\nname: gamma\nnumber: 2\n", "apply", "-"), "standard input:3: queue/gamma: queue number 2 already belongs to queue/beta")
}

func TestQueueVerbs(t *testing.T) {
	v := verbs{t, bustest.Start(t).Seeds[0]}
	v.run(2, "", "queue", "suspend")
	v.run(2, "", "queue", "suspend", "--all", "--tenant", "acme")
	v.wants(v.run(0, "", "queue", "suspensions"), "nothing is suspended")
	v.run(3, "", "queue", "suspend", "--tenant", "acme")
	v.run(0, "kind: tenant\nname: acme\n", "apply", "-")
	v.wants(v.run(0, "", "queue", "suspend", "--tenant", "acme", "--destination", "far.example", "--reason", "flood"), "command number 1")
	v.wants(v.run(0, "", "queue", "suspensions"), "tenant acme destination far.example", "flood")
	v.wants(v.run(0, "", "queue", "suspend", "--tenant", "acme", "--destination", "far.example", "--reason", "again"),
		"suspended already, nothing changes: tenant acme destination far.example", "flood")
	v.run(3, "", "queue", "resume", "--tenant", "acme")
	v.run(2, "", "queue", "flush", "--id", "01J")
	v.wants(v.run(0, "", "queue", "flush", "--id", "01m84n7rcrexr3vcnp1fzxy2gp"), "flush id 01M84N7RCREXR3VCNP1FZXY2GP: command number 2")
	v.run(0, "", "queue", "resume", "--tenant", "acme", "--destination", "far.example")
	v.wants(v.run(0, "", "queue", "suspensions", "--json"), "[]")
}
