package up

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"qstream/test/fakemx"
)

// TestUp is what someone sees who tries qstream out: one command, one mail.
func TestUp(t *testing.T) {
	s := NewSystem(t)
	s.Up()
	inbox := filepath.Join(s.Dir, "inbox")
	for _, part := range []string{"is up", "SMTP", "healthz", s.Dir, "qstream send"} {
		if !strings.Contains(s.Output(), part) {
			t.Errorf("the banner doesn't say %q:\n%s", part, s.Output())
		}
	}
	id := s.Send("ann@sender.example", "bob@acme.example")
	content := s.Inbox(inbox, 1)[0]
	for _, part := range []string{"Return-Path: <ann@sender.example>", id, "To: <bob@acme.example>", "from a client through Kafka to you."} {
		if !strings.Contains(content, part) {
			t.Errorf("%q is missing in the message:\n%s", part, content)
		}
	}

	out, errs, code := Run(t, "up", "--data", s.Dir, "--smtp", "127.0.0.1:0", "--http", "127.0.0.1:0")
	if code != 1 || !strings.Contains(errs, "another qstream") {
		t.Errorf("a second process on the same data: exit %d\n%s%s", code, out, errs)
	}

	s.Stop()
	if _, err := os.Stat(filepath.Join(s.Dir, "run.json")); !os.IsNotExist(err) {
		t.Errorf("run.json is still there after the stop: %v", err)
	}
	if _, errs, code := Run(t, "send", "--data", s.Dir, "--from", "", "--to", "bob@acme.example"); code != 1 || !strings.Contains(errs, "nothing runs") {
		t.Errorf("send without a system: exit %d, %s", code, errs)
	}

	s.Up()
	s.Send("ann@sender.example", "carol@other.example")
	s.Inbox(inbox, 2)
}

const waiting = `
kind: queue
name: local
number: 1
schedule: {steps: [1s]}
---
kind: route
name: away
match: {domain: away.example}
via: smtp://ADDR
`

// TestUpResumes stops, or kills, a system while mail waits for a peer that
// refuses it for now, and expects it delivered after the next start.
func TestUpResumes(t *testing.T) {
	for _, c := range []struct {
		name string
		end  func(*System)
	}{
		{"stopped", (*System).Stop},
		{"killed", (*System).Kill},
	} {
		t.Run(c.name, func(t *testing.T) {
			peer, err := fakemx.Start(fakemx.Config{Rules: []fakemx.Rule{{Line: "RCPT", Reply: "450 4.2.0 later"}}})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(peer.Close)

			s := NewSystem(t)
			s.Up()
			s.Apply(strings.ReplaceAll(waiting, "ADDR", peer.Addr()))
			id := s.Send("ann@sender.example", "bob@away.example")
			s.up.Await("first attempt", func() bool {
				return slices.ContainsFunc(peer.Lines(), func(l string) bool { return strings.HasPrefix(l, "RCPT") })
			})
			c.end(s)

			peer.SetRules()
			s.Up()
			s.up.Await("delivery", func() bool { return len(peer.Accepted()) > 0 })
			s.Stop()
			got := peer.Accepted()
			if len(got) != 1 || !strings.Contains(string(got[0].Data), id) {
				t.Errorf("the peer got %d messages, want one with id %s", len(got), id)
			}
		})
	}
}
