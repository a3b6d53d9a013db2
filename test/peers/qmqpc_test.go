package peers_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"qstream/test/peers"
)

// handOver runs our qmail-qmqpc: content on descriptor 0, envelope on 1. It
// returns what it said, and its exit code.
func handOver(t *testing.T, program string, content io.Reader, from string, to []string, servers ...string) (string, int) {
	t.Helper()
	envelope, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer envelope.Close()
	text := "F" + from + "\x00"
	for _, a := range to {
		text += "T" + a + "\x00"
	}
	if _, err := io.WriteString(in, text+"\x00"); err != nil { // far less than a pipe holds
		t.Fatal(err)
	}
	in.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	c := exec.CommandContext(ctx, program, "qmail-qmqpc", "--servers", strings.Join(servers, ","))
	var said bytes.Buffer
	c.Stdin, c.Stdout, c.Stderr = content, envelope, &said
	var exit *exec.ExitError
	if err := c.Run(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return said.String(), c.ProcessState.ExitCode()
}

// TestQMQPC: our qmail-qmqpc hands over to Postfix's qmqp-sink and qmqpd.
func TestQMQPC(t *testing.T) {
	peers.Need(t)
	program := filepath.Join(t.TempDir(), "qstream")
	if out, err := exec.Command("go", "build", "-o", program, "qstream/cmd/qstream").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	sink := fmt.Sprintf("127.0.0.1:%d", peers.StartQMQPSink(t))
	const nobody = "127.0.0.1:1"
	for _, size := range []int{0, 1, 1000, 1_000_000} {
		content := strings.Repeat("line\n", size)
		if said, code := handOver(t, program, strings.NewReader(content), "a@x.example", []string{"b@y.example", "c@z.example"}, nobody, sink); code != 0 {
			t.Errorf("%d lines to qmqp-sink: exit code %d\n%s", size, code, said)
		}
	}

	p := peers.StartPostfix(t)
	body := "Subject: handed over\n\n.\n..\n.x\n" + strings.Repeat("y", 900) + "\n\nend\n"
	if said, code := handOver(t, program, strings.NewReader(body), "a@x.example", []string{"ok@local.test", "b+c@local.test"}, p.QMQPAddr()); code != 0 {
		t.Errorf("qmqpd: exit code %d\n%s", code, said)
	}
	eventually(t, p.Log, func() bool { return len(p.Mails()) == 2 })
	_, text, _ := strings.Cut(body, "\n\n")
	for _, m := range p.Mails() {
		if !strings.HasPrefix(m, "Return-Path: <a@x.example>\n") || !strings.HasSuffix(m, "\n\n"+text) || !strings.Contains(m, "with QMQP") {
			t.Errorf("%q", m)
		}
	}
	if said, code := handOver(t, program, strings.NewReader(strings.Repeat(body, 3000)), "", []string{"ok@local.test"}, p.QMQPAddr()); code != 31 {
		t.Errorf("too large for qmqpd: exit code %d\n%s", code, said)
	}
}
