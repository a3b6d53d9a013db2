package smtpd

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"strings"
	"testing"

	"github.com/emersion/go-smtp"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// On valid dialogues go-smtp's own server gives the same codes and hands the
// same mail to its sessions.
func TestDialoguesAsGoSMTPServesThem(t *testing.T) {
	ours, ourKeeper, _ := serve(t, Config{})
	theirs, theirKeeper := oracle(t)
	rapid.Check(t, func(rt *rapid.T) {
		script := validDialogue(rt)
		a, b := talk(t, ours, script), talk(t, theirs, script)
		if diff := cmp.Diff(b, a); diff != "" {
			rt.Fatalf("replies to %+v: -go-smtp +ours\n%s", script, diff)
		}
		if diff := cmp.Diff(theirKeeper.take(), ourKeeper.take(), cmp.AllowUnexported(kept{})); diff != "" {
			rt.Fatalf("mail of %+v: -go-smtp +ours\n%s", script, diff)
		}
	})
}

// take empties the keeper.
func (k *keeper) take() []kept {
	k.mu.Lock()
	defer k.mu.Unlock()
	m := k.mails
	k.mails = nil
	return m
}

// oracle is go-smtp's server over the same sessions.
func oracle(t testing.TB) (addr string, k *keeper) {
	t.Helper()
	k = &keeper{}
	s := smtp.NewServer(smtp.BackendFunc(func(c *smtp.Conn) (smtp.Session, error) {
		return k.backend(context.Background(), Peer{HELO: c.Hostname()})
	}))
	s.Domain, s.EnableDSN, s.EnableSMTPUTF8, s.MaxMessageBytes = "mx.example", true, true, 50<<20
	s.ErrorLog = log.New(io.Discard, "", 0)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Close()
		<-done
	})
	return l.Addr().String(), k
}

// step is what a client sends, and how many replies it waits for then.
type step struct {
	send    string
	replies int
}

// talk plays a dialogue and returns the codes of the replies.
func talk(t testing.TB, addr string, script []step) (codes []string) {
	t.Helper()
	c := connect(t, addr)
	defer c.Close()
	c.want("220")
	for _, s := range script {
		c.send(s.send)
		for range s.replies {
			r, err := c.reply()
			if err != nil {
				t.Fatalf("after %q of %+v: %v", s.send, script, err)
			}
			codes = append(codes, r[:3])
		}
	}
	return codes
}

// validDialogue draws a session that breaks no rule.
func validDialogue(t *rapid.T) []step {
	script := []step{{rapid.SampledFrom([]string{"HELO", "EHLO"}).Draw(t, "hello") + " client.example\r\n", 1}}
	for range rapid.IntRange(1, 3).Draw(t, "transactions") {
		script = append(script, validTransaction(t)...)
	}
	return append(script, step{"QUIT\r\n", 1})
}

func validTransaction(t *rapid.T) []step {
	mail := "MAIL FROM:<" + rapid.SampledFrom([]string{"", "a@x", "A.b+c@[192.0.2.1]", "later@x"}).Draw(t, "from") + ">" +
		optional(t, " SIZE=100", " BODY=8BITMIME", " BODY=7BIT", " RET=HDRS", " ENVID=a+2Bb", " SMTPUTF8") + "\r\n"
	script := []step{{mail, 1}}
	if strings.Contains(mail, "later@x") {
		return append(script, step{"RSET\r\n", 1})
	}
	good := 0
	for range rapid.IntRange(1, 4).Draw(t, "recipients") {
		to := rapid.SampledFrom([]string{"b@x", "c@Y.example", "refuse@x", "break@x"}).Draw(t, "to")
		if to == "b@x" || to == "c@Y.example" {
			good++
		}
		script = append(script, step{"RCPT TO:<" + to + ">" + optional(t, " NOTIFY=NEVER", " NOTIFY=SUCCESS,delay", " ORCPT=rfc822;q+2Br@x") + "\r\n", 1})
	}
	if good == 0 || rapid.IntRange(0, 9).Draw(t, "rset") == 0 {
		return append(script, step{"RSET\r\n", 1})
	}
	content := strings.Join(rapid.SliceOf(rapid.SampledFrom([]string{"\r\n", ".", "..", "a", "\x80", "bc "})).Draw(t, "content"), "") + "\r\n"
	if rapid.Bool().Draw(t, "chunks") {
		script = append(script, inChunks(t, content)...)
	} else {
		script = append(script, step{"DATA\r\n", 1}, step{stuff(content) + ".\r\n", 1})
	}
	if rapid.Bool().Draw(t, "pipelined") {
		return pipelined(script)
	}
	return script
}

func inChunks(t *rapid.T, content string) []step {
	var script []step
	for content != "" {
		n := rapid.IntRange(1, len(content)).Draw(t, "chunk")
		last := ""
		if n == len(content) {
			last = " LAST"
		}
		script = append(script, step{fmt.Sprintf("BDAT %d%s\r\n%s", n, last, content[:n]), 1})
		content = content[n:]
	}
	return script
}

func stuff(content string) string {
	return strings.TrimPrefix(strings.ReplaceAll("\r\n"+content, "\r\n.", "\r\n.."), "\r\n")
}

// pipelined sends commands together, up to DATA.
func pipelined(script []step) []step {
	var all step
	for i, s := range script {
		all.send += s.send
		all.replies += s.replies
		if s.send == "DATA\r\n" {
			return append([]step{all}, script[i+1:]...)
		}
	}
	return []step{all}
}

func optional(t *rapid.T, parameters ...string) string {
	all := ""
	seen := map[string]bool{}
	for _, p := range parameters {
		key := p[:4]
		if !seen[key] && rapid.Bool().Draw(t, p) {
			seen[key] = true
			all += p
		}
	}
	return all
}
