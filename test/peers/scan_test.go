package peers_test

import (
	"fmt"
	"strings"
	"syscall"
	"testing"

	"qstream/test/peers"
)

const scanSite = `kind: engine
name: clamav
type: clamd
address: tcp://%s
deadline: 5s
---
kind: engine
name: measure
type: unpack
limits: {member: 5000000, total: 20000000, depth: 8, parts: 1000, time: 20s}
---
kind: scan
name: standard
engines: [measure, clamav]
---
kind: queue
name: scanned
scan: standard
---
kind: tenant
name: scanned
domains: [scanned.example]
---
kind: route
name: inbox
match: {domain: "*"}
via: maildir:%s
`

// TestScannedByClamd: what a real clamd finds is held and what it doesn't is
// delivered; while it is stopped or gone nothing passes, and all of it does
// when it is back.
func TestScannedByClamd(t *testing.T) {
	peers.Need(t)
	c := peers.StartClamd(t)
	h := startSite(t, func(inbox string) string { return fmt.Sprintf(scanSite, c.Addr(), inbox) })
	send := func(words, body string) {
		t.Helper()
		out, code := peers.Swaks(t, h.smtp, "--from", "ann@sender.example", "--to", "bob@scanned.example", "--header", "Subject: "+words, "--body", body)
		if code != 0 {
			t.Fatalf("swaks: exit %d\n%s", code, out)
		}
	}
	arrived := func(words string) bool { return has(h.reports(t), "Subject: "+words) == 1 }
	send("first clean", "hello")
	send("first bad", peers.EICAR)
	eventually(t, h.log, func() bool { return arrived("first clean") && strings.Contains(h.log(), "found=Test.EICAR.UNOFFICIAL") })

	if err := c.Process().Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	send("while it hangs", "hello again")
	eventually(t, h.log, func() bool { return strings.Contains(h.log(), "outcome=failed reason=late") })
	if arrived("while it hangs") {
		t.Error("it passed unscanned")
	}
	if err := c.Process().Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	eventually(t, h.log, func() bool { return arrived("while it hangs") })
	send("second bad", "again "+peers.EICAR)
	eventually(t, h.log, func() bool { return strings.Count(h.log(), "found=Test.EICAR.UNOFFICIAL") == 2 })
	if arrived("first bad") || arrived("second bad") {
		t.Error("what was found was delivered")
	}
	if err := c.Process().Kill(); err != nil {
		t.Fatal(err)
	}
	send("while it is gone", "hello")
	eventually(t, h.log, func() bool { return strings.Contains(h.log(), "outcome=failed reason=unreachable") })
	if arrived("while it is gone") {
		t.Error("it passed unscanned")
	}
}

const sessionSite = scanSite + `---
kind: scan
name: strangers
engines: [measure, clamav]
rules: {on: malware, action: reject}
---
kind: rules
name: smtp
scan: {policy: strangers, deadline: 20s}
---
kind: tenant
name: plain
domains: [plain.example]
`

// TestScannedInSessionByClamd: what a real clamd finds is refused in the session
// that brings it; when clamd is gone mail is accepted, and held until it is
// scanned, though its tenant has no policy.
func TestScannedInSessionByClamd(t *testing.T) {
	peers.Need(t)
	c := peers.StartClamd(t)
	h := startSite(t, func(inbox string) string { return fmt.Sprintf(sessionSite, c.Addr(), inbox) })
	send := func(words, body string) (string, int) {
		t.Helper()
		return peers.Swaks(t, h.smtp, "--from", "ann@sender.example", "--to", "bob@plain.example", "--header", "Subject: "+words, "--body", body)
	}
	arrived := func(words string) bool { return has(h.reports(t), "Subject: "+words) == 1 }
	if out, code := send("clean", "hello"); code != 0 {
		t.Fatalf("swaks: exit %d\n%s", code, out)
	}
	eventually(t, h.log, func() bool { return arrived("clean") })
	for _, body := range []string{peers.EICAR, strings.Repeat("0123456789\n", 10_000) + peers.EICAR} {
		if out, code := send("bad", body); code == 0 || !strings.Contains(out, "554 5.7.1 refused by content policy") {
			t.Errorf("swaks: exit %d\n%s", code, out)
		}
	}
	if err := c.Process().Kill(); err != nil {
		t.Fatal(err)
	}
	if out, code := send("while it is gone", peers.EICAR); code != 0 {
		t.Errorf("swaks: exit %d\n%s", code, out)
	}
	eventually(t, h.log, func() bool { return strings.Contains(h.log(), "not scanned in its session") })
	eventually(t, h.log, func() bool {
		return strings.Contains(h.log(), "stage=scanner") && strings.Contains(h.log(), "reason=unreachable")
	})
	if arrived("while it is gone") || arrived("bad") {
		t.Error("it passed unscanned")
	}
}
