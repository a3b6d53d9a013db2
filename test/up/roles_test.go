package up

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const toMaildir = `
kind: tenant
name: acme
domains: [acme.example]
---
kind: queue
name: acme
number: 1
---
kind: route
name: acme
match: {domain: acme.example}
via: "maildir:FOLDER"
`

// TestRoles runs each role in a process of its own, on Kafka. Before the
// topics are there a role refuses to start and says what to do; a router that
// is killed is replaced, and mail that came meanwhile is delivered.
func TestRoles(t *testing.T) {
	n := brokers()
	if n == 0 {
		t.Skip("skipped: roles in processes of their own need Apache Kafka; set QSTREAM_TEST_KAFKA")
	}
	seeds := strings.Join(cluster(t, n).Seeds(), ",")
	kafka := []string{"--kafka", seeds}
	role := func(args ...string) []string {
		return append(append(args, kafka...), "--http", freeAddr(t))
	}

	_, errs, code := Run(t, role("router")...)
	if code != 1 || !strings.Contains(errs, "qstream topics create") {
		t.Fatalf("a router without topics: exit %d, %s", code, errs)
	}
	do := func(args ...string) string {
		t.Helper()
		out, errs, code := Run(t, append(args, kafka...)...)
		if code != 0 {
			t.Fatalf("qstream %s: exit %d\n%s%s", strings.Join(args, " "), code, out, errs)
		}
		return out
	}
	do("topics", "create")
	do("topics", "verify")
	folder := filepath.Join(t.TempDir(), "acme")
	file := filepath.Join(t.TempDir(), "directory.yaml")
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(toMaildir, "FOLDER", folder)), 0o600); err != nil {
		t.Fatal(err)
	}
	do("apply", file)

	smtp := freeAddr(t)
	router := Start(t, nil, role("router")...)
	ingest := Start(t, nil, role("ingest", "--smtp", smtp)...)
	others := []*Process{ingest, Start(t, nil, role("deliver")...), Start(t, nil, role("delay")...)}
	ingest.Await("SMTP listener", func() bool { return accepts(smtp) })
	send := func() {
		t.Helper()
		if out, errs, code := Run(t, "send", "--smtp", smtp, "--from", "ann@sender.example", "--to", "bob@acme.example"); code != 0 {
			t.Fatalf("send: exit %d\n%s%s", code, out, errs)
		}
	}
	arrived := func(want int) {
		t.Helper()
		ingest.Await("messages", func() bool {
			files, _ := filepath.Glob(filepath.Join(folder, "new", "*"))
			if len(files) > want {
				t.Fatalf("%d messages, want %d", len(files), want)
			}
			return len(files) == want
		})
	}
	send()
	arrived(1)
	router.Kill()
	send()
	router = Start(t, nil, role("router")...)
	arrived(2)
	for _, p := range append(others, router) {
		if err := p.Stop(); err != nil {
			t.Errorf("a role ended badly: %v\n%s", err, p.Output())
		}
	}
}

// freeAddr is an address of loopback that nobody listens on.
func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func accepts(addr string) bool {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return false
	}
	_ = conn.Close()
	return true
}
