package peers_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"qstream/test/peers"
)

// hub is a running `qstream up`.
type hub struct {
	smtp  string
	inbox string // where senders read their reports
	out   string
}

// site sends local.test to Postfix and dovecot.test to Dovecot; all else is
// the senders' inbox. What is deferred has four seconds.
const site = `kind: queue
name: peers
lifetime: 4s
schedule: {steps: [1s]}
---
kind: tenant
name: peers
domains: [local.test, dovecot.test, sender.example]
queue: peers
---
kind: route
name: postfix
match: {domain: local.test}
via: smtp://127.0.0.1:%d
---
kind: route
name: dovecot
match: {domain: dovecot.test}
via: lmtp://127.0.0.1:%d
---
kind: route
name: senders
match: {domain: sender.example}
via: maildir:%s
`

func startHub(t *testing.T, p *peers.Postfix, d *peers.Dovecot) *hub {
	t.Helper()
	return startSite(t, func(inbox string) string { return fmt.Sprintf(site, p.Port(), d.Port(), inbox) })
}

// startSite starts one with the documents made for a folder of an inbox.
func startSite(t *testing.T, documents func(inbox string) string) *hub {
	t.Helper()
	dir := t.TempDir()
	binary := filepath.Join(dir, "qstream")
	if out, err := exec.Command("go", "build", "-o", binary, "qstream/cmd/qstream").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	h := &hub{inbox: filepath.Join(dir, "inbox"), out: filepath.Join(dir, "out")}
	docs := filepath.Join(dir, "site.yaml")
	if err := os.WriteFile(docs, []byte(documents(h.inbox)), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := os.Create(h.out)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	data := filepath.Join(dir, "data")
	c := exec.Command(binary, "up", "--data", data, "--smtp", "127.0.0.1:0", "--qmqp", "127.0.0.1:0", "--qmtp", "127.0.0.1:0", "--http", "", "--apply", docs)
	c.Stdout, c.Stderr = out, out
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.stop(t, c) })
	h.smtp = h.address(t, filepath.Join(data, "run.json"))
	return h
}

func (h *hub) stop(t *testing.T, c *exec.Cmd) {
	_ = c.Process.Signal(syscall.SIGTERM)
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("qstream ended by %v\n%s", err, h.log())
		}
	case <-time.After(60 * time.Second):
		_ = c.Process.Kill()
		t.Errorf("qstream did not end: %v\n%s", <-ended, h.log())
	}
}

func (h *hub) log() string {
	b, _ := os.ReadFile(h.out)
	return string(b)
}

// address waits for run.json, which tells where SMTP listens.
func (h *hub) address(t *testing.T, path string) string {
	t.Helper()
	var run struct{ SMTP string }
	eventually(t, h.log, func() bool {
		b, err := os.ReadFile(path)
		return err == nil && json.Unmarshal(b, &run) == nil && run.SMTP != ""
	})
	return run.SMTP
}

// reports are the DSNs in the senders' inbox.
func (h *hub) reports(t *testing.T) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(h.inbox, "new", "*"))
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, string(b))
	}
	return all
}

// reported reports whether one DSN holds all of the words.
func (h *hub) reported(t *testing.T, words ...string) bool {
	t.Helper()
	for _, r := range h.reports(t) {
		n := 0
		for _, w := range words {
			if strings.Contains(r, w) {
				n++
			}
		}
		if n == len(words) {
			return true
		}
	}
	return false
}

// TestThroughTheHub: swaks and smtp-source in, Postfix and Dovecot out.
func TestThroughTheHub(t *testing.T) {
	peers.Need(t)
	p, d := peers.StartPostfix(t), peers.StartDovecot(t, "ann")
	h := startHub(t, p, d)

	out, code := peers.Swaks(t, h.smtp, "--from", "swaks@sender.example", "--body", "through the hub",
		"--to", "ok@local.test,perm@local.test,tmp@local.test,ann@dovecot.test,full@dovecot.test,nobody@dovecot.test")
	if code != 0 {
		t.Fatalf("swaks: exit %d\n%s", code, out)
	}
	out, code = peers.Swaks(t, h.smtp, "--from", "swaks@sender.example", "--to", "x@nowhere.example")
	if code != 0 && code != 24 {
		t.Errorf("swaks to a domain of nobody: exit %d\n%s", code, out)
	}

	eventually(t, h.log, func() bool {
		return has(p.Mails(), "through the hub") == 1 && has(d.Mails("ann"), "through the hub") == 1
	})
	for rcpt, said := range map[string]string{
		"perm@local.test":     "5.1.1",
		"full@dovecot.test":   "5.2.2",
		"nobody@dovecot.test": "5.1.1",
		"tmp@local.test":      "4.2.0", // after its four seconds
	} {
		eventually(t, func() string { return "no report for " + rcpt + "\n" + h.log() }, func() bool {
			return h.reported(t, "Final-Recipient: rfc822;"+rcpt, said) || h.reported(t, "Final-Recipient: rfc822; "+rcpt, said)
		})
	}

	peers.Source(t, h.smtp, 5, 200, 10240, "source@sender.example", "many@local.test")
	eventually(t, h.log, func() bool { return has(p.Mails(), "Delivered-To: many@local.test") >= 200 })
	if n := has(p.Mails(), "Delivered-To: many@local.test"); n != 200 {
		t.Errorf("%d of 200 mails arrived", n)
	}
}

// has counts the mails that hold the words.
func has(mails []string, words string) (n int) {
	for _, m := range mails {
		if strings.Contains(m, words) {
			n++
		}
	}
	return n
}
